//! The jobs of one room, and what each is made of.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{self, Broadcast, Load, Work},
    album,
    config::Config,
    journal,
    link::Target,
    origin::{Numbers, Origin},
    overload::{Level, Running},
    preset::Mode,
    scene::Scene,
    service::{Changed, Room},
    status::{self, DestinationState, DestinationType, JobState},
    store::{Record, RecordedDestination},
    supervisor::{Order, Planned, Strain},
    wish::Wish,
};

/// A room's jobs, the oldest first.
#[derive(Debug)]
pub(crate) struct Jobs {
    pub(crate) room: Room,
    pub(crate) jobs: Vec<Entry>,
    /// Whether something changed that nobody was told of.
    pub(crate) dirty: bool,
    /// Where the playlists ended whose files are gone.
    numbers: Option<Numbers>,
    /// Tells the API's users. Keeps the latest.
    told: watch::Sender<status::JobList>,
}

/// One job.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) created_at_ms: u64,
    /// Nobody may borrow it twice at once: where its supervisor waits to change it, the second borrowing waits for the
    /// supervisor, and the supervisor for the first.
    pub(crate) status: watch::Receiver<status::Job>,
    pub(crate) end: CancellationToken,
    pub(crate) orders: mpsc::Sender<Order>,
    /// How much it is degraded. Keeps the latest.
    pub(crate) level: watch::Sender<Level>,
    strain: watch::Receiver<Strain>,
    /// The room's stage.
    stage: watch::Receiver<Scene>,
    pub(crate) origin: Option<Arc<Origin>>,
    /// What it was asked to send to.
    pub(crate) plan: Vec<Planned>,
    pub(crate) next_number: usize,
    pub(crate) wish: Wish,
    /// The idempotency key of its request, and that request's fingerprint.
    pub(crate) idempotency: Option<(String, Vec<u8>)>,
    /// Whether somebody asked for its end.
    pub(crate) ending: bool,
    over_since: Option<Instant>,
}

impl Jobs {
    pub(crate) fn new(room: Room) -> Self {
        Self {
            room,
            jobs: Vec::new(),
            dirty: true,
            numbers: None,
            told: watch::Sender::default(),
        }
    }

    /// Returns what the API's users are told, from what they were told last on.
    pub(crate) fn follow(&self) -> watch::Receiver<status::JobList> {
        self.told.subscribe()
    }

    /// Tells the API's users.
    pub(crate) fn tell(&self) {
        let list = status::JobList { jobs: self.list() };
        self.told
            .send_if_modified(|told| std::mem::replace(told, list.clone()) != list);
    }

    /// Returns whether any of the API's users listens.
    pub(crate) fn is_followed(&self) -> bool {
        self.told.receiver_count() > 0
    }

    /// Returns those that run first, then those that are over, the newest first.
    pub(crate) fn list(&self) -> Vec<status::Job> {
        let newest_first = self
            .jobs
            .iter()
            .rev()
            .map(|entry| entry.status.borrow().clone());
        let mut jobs: Vec<_> = newest_first.collect();
        jobs.sort_by_key(|job| is_over(job.state));
        jobs
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Entry> {
        self.jobs.iter().find(|entry| entry.id == id)
    }

    pub(crate) fn find_mut(&mut self, id: &str) -> Option<&mut Entry> {
        self.jobs.iter_mut().find(|entry| entry.id == id)
    }

    pub(crate) fn serves_hls(&self) -> bool {
        self.jobs.iter().any(Entry::serves_hls)
    }

    /// Ends the playlists that there were. Returns where the last one ended.
    pub(crate) fn end_playlists(&self) -> Option<Numbers> {
        let origins = self.jobs.iter().filter_map(|entry| entry.origin.as_ref());
        let ends = origins.map(|origin| origin.end());
        ends.chain(self.numbers).max()
    }

    pub(crate) fn changed(&self) -> Changed {
        let mut origins = self.jobs.iter().filter_map(|entry| entry.origin.as_ref());
        Changed {
            room: self.room.clone(),
            jobs: self.list(),
            hls: origins.any(|origin| origin.is_live() && !origin.is_private()),
        }
    }

    /// Keeps the last [`OVER_LIMIT`] jobs that are over, for an hour, and their HLS files for a minute.
    pub(crate) fn forget_old(&mut self, now: Instant) {
        for entry in &mut self.jobs {
            if !entry.is_over() {
                continue;
            }
            let since = *entry.over_since.get_or_insert(now);
            if now >= since + HLS_KEPT
                && let Some(origin) = entry.origin.take()
            {
                self.numbers = self.numbers.max(Some(origin.end()));
            }
        }
        let over = self.jobs.iter().filter(|entry| entry.is_over()).count();
        let mut surplus = over.saturating_sub(OVER_LIMIT);
        self.jobs.retain(|entry| {
            let Some(since) = entry.over_since else {
                return true;
            };
            let forget = surplus > 0 || now >= since + JOB_KEPT;
            surplus = surplus.saturating_sub(usize::from(forget));
            !forget
        });
    }
}

impl Entry {
    pub(crate) fn new(
        record: &Record,
        plan: Vec<Planned>,
        status: watch::Receiver<status::Job>,
        end: CancellationToken,
        orders: mpsc::Sender<Order>,
        (level, strain, stage): (
            watch::Sender<Level>,
            watch::Receiver<Strain>,
            watch::Receiver<Scene>,
        ),
        origin: Option<Arc<Origin>>,
    ) -> Self {
        Self {
            id: record.id.clone(),
            created_at_ms: record.created_at_ms,
            status,
            end,
            orders,
            level,
            strain,
            stage,
            origin,
            plan,
            next_number: record.next_number,
            wish: record.wish.clone(),
            idempotency: record.idempotency.clone(),
            ending: false,
            over_since: None,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        // A supervisor that panicked has dropped its sender.
        is_over(self.status.borrow().state) || self.status.has_changed().is_err()
    }

    /// Returns whether it is over, or about to be.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending || self.is_over() || self.status.borrow().state == JobState::Draining
    }

    pub(crate) fn serves_hls(&self) -> bool {
        let planned = |p: &Planned| p.accepted.kind == DestinationType::Hls;
        !self.is_over() && self.plan.iter().any(planned)
    }

    /// Returns whether it sends there, or will: what was given up it does not.
    pub(crate) fn sends_to(&self, target: &Target) -> bool {
        if self.is_ending() {
            return false;
        }
        let status = self.status.borrow();
        let is_given_up = |planned: &Planned| {
            let id = journal::id(planned.number);
            let mut shown = status.destinations.iter();
            shown.any(|d| d.id == id && d.state == DestinationState::Failed)
        };
        let mut planned = self.plan.iter();
        planned.any(|p| p.accepted.target.collides(target) && !is_given_up(p))
    }

    /// Returns the numbers of the recordings that it is making.
    pub(crate) fn recordings(&self) -> impl Iterator<Item = usize> {
        let status = self.status.borrow();
        let failed: Vec<usize> = self
            .plan
            .iter()
            .filter(|planned| {
                let id = journal::id(planned.number);
                let mut shown = status.destinations.iter();
                shown.any(|d| d.id == id && d.state == DestinationState::Failed)
            })
            .map(|planned| planned.number)
            .collect();
        let recordings = self
            .plan
            .iter()
            .filter(|p| p.accepted.kind == DestinationType::Recording);
        recordings
            .map(|planned| planned.number)
            .filter(move |number| !failed.contains(number))
    }

    /// Returns what it is expected to cost.
    pub(crate) fn work(&self) -> Work {
        Work::of(
            self.mode(),
            self.wish.audio_only,
            &self.plan,
            self.broadcast(),
        )
    }

    /// Returns what comes in, as far as it is known.
    pub(crate) fn broadcast(&self) -> Broadcast {
        self.stage.borrow().broadcast(self.strain.borrow().foreign)
    }

    pub(crate) fn mode(&self) -> Mode {
        self.wish.mode().unwrap_or(Mode::PassThrough)
    }

    /// Returns what comes in for another job of the room, if this one runs and has the same source.
    pub(crate) fn seen_for(&self, other: &Self) -> Option<Broadcast> {
        let sees = *self.level.borrow() != Level::Paused && self.wish.source == other.wish.source;
        sees.then(|| self.broadcast())
    }

    /// Returns how it takes part in the balance of the machine, where `seen` comes in.
    pub(crate) fn running(&self, loads: &[Load], seen: Option<Broadcast>) -> Running {
        let broadcast = seen.unwrap_or_else(|| self.broadcast());
        let work = Work::of(self.mode(), self.wish.audio_only, &self.plan, broadcast);
        let status = self.status.borrow();
        let composed = work.mode != Mode::PassThrough;
        Running {
            composed,
            level: *self.level.borrow(),
            measured_percent: status.cpu_percent,
            full_percent: admission::percent(admission::expected_percent(&work, loads)),
            late: composed
                && status.state == JobState::Running
                && self.strain.borrow().late_ms > LATE_MS,
        }
    }

    pub(crate) fn load(&self, in_same_room: bool) -> Load {
        let work = self.work();
        let is_over = self.is_over();
        let status = self.status.borrow();
        Load {
            in_same_room,
            work,
            measured_percent: status.cpu_percent,
            receiving: status.receiving,
            state: match is_over {
                true => JobState::Ended,
                false => status.state,
            },
        }
    }

    /// Returns the planned destination with this id.
    pub(crate) fn planned(&self, id: &str) -> Option<&Planned> {
        self.plan
            .iter()
            .find(|planned| journal::id(planned.number) == id)
    }

    /// Notes which destinations have been live; returns whether that is news.
    pub(crate) fn note_proved(&mut self) -> bool {
        let status = self.status.borrow();
        let mut news = false;
        for planned in &mut self.plan {
            let id = journal::id(planned.number);
            let mut shown = status.destinations.iter();
            let live = shown.any(|d| d.id == id && d.live_since_ms.is_some());
            news |= live && !planned.proved;
            planned.proved |= live;
        }
        news
    }

    pub(crate) fn record(&self, room: &Room) -> Record {
        let destinations = self.plan.iter().map(|planned| RecordedDestination {
            number: planned.number,
            trusted: planned.trusted,
            proved: planned.proved,
            requested: planned.requested.clone(),
        });
        Record {
            id: self.id.clone(),
            room: room.id.0,
            slug: room.slug.clone(),
            created_at_ms: self.created_at_ms,
            next_number: self.next_number,
            wish: self.wish.clone(),
            destinations: destinations.collect(),
            idempotency: self.idempotency.clone(),
        }
    }
}

/// Returns what is known of a job that is about to be started.
pub(crate) fn first_status(
    room: &Room,
    record: &Record,
    plan: &[Planned],
    config: &Config,
) -> status::Job {
    let destinations = plan.iter().map(|planned| status::DestinationStatus {
        id: journal::id(planned.number),
        r#type: planned.accepted.kind,
        url: album::shown_url(&planned.accepted, &record.id, planned.number),
        private: planned.accepted.needs_token,
        state: DestinationState::Connecting,
        code: None,
        last_error: None,
        past_failure: None,
        attempt: 0,
        next_try_at_ms: None,
        live_since_ms: None,
        bytes: 0,
        acknowledged_bytes: 0,
        bitrate_bps: 0,
        delay_ms: 0,
        frames: 0,
        dropped_frames: 0,
    });
    status::Job {
        id: record.id.clone(),
        room: room.slug.clone(),
        state: JobState::Starting,
        source: record.wish.source.clone(),
        audio_only: record.wish.audio_only,
        preset: record.wish.shown_preset(),
        layout: record.wish.layout,
        degraded: None,
        created_at_ms: record.created_at_ms,
        receiving: false,
        hold_ms: record.wish.mode().and_then(|mode| mode.hold_ms(config)),
        restarts: 0,
        worker_pid: None,
        cpu_percent: 0.0,
        destinations: destinations.collect(),
    }
}

/// Returns whether a job in this state is over.
pub(crate) fn is_over(state: JobState) -> bool {
    matches!(state, JobState::Ended | JobState::Failed)
}

/// Composing waits for nobody: it is this late only when it gets too little processor time. What passes through
/// is as late as it came.
const LATE_MS: u64 = 2500;
const OVER_LIMIT: usize = 20;
const JOB_KEPT: Duration = Duration::from_secs(3600);
const HLS_KEPT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicBool, Ordering},
            mpsc::channel,
        },
        thread,
    };

    use sfu::RoomId;

    use super::*;

    fn entry() -> (Entry, watch::Sender<status::Job>) {
        let record = Record::sample();
        let room = Room {
            id: RoomId(1),
            slug: record.slug.clone(),
        };
        let (status, watched) =
            watch::channel(first_status(&room, &record, &[], &Config::default()));
        let (orders, _) = mpsc::channel(1);
        let (_, strain) = watch::channel(Strain::default());
        let (_, stage) = watch::channel(Scene::default());
        let ends = (watch::channel(Level::Full).0, strain, stage);
        let end = CancellationToken::new();
        let entry = Entry::new(&record, Vec::new(), watched, end, orders, ends, None);
        (entry, status)
    }

    /// Whoever reads a job's status twice at once gets stuck when the supervisor changes it in between.
    #[test]
    fn a_job_is_read_while_its_status_changes_all_the_time() {
        let (entry, status) = entry();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let writer = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                status.send_modify(|job| job.cpu_percent += 1.0);
            }
        });
        let (done, finished) = channel();
        thread::spawn(move || {
            for _ in 0..20_000 {
                let loads = [entry.load(true)];
                let _ = (
                    entry.running(&loads, None),
                    entry.is_ending(),
                    entry.serves_hls(),
                );
                let _ = (entry.recordings().count(), entry.work(), entry.is_over());
            }
            let _ = done.send(());
        });
        let result = finished.recv_timeout(Duration::from_secs(30));
        assert_eq!(result, Ok(()), "it is stuck");
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap();
    }
}
