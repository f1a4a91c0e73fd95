//! Counters over the life of an SFU.

use std::collections::BTreeMap;

use crate::{
    Stats,
    subscription::{Repeated, Sent},
};

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
