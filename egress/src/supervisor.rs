//! Runs one job: obeys its state machine, and tells what it does.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    destination::Accepted,
    feed::{Demand, feed},
    job::{Action, Job},
    link::{Command, Report, Setup},
    origin::Origin,
    process::Process,
    source::Source,
    status::{self, JobState},
};

/// Everything that one job needs.
pub(crate) struct Supervisor {
    pub(crate) id: String,
    pub(crate) room: String,
    pub(crate) created_at_ms: u64,
    /// Differs from job to job.
    pub(crate) seed: u64,
    pub(crate) config: Config,
    pub(crate) worker_program: PathBuf,
    pub(crate) accepted: Vec<Accepted>,
    /// Where the HLS destination's files go, if it has one.
    pub(crate) origin: Option<Arc<Origin>>,
    /// Keeps the latest; nobody waits for anybody.
    pub(crate) status: watch::Sender<status::Job>,
    /// Ends the job.
    pub(crate) end: CancellationToken,
}

/// A job at work.
struct Run {
    supervisor: Supervisor,
    job: Job,
    process: Option<Process>,
    demand: watch::Sender<Demand>,
    clock: WallClock,
}

/// What woke the supervisor.
enum Event {
    Report(Report, Bytes),
    Gone,
    End,
    Due,
}

impl Supervisor {
    /// Runs the job until it is over.
    pub(crate) async fn run(self, source: Box<dyn Source>) {
        let seed = self.seed;
        let (demand, demanded) = watch::channel(Demand::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(feed(source, demanded, self.config.keyframe_interval()));
        let mut run = Run {
            job: Job::new(self.accepted.len(), seed, Instant::now()),
            supervisor: self,
            process: None,
            demand,
            clock: WallClock::take(),
        };
        run.run().await;
        tasks.shutdown().await;
    }
}

impl Run {
    async fn run(&mut self) {
        tracing::info!("egress started");
        let end = self.supervisor.end.clone();
        let mut ending = false;
        loop {
            while let Some(action) = self.job.poll_action() {
                self.obey(action).await;
            }
            if self.job.is_over() {
                break;
            }
            self.publish();
            let due = self.job.poll_timeout();
            let event = tokio::select! {
                event = next_event(self.process.as_mut()) => event,
                () = end.cancelled(), if !ending => Event::End,
                () = sleep_until_some(due) => Event::Due,
            };
            let now = Instant::now();
            match event {
                Event::Report(report, body) => self.handle_report(&report, body, now),
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
        self.process = None;
        self.publish();
        tracing::info!(state = ?self.job.state(), "egress ended");
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
                        self.demand
                            .send_modify(|demand| demand.worker = Some(process.packets()));
                        self.process = Some(process);
                    }
                    Err(e) => {
                        tracing::error!(error = %e, "egress worker cannot be started");
                        self.job.handle_worker_gone(Instant::now());
                    }
                }
            }
            Action::Connect(destination) => self.send(&Command::Connect { destination }).await,
            Action::Drain => self.send(&Command::Drain).await,
            Action::Kill => {
                if let Some(process) = &mut self.process {
                    process.kill();
                }
            }
        }
    }

    async fn send(&mut self, command: &Command) {
        if let Some(process) = &mut self.process {
            process.send(command).await;
        }
    }

    fn handle_report(&mut self, report: &Report, body: Bytes, now: Instant) {
        match (&self.supervisor.origin, report) {
            (Some(origin), Report::HlsInit) => origin.push_init(body),
            (Some(origin), Report::HlsSegment(head)) => origin.push_segment(*head, body),
            (_, Report::KeyframeWanted) => self.demand.send_modify(|demand| demand.urgent += 1),
            (_, Report::Broken { message }) => {
                tracing::warn!(reason = message, "egress worker is broken");
            }
            (
                _,
                Report::Failed {
                    destination,
                    failure,
                },
            ) => {
                let (code, reason) = (failure.code, &failure.message);
                tracing::warn!(destination, ?code, reason, "egress destination failed");
            }
            (_, Report::State { destination, state }) => {
                tracing::info!(destination, ?state, "egress destination changed");
            }
            _ => {}
        }
        self.job.handle_report(report, now);
    }

    async fn handle_gone(&mut self, now: Instant) {
        self.demand.send_modify(|demand| demand.worker = None);
        if let Some(mut process) = self.process.take() {
            // It has closed its sockets; one that lives on is of no use.
            let ended = timeout(EXIT_GRACE, process.wait()).await;
            if self.job.state() != JobState::Draining {
                tracing::warn!(status = ?ended.ok(), "egress worker died");
            }
        }
        self.job.handle_worker_gone(now);
    }

    fn setup(&self) -> Setup {
        let config = &self.supervisor.config;
        let targets = self.supervisor.accepted.iter();
        Setup {
            keyframe_interval_ms: config.keyframe_interval_ms,
            connect_timeout_ms: config.connect_timeout_ms,
            stall_timeout_ms: config.stall_timeout_ms,
            hold_ms: config.hold_ms,
            audio_bitrate: config.audio_bitrate,
            transcode_bitrate: config.transcode_bitrate,
            segment_ms: config.hls.segment_ms,
            targets: targets.map(|accepted| accepted.target.clone()).collect(),
        }
    }

    fn publish(&self) {
        let wanted = self.job.wants_keyframes();
        self.demand
            .send_if_modified(|demand| std::mem::replace(&mut demand.keyframes, wanted) != wanted);
        let now = Instant::now();
        let status = status::Job {
            id: self.supervisor.id.clone(),
            room: self.supervisor.room.clone(),
            state: self.job.state(),
            created_at_ms: self.supervisor.created_at_ms,
            receiving: self.job.receiving(),
            restarts: self.job.restarts(),
            worker_pid: self.process.as_ref().and_then(Process::pid),
            destinations: self.destinations(now),
        };
        self.supervisor
            .status
            .send_if_modified(|current| std::mem::replace(current, status.clone()) != status);
    }

    fn destinations(&self, now: Instant) -> Vec<status::DestinationStatus> {
        let pairs = self
            .job
            .destinations()
            .iter()
            .zip(&self.supervisor.accepted);
        pairs
            .map(|(destination, accepted)| {
                let counters = destination.counters();
                status::DestinationStatus {
                    r#type: accepted.kind,
                    url: accepted.shown_url.clone(),
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
                }
            })
            .collect()
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

/// Turns an [`Instant`] into Unix time.
#[derive(Debug, Clone, Copy)]
struct WallClock {
    instant: Instant,
    unix_ms: u64,
}

impl WallClock {
    fn take() -> Self {
        Self {
            instant: Instant::now(),
            unix_ms: unix_ms_now(),
        }
    }

    fn unix_ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.instant).as_millis();
        self.unix_ms + u64::try_from(since).unwrap_or(0)
    }
}

/// Returns the Unix time in milliseconds.
pub(crate) fn unix_ms_now() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

const EXIT_GRACE: std::time::Duration = std::time::Duration::from_millis(500);
