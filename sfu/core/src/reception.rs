//! What a receiver report says about one incoming stream (RFC 3550 §6.4.1, A.3, A.8).

use std::time::{Duration, Instant};

use crate::sequence::low32;

/// Reception statistics of one stream, without what came by retransmission.
#[derive(Debug)]
pub(crate) struct Reception {
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
        let expected = self.highest - self.first?.min(self.highest) + 1;
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
        assert!((9..=10).contains(&unsteady.block(t0).unwrap().jitter));
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
