//! Runs one job: obeys its state machine, and tells what it does.

mod composed;
mod pictured;
mod recorded;
mod shown;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use recorded::Clerk;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    album::Albums,
    config::Config,
    destination::Accepted,
    feed::{Demand, feed},
    job::{Action, Job},
    journal::Journal,
    leftover::Leftovers,
    link::{Command, Failure, Report, Setup, Target},
    origin::Origin,
    overload::Level,
    preset::Mode,
    process::Process,
    rate::Rate,
    recording::{Cast, Library},
    scene::Scene,
    service::Room,
    source::{Source, Sources},
    status::{self, DestinationState, JobState},
    wall_clock::WallClock,
    wish::Wish,
};

/// A destination of a job.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    /// Never used twice in a job.
    pub(crate) number: usize,
    pub(crate) requested: status::Destination,
    pub(crate) accepted: Accepted,
    /// Whether it was asked for by somebody who may reach this network.
    pub(crate) trusted: bool,
    /// Whether it was live before.
    pub(crate) proved: bool,
}

/// What a worker has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Strain {
    /// How long after they should its frames come out, milliseconds.
    pub(crate) late_ms: u64,
    /// Whether the last picture that came to be passed through was in another codec than H.264.
    pub(crate) foreign: bool,
}

/// A change of a running job.
#[derive(Debug)]
pub(crate) enum Order {
    /// Adds a destination; HLS comes with its origin.
    Add(Box<Planned>, Option<Arc<Origin>>),
    /// Ends and forgets a destination.
    Remove(usize),
    /// Tries a destination again now.
    Retry(usize),
    /// Ends a destination cleanly, for this reason.
    Fail(usize, Failure),
    /// Sends something else from here on, composed as before.
    Show(Wish),
}

/// Everything that one job needs.
pub(crate) struct Supervisor {
    pub(crate) id: String,
    pub(crate) room: Room,
    pub(crate) created_at_ms: u64,
    /// Differs from job to job.
    pub(crate) seed: u64,
    pub(crate) config: Config,
    pub(crate) worker_program: PathBuf,
    /// The folder of the room's images.
    pub(crate) images: PathBuf,
    pub(crate) planned: Vec<Planned>,
    pub(crate) wish: Wish,
    pub(crate) mode: Mode,
    /// How the room's stage looks.
    pub(crate) stage: watch::Receiver<Scene>,
    /// How much the job is degraded.
    pub(crate) level: watch::Receiver<Level>,
    /// Keeps the latest.
    pub(crate) strain: watch::Sender<Strain>,
    /// At most [`ORDER_LIMIT`] wait; then the one who orders waits, too.
    pub(crate) orders: mpsc::Receiver<Order>,
    /// Where a worker is noted while it lives.
    pub(crate) leftovers: Leftovers,
    /// Where the HLS destination's files go, if it has one.
    pub(crate) origin: Option<Arc<Origin>>,
    pub(crate) library: Library,
    pub(crate) albums: Albums,
    /// Where tracks come from that are recorded apart.
    pub(crate) sources: Arc<dyn Sources>,
    /// Keeps the latest; nobody waits for anybody.
    pub(crate) status: watch::Sender<status::Job>,
    /// Ends the job.
    pub(crate) end: CancellationToken,
}

/// A job at work.
struct Run {
    supervisor: Supervisor,
    job: Job,
    /// What each destination of the job is.
    accepted: BTreeMap<usize, Accepted>,
    journal: Journal,
    /// Milliseconds of processor time.
    cpu: Rate,
    process: Option<Process>,
    demand: watch::Sender<Demand>,
    clock: WallClock,
    /// Recordings that the library knows to be written.
    recordings: BTreeSet<usize>,
    /// Brings tracks that are recorded apart, from the first such recording on.
    tracks: JoinSet<()>,
    /// Pictures that are being made.
    developing: JoinSet<pictured::Outcome>,
    clerk: Clerk,
    /// Who the library knows to be on stage.
    cast: Vec<Cast>,
    /// What ends for a reason.
    doomed: BTreeMap<usize, Failure>,
    /// What it is degraded to, and since when.
    degraded: (Level, Instant),
    /// Whether the worker was not told the last scene or preset.
    behind: bool,
}

/// What woke the supervisor.
enum Event {
    Level,
    Scene,
    Report(Report, Bytes),
    Order(Order),
    Pictured(pictured::Outcome),
    Gone,
    End,
    Due,
}

impl Supervisor {
    /// Runs the job until it is over.
    pub(crate) async fn run(mut self, source: Box<dyn Source>) {
        let (demand, demanded) = watch::channel(Demand {
            video: self.wish.video(false),
            ..Demand::default()
        });
        let mut tasks = JoinSet::new();
        let interval = self.config.keyframe_interval();
        tasks.spawn(feed(source, demanded, interval, false));
        let planned = std::mem::take(&mut self.planned);
        let mut run = Run::new(self, demand);
        for planned in planned {
            run.add(planned);
        }
        run.run().await;
        tasks.shutdown().await;
    }
}

impl Run {
    fn new(supervisor: Supervisor, demand: watch::Sender<Demand>) -> Self {
        Self {
            job: Job::new(supervisor.seed, Instant::now()),
            supervisor,
            accepted: BTreeMap::new(),
            journal: Journal::default(),
            cpu: Rate::default(),
            process: None,
            demand,
            clock: WallClock::take(),
            recordings: BTreeSet::new(),
            tracks: JoinSet::new(),
            developing: JoinSet::new(),
            clerk: Clerk::start(),
            cast: Vec::new(),
            doomed: BTreeMap::new(),
            degraded: (Level::Full, Instant::now()),
            behind: false,
        }
    }

    async fn run(&mut self) {
        tracing::info!("egress started");
        let end = self.supervisor.end.clone();
        let mut ending = false;
        loop {
            // Before a worker begins to write.
            self.tell_library().await;
            while let Some(action) = self.job.poll_action() {
                self.obey(action).await;
            }
            if self.job.is_over() {
                break;
            }
            self.end_left_playlist();
            self.publish();
            self.tell_cast().await;
            let due = self.job.poll_timeout();
            let event = tokio::select! {
                // What a worker has said comes before the conclusion that it says nothing.
                biased;
                event = next_event(self.process.as_mut()) => event,
                // Nothing that comes often may keep these waiting.
                () = sleep_until_some(due) => Event::Due,
                () = end.cancelled(), if !ending => Event::End,
                Ok(()) = self.supervisor.level.changed(), if !ending => Event::Level,
                Some(order) = self.supervisor.orders.recv(), if !ending => Event::Order(order),
                event = pictured::next_picture(&mut self.developing) => event,
                Ok(()) = self.supervisor.stage.changed() => Event::Scene,
            };
            let now = Instant::now();
            match event {
                Event::Report(report, body) => {
                    self.handle_picture(&report, body.clone());
                    self.handle_report(&report, body, now);
                    self.catch_up();
                }
                Event::Pictured(outcome) => self.answer_picture(outcome),
                Event::Order(Order::Show(wish)) => self.show(wish),
                Event::Order(order) => self.handle_order(order, now),
                Event::Level => self.handle_level(now),
                Event::Scene => self.send_scene(),
                Event::Gone => self.handle_gone(now).await,
                Event::End => {
                    ending = true;
                    self.job.end(now);
                }
                Event::Due => self.job.handle_timeout(now),
            }
        }
        if let Some(origin) = &self.supervisor.origin {
            origin.end();
        }
        if let Some(pid) = self.process.take().and_then(|process| process.pid()) {
            self.supervisor.leftovers.forget(pid);
        }
        self.publish();
        self.tell_library().await;
        self.clerk.finish().await;
        let (library, id) = (self.supervisor.library.clone(), self.supervisor.id.clone());
        let _ = tokio::task::spawn_blocking(move || library.close_folder(&id)).await;
        tracing::info!(state = ?self.job.state(), "egress ended");
    }

    fn add(&mut self, planned: Planned) {
        let Planned {
            number,
            accepted,
            proved,
            ..
        } = planned;
        self.accepted.insert(number, accepted);
        self.job.add(number, proved);
    }

    /// Ends the playlist whose destination was taken out and has had its time for a goodbye: its last parts are there.
    fn end_left_playlist(&self) {
        if let Some(origin) = &self.supervisor.origin
            && !origin.has_ended()
            && self.hls_destinations().next().is_none()
        {
            origin.end();
        }
    }

    fn handle_order(&mut self, order: Order, now: Instant) {
        match order {
            Order::Add(planned, origin) => {
                if let Some(origin) = origin {
                    let old = self.supervisor.origin.replace(origin.clone());
                    match old.filter(|old| !Arc::ptr_eq(old, &origin)) {
                        Some(old) => _ = old.end(),
                        None => origin.resume(),
                    }
                }
                self.add(*planned);
            }
            Order::Remove(number) => self.job.remove(number, now),
            Order::Retry(number) => self.job.retry(number),
            Order::Fail(destination, failure) => {
                self.doomed.insert(destination, failure);
                self.send(&Command::Disconnect { destination });
            }
            // Taken by the caller, since it talks to the worker.
            Order::Show(_) => {}
        }
    }

    async fn obey(&mut self, action: Action) {
        match action {
            Action::Spawn => {
                if let Some(origin) = &self.supervisor.origin {
                    origin.interrupt();
                }
                let setup = self.setup();
                match Process::spawn(&self.supervisor.worker_program, setup).await {
                    Ok(process) => {
                        tracing::info!(pid = process.pid(), "egress worker started");
                        if let Some(pid) = process.pid() {
                            self.supervisor.leftovers.note(pid);
                        }
                        self.cpu = Rate::default();
                        self.demand.send_modify(|demand| {
                            demand.worker = Some(process.packets());
                            demand.layers.clear();
                        });
                        self.process = Some(process);
                        self.send_scene();
                    }
                    Err(e) => {
                        tracing::error!(error = %e, "egress worker cannot be started");
                        self.job.handle_worker_gone(Instant::now());
                    }
                }
            }
            Action::Connect(destination) => {
                if let Some(accepted) = self.accepted.get(&destination).cloned() {
                    let mut target = accepted.target.clone();
                    if let Target::Record(target) = &mut target {
                        let id = Library::id(&self.supervisor.id, destination);
                        target.folder = self.supervisor.library.folder(&id);
                        if let Some(run) = &mut target.tracks {
                            *run = self.supervisor.library.run();
                            self.open_tracks().await;
                        }
                    }
                    let allow_private = accepted.allow_private;
                    self.send(&Command::Connect {
                        destination,
                        target,
                        allow_private,
                    });
                }
            }
            Action::Disconnect(destination) => {
                self.send(&Command::Disconnect { destination });
            }
            Action::Drain => self.send(&Command::Drain),
            Action::Examine => {
                let now = Instant::now();
                let starved = self.process.as_mut().is_some_and(|p| p.is_starved(now));
                if starved {
                    tracing::warn!(
                        "egress worker gets no processor time: this machine has too much to do"
                    );
                }
                self.job.handle_examined(starved, now);
            }
            Action::Kill => {
                if let Some(process) = &mut self.process {
                    process.kill();
                }
            }
        }
    }

    fn send(&mut self, command: &Command) {
        if let Some(process) = &mut self.process {
            process.send(command);
        }
    }

    fn handle_report(&mut self, report: &Report, body: Bytes, now: Instant) {
        match (&self.supervisor.origin, report) {
            (Some(origin), Report::HlsInit(head)) => origin.push_init(head.clone(), body),
            (Some(origin), Report::HlsStep(head)) => origin.push(head, body),
            (_, Report::KeyframeWanted) => self.demand.send_modify(|demand| demand.urgent += 1),
            (_, Report::Layers(layers)) => {
                let layers = layers.clone();
                self.demand.send_modify(|demand| demand.layers = layers);
            }
            (_, Report::Broken { message }) => {
                tracing::warn!(reason = message, "egress worker is broken");
            }
            (
                _,
                Report::Alive {
                    cpu_ms,
                    late_ms,
                    foreign,
                    ..
                },
            ) => {
                self.cpu.record(*cpu_ms, now);
                self.supervisor.strain.send_modify(|strain| {
                    strain.late_ms = *late_ms;
                    strain.foreign = foreign.unwrap_or(strain.foreign);
                });
            }
            _ => {}
        }
        // What was told to end for a reason has failed.
        if let Report::State {
            destination,
            state: DestinationState::Ended,
        } = *report
            && let Some(failure) = self.doomed.remove(&destination)
        {
            let report = Report::Failed {
                destination,
                failure,
            };
            self.job.handle_report(&report, now);
            return;
        }
        self.job.handle_report(report, now);
    }

    async fn handle_gone(&mut self, now: Instant) {
        self.demand.send_modify(|demand| demand.worker = None);
        if let Some(mut process) = self.process.take() {
            let pid = process.pid();
            // It has closed its sockets; one that lives on is of no use.
            let ended = timeout(EXIT_GRACE, process.wait()).await;
            if self.job.state() != JobState::Draining {
                let status = ended.ok().and_then(Result::ok);
                let status = status.map_or("none yet".to_owned(), |status| status.to_string());
                tracing::warn!(status, "egress worker died");
            }
            process.kill();
            if let Some(pid) = pid {
                self.supervisor.leftovers.forget(pid);
            }
        }
        self.job.handle_worker_gone(now);
    }

    fn setup(&self) -> Setup {
        let config = &self.supervisor.config;
        let images = &self.supervisor.images;
        // A worker may be given a folder only while there is one. Without it there are no images.
        let is_folder = std::fs::create_dir_all(images).is_ok();
        let composes = self.supervisor.mode != Mode::PassThrough;
        Setup {
            images: (composes && is_folder).then(|| images.clone()),
            mode: self.mode(),
            stage: self.supervisor.wish.is_stage(),
            audio_only: self.supervisor.wish.audio_only,
            folders: self.folder().into_iter().collect(),
            keyframe_interval_ms: config.keyframe_interval_ms,
            connect_timeout_ms: config.connect_timeout_ms,
            stall_timeout_ms: config.stall_timeout_ms,
            hold_ms: config.hold_ms,
            audio_bitrate: config.audio_bitrate,
            transcode_bitrate: config.transcode_bitrate,
            tls_ca_file: config.tls_ca_file.clone(),
        }
    }

    /// Returns where the worker may write, now or once a recording is added.
    fn folder(&self) -> Option<PathBuf> {
        let folder = self.supervisor.library.open_folder(&self.supervisor.id);
        if let Err(error) = &folder {
            tracing::error!(%error, "the folder of recordings cannot be made");
        }
        folder.ok()
    }
}

/// Cancel safe.
async fn next_event(process: Option<&mut Process>) -> Event {
    match process {
        Some(process) => match process.report().await {
            Some((report, body)) => Event::Report(report, body),
            None => Event::Gone,
        },
        None => std::future::pending().await,
    }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// What one change can make: every destination removed, tried again and replaced, and something else shown.
pub(crate) const ORDER_LIMIT: usize = 64;
const EXIT_GRACE: std::time::Duration = std::time::Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Duration};

    use super::*;
    use crate::{
        config::RecordingConfig,
        destination,
        source::BoxFuture,
        status::{Destination, StreamKey},
        still::Stills,
        store::Record,
    };

    /// Nobody sends anything.
    #[derive(Debug)]
    struct Silence;

    impl Sources for Silence {
        fn open<'a>(
            &'a self,
            _room: sfu::RoomId,
            _source: &'a status::Source,
        ) -> BoxFuture<'a, Option<Box<dyn Source>>> {
            Box::pin(async { None })
        }
    }

    fn planned(number: usize) -> Planned {
        let requested = Destination::Rtmp {
            url: "rtmp://127.0.0.1/app".to_owned(),
            platform: None,
            key: StreamKey::from(format!("key-{number}")),
        };
        Planned {
            number,
            accepted: destination::accept(&requested, "room", &Config::default(), true).unwrap(),
            requested,
            trusted: true,
            proved: false,
        }
    }

    fn run(folder: &Path) -> Run {
        let room = Room {
            id: sfu::RoomId(1),
            slug: "room".to_owned(),
        };
        let record = Record::sample();
        let stills = Stills::start("false".into());
        let config = RecordingConfig::default();
        let recordings = folder.join("recordings");
        let supervisor = Supervisor {
            id: record.id.clone(),
            created_at_ms: 0,
            seed: 1,
            config: Config::default(),
            worker_program: "false".into(),
            images: folder.join("images"),
            planned: Vec::new(),
            wish: Wish::default(),
            mode: Mode::PassThrough,
            stage: watch::channel(Scene::default()).1,
            level: watch::channel(Level::Full).1,
            strain: watch::channel(Strain::default()).0,
            orders: mpsc::channel(1).1,
            leftovers: Leftovers::open(folder.join("workers")).unwrap(),
            origin: None,
            library: Library::open(recordings, &config, stills.clone()).unwrap(),
            albums: Albums::open(folder.join("albums"), 0, stills),
            sources: Arc::new(Silence),
            status: watch::channel(crate::jobs::first_status(
                &room,
                &record,
                &[],
                &Config::default(),
            ))
            .0,
            end: CancellationToken::new(),
            room,
        };
        Run::new(supervisor, watch::channel(Demand::default()).0)
    }

    #[tokio::test]
    async fn destinations_that_come_and_go_leave_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut run = run(folder.path());
        let t0 = Instant::now();
        run.add(planned(1));
        for number in 2..200 {
            let now = t0 + Duration::from_secs(number as u64);
            run.handle_order(Order::Add(Box::new(planned(number)), None), now);
            run.publish();
            assert_eq!(run.accepted.len(), 2);
            run.handle_order(Order::Remove(number), now);
            run.publish();
        }
        assert!(run.accepted.keys().eq([&1]), "{:?}", run.accepted.keys());
        assert!(run.doomed.is_empty());
    }
}
