//! [`Start`]: how fast a newcomer is sent what it missed, while nothing is measured of its path.

use std::time::Duration;

use super::LEAST_PACE;
use crate::transport::Shown;

/// The beginning: as in TCP and QUIC a first window at once, then as much again in each round trip, twice as
/// much in the next; but no faster than the path is believed to carry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    since: i64,
    rtt: u64,
    /// What the path is believed to carry for long, bit/s.
    pub(super) bitrate: u64,
    /// The fastest that it is tried at, bit/s.
    most: u64,
    /// Whether the receiver reports of the packet being read say that nothing was lost; `None` without any.
    pub(super) is_whole: Option<bool>,
}

impl Start {
    /// Begins with what the handshake showed. `has_reports` tells whether reports will soon tell more.
    pub(super) fn new(shown: Shown, has_reports: bool, now: i64) -> Self {
        let rtt = shown.rtt.unwrap_or(UNKNOWN_RTT);
        let most = match shown.guess {
            _ if rtt < FAR => MOST_PACE,
            Some(guess) if has_reports || guess < UNKNOWN_PACE => guess,
            None if has_reports => UNKNOWN_PACE,
            Some(_) | None => MOST_PACE,
        };
        let rtt = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
        Self {
            since: now,
            rtt: rtt.clamp(1000, 1_000_000),
            bitrate: shown.bitrate.clamp(LEAST_ESTIMATE, MOST_ESTIMATE),
            most: most.clamp(LEAST_PACE, MOST_PACE),
            is_whole: None,
        }
    }

    /// Returns what is sent at once, in bytes.
    pub(super) fn window(&self) -> u64 {
        (self.most * WINDOW_TIME / 8_000_000).min(WINDOW)
    }

    /// Returns how fast the rest is sent, bit/s.
    pub(super) fn pace(&self, now: i64) -> u64 {
        let rounds = u64::try_from(now - self.since).unwrap_or_default() / self.rtt;
        let pace = WINDOW * 8_000_000 / self.rtt;
        let pace = (pace << rounds.min(MOST_ROUNDS)).max(LEAST_ROUND);
        pace.min(self.most)
    }

    /// So much is carried, so that `times` as much as so far is tried: the handshake was perhaps held up by something
    /// else than the path.
    pub(super) fn carried(&mut self, bitrate: u64, times: u64) {
        if bitrate >= self.most / 2 {
            self.most = (self.most * times).min(MOST_PACE);
        }
    }

    /// Packets waited in the path, where so much arrived: perhaps all that it carries, perhaps all that was sent before
    /// the radio paused.
    pub(super) fn waited(&mut self, bitrate: u64) {
        self.most = self.most.min((bitrate * 5 / 4).max(UNKNOWN_PACE));
    }
}

/// What a path is believed to carry at most before anything is sent over it, bit/s: a picture of 360p with sound.
/// More comes within half a second where it is carried.
const MOST_ESTIMATE: u64 = 1_000_000;

/// And at least: the smallest picture with sound. Where the handshake took longer than on a path of
/// [`MOST_ESTIMATE`], more would perhaps fill a queue, of which it takes seconds to recover.
pub(super) const LEAST_ESTIMATE: u64 = 400_000;

/// The largest first window, in bytes: twelve packets (RFC 6928, RFC 9002 §7.2).
const WINDOW: u64 = 12 * 1250;

/// It takes no longer than this at the fastest that the path is tried at, in microseconds.
const WINDOW_TIME: u64 = 50_000;

/// For how many round trips the pace doubles.
const MOST_ROUNDS: u64 = 5;

/// The slowest that a path is tried at which is believed to carry it, and the fastest, bit/s.
const LEAST_ROUND: u64 = 1_000_000;
const MOST_PACE: u64 = 50_000_000;

/// How fast a path is tried of which nothing is known, bit/s. Below it the handshake takes so much longer that this is
/// hardly chance.
const UNKNOWN_PACE: u64 = 600_000;

/// Who is nearer than this is not behind a slow path.
const FAR: Duration = Duration::from_millis(15);
const UNKNOWN_RTT: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    fn start(rtt: u64, guess: Option<u64>, has_reports: bool) -> Start {
        let mut shown = Shown::default();
        (shown.rtt, shown.guess) = (Some(Duration::from_millis(rtt)), guess);
        Start::new(shown, has_reports, 0)
    }

    #[test]
    fn far_paths_are_begun_as_fast_as_they_seem_to_be() {
        for (rtt, guess, has_reports, window, pace) in [
            (2, Some(100_000), true, 15_000, 50_000_000),
            (40, Some(400_000), true, 2500, 400_000),
            (40, Some(400_000), false, 2500, 400_000),
            (40, Some(2_000_000), true, 12_500, 2_000_000),
            (40, Some(2_000_000), false, 15_000, 3_000_000),
            (40, None, true, 3750, 600_000),
            (40, None, false, 15_000, 3_000_000),
            (40, Some(1000), true, 1875, 300_000),
        ] {
            let start = start(rtt, guess, has_reports);
            let label = format!("{rtt} ms, {guess:?}, {has_reports}");
            assert_eq!((start.window(), start.pace(0)), (window, pace), "{label}");
        }
    }

    #[test]
    fn reports_make_it_faster_and_slower() {
        let mut start = start(100, Some(400_000), true);
        start.carried(199_999, 2);
        start.waited(0);
        assert_eq!(start.pace(0), 400_000, "nothing is learnt");
        for pace in [800_000, 1_200_000, 1_200_000] {
            start.carried(800_000, 2);
            assert_eq!(start.pace(0), pace, "what a first round trip takes at most");
        }
        assert_eq!(
            start.pace(100_000),
            2_400_000,
            "the next one takes twice that"
        );
        start.waited(700_000);
        assert_eq!(start.pace(100_000), 875_000);
        start.waited(1);
        assert_eq!(start.pace(100_000), 600_000);
    }
}
