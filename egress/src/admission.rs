//! Whether a job fits: the only place where jobs are counted and weighed.

use crate::{
    config::Config,
    status::{Free, JobState},
};

/// A job that takes part in the reckoning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) in_same_room: bool,
    pub(crate) destinations: usize,
    /// What its worker uses, percent of a core.
    pub(crate) measured_percent: f32,
    pub(crate) state: JobState,
}

/// Returns what a job with so many destinations is expected to use, percent of a core.
pub(crate) fn expected_percent(destinations: usize) -> u32 {
    let further = u32::try_from(destinations.saturating_sub(1)).unwrap_or(u32::MAX);
    PASS_THROUGH_PERCENT.saturating_add(further.saturating_mul(FURTHER_DESTINATION_PERCENT))
}

/// Returns what is left of the limits beside these jobs.
pub(crate) fn free(config: &Config, cores: usize, jobs: &[Load]) -> Free {
    let running = jobs
        .iter()
        .filter(|job| !matches!(job.state, JobState::Ended | JobState::Failed));
    let (mut count, mut in_room, mut used) = (0, 0, 0.0_f32);
    for job in running {
        count += 1;
        in_room += usize::from(job.in_same_room);
        // One that waits for its broadcaster uses nothing yet.
        used += job
            .measured_percent
            .max(percent(expected_percent(job.destinations)));
    }
    let limit = limit_percent(config, cores);
    Free {
        jobs: config.max_jobs.saturating_sub(count),
        jobs_in_room: config.max_jobs_per_room.saturating_sub(in_room),
        cpu_percent: limit.saturating_sub(whole(used)),
    }
}

/// Returns whether a job with so many destinations fits into what is left.
pub(crate) fn fits(free: &Free, destinations: usize) -> bool {
    free.jobs > 0 && free.jobs_in_room > 0 && free.cpu_percent >= expected_percent(destinations)
}

fn limit_percent(config: &Config, cores: usize) -> u32 {
    match config.max_cpu_percent {
        0 => u32::try_from(cores).unwrap_or(1).saturating_mul(CORE_SHARE),
        limit => limit,
    }
}

fn percent(whole: u32) -> f32 {
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

/// 720p30 H.264 passed through with AAC to one RTMP server: `worker_cost_of_passing_720p30_through` in
/// `tests/outputs.rs`, rounded up.
const PASS_THROUGH_PERCENT: u32 = 6;
/// Likewise for each RTMP server more.
const FURTHER_DESTINATION_PERCENT: u32 = 1;
/// What outputs may use of each core when the configuration says nothing; the rest is for viewers.
const CORE_SHARE: u32 = 80;

#[cfg(test)]
mod tests {
    use super::*;

    fn job(in_same_room: bool, measured_percent: f32, state: JobState) -> Load {
        Load {
            in_same_room,
            destinations: 1,
            measured_percent,
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
            assert_eq!(fits(&free, 1), expected, "{label}: {free:?}");
        }
    }

    #[test]
    fn the_share_follows_the_cores() {
        let free = free(&Config::default(), 4, &[job(true, 0.0, JobState::Running)]);
        assert_eq!(free.cpu_percent, 4 * CORE_SHARE - PASS_THROUGH_PERCENT);
    }
}
