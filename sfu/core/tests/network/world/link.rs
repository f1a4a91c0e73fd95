//! One direction of a link with a bottleneck: rate, queue, delay, jitter, order, loss. Chance is seeded.

use std::time::{Duration, Instant};

/// What a link does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    /// Bit/s; 0 for no limit.
    pub(crate) rate: u64,
    /// How long a packet may wait for its turn; what would wait longer is dropped.
    pub(crate) queue: Duration,
    /// How long it travels.
    pub(crate) delay: Duration,
    /// Most time on top of that; does not reorder.
    pub(crate) jitter: Duration,
    /// Per mille lost.
    pub(crate) loss: u64,
    /// Per mille that are overtaken by those sent within [`OVERTAKEN`] behind them.
    pub(crate) reordered: u64,
    /// Per mille that come twice.
    pub(crate) duplicated: u64,
}

pub(crate) struct Link {
    pub(crate) conditions: Conditions,
    /// The longest that a packet waited for its turn since this was last cleared.
    pub(crate) longest_wait: Duration,
    /// Packets that there was no room for.
    pub(crate) dropped: u32,
    busy_until: Option<Instant>,
    newest: Option<Instant>,
    random: u64,
}

/// How much later a packet comes that is overtaken: as over radio, where what was lost is sent again.
const OVERTAKEN: Duration = Duration::from_millis(12);

impl Conditions {
    pub(crate) fn of_rate(rate: u64) -> Self {
        Self {
            rate,
            queue: Duration::from_millis(500),
            delay: Duration::from_millis(20),
            jitter: Duration::ZERO,
            loss: 0,
            reordered: 0,
            duplicated: 0,
        }
    }
}

impl Link {
    pub(crate) fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            longest_wait: Duration::ZERO,
            dropped: 0,
            busy_until: None,
            newest: None,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    /// Sends a packet. Returns when it arrives: not at all, once or twice.
    pub(crate) fn send(
        &mut self,
        size: usize,
        now: Instant,
    ) -> impl Iterator<Item = Instant> + use<> {
        let at = self.carry(size, now);
        let duplicated = self.conditions.duplicated;
        let is_again = duplicated > 0 && self.next_random() % 1000 < duplicated;
        let again = at.filter(|_| is_again);
        at.into_iter()
            .chain(again.map(|at| at + Duration::from_millis(1)))
    }

    fn carry(&mut self, size: usize, now: Instant) -> Option<Instant> {
        let start = self.busy_until.map_or(now, |until| until.max(now));
        if self.conditions.rate > 0 && start - now > self.conditions.queue {
            self.dropped += 1;
            return None;
        }
        let micros = (size as u64 * 8_000_000)
            .checked_div(self.conditions.rate)
            .unwrap_or_default();
        let done = start + Duration::from_micros(micros);
        self.busy_until = Some(done);
        self.longest_wait = self.longest_wait.max(start - now);
        if self.next_random() % 1000 < self.conditions.loss {
            return None;
        }
        let most = self.conditions.jitter.as_micros() as u64;
        let jitter = Duration::from_micros(self.next_random() % (most + 1));
        let at = done + self.conditions.delay + jitter;
        let at = self.newest.map_or(at, |newest| newest.max(at));
        // Without a draw where nothing is: chance goes on as it did.
        let reordered = self.conditions.reordered;
        if reordered > 0 && self.next_random() % 1000 < reordered {
            return Some(at + OVERTAKEN);
        }
        self.newest = Some(at);
        Some(at)
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random >> 8
    }
}
