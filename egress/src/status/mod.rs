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

/// Returns the word that the API has for a value of an enumeration, for logs and measurements.
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "other".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_answers() {
        assert_eq!(word(&FailureCode::ConnectionRefused), "connection_refused");
        assert_eq!(word(&DestinationState::Retrying), "retrying");
        assert_eq!(word(&7), "other");
    }
}
