//! [`Pacer`]: spreads over time what need not be sent at once.

/// A bucket that leaks at the pace of a path. Everything that is sent fills it; live packets are sent however
/// full it is, replays, repeats and probes only while it is not. Times are microseconds.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// Bit/s.
    pace: u64,
    /// How long what is sent at once may take.
    burst: u64,
    /// Bits times 10^6 that are sent at once, however long that takes.
    least: u64,
    /// Bits times 10^6 that are sent at once in the beginning, before the bucket fills.
    window: u64,
    /// Bits times 10^6 that have not leaked yet.
    level: u64,
    updated: i64,
}

impl Pacer {
    /// Creates an empty bucket. At once it takes what `pace` bit/s carry in `burst` microseconds, and at least
    /// `least` bytes.
    pub(crate) fn new(pace: u64, burst: u64, least: u64) -> Self {
        Self {
            pace,
            burst,
            least: least * 8_000_000,
            window: 0,
            level: 0,
            updated: 0,
        }
    }

    /// Takes so much at once, once.
    pub(crate) fn open(&mut self, bytes: u64) {
        self.window = bytes * 8_000_000;
    }

    /// Changes the pace.
    pub(crate) fn set_pace(&mut self, pace: u64, now: i64) {
        self.leak(now);
        self.pace = pace;
    }

    /// Fills the bucket.
    pub(crate) fn sent(&mut self, bytes: usize, now: i64) {
        self.leak(now);
        let most = self.pace.saturating_mul(MOST_DEBT).max(2 * self.burst());
        let size = bytes as u64 * 8_000_000;
        let over = size.saturating_sub(self.window);
        self.window = self.window.saturating_sub(size);
        self.level = (self.level + over).min(most);
    }

    /// Returns whether there is room.
    pub(crate) fn has_room(&mut self, now: i64) -> bool {
        self.leak(now);
        self.window > 0 || self.level < self.burst()
    }

    /// Returns how long it takes to send what is in the bucket, in microseconds.
    pub(crate) fn backlog(&self, now: i64) -> u64 {
        let elapsed = u64::try_from(now - self.updated).unwrap_or_default();
        (self.level / self.pace.max(1)).saturating_sub(elapsed)
    }

    fn burst(&self) -> u64 {
        self.pace.saturating_mul(self.burst).max(self.least)
    }

    fn leak(&mut self, now: i64) {
        let elapsed = u64::try_from(now - self.updated).unwrap_or_default();
        self.level = self.level.saturating_sub(self.pace.saturating_mul(elapsed));
        self.updated = self.updated.max(now);
    }
}

/// Live packets do not hold up the rest for longer than this.
const MOST_DEBT: u64 = 500_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends packets of 1250 bytes as long as there is room.
    fn fill(pacer: &mut Pacer, now: i64) -> u64 {
        let mut bytes = 0;
        while pacer.has_room(now) {
            pacer.sent(1250, now);
            bytes += 1250;
        }
        bytes
    }

    #[test]
    fn the_pace_is_kept_and_bursts_are_small() {
        for pace in [400_000, 5_000_000, 50_000_000] {
            let mut pacer = Pacer::new(pace, 8000, 2500);
            let (mut now, mut bytes) = (1000, 0);
            while now < 1_001_000 {
                let burst = fill(&mut pacer, now);
                assert!(burst <= 2500 + pace / 1000, "{pace}: {burst}");
                bytes += burst;
                now += 5000;
            }
            assert!(
                (bytes * 8).abs_diff(pace) < pace / 10 + 30_000,
                "{pace}: {bytes}"
            );
        }
    }

    #[test]
    fn the_slowest_pace_is_kept_too() {
        let mut pacer = Pacer::new(40_000, 100_000, 2500);
        let bytes: u64 = (0..2000).map(|n| fill(&mut pacer, n * 5000)).sum();
        assert!(bytes < 10 * 5000 + 5000, "{bytes} in ten seconds");
    }

    #[test]
    fn the_first_window_is_taken_at_once() {
        let mut pacer = Pacer::new(1_000_000, 8000, 2500);
        pacer.open(15_000);
        assert_eq!(fill(&mut pacer, 0), 15_000 + 2500);
        assert_eq!(fill(&mut pacer, 0), 0);
        assert_eq!(fill(&mut pacer, 10_000), 1250);
    }

    #[test]
    fn live_packets_do_not_block_the_rest_for_long() {
        let mut pacer = Pacer::new(1_000_000, 8000, 2500);
        pacer.sent(10_000_000, 0);
        assert!(!pacer.has_room(400_000));
        assert_eq!(pacer.backlog(450_000), 50_000);
        assert!(pacer.has_room(500_000));
    }
}
