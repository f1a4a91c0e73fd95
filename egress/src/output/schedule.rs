//! When a thumbnail is due, and when a keyframe is asked for to make it of.

use std::time::Duration;

/// One picture every interval, of the first keyframe that is not too early. Keyframes that come anyway are taken; only
/// where none comes is one asked for, and not more often than every interval.
#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    /// When the next picture is to be taken; `None` before the first.
    due: Option<Duration>,
    asked: Option<Duration>,
}

impl Schedule {
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            interval,
            due: None,
            asked: None,
        }
    }

    /// Returns whether to take a keyframe of this time.
    pub(super) fn is_due(&self, keyframe: Duration) -> bool {
        self.due
            .is_none_or(|due| keyframe + self.tolerance() >= due)
    }

    /// Takes in that a keyframe was taken. One that came late does not shift those behind it, unless it was very late.
    pub(super) fn take(&mut self, keyframe: Duration) {
        let next = self.due.unwrap_or(keyframe) + self.interval;
        let too_soon = next < keyframe + self.interval / 2;
        self.due = Some(if too_soon {
            keyframe + self.interval
        } else {
            next
        });
    }

    /// Returns whether to ask for a keyframe now, and notes it.
    pub(super) fn ask(&mut self, now: Duration) -> bool {
        let missing = self.due.is_none_or(|due| now >= due + self.patience());
        let may = self
            .asked
            .is_none_or(|asked| now + self.tolerance() >= asked + self.interval);
        let ask = missing && may;
        if ask {
            self.asked = Some(now);
        }
        ask
    }

    /// How much too early a keyframe may be: they come in no exact rhythm.
    fn tolerance(&self) -> Duration {
        (self.interval / 10).min(MOST_TOLERANCE)
    }

    /// How long to wait for a keyframe that comes anyway.
    fn patience(&self) -> Duration {
        (self.interval / 4).min(MOST_PATIENCE)
    }
}

const MOST_TOLERANCE: Duration = Duration::from_millis(500);
/// Above the usual time between two keyframes that other outputs ask for.
const MOST_PATIENCE: Duration = Duration::from_millis(2500);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Returns the times at which pictures are taken, and those at which keyframes are asked for, of a minute in which
    /// keyframes come every `spacing`, or as asked for if there is none.
    fn minute(interval_s: u64, spacing_ms: Option<u64>) -> (Vec<u64>, Vec<u64>) {
        let mut schedule = Schedule::new(ms(interval_s * 1000));
        let (mut taken, mut asked) = (Vec::new(), Vec::new());
        let mut next = 40;
        for now in (40..60_040).step_by(20) {
            let comes = spacing_ms.is_some_and(|spacing| {
                let comes = now >= next;
                next += if comes { spacing } else { 0 };
                comes
            });
            let answered = asked.last().is_some_and(|at| now == at + 200);
            if (comes || answered) && schedule.is_due(ms(now)) {
                schedule.take(ms(now));
                taken.push(now);
            } else if schedule.ask(ms(now)) {
                asked.push(now);
            }
        }
        (taken, asked)
    }

    #[test]
    fn keyframes_that_come_anyway_are_taken_and_none_is_asked_for() {
        for (interval, spacing, expected) in [(10, 2000, 6), (10, 1990, 7), (5, 1000, 12)] {
            let (taken, asked) = minute(interval, Some(spacing));
            assert_eq!(taken.len(), expected, "{interval} s of {spacing} ms");
            assert!(asked.is_empty(), "{interval} s of {spacing} ms: {asked:?}");
            assert_eq!(taken.first(), Some(&40));
        }
        // What comes out of step stays in the rhythm on the whole.
        let (taken, asked) = minute(10, Some(3000));
        assert_eq!((taken.len(), asked.len()), (6, 0), "{taken:?}");
    }

    #[test]
    fn where_none_comes_one_is_asked_for_and_not_more_often_than_the_interval() {
        for (interval, expected) in [(1, 60), (10, 6), (30, 2)] {
            let (taken, asked) = minute(interval, None);
            assert!(
                taken.len().abs_diff(expected) <= 1,
                "{interval} s: {taken:?}"
            );
            let least = interval * 900;
            assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= least));
            assert!(asked.len() <= expected + 1, "{asked:?}");
        }
    }

    #[test]
    fn a_keyframe_that_never_comes_is_asked_for_again_after_the_interval() {
        let mut schedule = Schedule::new(ms(10_000));
        let asks = (0..60_000).step_by(100);
        let asks: Vec<u64> = asks.filter(|now| schedule.ask(ms(*now))).collect();
        assert_eq!(asks, [0, 9500, 19_000, 28_500, 38_000, 47_500, 57_000]);
    }

    #[test]
    fn a_long_pause_is_not_made_up_for() {
        let mut schedule = Schedule::new(ms(2000));
        schedule.take(ms(0));
        schedule.take(ms(60_000));
        assert!(!schedule.is_due(ms(61_000)));
        assert!(schedule.is_due(ms(62_000)));
    }
}
