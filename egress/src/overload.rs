//! What happens when outputs use more than the machine has: the newest are degraded first, the oldest is never
//! paused, and all get back what they had once there is room. Pure.

use std::time::{Duration, Instant};

/// How much a job is degraded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Level {
    /// Not at all.
    #[default]
    Full,
    /// Half the frames.
    FewerFrames,
    /// Half the frames, and smaller ones.
    Smaller,
    /// Its worker does not run.
    Paused,
}

/// A job that takes part, the oldest first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    /// Whether its picture is made here, so that it can be made smaller.
    pub(crate) composed: bool,
    pub(crate) level: Level,
    /// What it uses, percent of a core.
    pub(crate) measured_percent: f32,
    /// What it is expected to use at its full quality.
    pub(crate) full_percent: f32,
    /// Whether its frames come out long after they should.
    pub(crate) late: bool,
}

/// Follows the load, and says whom to degrade or restore.
#[derive(Debug)]
pub(crate) struct Overload {
    over_since: Option<Instant>,
    calm_since: Option<Instant>,
    stepped: Option<Instant>,
    restored: Option<Instant>,
    /// How long there has to be room before somebody gets more.
    patience: Duration,
}

impl Level {
    fn next(self, composed: bool) -> Option<Self> {
        match self {
            Self::Full if composed => Some(Self::FewerFrames),
            Self::FewerFrames if composed => Some(Self::Smaller),
            Self::Full | Self::FewerFrames | Self::Smaller => Some(Self::Paused),
            Self::Paused => None,
        }
    }

    fn before(self, composed: bool) -> Self {
        match self {
            Self::Paused if composed => Self::Smaller,
            Self::Smaller => Self::FewerFrames,
            Self::Paused | Self::FewerFrames | Self::Full => Self::Full,
        }
    }

    /// Returns which part of its full cost a job has at this level.
    fn share(self) -> f32 {
        match self {
            Self::Full => 1.0,
            Self::FewerFrames => 0.6,
            Self::Smaller => 0.35,
            Self::Paused => 0.0,
        }
    }
}

impl Default for Overload {
    fn default() -> Self {
        Self {
            over_since: None,
            calm_since: None,
            stepped: None,
            restored: None,
            patience: CALM,
        }
    }
}

impl Overload {
    /// Takes a look; returns whose level changes, and to what. `limit_percent` is what all may use together.
    pub(crate) fn look(
        &mut self,
        jobs: &[Running],
        limit_percent: f32,
        now: Instant,
    ) -> Option<(usize, Level)> {
        let active = jobs.iter().filter(|job| job.level != Level::Paused);
        let used: f32 = active.clone().map(|job| job.measured_percent).sum();
        let late = active.clone().any(|job| job.late);
        let settled = self.stepped.is_none_or(|at| now >= at + SETTLE);
        if used > limit_percent || late {
            self.calm_since = None;
            let since = *self.over_since.get_or_insert(now);
            if now < since + SUSTAINED || !settled {
                return None;
            }
            let step = victim(jobs)?;
            // It was too early to give back what had been taken.
            let restored = self.restored.take();
            if restored.is_some_and(|at| now < at + RELAPSE) {
                self.patience = (self.patience * 2).min(LONGEST_CALM);
            }
            self.stepped = Some(now);
            return Some(step);
        }
        self.over_since = None;
        let since = *self.calm_since.get_or_insert(now);
        if self.restored.is_some_and(|at| now >= at + RELAPSE) {
            self.patience = CALM;
        }
        if now < since + self.patience || !settled {
            return None;
        }
        let at = jobs.iter().position(|job| job.level != Level::Full)?;
        let job = jobs.get(at)?;
        let level = job.level.before(job.composed);
        let more = job.full_percent * (level.share() - job.level.share());
        if used + more > limit_percent * ROOM {
            return None;
        }
        self.stepped = Some(now);
        self.restored = Some(now);
        self.calm_since = Some(now);
        Some((at, level))
    }
}

/// Returns the newest job that can be degraded further, and to what.
fn victim(jobs: &[Running]) -> Option<(usize, Level)> {
    let mut newest_first = jobs.iter().enumerate().rev();
    newest_first.find_map(|(at, job)| {
        let level = job.level.next(job.composed)?;
        let others = jobs.iter().enumerate();
        let mut others = others.filter(|(other, _)| *other != at);
        let is_last = !others.any(|(_, other)| other.level != Level::Paused);
        (level != Level::Paused || !is_last).then_some((at, level))
    })
}

/// A peak is no overload.
const SUSTAINED: Duration = Duration::from_secs(3);
/// How long a change takes to show in what is measured.
const SETTLE: Duration = Duration::from_secs(4);
const CALM: Duration = Duration::from_secs(10);
const LONGEST_CALM: Duration = Duration::from_secs(300);
const RELAPSE: Duration = Duration::from_secs(60);
/// How much of the limit may be used after somebody got more.
const ROOM: f32 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs that use their share of what they would at full quality.
    struct Machine {
        overload: Overload,
        jobs: Vec<Running>,
        limit: f32,
        now: Instant,
    }

    impl Machine {
        fn new(jobs: &[(bool, f32)], limit: f32) -> Self {
            let job = |(composed, full_percent): &(bool, f32)| Running {
                composed: *composed,
                level: Level::Full,
                measured_percent: *full_percent,
                full_percent: *full_percent,
                late: false,
            };
            Self {
                overload: Overload::default(),
                jobs: jobs.iter().map(job).collect(),
                limit,
                now: Instant::now(),
            }
        }

        /// Returns who was given which level when.
        fn run(&mut self, seconds: u64) -> Vec<(u64, usize, Level)> {
            let mut steps = Vec::new();
            for second in 0..seconds {
                self.now += Duration::from_secs(1);
                for job in &mut self.jobs {
                    job.measured_percent = job.full_percent * job.level.share();
                }
                if let Some((at, level)) = self.overload.look(&self.jobs, self.limit, self.now) {
                    self.jobs[at].level = level;
                    steps.push((second, at, level));
                }
            }
            steps
        }
    }

    #[test]
    fn what_fits_is_left_alone() {
        assert_eq!(
            Machine::new(&[(true, 50.0), (false, 6.0)], 60.0).run(300),
            []
        );
    }

    #[test]
    fn a_peak_is_no_overload() {
        let mut machine = Machine::new(&[(true, 50.0)], 40.0);
        assert_eq!(machine.run(3), []);
        machine.limit = 60.0;
        assert_eq!(machine.run(1), []);
        machine.limit = 40.0;
        assert_eq!(machine.run(3), []);
    }

    #[test]
    fn the_newest_is_degraded_step_by_step_and_the_oldest_protected() {
        let mut machine = Machine::new(&[(true, 60.0), (true, 60.0)], 70.0);
        let steps = machine.run(60);
        let expected = [
            (1, Level::FewerFrames),
            (1, Level::Smaller),
            (1, Level::Paused),
        ];
        let found: Vec<_> = steps.iter().map(|(_, at, level)| (*at, *level)).collect();
        assert_eq!(found, expected);
        let times: Vec<_> = steps.iter().map(|(second, ..)| *second).collect();
        assert_eq!(times, [3, 7, 11]);
    }

    #[test]
    fn one_that_passes_through_can_only_be_paused_and_the_last_one_goes_on() {
        let mut machine = Machine::new(&[(false, 50.0), (false, 50.0)], 30.0);
        assert_eq!(machine.run(60), [(3, 1, Level::Paused)]);
    }

    #[test]
    fn late_frames_count_as_overload_whatever_is_used() {
        let mut machine = Machine::new(&[(false, 5.0), (true, 40.0)], 100.0);
        machine.jobs[0].late = true;
        assert_eq!(machine.run(5), [(3, 1, Level::FewerFrames)]);
    }

    #[test]
    fn what_was_taken_is_given_back_when_there_is_room() {
        let mut machine = Machine::new(&[(true, 60.0), (true, 60.0)], 70.0);
        machine.run(60);
        assert_eq!(machine.jobs[1].level, Level::Paused);
        machine.limit = 200.0;
        let levels: Vec<_> = machine.run(60).iter().map(|(.., level)| *level).collect();
        assert_eq!(levels, [Level::Smaller, Level::FewerFrames, Level::Full]);
    }

    #[test]
    fn who_falls_back_has_to_wait_longer() {
        let mut machine = Machine::new(&[(false, 50.0), (false, 50.0)], 100.0);
        machine.jobs[1].full_percent = 20.0;
        machine.jobs[1].level = Level::Paused;
        // It uses more than it says.
        let mut restored = Vec::new();
        for second in 0..400 {
            machine.now += Duration::from_secs(1);
            let running = machine.jobs[1].level == Level::Full;
            machine.jobs[1].measured_percent = if running { 80.0 } else { 0.0 };
            if let Some((at, level)) = machine.overload.look(&machine.jobs, 100.0, machine.now) {
                machine.jobs[at].level = level;
                if level == Level::Full {
                    restored.push(second);
                }
            }
        }
        let pauses: Vec<_> = restored.windows(2).map(|w| w[1] - w[0]).collect();
        assert!(pauses.is_sorted() && pauses.len() > 2, "{restored:?}");
    }
}
