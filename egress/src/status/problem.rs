//! Why a request was refused.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::PresetName;

/// The body of every refusal, `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(rename = "EgressProblem")]
pub struct ProblemBody {
    /// `urn:fanlight:problem:` and the code.
    pub r#type: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do, for people.
    pub detail: String,
    /// Stable code.
    pub code: ErrorCode,
    /// What was asked for, with `egress_capacity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub needed: Option<Needed>,
    /// What is left, with `egress_capacity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub free: Option<Free>,
    /// What would fit, with `egress_capacity`, if anything like it would.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub instead: Option<Instead>,
}

/// What a job is expected to use, or what it would use more than now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(rename = "EgressNeeded")]
pub struct Needed {
    /// Processor time, percent of a core.
    pub cpu_percent: u32,
}

/// The largest preset with which a job would fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(rename = "EgressInstead")]
pub struct Instead {
    /// It.
    pub preset: PresetName,
    /// The processor time that it needs, percent of a core.
    pub cpu_percent: u32,
}

/// What is left for new jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(rename = "EgressFree")]
pub struct Free {
    /// Jobs of the server.
    pub jobs: usize,
    /// Jobs of the room.
    pub jobs_in_room: usize,
    /// Processor time, percent of a core.
    pub cpu_percent: u32,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(rename = "EgressErrorCode")]
pub enum ErrorCode {
    /// The request could not be understood.
    BadRequest,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// There is no such job in the room.
    EgressUnknown,
    /// The server, or the room, has no room for the job; `free` says what is left.
    EgressCapacity,
    /// There is no such destination in the job.
    DestinationUnknown,
    /// The job, or another one of the room, sends to this address with this key already.
    DestinationDuplicate,
    /// The job is over.
    EgressOver,
    /// The idempotency key was used for another request, or is unusable.
    IdempotencyKeyReused,
    /// The body's `Content-Type` is not `application/json`.
    UnsupportedMediaType,
    /// The destination's URL is not among those that this server allows.
    DestinationNotAllowed,
    /// A recording's options cannot be used.
    RecordingOptionsInvalid,
    /// There is no such recording in the room.
    RecordingUnknown,
    /// The recording is being made: end its output first.
    RecordingActive,
    /// The disk has no room for a recording.
    DiskFull,
    /// The storage of recordings does not give the file at the moment.
    StorageUnavailable,
    /// The link is no longer valid.
    LinkInvalid,
    /// There is no such picture, or none of the room: it is not live.
    ThumbnailUnknown,
    /// The options of thumbnails cannot be used, or there is no picture to take them of.
    ThumbnailsOptionsInvalid,
    /// The source, the preset and the layout do not go together, or the preset is out of range.
    PresetInvalid,
    /// The source cannot be used.
    SourceInvalid,
    /// A job that passes the picture through cannot become a composed one, nor the other way round.
    PresetFixed,
    /// The room has an HLS output already.
    HlsActive,
    /// The room has no HLS output, or the file has left the playlist.
    HlsUnknown,
    /// What was waited for did not come in time.
    HlsLate,
    /// The room's HLS output is private, and the address has no token.
    TokenMissing,
    /// The token in the address was made for another broadcast, or is none.
    TokenInvalid,
    /// The time for which the address was valid is over.
    TokenExpired,
    /// No destination was given.
    DestinationsEmpty,
    /// More destinations were given than allowed.
    DestinationsTooMany,
    /// A destination's URL cannot be used.
    DestinationUrlInvalid,
    /// A destination's stream key cannot be used.
    DestinationKeyInvalid,
    /// The method is not one of this resource's.
    MethodNotAllowed,
    /// The server is stopping.
    Stopping,
    /// Something failed on the server's side; its log says what.
    Internal,
}
