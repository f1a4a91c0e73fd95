//! Pictures of a job as the API lists them.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// One picture (JPEG) of what a job showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Thumbnail {
    /// Its number among those of its destination, from 1 on; never used twice.
    #[ts(type = "number")]
    pub number: u64,
    /// When what it shows was to be seen, Unix milliseconds.
    #[ts(type = "number")]
    pub taken_at_ms: u64,
    /// Its size.
    #[ts(type = "number")]
    pub bytes: u64,
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// Its address, which never shows another one. It needs the grant that the list needs.
    pub url: String,
}

/// The answer of `GET /api/rooms/{room}/egress/{id}/thumbnails/{destination}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ThumbnailList {
    /// The newest first.
    pub thumbnails: Vec<Thumbnail>,
}
