//! Records when a publisher's packets arrived, for transport-wide congestion control feedback
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    clock::ServerClock,
    sequence::{ORIGIN, extend16, low16, low32},
};

/// Arrival times by transport-wide sequence number, at most [`MAX_SPAN`]; a larger gap starts anew.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// The number of the first entry.
    base: Option<u64>,
    arrivals: VecDeque<Option<i64>>,
    feedback_count: u8,
    due: Option<Instant>,
    /// Highest number seen.
    reference: Option<u64>,
}

/// One feedback packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Feedback {
    /// Sequence number of the first status.
    pub(crate) base: u16,
    /// Multiples of 64 ms, 24 bits.
    pub(crate) reference_time: u32,
    /// Number of this feedback packet.
    pub(crate) count: u8,
    /// Per packet: `None` when it did not arrive, else multiples of 250 us after the one before.
    pub(crate) deltas: Vec<Option<i16>>,
}

impl Recorder {
    /// Records an arrival.
    pub(crate) fn record(&mut self, seq: u16, clock: ServerClock, now: Instant) {
        let number = extend16(self.reference.unwrap_or(ORIGIN | u64::from(seq)), seq);
        self.reference = self.reference.max(Some(number));
        let base = *self.base.get_or_insert(number);
        // What was reported as missing is not reported again when it comes late.
        let Some(position) = number.checked_sub(base) else {
            return;
        };
        let position = if position < MAX_SPAN {
            usize::try_from(position).unwrap_or_default()
        } else {
            self.arrivals.clear();
            self.base = Some(number);
            0
        };
        if self.arrivals.len() <= position {
            self.arrivals.resize(position + 1, None);
        }
        if let Some(arrival) = self.arrivals.get_mut(position)
            && arrival.is_none()
        {
            *arrival = Some(clock.micros(now));
        }
        self.due.get_or_insert(now + INTERVAL);
    }

    /// Returns when [`Recorder::poll`] has something to say.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Returns the next feedback packet that is due; call it until it returns `None`.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Feedback> {
        if self.due.is_none_or(|due| now < due) {
            return None;
        }
        let Some(feedback) = self.build() else {
            self.due = None;
            return None;
        };
        Some(feedback)
    }

    fn build(&mut self) -> Option<Feedback> {
        let first_arrived = self.arrivals.iter().position(Option::is_some)?;
        if first_arrived >= MAX_STATUSES {
            self.skip(first_arrived);
        }
        let first = self.arrivals.iter().flatten().next().copied()?;
        let reference = first.div_euclid(REFERENCE_UNIT);
        let mut at = reference * REFERENCE_UNIT / DELTA_UNIT;
        let mut deltas = Vec::new();
        for arrival in self.arrivals.iter().take(MAX_STATUSES) {
            let Some(arrival) = arrival else {
                deltas.push(None);
                continue;
            };
            let units = arrival / DELTA_UNIT;
            let Ok(delta) = i16::try_from(units - at) else {
                break;
            };
            at = units;
            deltas.push(Some(delta));
        }
        let feedback = Feedback {
            base: low16(self.base?),
            reference_time: low32(reference.cast_unsigned()) & 0xff_ffff,
            count: self.feedback_count,
            deltas,
        };
        self.feedback_count = self.feedback_count.wrapping_add(1);
        self.skip(feedback.deltas.len());
        Some(feedback)
    }

    fn skip(&mut self, count: usize) {
        self.arrivals.drain(..count.min(self.arrivals.len()));
        self.base = self.base.map(|base| base + count as u64);
    }
}

/// How often feedback is sent while packets arrive; Chromium's own receivers use 50 to 250 ms.
const INTERVAL: Duration = Duration::from_millis(50);

/// Longest range of numbers that is kept.
const MAX_SPAN: u64 = 4096;

/// Most statuses in one packet, so that it fits into a datagram.
const MAX_STATUSES: usize = 320;

const REFERENCE_UNIT: i64 = 64_000;
const DELTA_UNIT: i64 = 250;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn fixture() -> (Recorder, ServerClock, Instant) {
        let t0 = Instant::now();
        let clock = ServerClock::new(Duration::ZERO, t0);
        (Recorder::default(), clock, t0)
    }

    fn drain(recorder: &mut Recorder, now: Instant) -> Vec<Feedback> {
        std::iter::from_fn(|| recorder.poll(now)).collect()
    }

    #[test]
    fn reports_arrivals_losses_and_reordering() {
        let (mut recorder, clock, t0) = fixture();
        for (seq, at) in [(0xfffe, 65), (0xffff, 66), (2, 70), (0, 68)] {
            recorder.record(seq, clock, t0 + ms(at));
        }
        assert_eq!(recorder.poll(t0 + ms(66)), None);
        let feedback = drain(&mut recorder, t0 + ms(115));
        let expected = Feedback {
            base: 0xfffe,
            reference_time: 1,
            count: 0,
            deltas: vec![Some(4), Some(4), Some(8), None, Some(8)],
        };
        assert_eq!(feedback, [expected]);
        assert_eq!(recorder.poll_timeout(), None);
    }

    #[test]
    fn a_loss_between_two_reports_is_reported() {
        let (mut recorder, clock, t0) = fixture();
        recorder.record(10, clock, t0);
        drain(&mut recorder, t0 + ms(50));
        recorder.record(13, clock, t0 + ms(60));
        recorder.record(10, clock, t0 + ms(61));
        let feedback = drain(&mut recorder, t0 + ms(110));
        assert_eq!(feedback.len(), 1);
        assert_eq!((feedback[0].base, feedback[0].count), (11, 1));
        assert_eq!(feedback[0].deltas, [None, None, Some(240)]);
    }

    #[test]
    fn a_large_delta_starts_another_packet() {
        let (mut recorder, clock, t0) = fixture();
        recorder.record(1, clock, t0);
        recorder.record(2, clock, t0 + ms(9000));
        let feedback = drain(&mut recorder, t0 + ms(9050));
        assert_eq!(feedback.len(), 2);
        assert_eq!(feedback[1].base, 2);
        assert_eq!(feedback[1].reference_time, 140);
        assert_eq!(feedback[1].deltas, [Some((9000 - 140 * 64) * 4)]);
    }

    #[test]
    fn a_jump_starts_anew_and_memory_is_bounded() {
        let (mut recorder, clock, t0) = fixture();
        recorder.record(1, clock, t0);
        recorder.record(20_000, clock, t0);
        let feedback = drain(&mut recorder, t0 + ms(50));
        assert_eq!(feedback.len(), 1);
        assert_eq!(feedback[0].base, 20_000);
        for n in 0..200_000_u32 {
            recorder.record((n % 65_536) as u16, clock, t0 + ms(100));
        }
        assert!(recorder.arrivals.len() <= MAX_SPAN as usize);
        for feedback in drain(&mut recorder, t0 + ms(200)) {
            assert!(feedback.deltas.len() <= MAX_STATUSES);
        }
    }
}
