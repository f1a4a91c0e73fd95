//! All jobs of the server.

mod launch;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant},
};

use axum::Router;
use sfu::RoomId;
use thiserror::Error;
use tokio::{
    runtime::Handle,
    sync::{Notify, broadcast, mpsc, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::info;

use crate::{
    album::{Album, Albums},
    api,
    config::{Config, ConfigError},
    hls,
    jobs::{Entry, Jobs, is_over},
    leftover::Leftovers,
    meters,
    origin::Origin,
    overload::Overload,
    recording::{self, Desk, Library, Remote, Uploader},
    refusal::StartError,
    register::Register,
    scene::Scene,
    signed::Signer,
    source::Sources,
    status::{self, DestinationState, DestinationType, JobState, RecordingState},
    still::Stills,
    store::Store,
    thumbnail::{self, Thumbnails},
    wall_clock::unix_ms_now,
};

/// A room as egress knows it. The app puts it into a request's extensions once the caller's grant is checked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Room {
    /// Whose programme is sent.
    pub id: RoomId,
    /// Its name in URLs.
    pub slug: String,
}

/// Who asks for outputs. The app puts it into a request's extensions, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Whether they may send to loopback and private addresses whatever the config says: the server's owner.
    pub trusted: bool,
    /// Until when they may, Unix seconds; without it, for as long as they stay.
    pub until_unix_s: Option<u64>,
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
    register: Arc<Register>,
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
        meters::describe();
        let folder = data_dir.join("egress");
        let store = Mutex::new(Store::open(&folder)?);
        let signer = Signer::open(&folder)?;
        // What an earlier run has left is in no playlist.
        let rewind_folder = folder.join("rewind");
        match std::fs::remove_dir_all(&rewind_folder) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
            Ok(()) | Err(_) => {}
        }
        let stills = Stills::start(worker_program.clone());
        let recordings = config.recording.folder.clone();
        let recordings = recordings.unwrap_or_else(|| data_dir.join("recordings"));
        let s3 = config.recording.s3.as_ref();
        let remote = s3.map(|s3| Remote::open(s3, &config)).transpose()?;
        if let Some(s3) = s3 {
            info!(
                bucket = s3.bucket,
                prefix = s3.prefix,
                "recordings go to S3 storage"
            );
        }
        let desk = Desk {
            remote,
            library: Library::open(recordings, &config.recording, stills.clone())?,
            signer: signer.clone(),
            link_ms: config.recording.link_hours * 3_600_000,
        };
        let min_free_bytes = config.recording.min_free_mb << 20;
        let albums = Albums::open(folder.join("thumbnails"), min_free_bytes, stills.clone());
        let seconds = config.thumbnail_seconds;
        Ok(Self {
            register: Arc::new(Register {
                config,
                sources: Arc::new(sources),
                worker_program,
                // Workers have another working folder.
                images: std::path::absolute(data_dir)?.join("images"),
                rooms: Mutex::default(),
                scenes: Mutex::default(),
                // Ids of different runs of the server differ.
                next_job: AtomicU64::new(unix_ms_now()),
                tasks: TaskTracker::new(),
                cancel: CancellationToken::new(),
                resumed: CancellationToken::new(),
                store,
                rewind_folder,
                signer,
                leftovers: Leftovers::open(folder.join("workers"))?,
                desk,
                albums,
                thumbnails: Thumbnails::new(seconds, stills),
                keyed: tokio::sync::Mutex::default(),
                cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
                changed: Notify::new(),
                events: Mutex::default(),
                gauged: Mutex::default(),
            }),
        })
    }

    /// Returns the routes under `/api/rooms/{room}/egress` and `/api/rooms/{room}/recordings`. Each needs a
    /// [`Room`] among the request's extensions.
    pub fn api_routes(&self) -> Router {
        api::job_routes(self.clone()).merge(recording::routes(self.register.desk.clone()))
    }

    /// Returns the routes under `/recordings`, where links to files lead. They are public.
    pub fn recording_routes(&self) -> Router {
        recording::file_routes(self.register.desk.clone())
    }

    /// Returns the route of a live room's picture, `/api/rooms/{room}/thumbnail.jpg`. It needs a [`Room`] among the
    /// request's extensions if there is such a room.
    pub fn thumbnail_routes(&self) -> Router {
        thumbnail::routes(self.register.clone())
    }

    /// Waits for recordings to become ready, and returns them. Cancel safe.
    pub async fn recordings_ready(&self) -> Vec<RecordingReady> {
        let desk = &self.register.desk;
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
    pub fn recording_totals(&self) -> ([(RecordingState, u64); 5], u64) {
        self.register.desk.library.totals()
    }

    /// Returns the routes under `/hls/{room}`. They are public, but for tokens of their own.
    pub fn hls_routes(&self) -> Router {
        hls::routes(self.clone())
    }

    /// Returns the stream of changes, at most two a second of each room, the latest winning. Replaces the
    /// stream that was returned before.
    pub fn events(&self) -> mpsc::Receiver<Changed> {
        let (sender, receiver) = mpsc::channel(EVENT_LIMIT);
        let mut events = self
            .register
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
        self.register.resumed.cancel();
        self.upload();
        let mut overload = Overload::default();
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.register.changed.notified() => {}
                () = sleep(SWEEP_INTERVAL) => {}
            }
            let now = Instant::now();
            self.register.keep_quota();
            self.register.thumbnails.forget_old(now);
            self.register.sweep(now);
            self.register.forget_albums();
            self.register.balance(&mut overload, now);
            tokio::select! {
                () = cancel.cancelled() => break,
                () = sleep(EVENT_INTERVAL) => {}
            }
        }
        self.register.desk.library.stop();
        self.register.cancel.cancel();
        self.register.tasks.close();
        if timeout(STOP_LIMIT, self.register.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("egress jobs did not end in time");
        }
        self.register.sweep(Instant::now());
    }

    /// Starts to bring recordings to the storage, if there is one.
    fn upload(&self) {
        let register = &self.register;
        let s3 = register.config.recording.s3.as_ref();
        if let (Some(remote), Some(s3)) = (register.desk.remote.clone(), s3) {
            let uploader = Uploader::new(register.desk.library.clone(), remote, s3.keep_local);
            let uploading = uploader.run(register.cancel.child_token());
            // It waits for the disk, too: on a thread of its own.
            let runtime = Handle::current();
            register
                .tasks
                .spawn_blocking(move || runtime.block_on(uploading));
        }
    }

    /// Takes in how the room's stage looks. Jobs that compose it follow at once.
    pub fn stage_changed(&self, room: RoomId, scene: Scene) {
        let mut scenes = self
            .register
            .scenes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let stage = scenes.entry(room).or_default();
        // What is as if it had never been heard of is forgotten.
        if scene == Scene::default() && stage.receiver_count() == 0 {
            scenes.remove(&room);
            return;
        }
        stage.send_if_modified(|current| {
            let changed = *current != scene;
            *current = scene;
            changed
        });
    }

    /// Counts the destinations of jobs that are not over. What was counted once is counted on, down to 0.
    pub fn gauges(&self) -> Vec<(DestinationType, DestinationState, u64)> {
        let gauged = &self.register.gauged;
        let mut gauged = gauged.lock().unwrap_or_else(PoisonError::into_inner);
        let known = gauged.iter().map(|(kind, state)| (*kind, *state, 0));
        let mut counts: Vec<_> = known.collect();
        let rooms = self.register.lock();
        for entry in rooms.values().flat_map(|jobs| &jobs.jobs) {
            let job = entry.status.borrow();
            if is_over(job.state) {
                continue;
            }
            for destination in &job.destinations {
                let key = (destination.r#type, destination.state);
                match counts.iter_mut().find(|(t, s, _)| (*t, *s) == key) {
                    Some((_, _, count)) => *count += 1,
                    None => {
                        gauged.push(key);
                        counts.push((key.0, key.1, 1));
                    }
                }
            }
        }
        counts
    }

    /// Waits until the server is about to stop.
    pub(crate) async fn stopping(&self) {
        self.register.cancel.cancelled().await;
    }

    /// Waits until the jobs of the last run are there, so that nobody is told that they are not.
    pub(crate) async fn resumed(&self) {
        let _ = timeout(STOP_LIMIT, self.register.resumed.cancelled()).await;
    }

    /// Changes a job's destinations: all of it happens, or nothing.
    pub(crate) async fn change(
        &self,
        room: &Room,
        id: &str,
        change: &status::Change,
        trusted: bool,
    ) -> Result<status::Job, StartError> {
        let (places, orders) = self.register.plan_change(room, id, change, trusted)?;
        for (place, order) in places.into_iter().zip(orders) {
            place.send(order);
        }
        self.persist(room.id, id).await;
        self.register.changed.notify_one();
        let gone = |job: &status::Job| {
            let mut left = job.destinations.iter();
            is_over(job.state) || !left.any(|d| change.remove.contains(&d.id))
        };
        let status = self.register.lock().get(&room.id).and_then(|jobs| {
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
        trusted: bool,
    ) -> Result<status::Job, StartError> {
        let requested = {
            let rooms = self.register.lock();
            let entry = rooms.get(&room.id).and_then(|jobs| jobs.find(id));
            let entry = entry.ok_or(StartError::UnknownJob)?;
            let planned = entry.planned(destination);
            planned
                .ok_or_else(|| StartError::UnknownDestination(destination.to_owned()))?
                .requested
                .clone()
        };
        let mut whole = status::Change::default();
        if change.is_empty() {
            whole.retry.push(destination.to_owned());
        } else {
            let changed = change.apply(requested).ok_or(StartError::NoAddress)?;
            whole.add.push(changed);
            whole.remove.push(destination.to_owned());
        }
        self.change(room, id, &whole, trusted).await
    }

    /// Returns the room's jobs as they change, at most twice a second, the latest winning; first as they are.
    pub(crate) fn follow_room(&self, room: &Room) -> watch::Receiver<status::JobList> {
        let mut rooms = self.register.lock();
        let jobs = rooms
            .entry(room.id)
            .or_insert_with(|| Jobs::new(room.clone()));
        jobs.tell();
        let mut told = jobs.follow();
        told.mark_changed();
        told
    }

    /// Returns the recordings that become ready from here on, of all rooms.
    pub(crate) fn follow_recordings(&self) -> broadcast::Receiver<recording::Entry> {
        self.register.desk.library.follow()
    }

    /// Returns a recording as the API shows it.
    pub(crate) fn show_recording(&self, entry: &recording::Entry) -> status::Recording {
        self.register.desk.show(entry)
    }

    /// Returns the room's jobs: those that run first, then those that are over, the newest first.
    pub(crate) fn list(&self, room: RoomId) -> Vec<status::Job> {
        self.register
            .lock()
            .get(&room)
            .map(Jobs::list)
            .unwrap_or_default()
    }

    pub(crate) fn get(&self, room: RoomId, id: &str) -> Option<status::Job> {
        let rooms = self.register.lock();
        let entry = rooms.get(&room)?.find(id)?;
        Some(entry.status.borrow().clone())
    }

    /// Returns the pictures of a job's destination; `None` when none was taken yet.
    pub(crate) fn album(
        &self,
        room: RoomId,
        job: &str,
        destination: &str,
    ) -> Result<Option<Arc<Album>>, StartError> {
        self.register.album(room, job, destination)
    }

    /// Ends a job and waits until it is over, but not for ever; returns what it was. One that has failed is forgotten.
    pub(crate) async fn end(&self, room: RoomId, id: &str) -> Option<status::Job> {
        let mut status = {
            let mut rooms = self.register.lock();
            let entry = rooms.get_mut(&room)?.find_mut(id)?;
            entry.ending = true;
            entry.end.cancel();
            entry.status.clone()
        };
        // A server that dies from here on does not take it up again.
        self.persist(room, id).await;
        // A job that ends with the sender dropped is over as well. A worker that waits for a disk that hangs cannot even
        // be killed.
        let over = status.wait_for(|job| is_over(job.state));
        let _ = timeout(END_LIMIT, over).await;
        let job = status.borrow().clone();
        if job.state == JobState::Failed
            && let Some(jobs) = self.register.lock().get_mut(&room)
        {
            jobs.jobs.retain(|entry| entry.id != id);
            jobs.dirty = true;
            self.register.changed.notify_one();
        }
        Some(job)
    }

    pub(crate) fn signer(&self) -> &Signer {
        &self.register.signer
    }

    /// Returns the origin that serves the room with this slug.
    pub(crate) fn origin(&self, slug: &str) -> Option<Arc<Origin>> {
        let rooms = self.register.lock();
        let jobs = rooms.values().find(|jobs| jobs.room.slug == slug)?;
        let origins = jobs
            .jobs
            .iter()
            .rev()
            .filter_map(|entry| entry.origin.as_ref());
        // One that goes on comes before those that have ended.
        origins.min_by_key(|origin| origin.has_ended()).cloned()
    }

    /// Marks the room when the job's state has changed, and keeps its record.
    async fn follow(self, room: RoomId, id: String, mut status: watch::Receiver<status::Job>) {
        loop {
            let changed = status.changed().await;
            let mut proved = false;
            if let Some(jobs) = self.register.lock().get_mut(&room) {
                jobs.dirty = true;
                proved = jobs.find_mut(&id).is_some_and(Entry::note_proved);
            }
            self.register.changed.notify_one();
            let over = changed.is_err() || is_over(status.borrow().state);
            // What the server's own end has ended goes on at the next start.
            if proved || (over && !self.register.cancel.is_cancelled()) {
                self.persist(room, &id).await;
            }
            if changed.is_err() {
                return;
            }
        }
    }

    /// Writes the job's record, or removes that of one which is not to go on. Returns whether that succeeded.
    async fn persist(&self, room: RoomId, id: &str) -> bool {
        let (register, id) = (self.register.clone(), id.to_owned());
        let written = tokio::task::spawn_blocking(move || register.persist(room, &id)).await;
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

const EVENT_LIMIT: usize = 64;
const EVENT_INTERVAL: Duration = Duration::from_millis(500);
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
const STOP_LIMIT: Duration = Duration::from_secs(5);
/// Above the time that a worker has until it is killed.
const END_LIMIT: Duration = Duration::from_secs(15);
/// Above the time that a destination has for its goodbye.
const CHANGE_LIMIT: Duration = Duration::from_secs(5);
