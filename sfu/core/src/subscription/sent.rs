//! What became of packets that were to be sent.

use crate::Ssrc;

/// What one call sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Packets.
    pub(crate) packets: u64,
    /// Bytes, headers included.
    pub(crate) bytes: u64,
    /// Whether a new source was begun.
    pub(crate) began: bool,
    /// Whether packets wait until the path has room.
    pub(crate) waiting_for_room: bool,
    /// Whether the viewer turned out to lack the publication's codec.
    pub(crate) unsupported: bool,
    /// Changes of quality.
    pub(crate) switches: u64,
    /// Pictures left out for want of room.
    pub(crate) gaps: u64,
}

impl Sent {
    /// Adds what another call sent.
    pub(crate) fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.began |= other.began;
        self.waiting_for_room |= other.waiting_for_room;
        self.unsupported |= other.unsupported;
        self.switches += other.switches;
        self.gaps += other.gaps;
    }
}

/// The outcome of a request for retransmission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repeated {
    /// Packets asked for.
    pub(crate) asked: u64,
    /// Packets sent again.
    pub(crate) sent: u64,
    /// Their bytes, headers included.
    pub(crate) bytes: u64,
    /// Packets not kept any more.
    pub(crate) missed: u64,
}

/// What a sender report says about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SenderState {
    /// The stream.
    pub(crate) ssrc: Ssrc,
    /// The RTP timestamp that is presented at the time of the report.
    pub(crate) timestamp: u32,
    /// Packets sent.
    pub(crate) packets: u32,
    /// Payload bytes sent.
    pub(crate) octets: u32,
}

impl Repeated {
    /// Counts a packet of this length, none if it is 0.
    pub(super) fn add(&mut self, len: usize) {
        self.sent += u64::from(len > 0);
        self.bytes += len as u64;
    }
}
