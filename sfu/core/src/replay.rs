//! [`Replays`]: the timestamps of pictures that are sent later than they came.

use std::{collections::VecDeque, time::Instant};

use crate::sequence::is_later;

/// A moment of a publisher's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    /// RTP timestamp.
    pub(crate) timestamp: u32,
    /// When it came.
    pub(crate) received: Instant,
}

/// Dates the pictures of replays by the time of their sending, as if they were live: receivers learn from the
/// first timestamps how fast the publisher's clock runs, and how long pictures are on their way. All
/// timestamps are the publisher's.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    /// Counts the runs.
    number: u32,
    /// The rate and a moment of the clock, until the replay has reached the live edge.
    clock: Option<(u32, Live)>,
    /// Pictures with other timestamps than their own, oldest first, at most [`MAX_MOVED`].
    moved: VecDeque<Moved>,
}

#[derive(Clone, Copy, Debug)]
struct Moved {
    number: u32,
    from: u32,
    to: u32,
}

impl Replays {
    /// Begins a run; without a clock no picture moves unless it must be later than what came before.
    pub(crate) fn begin(&mut self, rate: u32, live: Option<Live>) -> u32 {
        self.number = self.number.wrapping_add(1);
        self.clock = live.map(|live| (rate, live));
        self.number
    }

    /// Returns the timestamp for a picture of the present run that is sent for the first time. It is later than
    /// `last`.
    pub(crate) fn place(&mut self, timestamp: u32, last: Option<u32>, now: Instant) -> u32 {
        let lateness = self.clock.map(|(rate, live)| {
            let elapsed = now.saturating_duration_since(live.received).as_micros();
            let elapsed = elapsed * u128::from(rate) / 1_000_000;
            let at = live
                .timestamp
                .wrapping_add(u32::try_from(elapsed).unwrap_or_default());
            (at, is_later(at, timestamp.wrapping_add(rate / LIVE)))
        });
        let to = match lateness {
            Some((at, true)) => at,
            Some((_, false)) | None => {
                self.clock = None;
                timestamp
            }
        };
        let to = match last {
            Some(last) if !is_later(to, last) && last.wrapping_sub(to) < MOST => {
                last.wrapping_add(STEP)
            }
            Some(_) | None => to,
        };
        if let Some(old) = self.moved.back()
            && old.number == self.number
            && (LONG_PAST..1 << 31).contains(&timestamp.wrapping_sub(old.from))
        {
            // Timestamps wrap: what moved must not be met again.
            self.moved.clear();
        }
        if to != timestamp {
            if self.moved.len() >= MAX_MOVED {
                self.moved.pop_front();
            }
            self.moved.push_back(Moved {
                number: self.number,
                from: timestamp,
                to,
            });
        }
        to
    }

    /// Returns the timestamp that a picture of a run got; `None` when that is not known any more.
    pub(crate) fn find(&self, number: u32, timestamp: u32) -> Option<u32> {
        let run = || {
            self.moved
                .iter()
                .filter(move |moved| moved.number == number)
        };
        let Some(last) = run().next_back() else {
            return Some(timestamp);
        };
        if last.from == timestamp {
            return Some(last.to);
        }
        if is_later(timestamp, last.from) {
            // One that comes late belongs behind those that were moved past its time.
            let behind = last
                .to
                .wrapping_add(1 + rank(timestamp.wrapping_sub(last.from)));
            return Some(if is_later(timestamp, last.to) {
                timestamp
            } else {
                behind
            });
        }
        let first = run().next()?;
        let next = run().find(|moved| !is_later(timestamp, moved.from))?;
        match next.from == timestamp {
            true => Some(next.to),
            // It came when those behind it had been sent.
            false => is_later(timestamp, first.from).then(|| {
                let before = rank(next.from.wrapping_sub(timestamp));
                next.to.wrapping_sub(1 + before)
            }),
        }
    }
}

/// Keeps pictures apart that share the ticks between two others: they are at least a ninetieth of a second apart.
fn rank(distance: u32) -> u32 {
    (distance / 1000).min(STEP - 2)
}

/// A picture that is sent within this part of a second of its time is live: 1/60 s.
const LIVE: u32 = 60;

/// Between pictures that are sent at the same time, in ticks.
const STEP: u32 = 12;

/// A clock that went back further than this was set anew, in ticks: 10 s.
const MOST: u32 = 900_000;

/// Pictures of two seconds, and of the time that they take to be sent.
const MAX_MOVED: usize = 256;

/// A replay this long ago is over, in ticks: some minutes.
const LONG_PAST: u32 = 1 << 24;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Ticks between two pictures, 30 a second at 90 kHz.
    const PICTURE: u32 = 3000;

    #[test]
    fn pictures_that_come_late_keep_their_order_and_their_times_apart() {
        let mut replays = Replays::default();
        let received = Instant::now();
        let live = Live {
            timestamp: 10 * PICTURE,
            received,
        };
        let run = replays.begin(90_000, Some(live));
        // A keyframe that is sent 400 ms late; the two behind it are missing.
        let now = received + Duration::from_millis(100);
        let keyframe = replays.place(0, None, now);
        assert_eq!(keyframe, 10 * PICTURE + 9000);
        let next = |replays: &mut Replays, n: u32| {
            let before = replays.moved.back().map(|moved| moved.to);
            replays.place(n * PICTURE, before, now)
        };
        let third = next(&mut replays, 3);
        assert_eq!(third, keyframe + STEP);
        let order = |numbers: &[u32]| {
            let placed = numbers.iter().map(|n| replays.find(run, n * PICTURE));
            let placed: Vec<u32> = placed.map(Option::unwrap).collect();
            assert!(placed.is_sorted_by(|a, b| a < b), "{placed:?}");
            placed
        };
        order(&[0, 1, 2, 3]);
        // Nothing behind it moved: those that are late belong behind it, and live ones keep their own.
        let placed = order(&[3, 4, 5, 12, 14]);
        assert_eq!(placed[4], 14 * PICTURE);
    }
}
