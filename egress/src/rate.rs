//! A recent bitrate.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Growth of a count over the last two seconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rate {
    /// At most one per report, so about ten.
    samples: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// Notes the total at `now`.
    pub(crate) fn record(&mut self, total: u64, now: Instant) {
        self.samples.push_back((now, total));
        while self.samples.len() > 2 && self.samples[1].0 + WINDOW <= now {
            self.samples.pop_front();
        }
    }

    /// Returns bit/s when bytes are counted, 0 when nothing was recorded lately.
    pub(crate) fn bits_per_second(&self, now: Instant) -> u64 {
        self.per_second(now).saturating_mul(8)
    }

    /// Returns the growth per second, 0 when nothing was recorded lately.
    pub(crate) fn per_second(&self, now: Instant) -> u64 {
        let (Some((t0, first)), Some((t1, last))) = (self.samples.front(), self.samples.back())
        else {
            return 0;
        };
        let millis = u64::try_from(t1.duration_since(*t0).as_millis()).unwrap_or(u64::MAX);
        if millis == 0 || *t1 + WINDOW < now {
            return 0;
        }
        last.saturating_sub(*first).saturating_mul(1000) / millis
    }
}

const WINDOW: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_follows_the_last_two_seconds() {
        let t0 = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.bits_per_second(t0), 0);
        for i in 0..20u64 {
            rate.record(i * 50_000, t0 + Duration::from_millis(500 * i));
        }
        let now = t0 + Duration::from_millis(9500);
        assert_eq!(rate.bits_per_second(now), 800_000);
        assert_eq!(rate.bits_per_second(now + Duration::from_secs(3)), 0);
    }
}
