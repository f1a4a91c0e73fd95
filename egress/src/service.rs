//! All jobs of the server.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::Router;
use sfu::RoomId;
use thiserror::Error;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use crate::{
    api,
    config::{Config, ConfigError},
    destination::{self, Accepted, DestinationError},
    origin::Origin,
    source::Sources,
    status::{self, DestinationState, DestinationType, JobState},
    supervisor::{Supervisor, unix_ms_now},
};

/// A room as egress knows it. The app puts it into a request's extensions once the caller's grant is checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Room {
    /// Whose programme is sent.
    pub id: RoomId,
    /// Its name in URLs.
    pub slug: String,
}

/// The outputs of a room have changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The room.
    pub room: Room,
    /// All its jobs, as the API lists them.
    pub jobs: Vec<status::Job>,
    /// Whether `/hls/{room}/index.m3u8` can be played and goes on.
    pub hls: bool,
}

/// Starts, lists and ends jobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Service {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    sources: Box<dyn Sources>,
    worker_program: PathBuf,
    rooms: Mutex<HashMap<RoomId, Jobs>>,
    next_job: AtomicU64,
    tasks: TaskTracker,
    cancel: CancellationToken,
    changed: Notify,
    /// At most [`EVENT_LIMIT`] wait. When full, the room stays marked and is told of later.
    events: Mutex<Option<mpsc::Sender<Changed>>>,
}

/// The jobs of one room.
#[derive(Debug)]
struct Jobs {
    room: Room,
    jobs: Vec<Entry>,
    dirty: bool,
}

#[derive(Debug)]
struct Entry {
    status: watch::Receiver<status::Job>,
    end: CancellationToken,
    origin: Option<Arc<Origin>>,
    over_since: Option<Instant>,
}

/// Why a job was not started.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error("Give at least one destination")]
    NoDestinations,
    #[error("At most {0} destinations can be given")]
    TooManyDestinations(usize),
    #[error("Destination {number}: {reason}")]
    Destination {
        number: usize,
        reason: DestinationError,
    },
    #[error("This room has an HLS output already. End it before starting another one")]
    HlsActive,
    #[error("This server runs as many outputs as it may ({0}). Try again when one has ended")]
    Capacity(usize),
    #[error("The server is stopping")]
    Stopping,
}

impl Service {
    /// `worker_program` is run as `worker_program egress-worker` and must call [`run_worker`](crate::run_worker).
    ///
    /// # Errors
    /// [`ConfigError`] when a value is out of range.
    pub fn new(
        config: Config,
        sources: impl Sources,
        worker_program: PathBuf,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            shared: Arc::new(Shared {
                config,
                sources: Box::new(sources),
                worker_program,
                rooms: Mutex::default(),
                // Ids of different runs of the server differ.
                next_job: AtomicU64::new(unix_ms_now()),
                tasks: TaskTracker::new(),
                cancel: CancellationToken::new(),
                changed: Notify::new(),
                events: Mutex::default(),
            }),
        })
    }

    /// Returns the routes under `/api/rooms/{room}/egress`. Each needs a [`Room`] among the request's extensions.
    pub fn api_routes(&self) -> Router {
        api::job_routes(self.clone())
    }

    /// Returns the routes under `/hls/{room}`. They are public.
    pub fn hls_routes(&self) -> Router {
        api::hls_routes(self.clone())
    }

    /// Returns the stream of changes, at most two a second of each room, the latest winning. Replaces the
    /// stream that was returned before.
    pub fn events(&self) -> mpsc::Receiver<Changed> {
        let (sender, receiver) = mpsc::channel(EVENT_LIMIT);
        let mut events = self
            .shared
            .events
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *events = Some(sender);
        receiver
    }

    /// Supervises until cancelled, then ends all jobs cleanly, within five seconds.
    pub async fn run(&self, cancel: CancellationToken) {
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.shared.changed.notified() => {}
                () = sleep(SWEEP_INTERVAL) => {}
            }
            self.shared.sweep(Instant::now());
            tokio::select! {
                () = cancel.cancelled() => break,
                () = sleep(EVENT_INTERVAL) => {}
            }
        }
        self.shared.cancel.cancel();
        self.shared.tasks.close();
        if timeout(STOP_LIMIT, self.shared.tasks.wait()).await.is_err() {
            tracing::warn!("egress jobs did not end in time");
        }
        self.shared.sweep(Instant::now());
    }

    /// Counts the destinations of jobs that are not over.
    pub fn gauges(&self) -> Vec<(DestinationType, DestinationState, u64)> {
        let mut counts: Vec<(DestinationType, DestinationState, u64)> = Vec::new();
        let rooms = self.shared.lock();
        for entry in rooms.values().flat_map(|jobs| &jobs.jobs) {
            let job = entry.status.borrow();
            if is_over(job.state) {
                continue;
            }
            for destination in &job.destinations {
                let key = (destination.r#type, destination.state);
                match counts.iter_mut().find(|(t, s, _)| (*t, *s) == key) {
                    Some((_, _, count)) => *count += 1,
                    None => counts.push((key.0, key.1, 1)),
                }
            }
        }
        counts
    }

    /// Starts a job.
    pub(crate) async fn start(
        &self,
        room: Room,
        request: &status::Request,
    ) -> Result<status::Job, StartError> {
        let shared = &self.shared;
        let accepted = shared.accept(&room, request)?;
        let source = shared
            .sources
            .open(room.id)
            .await
            .ok_or(StartError::Stopping)?;
        // From here on nothing waits: admission and insertion are one step.
        let mut rooms = shared.lock();
        if shared.cancel.is_cancelled() {
            return Err(StartError::Stopping);
        }
        let running = rooms.values().flat_map(|jobs| &jobs.jobs);
        if running.filter(|entry| !entry.is_over()).count() >= shared.config.max_jobs {
            return Err(StartError::Capacity(shared.config.max_jobs));
        }
        let hls = accepted.iter().any(|a| a.kind == DestinationType::Hls);
        let jobs = rooms.entry(room.id).or_insert_with(|| Jobs {
            room: room.clone(),
            jobs: Vec::new(),
            dirty: true,
        });
        if hls && jobs.jobs.iter().any(Entry::serves_hls) {
            return Err(StartError::HlsActive);
        }
        jobs.room = room.clone();
        jobs.dirty = true;
        let created_at_ms = unix_ms_now();
        let origin = hls.then(|| Arc::new(Origin::new(&shared.config.hls, created_at_ms / 1000)));
        let number = shared.next_job.fetch_add(1, Ordering::Relaxed);
        let id = format!("eg_{number:x}");
        let (status, watched) = watch::channel(first_status(&id, &room, created_at_ms, &accepted));
        let end = shared.cancel.child_token();
        let supervisor = Supervisor {
            id: id.clone(),
            room: room.slug.clone(),
            created_at_ms,
            seed: number,
            config: shared.config.clone(),
            worker_program: shared.worker_program.clone(),
            accepted,
            origin: origin.clone(),
            status,
            end: end.clone(),
        };
        let span = tracing::info_span!("job", %id, room = %room.slug);
        shared
            .tasks
            .spawn(supervisor.run(source).instrument(span.clone()));
        let on_change = self.clone().mark_changes(room.id, watched.clone());
        shared.tasks.spawn(on_change.instrument(span));
        let job = watched.borrow().clone();
        jobs.jobs.push(Entry {
            status: watched,
            end,
            origin,
            over_since: None,
        });
        drop(rooms);
        shared.changed.notify_one();
        Ok(job)
    }

    /// Returns the room's jobs: those that run first, then those that are over, the newest first.
    pub(crate) fn list(&self, room: RoomId) -> Vec<status::Job> {
        self.shared
            .lock()
            .get(&room)
            .map(Jobs::list)
            .unwrap_or_default()
    }

    pub(crate) fn get(&self, room: RoomId, id: &str) -> Option<status::Job> {
        let rooms = self.shared.lock();
        let entry = rooms.get(&room)?.find(id)?;
        Some(entry.status.borrow().clone())
    }

    /// Ends a job and waits until it is over; returns what it was.
    pub(crate) async fn end(&self, room: RoomId, id: &str) -> Option<status::Job> {
        let mut status = {
            let rooms = self.shared.lock();
            let entry = rooms.get(&room)?.find(id)?;
            entry.end.cancel();
            entry.status.clone()
        };
        // A job that ends with the sender dropped is over as well.
        let _ = status.wait_for(|job| is_over(job.state)).await;
        let job = status.borrow().clone();
        Some(job)
    }

    /// Returns the origin that serves the room with this slug.
    pub(crate) fn origin(&self, slug: &str) -> Option<Arc<Origin>> {
        let rooms = self.shared.lock();
        let jobs = rooms.values().find(|jobs| jobs.room.slug == slug)?;
        jobs.jobs
            .iter()
            .rev()
            .find_map(|entry| entry.origin.clone())
    }

    async fn mark_changes(self, room: RoomId, mut status: watch::Receiver<status::Job>) {
        loop {
            let changed = status.changed().await;
            if let Some(jobs) = self.shared.lock().get_mut(&room) {
                jobs.dirty = true;
            }
            self.shared.changed.notify_one();
            if changed.is_err() {
                return;
            }
        }
    }
}

impl Shared {
    fn accept(&self, room: &Room, request: &status::Request) -> Result<Vec<Accepted>, StartError> {
        let destinations = &request.destinations;
        if destinations.is_empty() {
            return Err(StartError::NoDestinations);
        }
        if destinations.len() > self.config.max_destinations {
            return Err(StartError::TooManyDestinations(
                self.config.max_destinations,
            ));
        }
        let allow_private = self.config.allow_private_targets;
        let accepted = destinations.iter().zip(1..).map(|(destination, number)| {
            destination::accept(destination, &room.slug, allow_private)
                .map_err(|reason| StartError::Destination { number, reason })
        });
        let accepted = accepted.collect::<Result<Vec<_>, _>>()?;
        let hls = accepted.iter().filter(|a| a.kind == DestinationType::Hls);
        if hls.count() > 1 {
            return Err(StartError::HlsActive);
        }
        Ok(accepted)
    }

    /// Tells of changes, and forgets what is long over.
    fn sweep(&self, now: Instant) {
        let mut rooms = self.lock();
        let events = self
            .events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        for jobs in rooms.values_mut() {
            jobs.forget_old(now);
            if !jobs.dirty {
                continue;
            }
            jobs.dirty = match &events {
                Some(events) => events.try_send(jobs.changed()).is_err(),
                None => false,
            };
        }
        rooms.retain(|_, jobs| jobs.dirty || !jobs.jobs.is_empty());
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, Jobs>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jobs {
    fn list(&self) -> Vec<status::Job> {
        let newest_first = self
            .jobs
            .iter()
            .rev()
            .map(|entry| entry.status.borrow().clone());
        let mut jobs: Vec<_> = newest_first.collect();
        jobs.sort_by_key(|job| is_over(job.state));
        jobs
    }

    fn find(&self, id: &str) -> Option<&Entry> {
        self.jobs
            .iter()
            .find(|entry| entry.status.borrow().id == id)
    }

    fn changed(&self) -> Changed {
        let mut origins = self.jobs.iter().filter_map(|entry| entry.origin.as_ref());
        Changed {
            room: self.room.clone(),
            jobs: self.list(),
            hls: origins.any(|origin| origin.is_live()),
        }
    }

    /// Keeps the last [`OVER_LIMIT`] jobs that are over, for an hour, and their HLS files for a minute.
    fn forget_old(&mut self, now: Instant) {
        for entry in &mut self.jobs {
            if !entry.is_over() {
                continue;
            }
            let since = *entry.over_since.get_or_insert(now);
            if now >= since + HLS_KEPT {
                entry.origin = None;
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
    fn is_over(&self) -> bool {
        // A supervisor that panicked has dropped its sender.
        is_over(self.status.borrow().state) || self.status.has_changed().is_err()
    }

    fn serves_hls(&self) -> bool {
        self.origin.is_some() && !self.is_over()
    }
}

fn is_over(state: JobState) -> bool {
    matches!(state, JobState::Ended | JobState::Failed)
}

fn first_status(id: &str, room: &Room, created_at_ms: u64, accepted: &[Accepted]) -> status::Job {
    let destinations = accepted.iter().map(|accepted| status::DestinationStatus {
        r#type: accepted.kind,
        url: accepted.shown_url.clone(),
        state: DestinationState::Connecting,
        code: None,
        last_error: None,
        attempt: 0,
        next_try_at_ms: None,
        live_since_ms: None,
        bytes: 0,
        bitrate_bps: 0,
        frames: 0,
        dropped_frames: 0,
    });
    status::Job {
        id: id.to_owned(),
        room: room.slug.clone(),
        state: JobState::Starting,
        created_at_ms,
        receiving: false,
        restarts: 0,
        worker_pid: None,
        destinations: destinations.collect(),
    }
}

const EVENT_LIMIT: usize = 64;
const EVENT_INTERVAL: Duration = Duration::from_millis(500);
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(5);
const OVER_LIMIT: usize = 20;
const JOB_KEPT: Duration = Duration::from_secs(3600);
const HLS_KEPT: Duration = Duration::from_secs(60);
