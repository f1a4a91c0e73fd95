//! What arrived of one RTP stream, what is missing and asked for again, and what is lost.

use std::time::{Duration, Instant};

use super::Report;

/// One received stream.
#[derive(Debug, Default)]
pub(crate) struct Reception {
    /// First and highest extended sequence number.
    range: Option<(u64, u64)>,
    missing: Vec<Missing>,
    lost: u64,
    /// Packets expected and lost at the last report.
    reported: (u64, u64),
    /// The NTP time of the last sender report, and when it came.
    sender_report: Option<(u32, Instant)>,
}

#[derive(Debug)]
struct Missing {
    number: u64,
    since: Instant,
    ask_at: Instant,
}

impl Reception {
    /// Notes a packet. Returns its extended number when it is new: the first, the next, or one that was missing.
    pub(crate) fn arrived(&mut self, seq: u16, now: Instant) -> Option<u64> {
        let Some((_, highest)) = &mut self.range else {
            let number = ORIGIN + u64::from(seq);
            self.range = Some((number, number));
            return Some(number);
        };
        let [.., a, b] = highest.to_be_bytes();
        let step = seq.wrapping_sub(u16::from_be_bytes([a, b])).cast_signed();
        let number = highest.saturating_add_signed(i64::from(step));
        if step <= 0 {
            let place = self.missing.iter().position(|gap| gap.number == number)?;
            self.missing.remove(place);
            return Some(number);
        }
        let gap = *highest + 1..number;
        *highest = number;
        for number in gap {
            if self.missing.len() >= MAX_MISSING {
                self.lost += 1;
                continue;
            }
            self.missing.push(Missing {
                number,
                since: now,
                ask_at: now + REORDERING,
            });
        }
        Some(number)
    }

    /// Returns what to ask for again, in ascending order. What was asked for in vain long enough is lost.
    pub(crate) fn poll_nack(&mut self, now: Instant) -> Vec<u16> {
        let before = self.missing.len();
        self.missing.retain(|gap| now < gap.since + PATIENCE);
        self.lost += (before - self.missing.len()) as u64;
        let mut seqs = Vec::new();
        for gap in &mut self.missing {
            if gap.ask_at <= now {
                gap.ask_at = now + ASK_AGAIN;
                let [.., a, b] = gap.number.to_be_bytes();
                seqs.push(u16::from_be_bytes([a, b]));
            }
        }
        seqs
    }

    /// Returns whether anything is missing.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.missing.is_empty()
    }

    /// Returns how many packets were sent, as far as known, and how many of them are given up.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let expected = self.range.map_or(0, |(first, highest)| highest - first + 1);
        (expected, self.lost)
    }

    /// Notes a sender report.
    pub(crate) fn sender_reported(&mut self, ntp: u32, now: Instant) {
        self.sender_report = Some((ntp, now));
    }

    /// Returns what is due to be reported about this stream.
    pub(crate) fn report(&mut self, ssrc: u32, now: Instant) -> Report {
        let lost = self.lost + self.missing.len() as u64;
        let (expected, _) = self.totals();
        let (expected_before, lost_before) = self.reported;
        self.reported = (expected, lost);
        let (new, new_lost) = (expected - expected_before, lost.saturating_sub(lost_before));
        let fraction = (new_lost * 256).checked_div(new).unwrap_or(0).min(255);
        let highest = self.range.map_or(0, |(_, highest)| highest - ORIGIN);
        let [.., a, b, c, d] = highest.to_be_bytes();
        let since =
            |at: Instant| now.saturating_duration_since(at).as_micros() * 65_536 / 1_000_000;
        Report {
            ssrc,
            fraction_lost: u8::try_from(fraction).unwrap_or(u8::MAX),
            lost: u32::try_from(lost).unwrap_or(u32::MAX),
            highest: u32::from_be_bytes([a, b, c, d]),
            jitter: 0,
            last_sender_report: self
                .sender_report
                .map(|(ntp, at)| (ntp, u32::try_from(since(at)).unwrap_or(u32::MAX)))
                .unwrap_or_default(),
        }
    }
}

/// Numbers begin above zero, so that steps back stay positive.
const ORIGIN: u64 = 1 << 32;

/// A longer gap is a break, not a loss to repair.
const MAX_MISSING: usize = 1000;

/// How long a gap may be reordering, as Chromium waits.
const REORDERING: Duration = Duration::from_millis(1);

/// A round trip, and some.
const ASK_AGAIN: Duration = Duration::from_millis(60);

/// What comes later than this is of no use to a player.
const PATIENCE: Duration = Duration::from_millis(700);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_asked_for_filled_or_lost() {
        let t0 = Instant::now();
        let ms = Duration::from_millis;
        let mut reception = Reception::default();
        let arrive = |reception: &mut Reception, seq: u16, at: u64| {
            reception.arrived(seq, t0 + ms(at)).is_some()
        };
        assert!(arrive(&mut reception, 65_534, 0));
        assert!(arrive(&mut reception, 65_535, 0));
        assert!(arrive(&mut reception, 3, 0));
        assert!(!arrive(&mut reception, 65_535, 0), "twice");
        assert!(!arrive(&mut reception, 65_000, 0), "before the first");
        assert!(reception.poll_nack(t0).is_empty(), "may be reordering");
        assert_eq!(reception.poll_nack(t0 + ms(2)), [0, 1, 2]);
        assert!(arrive(&mut reception, 1, 3));
        assert!(reception.poll_nack(t0 + ms(10)).is_empty());
        assert_eq!(reception.poll_nack(t0 + ms(70)), [0, 2]);
        assert_eq!(reception.totals(), (6, 0));
        let report = reception.report(9, t0 + ms(70));
        assert_eq!((report.lost, report.fraction_lost), (2, 85));
        assert_eq!(report.highest, 65_536 + 3);
        assert!(reception.poll_nack(t0 + ms(701)).is_empty());
        assert_eq!(reception.totals(), (6, 2));
        assert!(!arrive(&mut reception, 0, 702), "too late");
        assert_eq!(reception.report(9, t0).fraction_lost, 0);
    }

    #[test]
    fn delays_of_sender_reports_are_told() {
        let t0 = Instant::now();
        let mut reception = Reception::default();
        reception.sender_reported(5, t0);
        let report = reception.report(9, t0 + Duration::from_millis(500));
        assert_eq!(report.last_sender_report, (5, 32_768));
    }
}
