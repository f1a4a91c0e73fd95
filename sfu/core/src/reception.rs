//! How one incoming stream arrives, and what a receiver report says about it (RFC 3550 §6.4.1, A.3, A.8).

use std::time::{Duration, Instant};

use crate::sequence::low32;

/// Reception statistics of one stream. Reports leave out what came by retransmission.
#[derive(Debug)]
pub(crate) struct Reception {
    totals: Totals,
    rate: u32,
    first: Option<u64>,
    highest: u64,
    received: u64,
    expected_before: u64,
    received_before: u64,
    /// Sixteenths of a timestamp unit.
    jitter: u64,
    transit: Option<i64>,
    sender_report: Option<(u64, Instant)>,
    /// Since the stream began anew.
    repaired: u64,
}

/// What came of a layer so far, however often its stream began anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// RTP packets that were taken, each once.
    pub(crate) packets: u64,
    /// Their payload bytes.
    pub(crate) bytes: u64,
    /// Those of them that came on the retransmission stream.
    pub(crate) repaired: u64,
    /// Packets that did not come at all, or not yet.
    pub(crate) lost: u64,
}

/// One report block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// 256ths lost since the last block.
    pub(crate) fraction_lost: u8,
    /// Lost since the beginning, 24 bits.
    pub(crate) total_lost: u32,
    /// Highest sequence number with its cycles.
    pub(crate) highest: u32,
    /// Timestamp units.
    pub(crate) jitter: u32,
    /// Middle 32 bits of the last sender report's NTP timestamp.
    pub(crate) last_sender_report: u32,
    /// 65536ths of a second since that report.
    pub(crate) delay: u32,
}

impl Reception {
    /// Creates statistics for a stream with `rate` timestamp units per second.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            totals: Totals::default(),
            repaired: 0,
            rate,
            first: None,
            highest: 0,
            received: 0,
            expected_before: 0,
            received_before: 0,
            jitter: 0,
            transit: None,
            sender_report: None,
        }
    }

    /// The stream begins anew, with other numbers and timestamps.
    pub(crate) fn restart(&mut self) {
        *self = Self {
            totals: self.totals(),
            ..Self::new(self.rate)
        };
    }

    /// Counts a packet that was taken.
    pub(crate) fn take(&mut self, payload_bytes: usize, retransmitted: bool) {
        self.totals.packets += 1;
        self.totals.bytes += payload_bytes as u64;
        self.totals.repaired += u64::from(retransmitted);
        self.repaired += u64::from(retransmitted);
    }

    /// Returns what came so far.
    pub(crate) fn totals(&self) -> Totals {
        let missed = self.expected().saturating_sub(self.received);
        Totals {
            lost: self.totals.lost + missed.saturating_sub(self.repaired),
            ..self.totals
        }
    }

    /// Returns by how much packets come earlier or later than others.
    pub(crate) fn jitter(&self) -> Duration {
        let micros = (self.jitter >> 4) * 1_000_000;
        Duration::from_micros(micros.checked_div(self.rate.into()).unwrap_or_default())
    }

    fn expected(&self) -> u64 {
        let first = self.first.map(|first| first.min(self.highest));
        first.map_or(0, |first| self.highest - first + 1)
    }

    /// Counts a packet that arrived `micros` after the start of the server.
    pub(crate) fn record(&mut self, number: u64, timestamp: u32, micros: i64) {
        self.first.get_or_insert(number);
        self.highest = self.highest.max(number);
        self.received += 1;
        let arrival = i128::from(micros) * i128::from(self.rate) / 1_000_000;
        let arrival = i64::try_from(arrival).unwrap_or_default();
        let transit = arrival - i64::from(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            // Differences are taken modulo 2^32, as timestamps wrap.
            let difference = low32(transit.wrapping_sub(before).cast_unsigned()).cast_signed();
            let difference = u64::from(difference.unsigned_abs());
            self.jitter = (self.jitter + difference).saturating_sub((self.jitter + 8) / 16);
        }
    }

    /// Remembers a sender report for the next block.
    pub(crate) fn handle_sender_report(&mut self, ntp: u64, now: Instant) {
        self.sender_report = Some((ntp, now));
    }

    /// Returns the block for a report now; `None` when nothing was received.
    pub(crate) fn block(&mut self, now: Instant) -> Option<Block> {
        self.first?;
        let expected = self.expected();
        let expected_since = expected - self.expected_before.min(expected);
        let received_since = self.received - self.received_before;
        self.expected_before = expected;
        self.received_before = self.received;
        let lost_since = expected_since.saturating_sub(received_since);
        let fraction = (lost_since << 8).checked_div(expected_since).unwrap_or(0);
        let (last_sender_report, delay) = match self.sender_report {
            Some((ntp, at)) => (
                low32(ntp >> 16),
                units_of_65536(now.saturating_duration_since(at)),
            ),
            None => (0, 0),
        };
        Some(Block {
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            total_lost: low32(expected.saturating_sub(self.received).min(0x7f_ffff)),
            highest: low32(self.highest),
            jitter: low32(self.jitter >> 4),
            last_sender_report,
            delay,
        })
    }
}

fn units_of_65536(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros() * 65_536 / 1_000_000).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_losses_since_the_last_block() {
        let t0 = Instant::now();
        let mut reception = Reception::new(90_000);
        assert_eq!(reception.block(t0), None);
        for number in [0x1_0000, 0x1_0001, 0x1_0003, 0x1_0002, 0x1_0007] {
            reception.record(number, 0, 0);
        }
        let block = reception.block(t0).unwrap();
        assert_eq!((block.fraction_lost, block.total_lost), (96, 3));
        assert_eq!(block.highest, 0x1_0007);
        reception.record(0x1_0008, 0, 0);
        let block = reception.block(t0).unwrap();
        assert_eq!((block.fraction_lost, block.total_lost), (0, 3));
    }

    #[test]
    fn steady_arrival_has_no_jitter_and_unsteady_has() {
        let t0 = Instant::now();
        let mut steady = Reception::new(1000);
        let mut unsteady = Reception::new(1000);
        for n in 0..200_u32 {
            let at = i64::from(n) * 20_000;
            let timestamp = (n * 20).wrapping_sub(1000);
            steady.record(u64::from(n), timestamp, at);
            unsteady.record(u64::from(n), timestamp, at + i64::from(n % 2) * 10_000);
        }
        assert_eq!(steady.block(t0).unwrap().jitter, 0);
        assert_eq!(steady.jitter(), Duration::ZERO);
        assert!((9..=10).contains(&unsteady.jitter().as_millis()));
        assert!((9..=10).contains(&unsteady.block(t0).unwrap().jitter));
    }

    #[test]
    fn totals_outlive_a_restart() {
        let mut reception = Reception::new(90_000);
        let take = |reception: &mut Reception, number: u64, retransmitted| {
            reception.take(100, retransmitted);
            if !retransmitted {
                reception.record(number, 0, 0);
            }
        };
        for number in [10, 11, 14, 17] {
            take(&mut reception, number, false);
        }
        take(&mut reception, 12, true);
        let first = Totals {
            packets: 5,
            bytes: 500,
            repaired: 1,
            lost: 3,
        };
        assert_eq!(reception.totals(), first);
        reception.restart();
        assert_eq!(reception.totals(), first);
        take(&mut reception, 1000, false);
        take(&mut reception, 1002, false);
        let both = Totals {
            packets: 7,
            bytes: 700,
            repaired: 1,
            lost: 4,
        };
        assert_eq!(reception.totals(), both);
    }

    #[test]
    fn echoes_the_sender_report() {
        let t0 = Instant::now();
        let mut reception = Reception::new(1000);
        reception.record(1, 0, 0);
        reception.handle_sender_report(0x1122_3344_5566_7788, t0);
        let block = reception.block(t0 + Duration::from_millis(500)).unwrap();
        assert_eq!(block.last_sender_report, 0x3344_5566);
        assert_eq!(block.delay, 32_768);
    }
}
