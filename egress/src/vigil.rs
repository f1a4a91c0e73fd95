//! How long a worker may say nothing before it is taken to hang.

use std::time::{Duration, Instant};

/// Watches over a worker that reports every 250 ms.
///
/// A silent one is examined before it is given up: what gets no processor time does not hang, and to restart it
/// would cost the machine even more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vigil {
    since: Instant,
    heard: Instant,
    due: Instant,
}

/// What to do with a silent worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wait,
    Kill,
}

impl Vigil {
    /// Begins with a worker that has just said that it is ready.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            since: now,
            heard: now,
            due: now + limit(Duration::ZERO) - LOOK,
        }
    }

    /// Returns since when the worker runs.
    pub(crate) fn since(&self) -> Instant {
        self.since
    }

    /// Takes in that the worker has said something.
    pub(crate) fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.due = now + self.limit() - LOOK;
    }

    /// Returns when the worker is to be examined if it says nothing until then.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Takes in whether the worker has waited for a processor most of the time since it was last examined.
    pub(crate) fn examine(&mut self, starved: bool, now: Instant) -> Verdict {
        self.due = now + LOOK;
        let silent = now.saturating_duration_since(self.heard);
        let limit = if starved { STARVED_LIMIT } else { self.limit() };
        if silent < limit {
            Verdict::Wait
        } else {
            Verdict::Kill
        }
    }

    fn limit(&self) -> Duration {
        limit(self.heard.saturating_duration_since(self.since))
    }
}

/// Returns how long a worker of this age may say nothing.
fn limit(age: Duration) -> Duration {
    if age < SETTLING {
        SETTLING_LIMIT
    } else {
        SILENCE_LIMIT
    }
}

const SILENCE_LIMIT: Duration = Duration::from_millis(1500);
/// A worker that loads its plugins on a machine far above its load was seen silent for two seconds.
const SETTLING: Duration = Duration::from_secs(10);
const SETTLING_LIMIT: Duration = Duration::from_secs(6);
/// Even who gets no processor time is not waited for longer: its destinations have given it up by then.
const STARVED_LIMIT: Duration = Duration::from_secs(10);
/// Between two examinations.
const LOOK: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Examines whenever it is due and returns after how much silence the worker is killed.
    fn killed_after(vigil: &mut Vigil, starved: impl Fn(u128) -> bool) -> u128 {
        let heard = vigil.heard;
        loop {
            let now = vigil.due();
            let silent = (now - heard).as_millis();
            if vigil.examine(starved(silent), now) == Verdict::Kill {
                return silent;
            }
        }
    }

    #[test]
    fn who_hangs_is_killed_in_time() {
        let t0 = Instant::now();
        let mut vigil = Vigil::new(t0);
        assert_eq!(killed_after(&mut vigil, |_| false), 6000, "plugins load");
        vigil.hear(t0 + ms(10_000));
        assert_eq!(killed_after(&mut vigil, |_| false), 1500);
    }

    #[test]
    fn who_gets_no_processor_time_is_waited_for() {
        let t0 = Instant::now();
        let mut vigil = Vigil::new(t0);
        vigil.hear(t0 + ms(10_000));
        let mut starved = vigil;
        assert_eq!(killed_after(&mut starved, |_| true), 10_000);
        // It could run again, and still says nothing.
        assert_eq!(killed_after(&mut vigil, |silent| silent < 3000), 3000);
    }
}
