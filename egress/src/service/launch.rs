//! How jobs start: new ones, and those that the last run of the server left.

use std::sync::atomic::Ordering;

use sfu::RoomId;
use tokio::sync::{mpsc, watch};
use tracing::Instrument as _;

use super::{Room, Service};
use crate::{
    admission::Work,
    destination,
    jobs::{Entry, Jobs, first_status},
    overload::Level,
    refusal::StartError,
    register::Register,
    source::Source,
    status::{self, DestinationType},
    store::Record,
    supervisor::{ORDER_LIMIT, Planned, Strain, Supervisor},
    wall_clock::unix_ms_now,
    wish::Wish,
};

/// A started job.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) job: status::Job,
    /// Whether an earlier request with the same idempotency key had started it.
    pub(crate) replayed: bool,
}

impl Service {
    /// Starts a job, or returns the one that an earlier request with the same idempotency key started.
    /// `idempotency` is the key and the request's fingerprint.
    pub(crate) async fn start(
        &self,
        room: Room,
        request: &status::Request,
        trusted: bool,
        idempotency: Option<(String, Vec<u8>)>,
    ) -> Result<Started, StartError> {
        let register = &self.register;
        let _keyed = match &idempotency {
            Some(_) => Some(register.keyed.lock().await),
            None => None,
        };
        if let Some((key, fingerprint)) = &idempotency
            && let Some(job) = register.replay(&room, key, fingerprint)?
        {
            return Ok(Started {
                job,
                replayed: true,
            });
        }
        if request.destinations.is_empty() {
            return Err(StartError::NoDestinations);
        }
        let wish = Wish::of(request)?;
        let plan = register.plan(&room, &request.destinations, &[], 1, trusted)?;
        register.check_disk(&request.destinations)?;
        wish.check_thumbnails(&plan)?;
        let number = register.next_job.fetch_add(1, Ordering::Relaxed);
        let record = Record {
            id: format!("eg_{number:x}"),
            room: room.id.0,
            slug: room.slug.clone(),
            created_at_ms: unix_ms_now(),
            next_number: plan.len() + 1,
            wish,
            destinations: Vec::new(),
            idempotency,
        };
        let source = register.open_source(&room, &record.wish.source).await?;
        let foreign = register.is_foreign(room.id).await;
        let job = self.launch(&room, &record, plan, source, Some(foreign))?;
        if !self.persist(room.id, &job.id).await {
            self.end(room.id, &job.id).await;
            return Err(StartError::Store);
        }
        Ok(Started {
            job,
            replayed: false,
        })
    }

    /// Starts the jobs that the last run of the server left.
    pub(super) async fn resume(&self) {
        let ended = self.register.leftovers.end_all();
        if ended > 0 {
            tracing::warn!(
                workers = ended,
                "egress workers of an earlier run were ended"
            );
        }
        let albums = &self.register.albums;
        let loaded = self.register.lock_store().load();
        let (records, unreadable) = match loaded {
            Ok(loaded) => loaded,
            Err(e) => {
                albums.jobs().iter().for_each(|job| albums.leave(job));
                tracing::error!(error = %e, "egress jobs of the last run cannot be read");
                return;
            }
        };
        for file in unreadable {
            albums.leave(file.trim_end_matches(".job"));
            tracing::error!(
                file,
                "egress job cannot be read: it was written with another key, or is damaged"
            );
        }
        for record in records {
            if let Err(e) = self.resume_one(&record).await {
                albums.leave(&record.id);
                tracing::error!(id = %record.id, room = %record.slug, error = %e, "egress job cannot be resumed");
            }
        }
        let library = self.register.desk.library.clone();
        let written = self.register.recordings();
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
            let config = &self.register.config;
            let trusted = destination.trusted;
            let accepted = destination::accept(&destination.requested, &room.slug, config, trusted);
            let accepted = match accepted {
                Ok(accepted) => accepted,
                Err(reason) => {
                    tracing::error!(id = %record.id, room = %room.slug, number, %reason, "egress destination is not resumed");
                    continue;
                }
            };
            plan.push(Planned {
                number,
                requested: destination.requested.clone(),
                accepted,
                trusted,
                proved: destination.proved,
            });
        }
        if plan.is_empty() {
            return Err(StartError::NoDestinations);
        }
        let source = self
            .register
            .open_source(&room, &record.wish.source)
            .await?;
        self.launch(&room, record, plan, source, None)?;
        tracing::info!(id = %record.id, room = %record.slug, "egress job resumed");
        Ok(())
    }

    /// Admits and starts a job. Waits for nothing: admission and insertion are one step. A `new` one is weighed,
    /// by whether what it passes through has to be transcoded.
    fn launch(
        &self,
        room: &Room,
        record: &Record,
        plan: Vec<Planned>,
        source: Box<dyn Source>,
        new: Option<bool>,
    ) -> Result<status::Job, StartError> {
        let register = &self.register;
        let mode = record.wish.mode().ok_or(StartError::Preset)?;
        let mut rooms = register.lock();
        if register.cancel.is_cancelled() {
            return Err(StartError::Stopping);
        }
        let stage = register.scene(room.id);
        if let Some(foreign) = new {
            let broadcast = stage.borrow().broadcast(foreign);
            let work = Work::of(mode, record.wish.audio_only, &plan, broadcast);
            let may_pass = !record.wish.is_stage();
            register.admit(&work, &register.loads(&rooms, room.id), may_pass)?;
        }
        if new.is_some()
            && let Some(jobs) = rooms.get(&room.id)
        {
            Register::check_elsewhere(jobs, &record.id, &plan)?;
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
        let origin = hls.then(|| register.new_origin(&record.id, &plan, jobs.end_playlists()));
        let (status, watched) = watch::channel(first_status(room, record, &plan, &register.config));
        let (orders, ordered) = mpsc::channel(ORDER_LIMIT);
        let (level, levels) = watch::channel(Level::Full);
        let (strain, strained) = watch::channel(Strain {
            foreign: new.unwrap_or_default(),
            ..Strain::default()
        });
        let end = register.cancel.child_token();
        let supervisor = Supervisor {
            id: record.id.clone(),
            room: room.clone(),
            created_at_ms: record.created_at_ms,
            seed: register.next_job.fetch_add(1, Ordering::Relaxed),
            config: register.config.clone(),
            worker_program: register.worker_program.clone(),
            images: register.images.join(room.id.0.to_string()),
            planned: plan.clone(),
            mode,
            wish: record.wish.clone(),
            stage: stage.clone(),
            level: levels,
            strain,
            orders: ordered,
            leftovers: register.leftovers.clone(),
            origin: origin.clone(),
            library: self.register.desk.library.clone(),
            albums: self.register.albums.clone(),
            sources: register.sources.clone(),
            status,
            end: end.clone(),
        };
        let span = tracing::info_span!("job", id = %record.id, room = %room.slug);
        register
            .tasks
            .spawn(supervisor.run(source).instrument(span.clone()));
        let on_change = self
            .clone()
            .follow(room.id, record.id.clone(), watched.clone());
        register.tasks.spawn(on_change.instrument(span));
        let job = watched.borrow().clone();
        jobs.jobs.push(Entry::new(
            record,
            plan,
            watched,
            end,
            orders,
            (level, strained, stage),
            origin,
        ));
        drop(rooms);
        register.changed.notify_one();
        Ok(job)
    }
}
