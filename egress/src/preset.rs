//! What outputs look like.

use serde::{Deserialize, Serialize};

/// The video that a composed job makes. The sound is always AAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Preset {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frame_rate: u32,
    pub(crate) bitrate_bps: u32,
    pub(crate) keyframe_interval_ms: u32,
}
