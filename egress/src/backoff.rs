//! How long to wait before the next attempt.

use std::time::Duration;

/// Capped exponential delays with jitter: each is between half of and the whole of its step.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    cap: Duration,
    step: u32,
    random: u64,
}

impl Backoff {
    /// `seed` keeps many jobs from retrying in step.
    pub(crate) fn new(first: Duration, cap: Duration, seed: u64) -> Self {
        Self {
            first,
            cap,
            step: 0,
            random: seed | 1,
        }
    }

    /// Returns the next delay.
    pub(crate) fn next(&mut self) -> Duration {
        let whole = self
            .first
            .saturating_mul(1 << self.step.min(16))
            .min(self.cap);
        self.step = self.step.saturating_add(1);
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let thousandths = u32::try_from(self.random % 500).unwrap_or(0);
        whole / 2 + whole * thousandths / 1000
    }

    /// Starts over with the first delay.
    pub(crate) fn reset(&mut self) {
        self.step = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_stay_in_range_and_start_over() {
        let (first, cap) = (Duration::from_millis(500), Duration::from_secs(8));
        let mut backoff = Backoff::new(first, cap, 7);
        for step in 0..40 {
            let whole = first.saturating_mul(1 << step.min(10)).min(cap);
            let delay = backoff.next();
            assert!(delay >= whole / 2 && delay <= whole, "{step}: {delay:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= first);
    }
}
