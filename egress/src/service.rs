//! All jobs of the server.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
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
    admission, api,
    config::{Config, ConfigError},
    destination::{self, DestinationError},
    jobs::{Entry, Jobs, is_over},
    journal,
    leftover::Leftovers,
    link::Failure,
    origin::Origin,
    recording::{self, Desk, Library},
    signed::Signer,
    source::{Source, Sources},
    status::{
        self, Destination, DestinationState, DestinationType, FailureCode, Free, JobState,
        RecordingState,
    },
    still::Stills,
    store::{Record, Store},
    supervisor::{ORDER_LIMIT, Order, Planned, Supervisor, unix_ms_now},
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

/// A recording can be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordingReady {
    /// The room.
    pub room: Room,
    /// The recording, as the API shows it.
    pub recording: status::Recording,
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
    /// Cancelled once the jobs of the last run are taken up.
    resumed: CancellationToken,
    /// What goes on after a restart. Locked before the rooms, and while a record is written, so that the last
    /// one written is the newest.
    store: Mutex<Store>,
    leftovers: Leftovers,
    desk: Desk,
    /// Held while a request with an idempotency key is answered, so that its twin finds the job.
    keyed: tokio::sync::Mutex<()>,
    cores: usize,
    changed: Notify,
    /// At most [`EVENT_LIMIT`] wait. When full, the room stays marked and is told of later.
    events: Mutex<Option<mpsc::Sender<Changed>>>,
}

/// Why outputs cannot be run.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A value is out of range.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error("cannot use the folder of outputs")]
    Folder(#[from] io::Error),
}

/// Why a job was not started or changed.
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
    #[error("Destination {0}: this output sends to that address with that key already")]
    Duplicate(usize),
    #[error("This output has no destination “{0}”")]
    UnknownDestination(String),
    #[error("This room has an HLS output already. End it before starting another one")]
    HlsActive,
    #[error(
        "There is no room for this output: {} more can run on this server and {} in this room, with {} % of a \
         processor core. Try again when another one has ended",
        .0.jobs, .0.jobs_in_room, .0.cpu_percent
    )]
    Capacity(Free),
    #[error("This idempotency key came with a different request before")]
    KeyReused,
    #[error("The room has no such output, or it ended long ago")]
    UnknownJob,
    #[error("This output is over. Start a new one")]
    Over,
    #[error(
        "There is no room for a recording: the disk is full, or recordings have reached their limit. Delete \
         some, then try again"
    )]
    DiskFull,
    #[error("The server is stopping")]
    Stopping,
    #[error("The output cannot be written to the data folder, so it would not survive a restart")]
    Store,
}

/// A started job.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) job: status::Job,
    /// Whether an earlier request with the same idempotency key had started it.
    pub(crate) replayed: bool,
}

impl Service {
    /// Opens the jobs in `data_dir`, which [`Self::run`] resumes. `worker_program` is run as
    /// `worker_program egress-worker` and must call [`run_worker`](crate::run_worker).
    ///
    /// # Errors
    /// [`OpenError`] when a value is out of range or the folder cannot be used.
    pub fn open(
        config: Config,
        sources: impl Sources,
        worker_program: PathBuf,
        data_dir: &Path,
    ) -> Result<Self, OpenError> {
        config.validate()?;
        let folder = data_dir.join("egress");
        let store = Mutex::new(Store::open(&folder)?);
        let stills = Stills::start(worker_program.clone());
        let recordings = config.recording.folder.clone();
        let recordings = recordings.unwrap_or_else(|| data_dir.join("recordings"));
        let desk = Desk {
            library: Library::open(recordings, &config.recording, stills)?,
            signer: Signer::open(&folder)?,
            link_ms: config.recording.link_hours * 3_600_000,
        };
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
                resumed: CancellationToken::new(),
                store,
                leftovers: Leftovers::open(folder.join("workers"))?,
                desk,
                keyed: tokio::sync::Mutex::default(),
                cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
                changed: Notify::new(),
                events: Mutex::default(),
            }),
        })
    }

    /// Returns the routes under `/api/rooms/{room}/egress` and `/api/rooms/{room}/recordings`. Each needs a
    /// [`Room`] among the request's extensions.
    pub fn api_routes(&self) -> Router {
        api::job_routes(self.clone()).merge(recording::routes(self.shared.desk.clone()))
    }

    /// Returns the routes under `/recordings`, where links to files lead. They are public.
    pub fn recording_routes(&self) -> Router {
        recording::file_routes(self.shared.desk.clone())
    }

    /// Waits for recordings to become ready, and returns them. Cancel safe.
    pub async fn recordings_ready(&self) -> Vec<RecordingReady> {
        let desk = &self.shared.desk;
        let entries = desk.library.ready().await;
        let ready = entries.iter().map(|entry| RecordingReady {
            room: Room {
                id: RoomId(entry.room),
                slug: entry.slug.clone(),
            },
            recording: desk.show(entry),
        });
        ready.collect()
    }

    /// Counts recordings by state, and returns their bytes.
    pub fn recording_totals(&self) -> (Vec<(RecordingState, u64)>, u64) {
        self.shared.desk.library.totals()
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

    /// Resumes the jobs of the last run and supervises until cancelled, then says goodbye to all destinations,
    /// within five seconds. Jobs that nobody ended go on at the next start.
    pub async fn run(&self, cancel: CancellationToken) {
        self.resume().await;
        self.shared.resumed.cancel();
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.shared.changed.notified() => {}
                () = sleep(SWEEP_INTERVAL) => {}
            }
            self.shared.keep_quota();
            self.shared.sweep(Instant::now());
            tokio::select! {
                () = cancel.cancelled() => break,
                () = sleep(EVENT_INTERVAL) => {}
            }
        }
        self.shared.desk.library.stop();
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

    /// Starts a job, or returns the one that an earlier request with the same idempotency key started.
    /// `idempotency` is the key and the request's fingerprint.
    pub(crate) async fn start(
        &self,
        room: Room,
        request: &status::Request,
        idempotency: Option<(String, Vec<u8>)>,
    ) -> Result<Started, StartError> {
        let shared = &self.shared;
        let _keyed = match &idempotency {
            Some(_) => Some(shared.keyed.lock().await),
            None => None,
        };
        if let Some((key, fingerprint)) = &idempotency
            && let Some(job) = shared.replay(&room, key, fingerprint)?
        {
            return Ok(Started {
                job,
                replayed: true,
            });
        }
        if request.destinations.is_empty() {
            return Err(StartError::NoDestinations);
        }
        let plan = shared.plan(&room, &request.destinations, &[], 1)?;
        shared.check_disk(&plan)?;
        let number = shared.next_job.fetch_add(1, Ordering::Relaxed);
        let record = Record {
            id: format!("eg_{number:x}"),
            room: room.id.0,
            slug: room.slug.clone(),
            created_at_ms: unix_ms_now(),
            next_number: plan.len() + 1,
            destinations: Vec::new(),
            idempotency,
        };
        let source = shared.open_source(&room).await?;
        let job = self.launch(&room, &record, plan, source, true)?;
        if !self.persist(room.id, &job.id).await {
            self.end(room.id, &job.id).await;
            return Err(StartError::Store);
        }
        Ok(Started {
            job,
            replayed: false,
        })
    }

    /// Waits until the jobs of the last run are there, so that nobody is told that they are not.
    pub(crate) async fn resumed(&self) {
        let _ = timeout(STOP_LIMIT, self.shared.resumed.cancelled()).await;
    }

    /// Starts the jobs that the last run of the server left.
    async fn resume(&self) {
        let ended = self.shared.leftovers.end_all();
        if ended > 0 {
            tracing::warn!(
                workers = ended,
                "egress workers of an earlier run were ended"
            );
        }
        let loaded = self.shared.lock_store().load();
        let (records, unreadable) = match loaded {
            Ok(loaded) => loaded,
            Err(e) => {
                tracing::error!(error = %e, "egress jobs of the last run cannot be read");
                return;
            }
        };
        for file in unreadable {
            tracing::error!(
                file,
                "egress job cannot be read: it was written with another key, or is damaged"
            );
        }
        for record in records {
            if let Err(e) = self.resume_one(&record).await {
                tracing::error!(id = %record.id, room = %record.slug, error = %e, "egress job cannot be resumed");
            }
        }
        let library = self.shared.desk.library.clone();
        let written = self.shared.recordings();
        let _ = tokio::task::spawn_blocking(move || library.end_all_but(&written)).await;
    }

    async fn resume_one(&self, record: &Record) -> Result<(), StartError> {
        let room = Room {
            id: RoomId(record.room),
            slug: record.slug.clone(),
        };
        let mut plan = Vec::new();
        for destination in &record.destinations {
            let number = destination.number;
            // What was allowed then may not be now.
            let accepted =
                destination::accept(&destination.requested, &room.slug, &self.shared.config)
                    .map_err(|reason| StartError::Destination { number, reason })?;
            plan.push(Planned {
                number,
                requested: destination.requested.clone(),
                accepted,
                proved: destination.proved,
            });
        }
        let source = self.shared.open_source(&room).await?;
        self.launch(&room, record, plan, source, false)?;
        tracing::info!(id = %record.id, room = %record.slug, "egress job resumed");
        Ok(())
    }

    /// Admits and starts a job. Waits for nothing: admission and insertion are one step.
    fn launch(
        &self,
        room: &Room,
        record: &Record,
        plan: Vec<Planned>,
        source: Box<dyn Source>,
        is_new: bool,
    ) -> Result<status::Job, StartError> {
        let shared = &self.shared;
        let mut rooms = shared.lock();
        if shared.cancel.is_cancelled() {
            return Err(StartError::Stopping);
        }
        if is_new {
            let free = shared.free(&rooms, room.id);
            if !admission::fits(&free, plan.len()) {
                return Err(StartError::Capacity(free));
            }
        }
        let hls = plan.iter().any(|p| p.accepted.kind == DestinationType::Hls);
        let jobs = rooms
            .entry(room.id)
            .or_insert_with(|| Jobs::new(room.clone()));
        if hls && jobs.serves_hls() {
            return Err(StartError::HlsActive);
        }
        jobs.room = room.clone();
        jobs.dirty = true;
        let origin = hls.then(|| shared.new_origin());
        let (status, watched) = watch::channel(first_status(room, record, &plan));
        let (orders, ordered) = mpsc::channel(ORDER_LIMIT);
        let end = shared.cancel.child_token();
        let supervisor = Supervisor {
            id: record.id.clone(),
            room: room.clone(),
            created_at_ms: record.created_at_ms,
            seed: shared.next_job.fetch_add(1, Ordering::Relaxed),
            config: shared.config.clone(),
            worker_program: shared.worker_program.clone(),
            planned: plan.clone(),
            orders: ordered,
            leftovers: shared.leftovers.clone(),
            origin: origin.clone(),
            library: shared.desk.library.clone(),
            status,
            end: end.clone(),
        };
        let span = tracing::info_span!("job", id = %record.id, room = %room.slug);
        shared
            .tasks
            .spawn(supervisor.run(source).instrument(span.clone()));
        let on_change = self
            .clone()
            .follow(room.id, record.id.clone(), watched.clone());
        shared.tasks.spawn(on_change.instrument(span));
        let job = watched.borrow().clone();
        jobs.jobs
            .push(Entry::new(record, plan, watched, end, orders, origin));
        drop(rooms);
        shared.changed.notify_one();
        Ok(job)
    }

    /// Changes a job's destinations: all of it happens, or nothing.
    pub(crate) async fn change(
        &self,
        room: &Room,
        id: &str,
        change: &status::Change,
    ) -> Result<status::Job, StartError> {
        let (places, orders) = self.shared.plan_change(room, id, change)?;
        for (place, order) in places.into_iter().zip(orders) {
            place.send(order);
        }
        self.persist(room.id, id).await;
        self.shared.changed.notify_one();
        let gone = |job: &status::Job| {
            let mut left = job.destinations.iter();
            is_over(job.state) || !left.any(|d| change.remove.contains(&d.id))
        };
        let status = self.shared.lock().get(&room.id).and_then(|jobs| {
            let entry = jobs.find(id)?;
            Some(entry.status.clone())
        });
        let mut status = status.ok_or(StartError::UnknownJob)?;
        // Added ones are shown with the next change.
        let _ = timeout(CHANGE_LIMIT, status.wait_for(gone)).await;
        let job = status.borrow().clone();
        Ok(job)
    }

    /// Sends a destination to another address or with another key; what is not given stays. It gets a new id.
    pub(crate) async fn readdress(
        &self,
        room: &Room,
        id: &str,
        destination: &str,
        change: status::DestinationChange,
    ) -> Result<status::Job, StartError> {
        let requested = {
            let rooms = self.shared.lock();
            let entry = rooms.get(&room.id).and_then(|jobs| jobs.find(id));
            let entry = entry.ok_or(StartError::UnknownJob)?;
            let planned = entry.planned(destination);
            planned
                .ok_or_else(|| StartError::UnknownDestination(destination.to_owned()))?
                .requested
                .clone()
        };
        let mut whole = status::Change::default();
        match change.apply(requested) {
            Some(changed) => {
                whole.add.push(changed);
                whole.remove.push(destination.to_owned());
            }
            None => whole.retry.push(destination.to_owned()),
        }
        self.change(room, id, &whole).await
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
            let mut rooms = self.shared.lock();
            let entry = rooms.get_mut(&room)?.find_mut(id)?;
            entry.ending = true;
            entry.end.cancel();
            entry.status.clone()
        };
        // A server that dies from here on does not take it up again.
        self.persist(room, id).await;
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

    /// Marks the room when the job's state has changed, and keeps its record.
    async fn follow(self, room: RoomId, id: String, mut status: watch::Receiver<status::Job>) {
        loop {
            let changed = status.changed().await;
            let mut proved = false;
            if let Some(jobs) = self.shared.lock().get_mut(&room) {
                jobs.dirty = true;
                proved = jobs.find_mut(&id).is_some_and(Entry::note_proved);
            }
            self.shared.changed.notify_one();
            let over = changed.is_err() || is_over(status.borrow().state);
            // What the server's own end has ended goes on at the next start.
            if proved || (over && !self.shared.cancel.is_cancelled()) {
                self.persist(room, &id).await;
            }
            if changed.is_err() {
                return;
            }
        }
    }

    /// Writes the job's record, or removes that of one which is not to go on. Returns whether that succeeded.
    async fn persist(&self, room: RoomId, id: &str) -> bool {
        let (shared, id) = (self.shared.clone(), id.to_owned());
        let written = tokio::task::spawn_blocking(move || shared.persist(room, &id)).await;
        match written {
            Ok(Ok(())) => true,
            Ok(Err(e)) => {
                tracing::error!(error = %e, "egress job cannot be written to the data folder");
                false
            }
            Err(_) => false,
        }
    }
}

impl Shared {
    async fn open_source(&self, room: &Room) -> Result<Box<dyn Source>, StartError> {
        let source = self.sources.open(room.id).await;
        source.ok_or(StartError::Stopping)
    }

    /// Returns the job that the same request has started before.
    fn replay(
        &self,
        room: &Room,
        key: &str,
        fingerprint: &[u8],
    ) -> Result<Option<status::Job>, StartError> {
        let rooms = self.lock();
        let jobs = rooms.get(&room.id).into_iter().flat_map(|jobs| &jobs.jobs);
        for entry in jobs {
            if let Some((used, of)) = &entry.idempotency
                && used == key
            {
                if of != fingerprint {
                    return Err(StartError::KeyReused);
                }
                return Ok(Some(entry.status.borrow().clone()));
            }
        }
        Ok(None)
    }

    /// Checks destinations that are to join `present` ones, and numbers them from `first` on.
    fn plan(
        &self,
        room: &Room,
        requested: &[Destination],
        present: &[Planned],
        first: usize,
    ) -> Result<Vec<Planned>, StartError> {
        let limit = self.config.max_destinations;
        if present.len() + requested.len() > limit {
            return Err(StartError::TooManyDestinations(limit));
        }
        let mut plan: Vec<Planned> = Vec::new();
        for (requested, place) in requested.iter().zip(1..) {
            let accepted =
                destination::accept(requested, &room.slug, &self.config).map_err(|reason| {
                    StartError::Destination {
                        number: place,
                        reason,
                    }
                })?;
            let mut others = present.iter().chain(&plan);
            if others.any(|other| other.accepted.target == accepted.target) {
                return Err(match accepted.kind {
                    DestinationType::Hls => StartError::HlsActive,
                    DestinationType::Rtmp | DestinationType::Recording => {
                        StartError::Duplicate(place)
                    }
                });
            }
            plan.push(Planned {
                number: first + plan.len(),
                requested: requested.clone(),
                accepted,
                proved: false,
            });
        }
        Ok(plan)
    }

    fn check_disk(&self, plan: &[Planned]) -> Result<(), StartError> {
        let recording = |planned: &Planned| planned.accepted.kind == DestinationType::Recording;
        if plan.iter().any(recording) && !self.desk.library.has_room() {
            return Err(StartError::DiskFull);
        }
        Ok(())
    }

    /// Checks a change, takes it over into the plan, and returns the orders that carry it out, each with its
    /// place in the queue.
    fn plan_change(
        &self,
        room: &Room,
        id: &str,
        change: &status::Change,
    ) -> Result<(Vec<mpsc::OwnedPermit<Order>>, Vec<Order>), StartError> {
        let mut rooms = self.lock();
        let jobs = rooms.get_mut(&room.id).ok_or(StartError::UnknownJob)?;
        let entry = jobs.find(id).ok_or(StartError::UnknownJob)?;
        if entry.is_ending() {
            return Err(StartError::Over);
        }
        let number = |id: &String| match entry.planned(id) {
            Some(planned) => Ok(planned.number),
            None => Err(StartError::UnknownDestination(id.clone())),
        };
        let removed = change.remove.iter().map(number);
        let removed = removed.collect::<Result<Vec<_>, _>>()?;
        let retried = change.retry.iter().map(number);
        let retried = retried.collect::<Result<Vec<_>, _>>()?;
        let mut plan = entry.plan.clone();
        plan.retain(|planned| !removed.contains(&planned.number));
        let added = self.plan(room, &change.add, &plan, entry.next_number)?;
        self.check_disk(&added)?;
        let is_hls = |planned: &Planned| planned.accepted.kind == DestinationType::Hls;
        let with_hls = added.iter().any(is_hls);
        let had_hls = entry.plan.iter().any(is_hls) && plan.iter().all(|p| !is_hls(p));
        if with_hls && !had_hls && jobs.serves_hls() {
            return Err(StartError::HlsActive);
        }
        plan.extend(added.iter().cloned());
        let mut orders = Vec::new();
        let origin = with_hls.then(|| self.new_origin());
        orders.extend(removed.into_iter().map(Order::Remove));
        orders.extend(retried.into_iter().map(Order::Retry));
        for planned in &added {
            let origin = origin.clone().filter(|_| is_hls(planned));
            orders.push(Order::Add(planned.clone(), origin));
        }
        let entry = jobs.find_mut(id).ok_or(StartError::UnknownJob)?;
        let place = |_: &Order| entry.orders.clone().try_reserve_owned();
        let places = orders.iter().map(place).collect::<Result<Vec<_>, _>>();
        let places = places.map_err(|_| StartError::Over)?;
        entry.next_number += added.len();
        entry.origin = origin.or(entry.origin.take());
        entry.ending = plan.is_empty();
        if plan.is_empty() {
            entry.end.cancel();
        }
        entry.plan = plan;
        jobs.dirty = true;
        Ok((places, orders))
    }

    fn persist(&self, room: RoomId, id: &str) -> io::Result<()> {
        let store = self.lock_store();
        let record = self.lock().get(&room).and_then(|jobs| {
            let entry = jobs.find(id)?;
            (!entry.ending && !entry.is_over()).then(|| entry.record(&jobs.room))
        });
        match record {
            Some(record) => store.save(&record),
            None => store.remove(id),
        }
    }

    fn new_origin(&self) -> Arc<Origin> {
        Arc::new(Origin::new(&self.config.hls, unix_ms_now() / 1000))
    }

    fn free(&self, rooms: &HashMap<RoomId, Jobs>, room: RoomId) -> Free {
        let jobs = rooms.iter().flat_map(|(id, jobs)| {
            let in_same_room = *id == room;
            jobs.jobs.iter().map(move |entry| entry.load(in_same_room))
        });
        admission::free(&self.config, self.cores, &jobs.collect::<Vec<_>>())
    }

    /// Returns the ids of the recordings that jobs write.
    fn recordings(&self) -> Vec<String> {
        let rooms = self.lock();
        let jobs = rooms.values().flat_map(|jobs| &jobs.jobs);
        let recordings = jobs.filter(|entry| !entry.is_over()).flat_map(|entry| {
            let numbers = entry.recordings();
            numbers.map(|number| Library::id(&entry.id, number))
        });
        recordings.collect()
    }

    /// Ends all recordings when they have become too large together.
    fn keep_quota(&self) {
        if !self.desk.library.is_over_quota() {
            return;
        }
        let rooms = self.lock();
        for entry in rooms.values().flat_map(|jobs| &jobs.jobs) {
            for number in entry.recordings().filter(|_| !entry.is_ending()) {
                let failure = Failure {
                    code: FailureCode::DiskFull,
                    message: "Recordings have reached the limit that the operator has set. What was recorded \
                              until now is kept."
                        .to_owned(),
                };
                // Asked again with the next sweep when the queue is full.
                let _ = entry.orders.try_send(Order::Fail(number, failure));
            }
        }
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

    fn lock_store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn first_status(room: &Room, record: &Record, plan: &[Planned]) -> status::Job {
    let destinations = plan.iter().map(|planned| status::DestinationStatus {
        id: journal::id(planned.number),
        r#type: planned.accepted.kind,
        url: planned.accepted.shown_url.clone(),
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
        created_at_ms: record.created_at_ms,
        receiving: false,
        restarts: 0,
        worker_pid: None,
        cpu_percent: 0.0,
        destinations: destinations.collect(),
    }
}

const EVENT_LIMIT: usize = 64;
const EVENT_INTERVAL: Duration = Duration::from_millis(500);
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Above the time that a destination has for its goodbye.
const CHANGE_LIMIT: Duration = Duration::from_secs(5);
