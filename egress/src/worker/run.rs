//! Sets a worker up, and takes it down.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::{
        fd::AsFd,
        unix::net::{UnixDatagram, UnixStream},
    },
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use gstreamer as gst;
use sfu::Codec;

use super::{Reporter, pulse::Pulse, tracks::Tracks};
use crate::{
    link::{self, Command, Failure, Report, Setup, Target},
    output::{
        self, Answer, Attempt, Hls, Limits, Policy, Record, Rtmp, Srt, Stop, Thumbnails, Turn,
    },
    pipeline::{Air, Attached, Clock, Hub, Intake},
    preset::Mode,
    sandbox::{self, Reach},
    status::{DestinationState, FailureCode},
};

/// Runs a worker to its end: the body of `fanlight egress-worker`.
///
/// Standard input and output are the sockets that the supervisor made; nothing else may use them.
pub fn run_worker() -> ExitCode {
    match try_run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // Standard error goes to the supervisor's log.
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn try_run() -> anyhow::Result<()> {
    // Only now is it a process of one thread, which takes all later ones along.
    let mut gaps = sandbox::close_in();
    let packets = io::stdin().as_fd().try_clone_to_owned();
    let packets = UnixDatagram::from(packets.context("take the packet socket")?);
    let control = io::stdout().as_fd().try_clone_to_owned();
    let mut control = UnixStream::from(control.context("take the control socket")?);
    gst::init().context("initialise GStreamer")?;
    let (setup, _) = link::read_frame(&mut control).context("read the first command")?;
    let Command::Setup(setup) = setup else {
        anyhow::bail!("the first command is not the set-up");
    };
    gaps.extend(sandbox::confine(&reach(&setup)));
    for gap in gaps {
        eprintln!("a right could not be given up: {gap}");
    }
    let (reporter, writer) =
        Reporter::start(control.try_clone().context("share the control socket")?);
    let (commands_in, commands) = sync_channel(64);
    thread::spawn(move || read_commands(control, commands_in));
    Worker::start(setup, packets, reporter.clone()).run(&commands)?;
    reporter.finish();
    let _ = writer.join();
    Ok(())
}

/// Returns what this worker may reach.
fn reach(setup: &Setup) -> Reach {
    Reach {
        read: setup
            .tls_ca_file
            .iter()
            .chain(&setup.images)
            .cloned()
            .collect(),
        write: setup.folders.clone(),
    }
}

/// Ends the channel when the supervisor has closed the socket or died. The process then ends its destinations
/// cleanly, but does not outlive the supervisor for long even if it hangs.
///
/// `PR_SET_PDEATHSIG` would not do: it fires when the *thread* that started the process ends.
fn read_commands(mut control: UnixStream, commands: SyncSender<Command>) {
    while let Ok((command, _)) = link::read_frame(&mut control) {
        if commands.send(command).is_err() {
            return;
        }
    }
    drop(commands);
    thread::sleep(DRAIN_LIMIT + Duration::from_secs(1));
    std::process::exit(3);
}

struct Worker {
    setup: Arc<Setup>,
    tracks: Arc<Mutex<Tracks>>,
    clock: Clock,
    hub: Arc<Hub>,
    intake: Arc<Mutex<Intake>>,
    reporter: Reporter,
    pulse: Arc<Pulse>,
    running: BTreeMap<usize, Running>,
    /// How those that take pictures hear what became of them.
    answers: BTreeMap<usize, SyncSender<Answer>>,
    /// Which addresses SRT receivers are called at.
    turns: BTreeMap<usize, Turn>,
    /// Destinations that were told that the broadcast cannot be read.
    refused: BTreeSet<usize>,
}

/// A destination's attempt.
enum Running {
    Thread(JoinHandle<()>, Stop),
    Hls(Attached),
}

impl Worker {
    fn start(setup: Setup, packets: UnixDatagram, reporter: Reporter) -> Self {
        let clock = Clock::start();
        let hub = Hub::new(
            Duration::from_millis(setup.hold_ms),
            setup.audio_only,
            clock,
        );
        let intake = Arc::new(Mutex::new(Intake::new(hub.clone(), clock, &setup)));
        let pulse = Pulse::start(hub.clone(), reporter.clone());
        let (into, broken) = (intake.clone(), reporter.clone());
        let setup = Arc::new(setup);
        let tracks = Tracks::new(setup.clone(), clock, reporter.clone());
        let tracks = Arc::new(Mutex::new(tracks));
        let apart = tracks.clone();
        thread::spawn(move || {
            let read = || read_packets(&packets, &into, &apart, &broken);
            if catch_unwind(AssertUnwindSafe(read)).is_err() {
                // Nothing would ever come in again; another worker takes its place.
                std::process::exit(4);
            }
        });
        Self {
            setup,
            tracks,
            clock,
            hub,
            intake,
            reporter,
            pulse,
            running: BTreeMap::new(),
            answers: BTreeMap::new(),
            turns: BTreeMap::new(),
            refused: BTreeSet::new(),
        }
    }

    /// Runs until told to drain, or until the supervisor is gone.
    fn run(mut self, commands: &Receiver<Command>) -> anyhow::Result<()> {
        self.reporter.send(&Report::Ready, &[]);
        // Everything starts with one; the next in its turn may be seconds away.
        self.reporter.send(&Report::KeyframeWanted, &[]);
        loop {
            match commands.recv_timeout(TICK) {
                Ok(Command::Connect {
                    destination,
                    target,
                    allow_private,
                }) => self.connect(destination, target, allow_private),
                Ok(Command::Disconnect { destination }) => self.disconnect(destination),
                Ok(Command::Drain) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Command::Scene(scene)) => self.lock_intake().set_scene(scene)?,
                Ok(Command::Preset(preset)) => self.lock_intake().set_preset(preset)?,
                Ok(Command::Pictured {
                    destination,
                    shot,
                    outcome,
                }) => {
                    if let Some(answers) = self.answers.get(&destination) {
                        let _ = answers.try_send((shot, outcome));
                    }
                }
                Ok(Command::Setup(_)) => anyhow::bail!("a second set-up"),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let due = self.hub.handle_timeout();
            let mut failures = self.lock_intake().handle_timeout(due)?;
            failures.extend(self.lock_tracks().handle_timeout());
            if let Some(layers) = self.lock_intake().take_layers() {
                self.reporter.send(&Report::Layers(layers), &[]);
            }
            if self.lock_intake().take_keyframe_wanted() {
                self.reporter.send(&Report::KeyframeWanted, &[]);
            }
            self.refuse();
            self.end_orphaned_tracks();
            for failure in failures {
                eprintln!("pipeline made anew: {failure}");
            }
            let foreign = self.lock_intake().is_foreign();
            self.pulse.tick(foreign);
        }
        self.drain();
        Ok(())
    }

    /// Ends the tracks of recordings that have failed: nobody speaks for them any more.
    fn end_orphaned_tracks(&self) {
        let mut tracks = self.lock_tracks();
        for (number, running) in &self.running {
            if let Running::Thread(thread, stop) = running
                && thread.is_finished()
                && tracks.has(*number)
            {
                tracks.remove(*number, stop.clone());
            }
        }
    }

    fn lock_tracks(&self) -> MutexGuard<'_, Tracks> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all destinations when the broadcast cannot be read. They stay, and go live when one comes that can.
    fn refuse(&mut self) {
        let refused = self.lock_intake().refused();
        let name = match refused {
            Some(Codec::Vp8) => "VP8",
            Some(Codec::Vp9) => "VP9",
            Some(Codec::Av1) => "AV1",
            Some(Codec::H264 | Codec::Opus) | None => return self.forgive(),
        };
        for number in self.running.keys() {
            if !self.refused.insert(*number) {
                continue;
            }
            let failure = Failure {
                code: FailureCode::CodecUnsupported,
                message: format!(
                    "The broadcast is in {name}, which this server has no decoder for. Choose H.264 in the \
                     studio and go live again: this output then begins by itself."
                ),
            };
            let report = Report::Failed {
                destination: *number,
                failure,
            };
            self.reporter.send(&report, &[]);
        }
    }

    /// Takes back what destinations were told once what could not be read has gone. They say themselves when they
    /// are live, which must be the last word.
    fn forgive(&mut self) {
        match self.hub.air() {
            Air::On { .. } => self.refused.clear(),
            Air::Off if self.hub.is_off() => {
                for destination in std::mem::take(&mut self.refused) {
                    let state = DestinationState::Connecting;
                    self.reporter
                        .send(&Report::State { destination, state }, &[]);
                }
            }
            Air::Off => {}
        }
    }

    fn connect(&mut self, number: usize, target: Target, allow_private: bool) {
        self.refused.remove(&number);
        let attempt = Attempt {
            number,
            clock: self.clock,
            hub: self.hub.clone(),
            reporter: self.reporter.clone(),
            meter: self.pulse.meter(number),
            stop: Stop::default(),
        };
        let (stop, reporter) = (attempt.stop.clone(), self.reporter.clone());
        let (limits, policy) = (self.limits(), self.policy(allow_private));
        let running = match target {
            Target::Rtmp(target) => {
                let rtmp = Rtmp {
                    attempt,
                    target,
                    limits,
                    policy,
                };
                let run = move || rtmp.run();
                Running::Thread(output::start(number, reporter, run), stop)
            }
            Target::Srt(target) => {
                let srt = Srt {
                    attempt,
                    target,
                    limits,
                    policy,
                    turn: self.turns.entry(number).or_default().clone(),
                };
                let run = move || srt.run();
                Running::Thread(output::start(number, reporter, run), stop)
            }
            Target::Record(target) => {
                self.lock_tracks().add(number, &target);
                let record = Record {
                    attempt,
                    target,
                    sound: true,
                };
                let run = move || record.run();
                Running::Thread(output::start(number, reporter, run), stop)
            }
            Target::Thumbnails(target) => {
                let (answer, answers) = output::answers();
                self.answers.insert(number, answer);
                let thumbnails = Thumbnails {
                    attempt,
                    target,
                    answers,
                    may_ask: self.setup.mode == Mode::PassThrough,
                };
                let run = move || thumbnails.run();
                Running::Thread(output::start(number, reporter, run), stop)
            }
            Target::Hls(target) => Running::Hls(self.hub.attach(Box::new(Hls::new(
                number,
                &target,
                self.clock,
                self.reporter.clone(),
                attempt.meter,
            )))),
        };
        self.running.insert(number, running);
    }

    fn limits(&self) -> Limits {
        Limits {
            connect: Duration::from_millis(self.setup.connect_timeout_ms),
            stall: Duration::from_millis(self.setup.stall_timeout_ms),
        }
    }

    fn policy(&self, allow_private: bool) -> Policy {
        Policy {
            allow_private,
            tls_ca_file: self.setup.tls_ca_file.clone(),
        }
    }

    /// Ends one destination cleanly; it reports its end itself.
    fn disconnect(&mut self, number: usize) {
        self.answers.remove(&number);
        self.turns.remove(&number);
        self.refused.remove(&number);
        self.pulse.forget(number);
        match self.running.remove(&number) {
            Some(Running::Thread(thread, stop)) if !thread.is_finished() => {
                self.lock_tracks().remove(number, stop);
            }
            Some(Running::Hls(attached)) => {
                // Sends the last segment.
                drop(attached);
                self.report_ended(number);
            }
            Some(Running::Thread(_, stop)) => {
                self.lock_tracks().remove(number, stop);
                self.report_ended(number);
            }
            None => self.report_ended(number),
        }
    }

    fn report_ended(&self, destination: usize) {
        let report = Report::State {
            destination,
            state: DestinationState::Ended,
        };
        self.reporter.send(&report, &[]);
    }

    /// Ends every destination. Bounded by the time an RTMP server is given for a goodbye.
    fn drain(mut self) {
        let deadline = Instant::now() + DRAIN_LIMIT;
        let mut threads = Vec::new();
        for (number, running) in std::mem::take(&mut self.running) {
            match running {
                Running::Thread(thread, stop) => {
                    self.lock_tracks().remove(number, stop);
                    threads.push(thread);
                }
                Running::Hls(attached) => {
                    // Sends the last segment.
                    drop(attached);
                    let report = Report::State {
                        destination: number,
                        state: DestinationState::Ended,
                    };
                    self.reporter.send(&report, &[]);
                }
            }
        }
        while Instant::now() < deadline && threads.iter().any(|thread| !thread.is_finished()) {
            self.lock_tracks().handle_timeout();
            thread::sleep(Duration::from_millis(10));
        }
        self.pulse.end();
    }
}

fn read_packets(
    packets: &UnixDatagram,
    intake: &Mutex<Intake>,
    tracks: &Mutex<Tracks>,
    reporter: &Reporter,
) {
    let mut datagram = vec![0; DATAGRAM_LIMIT];
    loop {
        // The end of the control socket says that the supervisor is gone.
        let Ok(length) = packets.recv(&mut datagram) else {
            return;
        };
        let Some(packet) = datagram.get(..length).and_then(link::decode_packet) else {
            continue;
        };
        if packet.apart {
            let mut tracks = tracks.lock().unwrap_or_else(PoisonError::into_inner);
            tracks.push(&packet);
            continue;
        }
        let pushed = intake
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(&packet);
        if let Err(e) = pushed {
            let message = format!("{e:#}");
            reporter.send(&Report::Broken { message }, &[]);
            return;
        }
    }
}

const TICK: Duration = Duration::from_millis(50);
const DATAGRAM_LIMIT: usize = 65_536;
/// Below the supervisor's own limit.
const DRAIN_LIMIT: Duration = Duration::from_millis(3500);
