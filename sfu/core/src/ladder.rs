//! The qualities that a publication offers.

use crate::{frame::Qualities, throughput::Throughput};

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
    /// Everything of a stream without layers.
    pub(crate) fn whole(layer: u8, bitrate: u64) -> Self {
        Self {
            layer,
            spatial: u8::MAX,
            temporal: u8::MAX,
            bitrate,
        }
    }

    /// Adds what a stream offers to a ladder.
    pub(crate) fn of_layer(layer: u8, throughput: &Throughput, ladder: &mut Vec<Self>) {
        if !throughput.is_layered() {
            ladder.push(Self::whole(layer, throughput.total()));
            return;
        }
        let start = ladder.len();
        let rungs = throughput.qualities().map(|quality| Self {
            layer,
            spatial: quality.spatial,
            temporal: quality.temporal,
            bitrate: quality.bitrate,
        });
        ladder.extend(rungs);
        if let Some(added) = ladder.get_mut(start..) {
            added.sort_by_key(|rung| (rung.bitrate, rung.spatial, rung.temporal));
        }
    }

    /// Returns whether the same is forwarded.
    pub(crate) fn is_same(&self, other: Self) -> bool {
        (self.layer, self.spatial, self.temporal) == (other.layer, other.spatial, other.temporal)
    }

    /// Returns the picture's size among those of the publication, the smallest being 0.
    pub(crate) fn level(&self) -> u8 {
        match self.is_whole() {
            true => self.layer,
            false => self.layer.max(self.spatial),
        }
    }

    /// Returns it as a quality of its stream.
    pub(crate) fn quality(&self) -> Qualities {
        match self.is_whole() {
            true => Qualities::ALL,
            false => Qualities::one(self.spatial, self.temporal),
        }
    }

    /// Returns whether layers within the stream do not matter.
    pub(crate) fn is_whole(&self) -> bool {
        self.spatial == u8::MAX
    }
}
