//! What a worker reports: the next part of every rendition at once, so that all are in step.

use serde::{Deserialize, Serialize};

use super::Rendition;

/// What is said of an initialisation segment. It holds for the parts of this rendition that follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InitHead {
    pub(crate) rendition: Rendition,
    /// RFC 6381, as `CODECS` has it.
    pub(crate) codecs: String,
    /// Pixels; 0 without picture.
    pub(crate) width: u16,
    pub(crate) height: u16,
}

/// What is said of the next part. The body is the renditions' bytes, one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepHead {
    pub(crate) duration_us: u64,
    /// For the first part of a segment.
    pub(crate) begins: Option<SegmentStart>,
    /// Whether it is the last part of its segment.
    pub(crate) ends: bool,
    /// Whether every quality that has come in until now is in its segment, and each is another.
    pub(crate) settled: bool,
    pub(crate) pieces: Vec<Piece>,
}

/// What is said of a segment that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentStart {
    /// When its first frame was captured, Unix milliseconds.
    pub(crate) starts_at_ms: u64,
    /// Whether its timestamps do not continue those of the segment before.
    pub(crate) discontinuity: bool,
}

/// A part of one rendition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    pub(crate) rendition: Rendition,
    /// The rendition whose bytes these are, for the whole segment: another one while this one's layer is missing.
    pub(crate) source: Rendition,
    /// Of its bytes in the body; 0 when they are another's.
    pub(crate) length: usize,
    /// Pictures in it.
    pub(crate) frames: u32,
    /// Whether a player can start with it.
    pub(crate) independent: bool,
}
