//! Whether a job fits: the only place where jobs are counted and weighed.

use crate::{
    config::Config,
    link::Target,
    preset::Mode,
    status::{Free, JobState, PresetName},
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
    /// Whether every track is recorded apart, too.
    pub(crate) apart: bool,
    pub(crate) broadcast: Broadcast,
}

/// What comes in, as far as it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Broadcast {
    /// Whether the picture is in another codec than H.264.
    pub(crate) foreign: bool,
    /// On stage.
    pub(crate) pictures: u32,
    /// On stage.
    pub(crate) sounds: u32,
}

/// Why a job does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) free: Free,
    /// What it is expected to use, or to use more than now, percent of a core.
    pub(crate) needed_percent: u32,
    /// A preset with which it would fit, and what it needs then.
    pub(crate) instead: Option<(PresetName, u32)>,
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
    /// Returns what a job does that has these destinations, of what comes in.
    pub(crate) fn of(mode: Mode, audio_only: bool, plan: &[Planned], broadcast: Broadcast) -> Self {
        let is_apart = |planned: &Planned| match &planned.accepted.target {
            Target::Record(target) => target.tracks.is_some(),
            Target::Rtmp(_) | Target::Srt(_) | Target::Hls(_) | Target::Thumbnails(_) => false,
        };
        let pictures = plan.iter().map(|planned| match &planned.accepted.target {
            Target::Thumbnails(target) => target.percent(),
            Target::Rtmp(_) | Target::Srt(_) | Target::Hls(_) | Target::Record(_) => 0,
        });
        Self {
            mode,
            audio_only,
            destinations: plan.len(),
            pictures_percent: pictures.sum(),
            apart: plan.iter().any(is_apart),
            broadcast,
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
            Mode::PassThrough => PASS_THROUGH_PERCENT + self.transcoding_percent(),
            Mode::Composed(preset) => {
                let pixels = u64::from(preset.width) * u64::from(preset.height);
                let rate = pixels * u64::from(preset.frame_rate);
                let percent = rate * COMPOSED_PERCENT_PER_20_MEGAPIXELS / 20_000_000;
                COMPOSED_PERCENT.saturating_add(u32::try_from(percent).unwrap_or(u32::MAX))
            }
        };
        let further = further.saturating_mul(FURTHER_DESTINATION_PERCENT);
        let tracks = if self.apart { self.tracks_percent() } else { 0 };
        video.saturating_add(further).saturating_add(tracks)
    }

    /// Returns what it costs more that a picture does not come in H.264.
    fn transcoding_percent(&self) -> u32 {
        if self.broadcast.foreign {
            TRANSCODING_PERCENT
        } else {
            0
        }
    }

    /// Of a stage that is empty it is expected that somebody comes.
    fn tracks_percent(&self) -> u32 {
        let picture = PICTURE_TRACK_PERCENT + self.transcoding_percent();
        let pictures = if self.audio_only {
            0
        } else {
            self.broadcast.pictures.max(1).saturating_mul(picture)
        };
        let sounds = self.broadcast.sounds.max(1);
        pictures.saturating_add(sounds.saturating_mul(SOUND_TRACK_PERCENT))
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

/// Checks that a job fits into what is left beside these jobs: a new one, or what it does more than `now`.
/// `may_pass` says whether it could pass the picture through instead.
pub(crate) fn check(
    work: &Work,
    now: Option<&Work>,
    free: Free,
    jobs: &[Load],
    may_pass: bool,
) -> Result<(), Shortage> {
    let present = now.map_or(0, |now| expected_percent(now, jobs));
    let needed = |work: &Work| expected_percent(work, jobs).saturating_sub(present);
    let has_place = now.is_some() || (free.jobs > 0 && free.jobs_in_room > 0);
    let needed_percent = needed(work);
    if has_place && needed_percent <= free.cpu_percent {
        return Ok(());
    }
    let makes_picture = !work.audio_only && work.mode != Mode::PassThrough;
    let passes = may_pass.then_some(PresetName::PassThrough);
    let others = COMPOSED.into_iter().chain(passes).map(|name| {
        let mode = Mode::named(name);
        (name, needed(&Work { mode, ..*work }))
    });
    let mut smaller =
        others.filter(|(_, percent)| *percent < needed_percent && *percent <= free.cpu_percent);
    let instead = if has_place && makes_picture {
        smaller.next()
    } else {
        None
    };
    Err(Shortage {
        free,
        needed_percent,
        instead,
    })
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
/// What it costs more to make H.264 of a picture in VP8, VP9 or AV1: 28, 27 and 35 % of processor time for the
/// decoder and x264 veryfast alone, at 720p30 and 2.5 Mbit/s. `cargo bench -p egress --bench figures -- transcode`
/// measures the whole job.
const TRANSCODING_PERCENT: u32 = 34;
/// A picture in H.264 that is recorded apart.
const PICTURE_TRACK_PERCENT: u32 = 2;
/// A sound that is recorded apart.
const SOUND_TRACK_PERCENT: u32 = 3;
/// Likewise for each RTMP server more.
const FURTHER_DESTINATION_PERCENT: u32 = 1;
/// A composed job besides its pixels: sound, and decoding what comes.
const COMPOSED_PERCENT: u32 = 20;
/// For each twenty million pixels a second that are composed and encoded with x264 veryfast. Measured by
/// `cargo bench -p egress --bench figures -- compose`, of two people side by side, whose pictures cover half of the
/// canvas, and of four, who cover it: 480p30 29 and 39 %; 720p30 38 and 51 %; 720p60 51 and 99 %; 1080p30 67 and
/// 113 %; 1080p60 137 and 159 %.
const COMPOSED_PERCENT_PER_20_MEGAPIXELS: u64 = 21;
/// The presets that are composed, the largest first.
const COMPOSED: [PresetName; 5] = [
    PresetName::P1080p60,
    PresetName::P1080p30,
    PresetName::P720p60,
    PresetName::P720p30,
    PresetName::P480p30,
];
/// What outputs may use of each core when the configuration says nothing; the rest is for viewers.
const CORE_SHARE: u32 = 80;
/// What is measured over a few seconds is not taken for more than this.
const SPEED_RANGE: (f32, f32) = (0.5, 1.5);

#[cfg(test)]
mod tests {
    use super::*;

    const PASS_THROUGH: Work = Work {
        mode: Mode::PassThrough,
        audio_only: false,
        destinations: 1,
        pictures_percent: 0,
        apart: false,
        broadcast: Broadcast {
            foreign: false,
            pictures: 0,
            sounds: 0,
        },
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
            let fits = check(&PASS_THROUGH, None, free, &jobs, true);
            assert_eq!(fits.is_ok(), expected, "{label}: {fits:?}");
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
    fn what_has_to_be_transcoded_or_is_recorded_apart_costs_more() {
        let foreign = Broadcast {
            foreign: true,
            ..Broadcast::default()
        };
        let three = Broadcast {
            pictures: 4,
            sounds: 3,
            ..Broadcast::default()
        };
        let stage = Mode::named(PresetName::P720p30);
        let (h264, tracks) = (PASS_THROUGH.percent(), SOUND_TRACK_PERCENT * 3);
        let table = [
            (
                "H.264",
                Mode::PassThrough,
                false,
                false,
                Broadcast::default(),
                h264,
            ),
            (
                "another codec",
                Mode::PassThrough,
                false,
                false,
                foreign,
                h264 + TRANSCODING_PERCENT,
            ),
            (
                "its sound alone",
                Mode::PassThrough,
                true,
                false,
                foreign,
                AUDIO_PERCENT,
            ),
            ("composed: decoded anyway", stage, false, false, foreign, 49),
            (
                "tracks",
                stage,
                false,
                true,
                three,
                49 + tracks + 4 * PICTURE_TRACK_PERCENT,
            ),
            (
                "tracks of who has not come",
                Mode::PassThrough,
                false,
                true,
                Broadcast::default(),
                h264 + SOUND_TRACK_PERCENT + PICTURE_TRACK_PERCENT,
            ),
            (
                "tracks in another codec",
                Mode::PassThrough,
                false,
                true,
                foreign,
                h264 + 2 * TRANSCODING_PERCENT + PICTURE_TRACK_PERCENT + SOUND_TRACK_PERCENT,
            ),
            (
                "sounds alone",
                Mode::sound(),
                true,
                true,
                three,
                AUDIO_PERCENT + tracks,
            ),
        ];
        for (label, mode, audio_only, apart, broadcast, expected) in table {
            let work = Work {
                mode,
                audio_only,
                apart,
                broadcast,
                ..PASS_THROUGH
            };
            assert_eq!(work.percent(), expected, "{label}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told_what_would() {
        let free = |cpu_percent| Free {
            jobs: 3,
            jobs_in_room: 1,
            cpu_percent,
        };
        let large = Work {
            mode: Mode::named(PresetName::P1080p60),
            ..PASS_THROUGH
        };
        let small = Work {
            mode: Mode::named(PresetName::P480p30),
            ..PASS_THROUGH
        };
        let sound = Work {
            audio_only: true,
            mode: Mode::sound(),
            ..PASS_THROUGH
        };
        let pass = PASS_THROUGH;
        let next = Some((PresetName::P1080p30, 85));
        let least = Some((PresetName::P480p30, 32));
        let through = Some((PresetName::PassThrough, 6));
        let table = [
            ("the next one", &large, None, free(149), true, (150, next)),
            ("a small one", &large, None, free(48), false, (150, least)),
            ("nothing else", &small, None, free(31), false, (32, None)),
            ("as it comes", &small, None, free(31), true, (32, through)),
            ("not even that", &small, None, free(5), true, (32, None)),
            ("it is that", &pass, None, free(5), true, (6, None)),
            ("no picture", &sound, None, free(4), true, (5, None)),
            (
                "no place",
                &large,
                None,
                Free {
                    jobs_in_room: 0,
                    ..free(100)
                },
                true,
                (150, None),
            ),
            (
                "more of it",
                &large,
                Some(&small),
                free(60),
                false,
                (118, Some((PresetName::P1080p30, 53))),
            ),
        ];
        for (label, work, now, free, may_pass, (needed_percent, instead)) in table {
            let expected = Shortage {
                free,
                needed_percent,
                instead,
            };
            let checked = check(work, now, free, &[], may_pass);
            assert_eq!(checked, Err(expected), "{label}");
        }
        // Also where no further job may run.
        let full = Free {
            jobs: 0,
            ..free(118)
        };
        assert_eq!(check(&large, Some(&small), full, &[], false), Ok(()));
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
