//! Whether a job fits: the only place where jobs are counted and weighed.

use crate::{
    config::Config,
    link::Target,
    preset::Mode,
    status::{Free, JobState},
    supervisor::Planned,
};

/// What a job is expected to cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) mode: Mode,
    pub(crate) audio_only: bool,
    pub(crate) destinations: usize,
    /// What the pictures that it takes cost besides its worker, percent of a core.
    pub(crate) pictures_percent: u32,
}

/// A job that takes part in the reckoning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) in_same_room: bool,
    pub(crate) work: Work,
    /// What its worker uses, percent of a core.
    pub(crate) measured_percent: f32,
    /// Whether media arrives, so that what is measured says something.
    pub(crate) receiving: bool,
    pub(crate) state: JobState,
}

impl Work {
    /// Returns what a job does that has these destinations.
    pub(crate) fn of(mode: Mode, audio_only: bool, plan: &[Planned]) -> Self {
        let pictures = plan.iter().map(|planned| match &planned.accepted.target {
            Target::Thumbnails(target) => target.percent(),
            Target::Rtmp(_) | Target::Srt(_) | Target::Hls(_) | Target::Record(_) => 0,
        });
        Self {
            mode,
            audio_only,
            destinations: plan.len(),
            pictures_percent: pictures.sum(),
        }
    }

    /// Returns what it was measured to use on the machine of the figures below, percent of a core.
    pub(crate) fn percent(&self) -> u32 {
        self.worker_percent().saturating_add(self.pictures_percent)
    }

    fn worker_percent(&self) -> u32 {
        let further = u32::try_from(self.destinations.saturating_sub(1)).unwrap_or(u32::MAX);
        let video = match self.mode {
            _ if self.audio_only => AUDIO_PERCENT,
            Mode::PassThrough => PASS_THROUGH_PERCENT,
            Mode::Composed(preset) => {
                let pixels = u64::from(preset.width) * u64::from(preset.height);
                let rate = pixels * u64::from(preset.frame_rate);
                let percent = rate * COMPOSED_PERCENT_PER_20_MEGAPIXELS / 20_000_000;
                COMPOSED_PERCENT.saturating_add(u32::try_from(percent).unwrap_or(u32::MAX))
            }
        };
        video.saturating_add(further.saturating_mul(FURTHER_DESTINATION_PERCENT))
    }
}

impl Load {
    /// Returns what it takes of the machine, percent of a core.
    fn percent(&self, speed: f32) -> f32 {
        // One that waits for its broadcaster uses nothing yet.
        let worker = percent(self.work.worker_percent()) * speed;
        self.measured_percent.max(worker) + percent(self.work.pictures_percent)
    }

    fn runs(&self) -> bool {
        !matches!(self.state, JobState::Ended | JobState::Failed)
    }
}

/// Returns how much more the jobs at work use here than on the machine of the figures: 2 on one half as fast.
fn speed(jobs: &[Load]) -> f32 {
    let at_work = jobs.iter().filter(|job| {
        job.receiving && job.measured_percent > 0.0 && job.state == JobState::Running
    });
    let (mut measured, mut expected) = (0.0, 0.0);
    for job in at_work {
        measured += job.measured_percent;
        expected += percent(job.work.worker_percent());
    }
    if expected > 0.0 {
        (measured / expected).clamp(SPEED_RANGE.0, SPEED_RANGE.1)
    } else {
        1.0
    }
}

/// Returns what a job is expected to use here, percent of a core, as far as the jobs at work tell.
pub(crate) fn expected_percent(work: &Work, jobs: &[Load]) -> u32 {
    whole(percent(work.percent()) * speed(jobs))
}

/// Returns what is left of the limits beside these jobs.
pub(crate) fn free(config: &Config, cores: usize, jobs: &[Load]) -> Free {
    let (mut count, mut in_room, mut used) = (0, 0, 0.0_f32);
    let speed = speed(jobs);
    for job in jobs.iter().filter(|job| job.runs()) {
        count += 1;
        in_room += usize::from(job.in_same_room);
        used += job.percent(speed);
    }
    let limit = limit_percent(config, cores);
    Free {
        jobs: config.max_jobs.saturating_sub(count),
        jobs_in_room: config.max_jobs_per_room.saturating_sub(in_room),
        cpu_percent: limit.saturating_sub(whole(used)),
    }
}

/// Returns whether a job that is expected to use so much fits into what is left.
pub(crate) fn fits(free: &Free, expected_percent: u32) -> bool {
    free.jobs > 0 && free.jobs_in_room > 0 && free.cpu_percent >= expected_percent
}

/// Returns what all jobs together may use, percent of a core.
pub(crate) fn limit_percent(config: &Config, cores: usize) -> u32 {
    match config.max_cpu_percent {
        0 => u32::try_from(cores).unwrap_or(1).saturating_mul(CORE_SHARE),
        limit => limit,
    }
}

pub(crate) fn percent(whole: u32) -> f32 {
    f32::from(u16::try_from(whole).unwrap_or(u16::MAX))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates, and the load is not negative"
)]
fn whole(percent: f32) -> u32 {
    percent.ceil() as u32
}

/// 720p30 H.264 passed through with AAC to one RTMP server: `cargo bench -p egress --bench figures`, rounded up.
const PASS_THROUGH_PERCENT: u32 = 6;
/// Sound alone, likewise.
const AUDIO_PERCENT: u32 = 5;
/// Likewise for each RTMP server more.
const FURTHER_DESTINATION_PERCENT: u32 = 1;
/// A composed job besides its pixels: sound, and decoding what comes.
const COMPOSED_PERCENT: u32 = 20;
/// For each twenty million pixels a second that are composed and encoded with x264 veryfast. Measured by
/// `cargo bench -p egress --bench figures -- compose`, of two people side by side, whose pictures cover half of the
/// canvas, and of four, who cover it: 480p30 29 and 39 %; 720p30 38 and 51 %; 720p60 51 and 99 %; 1080p30 67 and
/// 113 %; 1080p60 137 and 159 %.
const COMPOSED_PERCENT_PER_20_MEGAPIXELS: u64 = 21;
/// What outputs may use of each core when the configuration says nothing; the rest is for viewers.
const CORE_SHARE: u32 = 80;
/// What is measured over a few seconds is not taken for more than this.
const SPEED_RANGE: (f32, f32) = (0.5, 1.5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::PresetName;

    const PASS_THROUGH: Work = Work {
        mode: Mode::PassThrough,
        audio_only: false,
        destinations: 1,
        pictures_percent: 0,
    };

    fn job(in_same_room: bool, measured_percent: f32, state: JobState) -> Load {
        Load {
            in_same_room,
            work: PASS_THROUGH,
            measured_percent,
            receiving: false,
            state,
        }
    }

    #[test]
    fn each_limit_is_kept() {
        let config = Config {
            max_jobs: 3,
            max_jobs_per_room: 2,
            max_cpu_percent: 100,
            ..Config::default()
        };
        let running = JobState::Running;
        let table = [
            ("nothing runs", vec![], true),
            ("as many as may", vec![job(false, 1.0, running); 3], false),
            (
                "ended ones do not count",
                vec![job(true, 90.0, JobState::Ended); 5],
                true,
            ),
            ("the room is full", vec![job(true, 1.0, running); 2], false),
            (
                "one that transcodes takes it all",
                vec![job(false, 95.0, running)],
                false,
            ),
        ];
        for (label, jobs, expected) in table {
            let free = free(&config, 4, &jobs);
            let needed = expected_percent(&PASS_THROUGH, &jobs);
            assert_eq!(fits(&free, needed), expected, "{label}: {free:?}");
        }
    }

    #[test]
    fn the_share_follows_the_cores() {
        let free = free(&Config::default(), 4, &[job(true, 0.0, JobState::Running)]);
        assert_eq!(free.cpu_percent, 4 * CORE_SHARE - PASS_THROUGH_PERCENT);
    }

    #[test]
    fn each_preset_costs_what_it_was_measured_to() {
        let table = [
            (PresetName::PassThrough, 6),
            (PresetName::P480p30, 32),
            (PresetName::P720p30, 49),
            (PresetName::P720p60, 78),
            (PresetName::P1080p30, 85),
            (PresetName::P1080p60, 150),
        ];
        for (name, expected) in table {
            let work = Work {
                mode: Mode::named(name),
                ..PASS_THROUGH
            };
            assert_eq!(work.percent(), expected, "{name:?}");
        }
    }

    #[test]
    fn a_slow_machine_takes_fewer() {
        let slow = Load {
            receiving: true,
            ..job(false, 60.0, JobState::Running)
        };
        assert_eq!(expected_percent(&PASS_THROUGH, &[]), 6);
        assert_eq!(expected_percent(&PASS_THROUGH, &[slow, slow]), 9, "bounded");
    }
}
