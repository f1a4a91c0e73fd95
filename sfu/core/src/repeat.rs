//! Limits what one viewer can make the server send again.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What one subscription was sent again lately.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    recent: VecDeque<Answer>,
    since: Option<Instant>,
    used: u32,
}

/// A packet that was sent again.
#[derive(Clone, Copy, Debug)]
struct Answer {
    seq: u16,
    at: Instant,
    /// How often before.
    before: u32,
}

impl Repeats {
    /// Returns whether a packet was sent again lately. Some viewers go on asking for what they have got.
    pub(crate) fn has_sent(&self, seq: u16) -> bool {
        self.recent.iter().any(|answer| answer.seq == seq)
    }

    /// Returns whether a packet may be sent again: not while an answer to an earlier request is on its way,
    /// which takes `guard`, twice as long after each further one, and not more than [`ALLOWANCE`].
    pub(crate) fn allow(&mut self, seq: u16, guard: Duration, now: Instant) -> bool {
        !self.is_recent(seq, guard, now) && self.take(now)
    }

    fn is_recent(&mut self, seq: u16, guard: Duration, now: Instant) -> bool {
        let position = self.recent.iter().position(|answer| answer.seq == seq);
        let last = position.and_then(|position| self.recent.remove(position));
        let mut before = 0;
        if let Some(last) = last {
            let age = now.saturating_duration_since(last.at);
            let doubled = guard * (1 << last.before.min(MOST_DOUBLED));
            if age < doubled.min(LONGEST_GUARD).max(guard) {
                self.recent.push_back(last);
                return true;
            }
            before = if age < FORGOTTEN { last.before + 1 } else { 0 };
        }
        if self.recent.len() >= MAX_REPEATED {
            self.recent.pop_front();
        }
        self.recent.push_back(Answer {
            seq,
            at: now,
            before,
        });
        false
    }

    fn take(&mut self, now: Instant) -> bool {
        let elapsed = |since| now.saturating_duration_since(since) >= ALLOWANCE_WINDOW;
        if self.since.is_none_or(elapsed) {
            self.since = Some(now);
            self.used = 0;
        }
        self.used += 1;
        self.used <= ALLOWANCE
    }
}

/// Most packets sent again for one request.
pub(crate) const MAX_REPEATED: usize = 128;

/// Most packets sent again in [`ALLOWANCE_WINDOW`]: a fifth of a stream of 25 Mbit/s.
const ALLOWANCE: u32 = 500;
const ALLOWANCE_WINDOW: Duration = Duration::from_secs(1);

/// How often the time doubles in which a packet is not sent again, and how long that is at most.
const MOST_DOUBLED: u32 = 6;
const LONGEST_GUARD: Duration = Duration::from_secs(1);

/// When a number means another packet: numbers come round after 65,536.
const FORGOTTEN: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    const GUARD: Duration = Duration::from_millis(20);

    #[test]
    fn a_packet_is_sent_again_once_in_a_while() {
        let t0 = Instant::now();
        let mut repeats = Repeats::default();
        assert!(repeats.allow(5, GUARD, t0));
        assert!(!repeats.allow(5, GUARD, t0 + Duration::from_millis(19)));
        assert!(repeats.allow(6, GUARD, t0));
        assert!(repeats.allow(5, GUARD, t0 + Duration::from_millis(20)));
    }

    #[test]
    fn who_asks_again_and_again_is_answered_less_and_less() {
        let t0 = Instant::now();
        let mut repeats = Repeats::default();
        let at = |tenths: u32| t0 + Duration::from_millis(100) * tenths;
        let sent: Vec<u32> = (0..20)
            .filter(|n| repeats.allow(5, GUARD, at(*n)))
            .collect();
        assert_eq!(sent, [0, 1, 2, 3, 5, 9, 16]);
        assert!(repeats.has_sent(5) && !repeats.has_sent(6));
        assert!(repeats.allow(5, GUARD, at(100)), "another packet");
        assert!(repeats.allow(5, GUARD, at(101)));
    }

    #[test]
    fn a_second_has_its_limit() {
        let t0 = Instant::now();
        let mut repeats = Repeats::default();
        let allowed = (0..2000)
            .filter(|seq| repeats.allow(*seq, GUARD, t0))
            .count();
        assert_eq!(allowed, ALLOWANCE as usize);
        assert!(repeats.allow(1, GUARD, t0 + ALLOWANCE_WINDOW));
    }
}
