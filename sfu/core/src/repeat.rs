//! Limits what one viewer can make the server send again.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What one subscription was sent again lately.
#[derive(Debug, Default)]
pub(crate) struct Repeats {
    recent: VecDeque<(u16, Instant)>,
    since: Option<Instant>,
    used: u32,
}

impl Repeats {
    /// Returns whether a packet may be sent again: not while an answer to an earlier request is on its way,
    /// which takes `guard`, and not more than [`ALLOWANCE`].
    pub(crate) fn allow(&mut self, seq: u16, guard: Duration, now: Instant) -> bool {
        !self.is_recent(seq, guard, now) && self.take(now)
    }

    fn is_recent(&mut self, seq: u16, guard: Duration, now: Instant) -> bool {
        let recently = |at: Instant| now.saturating_duration_since(at) < guard;
        let mut recent = self.recent.iter();
        if recent.any(|(s, at)| *s == seq && recently(*at)) {
            return true;
        }
        if self.recent.len() >= MAX_REPEATED {
            self.recent.pop_front();
        }
        self.recent.push_back((seq, now));
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
