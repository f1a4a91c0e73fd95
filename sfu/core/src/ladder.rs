//! The qualities that a publication offers.

/// One quality: an RTP stream, and what is forwarded of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rung {
    /// The position of the layer (the RTP stream) in its publication.
    pub(crate) layer: u8,
    /// The highest spatial layer within the stream that is forwarded; 0 without SVC.
    pub(crate) spatial: u8,
    /// The highest temporal layer within the stream that is forwarded.
    pub(crate) temporal: u8,
    /// What it took lately, everything it depends on included, bit/s of payload.
    pub(crate) bitrate: u64,
}

impl Rung {
    /// Everything that a stream carries.
    pub(crate) fn whole(layer: u8, bitrate: u64) -> Self {
        Self {
            layer,
            spatial: u8::MAX,
            temporal: u8::MAX,
            bitrate,
        }
    }
}
