//! What is counted: over the life of an SFU, per room and per peer.

use std::collections::BTreeMap;

use crate::subscription::{Repeated, Sent};

/// Totals since the start, for metrics. Counters never decrease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rooms with at least one peer.
    pub rooms: usize,
    /// Connected publishing peers.
    pub publishers: usize,
    /// Connected viewing peers.
    pub viewers: usize,
    /// RTP packets accepted from publishers.
    pub packets_in: u64,
    /// Bytes of those, headers included.
    pub bytes_in: u64,
    /// RTP packets sent to viewers.
    pub packets_out: u64,
    /// Bytes of those, headers included.
    pub bytes_out: u64,
    /// Packets that publishers sent and that never arrived, after retransmission.
    pub packets_lost: u64,
    /// Packets sent again to viewers.
    pub retransmitted: u64,
    /// Packets that viewers asked for and that were not kept any more.
    pub retransmit_missed: u64,
    /// Keyframe requests sent to publishers.
    pub keyframe_requests: u64,
    /// Datagrams dropped, by reason.
    pub dropped: Vec<(&'static str, u64)>,
}

impl Stats {
    /// Adds those of another shard.
    pub fn add(&mut self, other: &Self) {
        self.rooms += other.rooms;
        self.publishers += other.publishers;
        self.viewers += other.viewers;
        self.packets_in += other.packets_in;
        self.bytes_in += other.bytes_in;
        self.packets_out += other.packets_out;
        self.bytes_out += other.bytes_out;
        self.packets_lost += other.packets_lost;
        self.retransmitted += other.retransmitted;
        self.retransmit_missed += other.retransmit_missed;
        self.keyframe_requests += other.keyframe_requests;
        for (reason, count) in &other.dropped {
            match self.dropped.iter_mut().find(|(known, _)| known == reason) {
                Some((_, total)) => *total += count,
                None => self.dropped.push((reason, *count)),
            }
        }
    }
}

/// One room, for the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomStats {
    /// Whether media of a publisher is arriving.
    pub live: bool,
    /// Connected viewing peers.
    pub viewers: usize,
}

impl RoomStats {
    /// Adds those of another shard.
    pub fn add(&mut self, other: &Self) {
        self.live |= other.live;
        self.viewers += other.viewers;
    }
}

/// One peer, for the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// RTP packets received from it.
    pub packets_in: u64,
    /// RTP packets sent to it.
    pub packets_out: u64,
    /// Packets it asked for again.
    pub nacked: u64,
    /// Fraction lost of its last receiver report, 0 to 1 in steps of 1/256, as a number of 256ths.
    pub fraction_lost: u8,
}

/// What was counted so far.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// All but the gauges and the drops.
    pub(crate) stats: Stats,
    dropped: BTreeMap<&'static str, u64>,
}

impl Totals {
    /// Counts something that was dropped. `reason` is one of a fixed set of words.
    pub(crate) fn drop(&mut self, reason: &'static str) {
        self.drop_many(reason, 1);
    }

    /// Counts several things that were dropped for the same reason.
    pub(crate) fn drop_many(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            *self.dropped.entry(reason).or_default() += count;
        }
    }

    /// Counts what was sent.
    pub(crate) fn sent(&mut self, sent: &Sent) {
        self.stats.packets_out += sent.packets;
        self.stats.bytes_out += sent.bytes;
        self.drop_many("codec_unsupported", u64::from(sent.unsupported));
    }

    /// Counts what was sent again.
    pub(crate) fn repeated(&mut self, repeated: &Repeated) {
        self.stats.packets_out += repeated.sent;
        self.stats.bytes_out += repeated.bytes;
        self.stats.retransmitted += repeated.sent;
        self.stats.retransmit_missed += repeated.missed;
    }

    /// Returns a snapshot without the gauges.
    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            dropped: self.dropped.iter().map(|(k, v)| (*k, *v)).collect(),
            ..self.stats.clone()
        }
    }
}
