//! Whether a shard waits for everything, or for publishers only.
//!
//! Viewers report all the time. To wake up for each report costs more than to read it, so a busy shard reads
//! them together: after the media it handles anyway, and at the latest after [`LONGEST`]. A shard with little to
//! do waits for everything.

use std::time::{Duration, Instant};

/// Decides when doors are not watched, and when they are looked at then.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    is_resting: bool,
    looked_at: Option<Instant>,
    /// When the publishers' paths were asked for.
    surveyed_at: Option<Instant>,
}

impl Rest {
    /// Returns whether it is time to ask where publishers send from.
    pub(crate) fn is_survey_due(&mut self, now: Instant) -> bool {
        let is_due = self.surveyed_at.is_none_or(|at| now >= at + SURVEY);
        if is_due {
            self.surveyed_at = Some(now);
        }
        is_due
    }

    /// Takes how busy the shard is, in thousandths, and whether all media comes by lanes. Returns whether the doors
    /// are to be watched if that has changed.
    pub(crate) fn decide(&mut self, busy: u32, has_lanes: bool, now: Instant) -> Option<bool> {
        let from = if self.is_resting { END } else { BEGIN };
        let rests = has_lanes && busy >= from;
        let has_changed = rests != self.is_resting;
        if has_changed {
            self.is_resting = rests;
            self.looked_at = Some(now);
        }
        has_changed.then_some(!rests)
    }

    /// Returns when the doors are to be looked at, if they are not watched.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let looked_at = self.looked_at.filter(|_| self.is_resting)?;
        Some(looked_at + LONGEST)
    }

    /// Returns whether to look at the doors now, with something else having been done.
    pub(crate) fn should_look(&mut self, now: Instant) -> bool {
        let due = |at: Instant| now.saturating_duration_since(at) >= SHORTEST;
        let should = self.is_resting && self.looked_at.is_none_or(due);
        if should {
            self.looked_at = Some(now);
        }
        should
    }
}

/// How busy a shard is when it begins to rest, and when it ends, in thousandths.
const BEGIN: u32 = 100;
const END: u32 = 60;

/// Reports are read no more often than this, and not less often. Both are short against the time that any
/// answer takes on its way.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(4);

/// How often it is asked where publishers send from.
const SURVEY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_busy_shard_with_lanes_rests() {
        let t0 = Instant::now();
        let ms = Duration::from_millis;
        let mut rest = Rest::default();
        #[rustfmt::skip]
        let steps = [
            ("idle", 20, true, None),
            ("busy without lanes", 500, false, None),
            ("busy", 100, true, Some(false)),
            ("a little less", 70, true, None),
            ("a publisher without a lane", 500, false, Some(true)),
            ("busy again", 500, true, Some(false)),
            ("idle again", 59, true, Some(true)),
        ];
        for (label, busy, has_lanes, expected) in steps {
            assert_eq!(rest.decide(busy, has_lanes, t0), expected, "{label}");
        }
        assert_eq!(rest.poll_timeout(), None);
        assert!(!rest.should_look(t0 + ms(10)));
        rest.decide(300, true, t0);
        assert_eq!(rest.poll_timeout(), Some(t0 + LONGEST));
        assert!(!rest.should_look(t0));
        assert!(rest.should_look(t0 + ms(2)));
        assert!(!rest.should_look(t0 + ms(2)));
        assert_eq!(rest.poll_timeout(), Some(t0 + ms(2) + LONGEST));
    }

    #[test]
    fn publishers_are_looked_for_now_and_then() {
        let t0 = Instant::now();
        let mut rest = Rest::default();
        assert!(rest.is_survey_due(t0));
        assert!(!rest.is_survey_due(t0 + SURVEY / 2));
        assert!(rest.is_survey_due(t0 + SURVEY));
    }
}
