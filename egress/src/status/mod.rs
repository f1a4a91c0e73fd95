//! Egress jobs as the API and the studio see them.

mod change;
mod hls;
mod job;
mod problem;
mod recording;
mod request;
mod thumbnail;

pub use change::{Change, DestinationChange};
pub use hls::{HlsToken, HlsTokenRequest};
pub use job::{
    Degraded, DegradedReason, DestinationState, DestinationStatus, DestinationType, FailureCode,
    Job, JobList, JobState, PastFailure,
};
pub use problem::{ErrorCode, Free, Instead, Needed, ProblemBody};
pub use recording::{
    Recording, RecordingFile, RecordingList, RecordingState, RecordingTrack, StorageCode,
    StorageTrouble,
};
pub use request::{
    CustomPreset, Destination, Preset, PresetName, RecordingOptions, Request, Source, StreamKey,
    ThumbnailOptions, Track,
};
pub use thumbnail::{Thumbnail, ThumbnailList};

pub use crate::platform::Platform;
pub use crate::scene::Layout;
