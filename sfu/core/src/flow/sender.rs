//! [`Sender`]: the way media takes to one peer.

use std::time::{Duration, Instant};

use super::{Flow, LOSSY, OVERHEAD, Tracked};
use crate::{
    Outgoing,
    transport::{Carried, SendHeader, Transport},
};

/// What one peer's media is sent with.
#[derive(Debug)]
pub(crate) struct Sender<'a> {
    /// Encrypts.
    pub(crate) transport: &'a mut Transport,
    /// Notes and paces.
    pub(crate) flow: &'a mut Flow,
    /// Where datagrams go.
    pub(crate) out: &'a mut Outgoing,
    /// The time of this flush.
    pub(crate) now: Instant,
}

impl Sender<'_> {
    /// Sends a packet, its payload made of two parts; `is_reported` says whether the viewer reports on such. Returns the
    /// datagram's length, 0 when nothing was sent.
    pub(crate) fn send(
        &mut self,
        header: &SendHeader,
        is_reported: bool,
        carried: &Carried<'_>,
        payload: [&[u8]; 2],
    ) -> usize {
        let seq = is_reported.then(|| self.flow.next_seq());
        let len = self
            .transport
            .seal_rtp(header, seq, carried, payload, self.out);
        if len > 0 {
            self.flow.sent(len, seq.is_some(), self.now);
        }
        len
    }

    /// Returns whether the path has room for more than what is live: for replays and repeats.
    pub(crate) fn has_room(&mut self) -> bool {
        let now = self.flow.micros(self.now);
        if let Some(start) = self.flow.start {
            self.flow.pacer.set_pace(start.pace(now), now);
        }
        self.flow.pacer.has_room(now)
    }

    /// Returns whether a packet may be sent again now: what is repeated takes what is new leaves, or a small share.
    pub(crate) fn may_repeat(&mut self) -> bool {
        let now = self.flow.micros(self.now);
        // On a full path live packets leave no room, and cannot be used without what was lost before them.
        let has_room = self.flow.pacer.has_room(now) || self.is_congested() && self.may_go();
        has_room && self.flow.repeats.has_room(now)
    }

    /// Notes that a packet of this length was sent again.
    pub(crate) fn repeated(&mut self, len: usize) {
        let now = self.flow.micros(self.now);
        self.flow.repeats.sent(len + OVERHEAD, now);
        self.flow.rate.repeated += (len + OVERHEAD) as u64;
    }

    /// Returns whether so much is lost, though the path is not full, that repeats are lost as well.
    pub(crate) fn is_lossy(&self) -> bool {
        let tracked = self.flow.tracked.as_ref();
        tracked.is_some_and(|tracked| {
            tracked.estimator.is_clear() && tracked.estimator.lost_lately() >= LOSSY
        })
    }

    /// Returns whether the path carries so little that audio does better without repetitions.
    pub(crate) fn is_narrow(&self) -> bool {
        let is_low = self.flow.estimate().is_some_and(|carried| carried < NARROW);
        let (_, now) = self.flow.clock;
        // Who wants no more than there is, as of sound alone, is not probed: what is believed may be too little.
        let is_certain = |tracked: &Tracked| {
            let was_full = tracked.full_at.is_some_and(|at| now - at < RESTED);
            tracked.seeks || was_full || !tracked.estimator.is_clear()
        };
        is_low && self.flow.tracked.as_deref().is_none_or(is_certain)
    }

    /// Returns whether the path's queue is waited for to become empty: what is sent then delays the rest.
    pub(crate) fn is_congested(&self) -> bool {
        let tracked = self.flow.tracked.as_ref();
        tracked.is_some_and(|tracked| !tracked.estimator.is_clear())
    }

    /// Returns whether a live packet of video goes at once; not while so much is on the path already that it
    /// would only wait there.
    pub(crate) fn may_go(&mut self) -> bool {
        let now = self.flow.micros(self.now);
        self.flow.pacer.backlog(now) < MOST_BACKLOG
    }

    /// Returns within which time a packet is not sent again twice: the answer to a second request is on its way.
    pub(crate) fn repeat_guard(&self) -> Duration {
        repeat_guard(self.flow.rtt)
    }
}

/// A second request is sent a round trip after the first, which jitter makes a little less.
fn repeat_guard(rtt: Option<Duration>) -> Duration {
    let guard = rtt.unwrap_or_default() * 3 / 4;
    guard.clamp(LEAST_GUARD, LONGEST_GUARD)
}

/// Below this repeated audio takes what the picture, or the audio itself, needs more, bit/s.
const NARROW: u64 = 300_000;
/// How long after it was too full a path is tried with repeated audio again, in microseconds.
const RESTED: i64 = 10_000_000;
/// Live video waits while the bucket takes longer than this to leak, in microseconds.
const MOST_BACKLOG: u64 = 120_000;
const LEAST_GUARD: Duration = Duration::from_millis(20);
const LONGEST_GUARD: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_requests_are_answered_that_come_a_little_early() {
        for (rtt, guard) in [
            (None, 20),
            (Some(10), 20),
            (Some(80), 60),
            (Some(4000), 500),
        ] {
            let guard = Duration::from_millis(guard);
            assert_eq!(repeat_guard(rtt.map(Duration::from_millis)), guard);
        }
    }
}
