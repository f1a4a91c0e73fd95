//! A job as the API shows it.

use std::time::Instant;

use super::Run;
use crate::{
    album,
    delivery::Delivery,
    journal,
    overload::Level,
    preset::Mode,
    process::Process,
    status::{self, DestinationType},
};

impl Run {
    /// Shows the job as it is now.
    pub(super) fn publish(&mut self) {
        self.journal.note(self.job.destinations(), Instant::now());
        self.forget_left();
        let wanted = self.job.wants_keyframes() && self.needs_keyframes();
        let renditions = self.supervisor.mode == Mode::PassThrough && self.serves_hls();
        let video = self.supervisor.wish.video(renditions);
        self.demand.send_if_modified(|demand| {
            let before = std::mem::replace(&mut demand.keyframes, wanted);
            let video_before = std::mem::replace(&mut demand.video, video);
            before != wanted || video_before != video
        });
        let now = Instant::now();
        let status = status::Job {
            id: self.supervisor.id.clone(),
            room: self.supervisor.room.slug.clone(),
            state: self.job.state(),
            source: self.supervisor.wish.source.clone(),
            audio_only: self.supervisor.wish.audio_only,
            preset: self.supervisor.wish.shown_preset(),
            layout: self.supervisor.wish.layout,
            degraded: self.shown_degraded(),
            created_at_ms: self.supervisor.created_at_ms,
            receiving: self.job.receiving(),
            hold_ms: self.supervisor.mode.hold_ms(&self.supervisor.config),
            restarts: self.job.restarts(),
            cpu_percent: self.cpu.per_second(now) as f32 / 10.0,
            worker_pid: self.process.as_ref().and_then(Process::pid),
            destinations: self.destinations(now),
        };
        self.supervisor
            .status
            .send_if_modified(|current| std::mem::replace(current, status.clone()) != status);
    }

    /// Forgets destinations that were taken out and have said goodbye, once the library knows that too.
    fn forget_left(&mut self) {
        let destinations = self.job.destinations();
        let stays = |number: &usize| destinations.iter().any(|d| d.number() == *number);
        let recordings = &self.recordings;
        self.accepted
            .retain(|number, _| stays(number) || recordings.contains(number));
        self.doomed.retain(|number, _| stays(number));
    }

    /// Returns whether keyframes are to come regularly. Thumbnails ask for those that they need.
    fn needs_keyframes(&self) -> bool {
        self.job.destinations().iter().any(|destination| {
            let accepted = self.accepted.get(&destination.number());
            accepted.is_some_and(|accepted| accepted.kind != DestinationType::Thumbnails)
        })
    }

    fn serves_hls(&self) -> bool {
        self.hls_destinations().any(|d| !d.is_leaving())
    }

    /// Returns the destinations that are playlists, also those that were taken out and say goodbye.
    pub(super) fn hls_destinations(&self) -> impl Iterator<Item = &Delivery> {
        self.job.destinations().iter().filter(|destination| {
            let accepted = self.accepted.get(&destination.number());
            accepted.is_some_and(|accepted| accepted.kind == DestinationType::Hls)
        })
    }

    fn shown_degraded(&self) -> Option<status::Degraded> {
        let (level, since) = self.degraded;
        let preset = match self.mode() {
            Mode::Composed(preset) if level != Level::Paused => Some(preset.shown()),
            Mode::Composed(_) | Mode::PassThrough => None,
        };
        (level != Level::Full).then(|| status::Degraded {
            reason: status::DegradedReason::Overload,
            preset,
            since_ms: self.clock.unix_ms(since),
        })
    }

    fn destinations(&self, now: Instant) -> Vec<status::DestinationStatus> {
        let destinations = self.job.destinations().iter();
        destinations
            .filter_map(|destination| {
                let accepted = self.accepted.get(&destination.number())?;
                let counters = destination.counters();
                let past = destination.past().map(|(failure, at)| status::PastFailure {
                    code: failure.code,
                    message: failure.message.clone(),
                    recovered_at_ms: self.clock.unix_ms(*at),
                });
                Some(status::DestinationStatus {
                    id: journal::id(destination.number()),
                    past_failure: past,
                    acknowledged_bytes: counters.acknowledged_bytes,
                    delay_ms: counters.delay_ms,
                    r#type: accepted.kind,
                    url: album::shown_url(accepted, &self.supervisor.id, destination.number()),
                    private: accepted.needs_token,
                    state: destination.state(),
                    code: destination.failure().map(|failure| failure.code),
                    last_error: destination.failure().map(|failure| failure.message.clone()),
                    attempt: destination.attempt(),
                    next_try_at_ms: destination.next_try_at().map(|at| self.clock.unix_ms(at)),
                    live_since_ms: destination.live_since().map(|at| self.clock.unix_ms(at)),
                    bytes: counters.bytes,
                    bitrate_bps: destination.bits_per_second(now),
                    frames: counters.frames,
                    dropped_frames: counters.dropped_frames,
                })
            })
            .collect()
    }
}
