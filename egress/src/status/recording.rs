//! Recordings as the API lists them.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{FailureCode, Track};

/// One recording, as `GET /api/rooms/{room}/recordings/{id}` answers. Links in it open without a token until
/// `links_expire_at_ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Recording {
    /// Its id.
    pub id: String,
    /// The room's slug.
    pub room: String,
    /// What happens to it.
    pub state: RecordingState,
    /// Why it ended early, or failed.
    pub code: Option<FailureCode>,
    /// When it was asked for, Unix milliseconds.
    #[ts(type = "number")]
    pub started_at_ms: u64,
    /// How much was recorded, pauses left out.
    #[ts(type = "number")]
    pub duration_ms: u64,
    /// Size of its files.
    #[ts(type = "number")]
    pub bytes: u64,
    /// Width of its first picture.
    pub width: Option<u16>,
    /// Height of its first picture.
    pub height: Option<u16>,
    /// Link to a picture of it (JPEG).
    pub poster: Option<String>,
    /// Its files, the oldest first. A file is listed once it is finished.
    pub files: Vec<RecordingFile>,
    /// The files of each participant's tracks, if they were asked for; all times are of one clock.
    pub tracks: Vec<RecordingTrack>,
    /// Why its files do not get to the storage at the moment. Nothing is lost; it is tried again.
    pub storage: Option<StorageTrouble>,
    /// When the links expire, Unix milliseconds.
    #[ts(type = "number")]
    pub links_expire_at_ms: u64,
}

/// One file of a recording: MP4 with its index in front.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct RecordingFile {
    /// Its name.
    pub name: String,
    /// Link to it; answers range requests.
    pub url: String,
    /// When it starts, Unix milliseconds.
    #[ts(type = "number")]
    pub started_at_ms: u64,
    /// How long it plays.
    #[ts(type = "number")]
    pub duration_ms: u64,
    /// Its size.
    #[ts(type = "number")]
    pub bytes: u64,
    /// Width of the picture, if it has one.
    pub width: Option<u16>,
    /// Height of the picture.
    pub height: Option<u16>,
    /// Link to a list (WebVTT) of small pictures for the seek bar.
    pub sprite: Option<String>,
}

/// One file of one track of a participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct RecordingTrack {
    /// Whose it is.
    pub identity: String,
    /// The name shown.
    pub name: String,
    /// Which of theirs.
    pub track: Track,
    /// The file. To put it beside others: `started_at_ms`.
    pub file: RecordingFile,
}

/// What happens to a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// It is being made.
    Recording,
    /// Its files get their index.
    Finishing,
    /// Its files are on their way to the storage.
    Uploading,
    /// It can be played.
    Ready,
    /// Nothing could be recorded, or what was cannot be finished; `code` says why.
    Failed,
}

/// Why files do not get to the storage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct StorageTrouble {
    /// What the matter is.
    pub code: StorageCode,
    /// The same in plain words.
    pub message: String,
    /// How often it was tried in a row.
    pub attempt: u32,
    /// When it is tried again, Unix milliseconds.
    #[ts(type = "number")]
    pub next_try_at_ms: u64,
}

/// What the matter with the storage is. A stable word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum StorageCode {
    /// It refuses the server's keys, or they may not write there.
    StorageDenied,
    /// There is no such bucket.
    StorageBucketMissing,
    /// It cannot be reached, or breaks off.
    StorageUnreachable,
    /// Anything else.
    StorageFailed,
}

/// The answer of `GET /api/rooms/{room}/recordings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct RecordingList {
    /// The newest first.
    pub recordings: Vec<Recording>,
}
