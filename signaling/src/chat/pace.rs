//! How fast one participant may write.

use std::time::{Duration, Instant};

/// The limit: `burst` messages at once, one per `interval` on average.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) burst: u32,
    pub(super) interval: Duration,
}

/// One participant's use of the limit (GCRA): when it would be unused again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    unused_at: Instant,
}

impl Pace {
    /// Starts unused.
    pub(super) fn new(now: Instant) -> Self {
        Self { unused_at: now }
    }

    /// Takes one message, or says how long to wait for it. A refused message costs nothing.
    pub(super) fn take(&mut self, limit: Limit, now: Instant) -> Result<(), Duration> {
        let ahead = self.unused_at.saturating_duration_since(now);
        let allowed = limit.interval * limit.burst.saturating_sub(1);
        if ahead > allowed {
            return Err(ahead - allowed);
        }
        self.unused_at = now + ahead + limit.interval;
        Ok(())
    }

    /// Returns whether forgetting it changes nothing.
    pub(super) fn is_unused(&self, now: Instant) -> bool {
        self.unused_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit {
        burst: 5,
        interval: Duration::from_millis(1500),
    };

    #[test]
    fn burst_passes_then_one_per_interval() {
        let t0 = Instant::now();
        let mut pace = Pace::new(t0);
        for nth in 1..=5 {
            assert_eq!(pace.take(LIMIT, t0), Ok(()), "message {nth}");
        }
        assert_eq!(pace.take(LIMIT, t0), Err(ms(1500)));
        assert_eq!(pace.take(LIMIT, t0 + ms(1000)), Err(ms(500)));
        assert_eq!(
            pace.take(LIMIT, t0 + ms(1500)),
            Ok(()),
            "waiting as told is enough"
        );
        assert_eq!(pace.take(LIMIT, t0 + ms(1501)), Err(ms(1499)));
    }

    #[test]
    fn silence_gives_the_burst_back() {
        let t0 = Instant::now();
        let mut pace = Pace::new(t0);
        while pace.take(LIMIT, t0).is_ok() {}
        assert!(!pace.is_unused(t0 + ms(7499)));
        let later = t0 + ms(7500);
        assert!(pace.is_unused(later));
        let taken = (0..10)
            .take_while(|_| pace.take(LIMIT, later).is_ok())
            .count();
        assert_eq!(taken, 5);
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}
