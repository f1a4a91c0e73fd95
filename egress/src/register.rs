//! All jobs of the server, and the checks and the reckoning before one is started or changed.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Instant,
};

use sfu::{Codec, RoomId};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admission::{self, Load, Work},
    album::{Album, Albums},
    config::Config,
    destination,
    hls::Shelf,
    jobs::Jobs,
    journal,
    leftover::Leftovers,
    link::Failure,
    origin::{Numbers, Origin},
    overload::Overload,
    recording::{Desk, Library},
    refusal::StartError,
    scene::Scene,
    service::{Changed, Room},
    signed::Signer,
    source::{Source, Sources},
    status::{self, Destination, DestinationState, DestinationType, FailureCode},
    store::Store,
    supervisor::{Order, Planned},
    thumbnail::Thumbnails,
    wall_clock::unix_ms_now,
};

/// All jobs of the server, and what they are made of.
#[derive(Debug)]
pub(crate) struct Register {
    pub(crate) config: Config,
    pub(crate) sources: Arc<dyn Sources>,
    pub(crate) worker_program: PathBuf,
    /// Has a folder of images for each room, by its id.
    pub(crate) images: PathBuf,
    pub(crate) rooms: Mutex<HashMap<RoomId, Jobs>>,
    /// How the stages look, of rooms that have been heard of.
    pub(crate) scenes: Mutex<HashMap<RoomId, watch::Sender<Scene>>>,
    pub(crate) next_job: AtomicU64,
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
    /// Cancelled once the jobs of the last run are taken up.
    pub(crate) resumed: CancellationToken,
    /// What goes on after a restart. Locked before the rooms, and while a record is written, so that the last
    /// one written is the newest.
    pub(crate) store: Mutex<Store>,
    pub(crate) leftovers: Leftovers,
    pub(crate) desk: Desk,
    pub(crate) albums: Albums,
    pub(crate) thumbnails: Thumbnails,
    /// Where old HLS segments are kept while their job runs.
    pub(crate) rewind_folder: PathBuf,
    pub(crate) signer: Signer,
    /// Held while a request with an idempotency key is answered, so that its twin finds the job.
    pub(crate) keyed: tokio::sync::Mutex<()>,
    pub(crate) cores: usize,
    /// Which types and states of destinations have been counted.
    pub(crate) gauged: Mutex<Vec<(DestinationType, DestinationState)>>,
    pub(crate) changed: Notify,
    /// At most [`EVENT_LIMIT`] wait. When full, the room stays marked and is told of later.
    pub(crate) events: Mutex<Option<mpsc::Sender<Changed>>>,
}

impl Register {
    pub(crate) async fn open_source(
        &self,
        room: &Room,
        source: &status::Source,
    ) -> Result<Box<dyn Source>, StartError> {
        let source = self.sources.open(room.id, source).await;
        source.ok_or(StartError::Stopping)
    }

    /// Returns the job that the same request has started before.
    pub(crate) fn replay(
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
    pub(crate) fn plan(
        &self,
        room: &Room,
        requested: &[Destination],
        present: &[Planned],
        first: usize,
        trusted: bool,
    ) -> Result<Vec<Planned>, StartError> {
        let limit = self.config.max_destinations;
        if present.len() + requested.len() > limit {
            return Err(StartError::TooManyDestinations(limit));
        }
        let mut plan: Vec<Planned> = Vec::new();
        for (requested, place) in requested.iter().zip(1..) {
            let accepted = destination::accept(requested, &room.slug, &self.config, trusted)
                .map_err(|reason| StartError::Destination {
                    number: place,
                    reason,
                })?;
            let mut others = present.iter().chain(&plan);
            let is_twin = |other: &Planned| {
                let (this, that) = (&accepted.target, &other.accepted.target);
                this == that || this.collides(that)
            };
            if others.any(is_twin) {
                return Err(match accepted.kind {
                    DestinationType::Hls => StartError::HlsActive,
                    DestinationType::Rtmp
                    | DestinationType::Srt
                    | DestinationType::Recording
                    | DestinationType::Thumbnails => StartError::Duplicate(place),
                });
            }
            plan.push(Planned {
                number: first + plan.len(),
                requested: requested.clone(),
                accepted,
                trusted,
                proved: false,
            });
        }
        Ok(plan)
    }

    /// Refuses what another job of the room sends already. `job` is the one that is started or changed.
    pub(crate) fn check_elsewhere<'a>(
        jobs: &Jobs,
        job: &str,
        planned: impl IntoIterator<Item = &'a Planned>,
    ) -> Result<(), StartError> {
        let others = || jobs.jobs.iter().filter(|entry| entry.id != job);
        for (planned, number) in planned.into_iter().zip(1..) {
            let target = &planned.accepted.target;
            if let Some(other) = others().find(|entry| entry.sends_to(target)) {
                return Err(StartError::SentElsewhere {
                    number,
                    job: other.id.clone(),
                });
            }
        }
        Ok(())
    }

    /// Refuses recordings for which there is no room. Asks the disk, which may take long.
    pub(crate) fn check_disk(&self, requested: &[Destination]) -> Result<(), StartError> {
        let is_recording = |requested: &Destination| matches!(requested, Destination::Recording(_));
        if requested.iter().any(is_recording) && !self.desk.library.has_room() {
            return Err(StartError::DiskFull);
        }
        Ok(())
    }

    /// Checks a change, takes it over into the plan, and returns the orders that carry it out, each with its
    /// place in the queue.
    pub(crate) fn plan_change(
        &self,
        room: &Room,
        id: &str,
        change: &status::Change,
        trusted: bool,
    ) -> Result<(Vec<mpsc::OwnedPermit<Order>>, Vec<Order>), StartError> {
        self.check_disk(&change.add)?;
        let mut rooms = self.lock();
        let loads = self.loads(&rooms, room.id);
        let jobs = rooms.get_mut(&room.id).ok_or(StartError::UnknownJob)?;
        let entry = jobs.find(id).ok_or(StartError::UnknownJob)?;
        if entry.is_ending() {
            return Err(StartError::Over);
        }
        let wish = entry.wish.changed(change)?;
        let number = |id: &String| match entry.planned(id) {
            Some(planned) => Ok(planned.number),
            None => Err(StartError::UnknownDestination(id.clone())),
        };
        let removed = change.remove.iter().map(number);
        let removed = removed.collect::<Result<BTreeSet<_>, _>>()?;
        let retried = change.retry.iter().map(number);
        // Each once, however often it is named.
        let retried = retried.collect::<Result<BTreeSet<_>, _>>()?;
        let mut plan = entry.plan.clone();
        plan.retain(|planned| !removed.contains(&planned.number));
        let added = self.plan(room, &change.add, &plan, entry.next_number, trusted)?;
        entry.wish.check_thumbnails(&added)?;
        Self::check_elsewhere(jobs, id, &added)?;
        let again = plan.iter().filter(|p| retried.contains(&p.number));
        Self::check_elsewhere(jobs, id, again)?;
        let is_hls = |planned: &Planned| planned.accepted.kind == DestinationType::Hls;
        let with_hls = added.iter().any(is_hls);
        let had_hls = entry.plan.iter().any(is_hls) && plan.iter().all(|p| !is_hls(p));
        if with_hls && !had_hls && jobs.serves_hls() {
            return Err(StartError::HlsActive);
        }
        plan.extend(added.iter().cloned());
        let mode = wish.as_ref().unwrap_or(&entry.wish).mode();
        let mode = mode.ok_or(StartError::Preset)?;
        let work = Work::of(mode, entry.wish.audio_only, &plan, entry.broadcast());
        self.check_growth(&entry.work(), &work, &loads)?;
        let count = removed.len() + retried.len() + added.len() + usize::from(wish.is_some());
        let place = |_| entry.orders.clone().try_reserve_owned();
        let places = (0..count).map(place).collect::<Result<Vec<_>, _>>();
        let places = places.map_err(|_| StartError::Over)?;
        let mut orders = Vec::new();
        let private = added.iter().any(|planned| planned.accepted.needs_token);
        let going_on = entry.origin.as_ref().filter(|origin| {
            // Whoever was let in by a token sees nothing of a public one, and the other way round.
            had_hls && !origin.has_ended() && origin.is_private() == private
        });
        let origin = with_hls.then(|| match going_on {
            Some(origin) => origin.clone(),
            None => self.new_origin(id, &added, jobs.end_playlists()),
        });
        orders.extend(removed.into_iter().map(Order::Remove));
        orders.extend(retried.into_iter().map(Order::Retry));
        for planned in &added {
            let origin = origin.clone().filter(|_| is_hls(planned));
            orders.push(Order::Add(Box::new(planned.clone()), origin));
        }
        if let Some(wish) = &wish {
            orders.push(Order::Show(wish.clone()));
        }
        let entry = jobs.find_mut(id).ok_or(StartError::UnknownJob)?;
        entry.next_number += added.len();
        entry.origin = origin.or(entry.origin.take());
        entry.ending = plan.is_empty();
        if plan.is_empty() {
            entry.end.cancel();
        }
        entry.plan = plan;
        entry.wish = wish.unwrap_or(entry.wish.clone());
        jobs.dirty = true;
        Ok((places, orders))
    }

    pub(crate) fn persist(&self, room: RoomId, id: &str) -> io::Result<()> {
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

    /// Returns an empty origin for the HLS destination among `planned` ones of this job, which begins where the room's
    /// last one ended.
    pub(crate) fn new_origin(
        &self,
        id: &str,
        planned: &[Planned],
        last: Option<Numbers>,
    ) -> Arc<Origin> {
        let config = &self.config.hls;
        let now = unix_ms_now();
        let shelf = (config.dvr_seconds > 0).then(|| {
            let folder = self.rewind_folder.join(format!("{id}-{now}"));
            Shelf::open(folder, config.dvr_max_mb << 20)
        });
        let private = planned.iter().any(|planned| planned.accepted.needs_token);
        let first = last.unwrap_or(Numbers::at(now / 1000));
        Arc::new(Origin::new(config, first, private, shelf))
    }

    /// Returns what all jobs take of the machine, as seen from a room.
    pub(crate) fn loads(&self, rooms: &HashMap<RoomId, Jobs>, room: RoomId) -> Vec<Load> {
        let jobs = rooms.iter().flat_map(|(id, jobs)| {
            let in_same_room = *id == room;
            jobs.jobs.iter().map(move |entry| entry.load(in_same_room))
        });
        jobs.collect()
    }

    /// Checks that a new job fits. `may_pass` says whether it could pass the picture through.
    pub(crate) fn admit(
        &self,
        work: &Work,
        loads: &[Load],
        may_pass: bool,
    ) -> Result<(), StartError> {
        let free = admission::free(&self.config, self.cores, loads);
        let checked = admission::check(work, None, free, loads, may_pass);
        checked.map_err(StartError::Capacity)
    }

    /// Checks that a job still fits when it is to do `next` instead of what it does.
    fn check_growth(&self, current: &Work, next: &Work, loads: &[Load]) -> Result<(), StartError> {
        let free = admission::free(&self.config, self.cores, loads);
        let checked = admission::check(next, Some(current), free, loads, false);
        checked.map_err(StartError::Capacity)
    }

    /// Returns whether what a room sends has to be transcoded to be passed through, as far as it is known.
    pub(crate) async fn is_foreign(&self, room: RoomId) -> bool {
        let snapshot = self.sources.snapshot(room, None).await;
        snapshot.is_some_and(|snapshot| snapshot.codec != Codec::H264)
    }

    /// Takes back what there is too much of, or gives it back.
    pub(crate) fn balance(&self, overload: &mut Overload, now: Instant) {
        let rooms = self.lock();
        let entries = rooms
            .iter()
            .flat_map(|(room, jobs)| jobs.jobs.iter().map(move |entry| (room, entry)));
        let mut entries: Vec<_> = entries.filter(|(_, entry)| !entry.is_ending()).collect();
        entries.sort_by_key(|(_, entry)| (entry.created_at_ms, &entry.id));
        let loads = self.loads(&rooms, RoomId(0));
        let running = entries.iter().map(|(room, entry)| {
            // One that is paused sees nothing of what comes in. Perhaps another one does.
            let mut others = entries.iter().filter(|(of, _)| of == room);
            let seen = others.find_map(|(_, other)| other.seen_for(entry));
            entry.running(&loads, seen)
        });
        let running: Vec<_> = running.collect();
        let limit = admission::percent(admission::limit_percent(&self.config, self.cores));
        if let Some((at, level)) = overload.look(&running, limit, now)
            && let Some((_, entry)) = entries.get(at)
        {
            entry.level.send_replace(level);
        }
    }

    /// Returns the ids of the recordings that jobs write.
    pub(crate) fn recordings(&self) -> Vec<String> {
        let rooms = self.lock();
        let jobs = rooms.values().flat_map(|jobs| &jobs.jobs);
        let recordings = jobs.filter(|entry| !entry.is_over()).flat_map(|entry| {
            let numbers = entry.recordings();
            numbers.map(|number| Library::id(&entry.id, number))
        });
        recordings.collect()
    }

    /// Returns the pictures of a job's destination; `None` when none was taken yet.
    pub(crate) fn album(
        &self,
        room: RoomId,
        job: &str,
        destination: &str,
    ) -> Result<Option<Arc<Album>>, StartError> {
        let rooms = self.lock();
        let entry = rooms.get(&room).and_then(|jobs| jobs.find(job));
        let entry = entry.ok_or(StartError::UnknownJob)?;
        let album = journal::number(destination).and_then(|number| self.albums.find(job, number));
        let planned = entry.planned(destination);
        let is_one = |p: &Planned| p.accepted.kind == DestinationType::Thumbnails;
        if album.is_none() && !planned.is_some_and(is_one) {
            return Err(StartError::UnknownDestination(destination.to_owned()));
        }
        Ok(album)
    }

    /// Removes the pictures of jobs that are forgotten.
    pub(crate) fn forget_albums(&self) {
        let mut forgotten = self.albums.jobs();
        if forgotten.is_empty() {
            return;
        }
        let rooms = self.lock();
        forgotten.retain(|job| rooms.values().all(|jobs| jobs.find(job).is_none()));
        drop(rooms);
        for job in forgotten {
            let albums = self.albums.clone();
            self.tasks.spawn_blocking(move || albums.forget(&job));
        }
    }

    /// Ends all recordings when they have become too large together.
    pub(crate) fn keep_quota(&self) {
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
    pub(crate) fn sweep(&self, now: Instant) {
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
            jobs.tell();
        }
        rooms.retain(|_, jobs| jobs.dirty || jobs.is_followed() || !jobs.jobs.is_empty());
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, HashMap<RoomId, Jobs>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how the room's stage looks, from now on.
    pub(crate) fn scene(&self, room: RoomId) -> watch::Receiver<Scene> {
        let mut scenes = self.scenes.lock().unwrap_or_else(PoisonError::into_inner);
        scenes.entry(room).or_default().subscribe()
    }

    pub(crate) fn lock_store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
