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
        let Some(last) = run()
            .next_back()
            .filter(|last| !is_later(timestamp, last.from))
        else {
            return Some(timestamp);
        };
        if last.from == timestamp {
            return Some(last.to);
        }
        let first = run().next()?;
        let next = run().find(|moved| !is_later(timestamp, moved.from))?;
        match next.from == timestamp {
            true => Some(next.to),
            // It came when those behind it had been sent.
            false => is_later(timestamp, first.from).then_some(next.to.wrapping_sub(1)),
        }
    }
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
