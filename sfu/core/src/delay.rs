//! What the arrival times of packets say about the path: its queue, and what it delivers.
//!
//! All times are microseconds; those of departure are the server's, those of arrival the viewer's.

/// How long packets wait in the path's queue: the least delay of the last 100 ms above the least of the last
/// seconds. What jitters is not waited for, so it does not count.
#[derive(Debug, Default)]
pub(crate) struct Queueing {
    slots: [Slot; SLOTS],
    newest: i64,
    base: [Option<i64>; 2],
    rotate_at: i64,
}

/// The packets that arrived within [`SLOT`].
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    number: i64,
    least: i64,
    packets: u32,
}

impl Queueing {
    /// Takes a packet's times.
    pub(crate) fn record(&mut self, sent: i64, arrived: i64) {
        let delay = arrived - sent;
        if arrived >= self.rotate_at {
            let [current, _] = self.base;
            self.base = [None, current];
            self.rotate_at = arrived + BASE_WINDOW;
        }
        let [current, _] = &mut self.base;
        *current = Some(current.map_or(delay, |least| least.min(delay)));
        let number = arrived.div_euclid(SLOT);
        self.newest = self.newest.max(number);
        if let Some(slot) = self.slots.get_mut(index(number, SLOTS)) {
            if slot.number != number || slot.packets == 0 {
                *slot = Slot {
                    number,
                    least: delay,
                    packets: 0,
                };
            }
            slot.least = slot.least.min(delay);
            slot.packets += 1;
        }
    }

    /// Returns how long packets wait; `None` while too few have come.
    pub(crate) fn standing(&self) -> Option<i64> {
        Some(self.least_recent()? - self.base()?)
    }

    /// Takes the present delay for that of an empty path.
    pub(crate) fn rebase(&mut self) {
        if let Some(least) = self.least_recent() {
            self.base = [Some(least), None];
        }
    }

    fn base(&self) -> Option<i64> {
        self.base.iter().flatten().min().copied()
    }

    fn least_recent(&self) -> Option<i64> {
        let (mut least, mut packets) = (None, 0);
        for back in 0..SLOTS as i64 {
            if back >= RECENT_SLOTS && packets >= RECENT_PACKETS {
                break;
            }
            let number = self.newest - back;
            let slot = self.slots.get(index(number, SLOTS))?;
            if slot.number == number && slot.packets > 0 {
                least = Some(least.map_or(slot.least, |least: i64| least.min(slot.least)));
                packets += slot.packets;
            }
        }
        least
    }
}

/// What arrives, by time of arrival.
#[derive(Debug)]
pub(crate) struct Delivered {
    buckets: [u32; BUCKETS],
    first: Option<i64>,
    newest: i64,
}

impl Default for Delivered {
    fn default() -> Self {
        Self {
            buckets: [0; BUCKETS],
            first: None,
            newest: 0,
        }
    }
}

impl Delivered {
    /// Takes a packet.
    pub(crate) fn record(&mut self, arrived: i64, size: u32) {
        let number = arrived.div_euclid(BUCKET);
        if self.first.is_none() || number - self.newest >= BUCKETS as i64 {
            self.first = Some(self.first.map_or(number, |_| number - BUCKETS as i64));
            self.buckets = [0; BUCKETS];
            self.newest = number;
        }
        while self.newest < number {
            self.newest += 1;
            if let Some(bucket) = self.buckets.get_mut(index(self.newest, BUCKETS)) {
                *bucket = 0;
            }
        }
        if self.newest - number < BUCKETS as i64
            && let Some(bucket) = self.buckets.get_mut(index(number, BUCKETS))
        {
            *bucket = bucket.saturating_add(size);
        }
    }

    /// Adds what did not come to what came last; nothing before anything has come.
    pub(crate) fn add(&mut self, size: u32) {
        if self.first.is_some() {
            self.record(self.newest(), size);
        }
    }

    /// Returns the bitrate over the last `window` microseconds, as far as packets have come for so long;
    /// `None` for less than 60 ms.
    pub(crate) fn rate(&self, window: i64) -> Option<u64> {
        let since_first = self.newest - self.first?;
        let count = (window / BUCKET).min(BUCKETS as i64 - 1).min(since_first);
        if count < 4 {
            return None;
        }
        // The newest bucket is not full yet.
        let numbers = self.newest - count..self.newest;
        let buckets = numbers.filter_map(|number| self.buckets.get(index(number, BUCKETS)));
        let bytes: u64 = buckets.map(|bytes| u64::from(*bytes)).sum();
        Some(bytes * 8_000_000 / (count * BUCKET).unsigned_abs())
    }

    /// Returns the bitrate that lasted: the lesser one of two windows, the first of 400 ms. `None` before.
    pub(crate) fn lasting(&self) -> Option<u64> {
        let since_first = (self.newest - self.first?) * BUCKET;
        let rates = self.rate(SHORT_WINDOW).min(self.rate(LONG_WINDOW));
        rates.filter(|_| since_first >= SHORT_WINDOW)
    }

    /// Returns the highest bitrate over 33 ms within the last `window` microseconds.
    pub(crate) fn peak(&self, window: i64) -> u64 {
        let bytes = |number| self.buckets.get(index(number, BUCKETS)).copied();
        let count = (window / BUCKET).min(BUCKETS as i64 - 1);
        let pairs = (self.newest - count..self.newest).filter_map(|number| {
            let pair = u64::from(bytes(number)?) + u64::from(bytes(number + 1)?);
            Some(pair * 8_000_000 / (2 * BUCKET).unsigned_abs())
        });
        pairs.max().unwrap_or_default()
    }

    /// Returns the time of the newest arrival, in whole buckets.
    pub(crate) fn newest(&self) -> i64 {
        self.newest * BUCKET
    }
}

fn index(number: i64, len: usize) -> usize {
    usize::try_from(number.rem_euclid(len as i64)).unwrap_or_default()
}

const SLOT: i64 = 25_000;
const SLOTS: usize = 16;

/// Least time and packets that the present delay is the least of.
const RECENT_SLOTS: i64 = 4;
const RECENT_PACKETS: u32 = 5;

/// The least delay is that of between one and two of these; clocks drift by a millisecond in it.
const BASE_WINDOW: i64 = 10_000_000;

/// Over less than these, jitter and the size of packets make more of a rate than it is.
const SHORT_WINDOW: i64 = 400_000;
const LONG_WINDOW: i64 = 800_000;

const BUCKET: i64 = 16_384;
const BUCKETS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_no_queue_and_a_queue_is() {
        let mut queueing = Queueing::default();
        let mut record = |n: i64, wait: i64| {
            let jitter = n * 7919 % 20_000;
            queueing.record(n * 5000, n * 5000 + 77_000_000 + jitter + wait);
            queueing.standing().unwrap()
        };
        assert!((0..200).all(|n| record(n, 0) < 10_000));
        let waits: Vec<_> = (200..240).map(|n| record(n, 60_000)).collect();
        assert!(waits[39] > 55_000, "{waits:?}");
        queueing.rebase();
        assert_eq!(queueing.standing(), Some(0));
    }

    #[test]
    fn the_base_follows_the_path_within_two_windows() {
        let mut queueing = Queueing::default();
        for n in 0..2500 {
            let delay = if n < 100 { 0 } else { 40_000 };
            queueing.record(n * 10_000, n * 10_000 + delay);
        }
        assert_eq!(queueing.standing(), Some(0));
    }

    #[test]
    fn the_rate_is_that_of_the_window() {
        let mut delivered = Delivered::default();
        assert_eq!(delivered.rate(500_000), None);
        for n in 0..1000 {
            delivered.record(-3_000_000 + n * 1000, if n < 500 { 125 } else { 250 });
        }
        let rate = delivered.rate(300_000).unwrap();
        assert!(rate.abs_diff(2_000_000) < 20_000, "{rate}");
        delivered.record(9_000_000, 100);
        assert_eq!(delivered.rate(300_000), Some(0), "after a silence");
    }
}
