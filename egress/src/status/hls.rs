//! Addresses of private playlists.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// The body of `POST /api/rooms/{room}/hls/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields)]
pub struct HlsTokenRequest {
    /// For how long the token opens the room's playlists, seconds; at most 31 days.
    #[ts(type = "number")]
    pub valid_for_s: u64,
}

/// The answer: an address that opens the room's private playlists and all below them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
pub struct HlsToken {
    /// The multivariant playlist, with the token.
    pub path: String,
    /// For `/hls/{room}/index.m3u8?token=…`, which leads to `path`.
    pub token: String,
    /// When it expires, Unix milliseconds.
    #[ts(type = "number")]
    pub expires_at_ms: u64,
}
