//! How much later a participant is presented so that the composer does not have to leave their media out.

use std::time::Duration;

/// Follows what one participant's frames do. Sound and picture share it, so that they stay together.
///
/// The composer waits [`PATIENCE`] for media. Who is regularly later than that is put off; the odd late frame is
/// left out, which costs less than a delay for the rest of the broadcast.
#[derive(Debug, Default)]
pub(crate) struct Lateness {
    delay: Duration,
    period: Option<Period>,
}

#[derive(Debug)]
struct Period {
    since: Duration,
    frames: u32,
    late: u32,
    /// The most that frames were too late by.
    worst: Duration,
    /// The least that frames were in time by.
    spare: Duration,
}

impl Lateness {
    /// Takes in that a frame with this presentation time has come; returns the time to present it at.
    pub(crate) fn handle_frame(&mut self, time: Duration, now: Duration) -> Duration {
        let put_off = time + self.delay;
        let period = self.period.get_or_insert(Period::new(now));
        period.frames += 1;
        let deadline = put_off + PATIENCE;
        match now.checked_sub(deadline) {
            Some(late) if !late.is_zero() => {
                period.late += 1;
                period.worst = period.worst.max(late);
                period.spare = Duration::ZERO;
            }
            Some(_) | None => period.spare = period.spare.min(deadline.saturating_sub(now)),
        }
        self.decide(now);
        time + self.delay
    }

    fn decide(&mut self, now: Duration) {
        let Some(period) = &self.period else { return };
        let length = now.saturating_sub(period.since);
        if length >= SHORT && period.late * 4 > period.frames {
            self.delay = (self.delay + period.worst + MARGIN).min(LIMIT);
            self.period = None;
        } else if length >= LONG {
            self.delay = self
                .delay
                .saturating_sub(period.spare.saturating_sub(MARGIN));
            self.period = None;
        } else if length >= SHORT && !self.delay.is_zero() && period.late == 0 {
            // Goes on until it is a long one.
        } else if length >= SHORT {
            self.period = None;
        }
    }
}

impl Period {
    fn new(since: Duration) -> Self {
        Self {
            since,
            frames: 0,
            late: 0,
            worst: Duration::ZERO,
            spare: Duration::MAX,
        }
    }
}

/// Less than what the composer waits, since decoding and mixing take time too.
const PATIENCE: Duration = Duration::from_millis(110);
const MARGIN: Duration = Duration::from_millis(30);
/// More would not be live; who is later is left out.
const LIMIT: Duration = Duration::from_secs(2);
const SHORT: Duration = Duration::from_secs(1);
/// After such a time without a late frame the delay is taken back.
const LONG: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Presents 30 frames a second from `from` on, `late` after their time.
    fn run(lateness: &mut Lateness, from: u64, seconds: u64, late: u64) -> Duration {
        let mut delay = Duration::ZERO;
        for n in 0..seconds * 30 {
            let time = ms(from + n * 33);
            delay = lateness.handle_frame(time, time + ms(late)) - time;
        }
        delay
    }

    #[test]
    fn who_is_in_time_is_not_put_off() {
        assert_eq!(run(&mut Lateness::default(), 0, 60, 100), ms(0));
    }

    #[test]
    fn who_is_always_late_is_put_off_by_what_is_missing() {
        let mut lateness = Lateness::default();
        assert_eq!(run(&mut lateness, 0, 3, 200), ms(120));
        assert_eq!(run(&mut lateness, 3000, 20, 200), ms(120), "and only once");
    }

    #[test]
    fn one_late_frame_changes_nothing() {
        let mut lateness = Lateness::default();
        run(&mut lateness, 0, 1, 50);
        lateness.handle_frame(ms(1000), ms(1900));
        assert_eq!(run(&mut lateness, 1950, 5, 50), ms(0));
    }

    #[test]
    fn a_delay_that_is_no_longer_needed_is_taken_back() {
        let mut lateness = Lateness::default();
        run(&mut lateness, 0, 3, 400);
        assert_eq!(run(&mut lateness, 3000, 70, 20), ms(0));
    }

    #[test]
    fn nobody_is_put_off_for_ever() {
        let mut lateness = Lateness::default();
        assert_eq!(run(&mut lateness, 0, 10, 60_000), LIMIT);
    }
}
