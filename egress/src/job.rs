//! One egress job: when its worker is started, restarted and killed, and when each destination is tried again.
//!
//! Decides only. The supervisor feeds it what happened, obeys [`Job::poll_action`] and wakes it at
//! [`Job::poll_timeout`].

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    backoff::Backoff,
    link::{Counters, Failure, Report},
    rate::Rate,
    status::{DestinationState, FailureCode, JobState},
};

/// What the supervisor has to do, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a worker process.
    Spawn,
    /// Tell the worker to try the destination with this number.
    Connect(usize),
    /// Tell the worker to end the destination with this number.
    Disconnect(usize),
    /// Tell the worker to end cleanly.
    Drain,
    /// Kill the worker process.
    Kill,
}

/// One egress job.
#[derive(Debug)]
pub(crate) struct Job {
    phase: Phase,
    destinations: Vec<Destination>,
    actions: VecDeque<Action>,
    receiving: bool,
    restarts: u32,
    /// Crashes since the worker last ran for [`STABLE`].
    crashes: u32,
    backoff: Backoff,
    /// What `Draining` turns into.
    gave_up: bool,
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting { deadline: Instant },
    Running { since: Instant, silent_at: Instant },
    Draining { kill_at: Instant },
    Waiting { retry_at: Instant },
    Ended,
    Failed,
}

/// One destination of a job.
#[derive(Debug)]
pub(crate) struct Destination {
    /// Never used twice in a job.
    number: usize,
    phase: DestinationPhase,
    attempt: u32,
    /// Why it is not live.
    failure: Option<Failure>,
    /// What it recovered from, and when.
    past: Option<(Failure, Instant)>,
    backoff: Backoff,
    was_live: bool,
    refusals: u32,
    /// What earlier workers delivered.
    before: Counters,
    /// What this worker delivered.
    current: Counters,
    rate: Rate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DestinationPhase {
    Connecting,
    Live {
        since: Instant,
    },
    Retrying {
        at: Option<Instant>,
    },
    Failed,
    /// Taken out of the job; forgotten once the worker has said goodbye.
    Leaving {
        until: Instant,
    },
    Ended,
}

impl Job {
    /// Returns a job without destinations whose first action is to spawn its worker.
    pub(crate) fn new(seed: u64, now: Instant) -> Self {
        Self {
            phase: Phase::Starting {
                deadline: now + START_LIMIT,
            },
            destinations: Vec::new(),
            actions: VecDeque::from([Action::Spawn]),
            receiving: false,
            restarts: 0,
            crashes: 0,
            backoff: Backoff::new(CRASH_DELAY, CRASH_DELAY_CAP, seed),
            gave_up: false,
            seed,
        }
    }

    /// Adds a destination. `proved` says that its key was accepted before, so that a refusal is not the key's
    /// fault.
    pub(crate) fn add(&mut self, number: usize, proved: bool) {
        let salt = 2 * u64::try_from(number).unwrap_or(0) + 3;
        let mut destination = Destination::new(number, self.seed.wrapping_mul(salt));
        destination.was_live = proved;
        if matches!(self.phase, Phase::Running { .. }) && destination.start_attempt() {
            self.actions.push_back(Action::Connect(number));
        }
        self.destinations.push(destination);
    }

    /// Ends a destination and forgets it afterwards.
    pub(crate) fn remove(&mut self, number: usize, now: Instant) {
        let running = matches!(self.phase, Phase::Running { .. });
        if let Some(destination) = self.find(number) {
            destination.phase = DestinationPhase::Leaving {
                until: now + LEAVE_LIMIT,
            };
            if running {
                self.actions.push_back(Action::Disconnect(number));
            }
        }
        if !running {
            self.destinations.retain(|d| d.number != number);
        }
        self.drain_when_hopeless(now);
    }

    /// Tries a destination again now, even one that was given up.
    pub(crate) fn retry(&mut self, number: usize) {
        let running = matches!(self.phase, Phase::Running { .. });
        let Some(destination) = self.find(number) else {
            return;
        };
        let waiting = match destination.phase {
            DestinationPhase::Failed => true,
            DestinationPhase::Retrying { at } => at.is_some(),
            DestinationPhase::Connecting
            | DestinationPhase::Live { .. }
            | DestinationPhase::Leaving { .. }
            | DestinationPhase::Ended => false,
        };
        if waiting {
            destination.refusals = 0;
            destination.backoff.reset();
            destination.phase = DestinationPhase::Connecting;
            if running && destination.start_attempt() {
                self.actions.push_back(Action::Connect(number));
            }
        }
    }

    fn find(&mut self, number: usize) -> Option<&mut Destination> {
        self.destinations.iter_mut().find(|d| d.number == number)
    }

    /// Takes in what the worker says.
    pub(crate) fn handle_report(&mut self, report: &Report, now: Instant) {
        if let Phase::Running { since, silent_at } = &mut self.phase {
            *silent_at = now + silence_limit(now.duration_since(*since));
        }
        match report {
            Report::Ready => self.handle_ready(now),
            Report::Alive {
                receiving,
                counters,
                ..
            } => {
                self.receiving = *receiving;
                for (number, counters) in counters {
                    if let Some(destination) = self.find(*number) {
                        destination.current = *counters;
                        destination.rate.record(destination.counters().bytes, now);
                    }
                }
            }
            Report::State { destination, state } => {
                if let Some(destination) = self.find(*destination) {
                    destination.handle_state(*state, now);
                }
                self.forget_left(now);
            }
            Report::Failed {
                destination,
                failure,
            } => {
                if let Some(destination) = self.find(*destination) {
                    destination.handle_failure(failure.clone(), now);
                }
                self.forget_left(now);
                self.drain_when_hopeless(now);
            }
            Report::KeyframeWanted
            | Report::HlsInit
            | Report::HlsSegment(_)
            | Report::Broken { .. } => {}
        }
    }

    /// Takes in that the worker process could not be started or has ended.
    pub(crate) fn handle_worker_gone(&mut self, now: Instant) {
        self.receiving = false;
        for destination in &mut self.destinations {
            destination.bank_counters();
        }
        self.destinations
            .retain(|d| !matches!(d.phase, DestinationPhase::Leaving { .. }));
        let ran_long = match self.phase {
            Phase::Ended | Phase::Failed | Phase::Waiting { .. } => return,
            Phase::Draining { .. } => return self.finish(),
            Phase::Starting { .. } => false,
            Phase::Running { since, .. } => now >= since + STABLE,
        };
        if ran_long {
            self.crashes = 0;
            self.backoff.reset();
        }
        self.crashes += 1;
        for destination in &mut self.destinations {
            destination.handle_worker_death();
        }
        if self.crashes > CRASH_BUDGET {
            self.phase = Phase::Failed;
            return;
        }
        self.phase = Phase::Waiting {
            retry_at: now + self.backoff.next(),
        };
    }

    /// Ends the job on request.
    pub(crate) fn end(&mut self, now: Instant) {
        match self.phase {
            Phase::Running { .. } => self.drain(now),
            Phase::Starting { .. } => {
                self.actions.push_back(Action::Kill);
                self.finish();
            }
            Phase::Waiting { .. } => self.finish(),
            Phase::Draining { .. } | Phase::Ended | Phase::Failed => {}
        }
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Starting { deadline: due }
            | Phase::Running { silent_at: due, .. }
            | Phase::Draining { kill_at: due }
                if now >= due =>
            {
                self.actions.push_back(Action::Kill);
                self.push_deadline(now);
            }
            Phase::Waiting { retry_at } if now >= retry_at => {
                self.restarts += 1;
                self.phase = Phase::Starting {
                    deadline: now + START_LIMIT,
                };
                self.actions.push_back(Action::Spawn);
            }
            Phase::Running { .. } => {
                for destination in &mut self.destinations {
                    if destination.take_due_retry(now) {
                        self.actions.push_back(Action::Connect(destination.number));
                    }
                }
                self.forget_left(now);
            }
            Phase::Starting { .. }
            | Phase::Draining { .. }
            | Phase::Waiting { .. }
            | Phase::Ended
            | Phase::Failed => {}
        }
    }

    /// Returns when [`Self::handle_timeout`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let own = match self.phase {
            Phase::Starting { deadline: at }
            | Phase::Draining { kill_at: at }
            | Phase::Waiting { retry_at: at } => return Some(at),
            Phase::Running { silent_at, .. } => silent_at,
            Phase::Ended | Phase::Failed => return None,
        };
        let retries = self.destinations.iter().filter_map(|d| match d.phase {
            DestinationPhase::Retrying { at } => at,
            DestinationPhase::Leaving { until } => Some(until),
            DestinationPhase::Connecting
            | DestinationPhase::Live { .. }
            | DestinationPhase::Failed
            | DestinationPhase::Ended => None,
        });
        retries.chain([own]).min()
    }

    /// Returns the next thing to do.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Returns whether the job is over.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended | Phase::Failed)
    }

    /// Returns whether outputs need keyframes.
    pub(crate) fn wants_keyframes(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    pub(crate) fn state(&self) -> JobState {
        match self.phase {
            Phase::Starting { .. } if self.restarts > 0 => JobState::Restarting,
            Phase::Starting { .. } => JobState::Starting,
            Phase::Running { .. } => JobState::Running,
            Phase::Draining { .. } => JobState::Draining,
            Phase::Waiting { .. } => JobState::Restarting,
            Phase::Ended => JobState::Ended,
            Phase::Failed => JobState::Failed,
        }
    }

    pub(crate) fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    pub(crate) fn receiving(&self) -> bool {
        self.receiving
    }

    pub(crate) fn restarts(&self) -> u32 {
        self.restarts
    }

    fn handle_ready(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Starting { .. }) {
            return;
        }
        self.phase = Phase::Running {
            since: now,
            silent_at: now + silence_limit(Duration::ZERO),
        };
        for destination in &mut self.destinations {
            if destination.start_attempt() {
                self.actions.push_back(Action::Connect(destination.number));
            }
        }
    }

    fn forget_left(&mut self, now: Instant) {
        self.destinations.retain(|d| match d.phase {
            DestinationPhase::Leaving { until } => now < until,
            DestinationPhase::Connecting
            | DestinationPhase::Live { .. }
            | DestinationPhase::Retrying { .. }
            | DestinationPhase::Failed
            | DestinationPhase::Ended => true,
        });
    }

    /// A worker all of whose destinations were given up does nothing but cost memory.
    fn drain_when_hopeless(&mut self, now: Instant) {
        let running = matches!(self.phase, Phase::Running { .. });
        let hopeless = |d: &Destination| d.phase == DestinationPhase::Failed;
        if running && !self.destinations.is_empty() && self.destinations.iter().all(hopeless) {
            self.gave_up = true;
            self.drain(now);
        }
    }

    fn drain(&mut self, now: Instant) {
        self.actions.push_back(Action::Drain);
        self.phase = Phase::Draining {
            kill_at: now + DRAIN_LIMIT,
        };
    }

    fn finish(&mut self) {
        self.receiving = false;
        self.phase = if self.gave_up {
            Phase::Failed
        } else {
            Phase::Ended
        };
        for destination in &mut self.destinations {
            if destination.phase != DestinationPhase::Failed {
                destination.phase = DestinationPhase::Ended;
            }
        }
    }

    /// The process that was told to die is asked again if it does not.
    fn push_deadline(&mut self, now: Instant) {
        let later = now + KILL_AGAIN;
        match &mut self.phase {
            Phase::Starting { deadline: due }
            | Phase::Running { silent_at: due, .. }
            | Phase::Draining { kill_at: due } => *due = later,
            Phase::Waiting { .. } | Phase::Ended | Phase::Failed => {}
        }
    }
}

impl Destination {
    fn new(number: usize, seed: u64) -> Self {
        Self {
            number,
            past: None,
            phase: DestinationPhase::Connecting,
            attempt: 0,
            failure: None,
            backoff: Backoff::new(RETRY_DELAY, RETRY_DELAY_CAP, seed),
            was_live: false,
            refusals: 0,
            before: Counters::default(),
            current: Counters::default(),
            rate: Rate::default(),
        }
    }

    pub(crate) fn state(&self) -> DestinationState {
        match self.phase {
            DestinationPhase::Connecting => DestinationState::Connecting,
            DestinationPhase::Live { .. } => DestinationState::Live,
            DestinationPhase::Retrying { .. } => DestinationState::Retrying,
            DestinationPhase::Failed => DestinationState::Failed,
            DestinationPhase::Leaving { .. } | DestinationPhase::Ended => DestinationState::Ended,
        }
    }

    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// Returns what it recovered from last, and when.
    pub(crate) fn past(&self) -> Option<&(Failure, Instant)> {
        self.past.as_ref()
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    pub(crate) fn live_since(&self) -> Option<Instant> {
        match self.phase {
            DestinationPhase::Live { since } => Some(since),
            DestinationPhase::Connecting
            | DestinationPhase::Retrying { .. }
            | DestinationPhase::Failed
            | DestinationPhase::Leaving { .. }
            | DestinationPhase::Ended => None,
        }
    }

    pub(crate) fn next_try_at(&self) -> Option<Instant> {
        match self.phase {
            DestinationPhase::Retrying { at } => at,
            DestinationPhase::Connecting
            | DestinationPhase::Live { .. }
            | DestinationPhase::Failed
            | DestinationPhase::Leaving { .. }
            | DestinationPhase::Ended => None,
        }
    }

    /// Returns what was delivered since the job started.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            bytes: self.before.bytes + self.current.bytes,
            acknowledged_bytes: self.before.acknowledged_bytes + self.current.acknowledged_bytes,
            frames: self.before.frames + self.current.frames,
            dropped_frames: self.before.dropped_frames + self.current.dropped_frames,
            delay_ms: self.current.delay_ms,
        }
    }

    pub(crate) fn bits_per_second(&self, now: Instant) -> u64 {
        match self.phase {
            DestinationPhase::Live { .. } => self.rate.bits_per_second(now),
            DestinationPhase::Connecting
            | DestinationPhase::Retrying { .. }
            | DestinationPhase::Failed
            | DestinationPhase::Leaving { .. }
            | DestinationPhase::Ended => 0,
        }
    }

    fn handle_state(&mut self, state: DestinationState, now: Instant) {
        let given_up = matches!(
            self.phase,
            DestinationPhase::Failed | DestinationPhase::Leaving { .. } | DestinationPhase::Ended
        );
        match state {
            DestinationState::Live if !given_up => {
                self.phase = DestinationPhase::Live { since: now };
                if let Some(failure) = self.failure.take() {
                    self.past = Some((failure, now));
                }
                self.was_live = true;
                self.refusals = 0;
                self.attempt = 0;
            }
            DestinationState::Connecting if !given_up => {
                self.phase = DestinationPhase::Connecting;
            }
            DestinationState::Ended => match &mut self.phase {
                DestinationPhase::Leaving { until } => *until = now,
                DestinationPhase::Failed => {}
                DestinationPhase::Connecting
                | DestinationPhase::Live { .. }
                | DestinationPhase::Retrying { .. }
                | DestinationPhase::Ended => self.phase = DestinationPhase::Ended,
            },
            DestinationState::Live
            | DestinationState::Connecting
            | DestinationState::Retrying
            | DestinationState::Failed => {}
        }
    }

    fn handle_failure(&mut self, failure: Failure, now: Instant) {
        match &mut self.phase {
            DestinationPhase::Leaving { until } => {
                *until = now;
                return;
            }
            DestinationPhase::Failed | DestinationPhase::Ended => return,
            // A connection that breaks at once is no reason to try faster.
            DestinationPhase::Live { since } if now >= *since + STABLE => self.backoff.reset(),
            DestinationPhase::Live { .. }
            | DestinationPhase::Connecting
            | DestinationPhase::Retrying { .. } => {}
        }
        let refused = !self.was_live;
        let (refusals, budget) = match failure.code {
            FailureCode::Rejected if refused => (self.refusals + 1, REFUSAL_BUDGET),
            FailureCode::AlreadyPublishing if refused => (self.refusals + 1, BUSY_BUDGET),
            FailureCode::PrivateAddress
            | FailureCode::CodecUnsupported
            | FailureCode::DiskFull => (1, 1),
            FailureCode::Rejected
            | FailureCode::AlreadyPublishing
            | FailureCode::ConnectionRefused
            | FailureCode::HostNotFound
            | FailureCode::Unreachable
            | FailureCode::Timeout
            | FailureCode::ClosedByServer
            | FailureCode::Stalled
            | FailureCode::TlsFailed
            | FailureCode::WorkerDied
            | FailureCode::NothingRecorded
            | FailureCode::Internal => (0, u32::MAX),
        };
        self.refusals = refusals;
        let busy = failure.code == FailureCode::AlreadyPublishing;
        self.failure = Some(failure);
        let mut delay = self.backoff.next();
        if refusals > 0 {
            delay = delay.max(REFUSED_DELAY);
        } else if busy {
            delay = delay.min(BUSY_DELAY_CAP);
        } else if self.was_live {
            delay = delay.min(RETURN_DELAY_CAP);
        }
        self.phase = if refusals >= budget {
            DestinationPhase::Failed
        } else {
            DestinationPhase::Retrying {
                at: Some(now + delay),
            }
        };
    }

    /// Returns whether to connect to it now that a worker is ready.
    fn start_attempt(&mut self) -> bool {
        let wanted = match &mut self.phase {
            DestinationPhase::Connecting => true,
            DestinationPhase::Live { .. } => {
                self.phase = DestinationPhase::Connecting;
                true
            }
            // One that waits for its next try goes on waiting.
            DestinationPhase::Retrying { at } => at.is_none(),
            DestinationPhase::Failed
            | DestinationPhase::Leaving { .. }
            | DestinationPhase::Ended => false,
        };
        self.attempt += u32::from(wanted);
        wanted
    }

    fn take_due_retry(&mut self, now: Instant) -> bool {
        let DestinationPhase::Retrying { at } = &mut self.phase else {
            return false;
        };
        let due = at.is_some_and(|at| now >= at);
        if due {
            *at = None;
            self.attempt += 1;
        }
        due
    }

    fn handle_worker_death(&mut self) {
        match &mut self.phase {
            DestinationPhase::Live { .. } => {
                self.failure = Some(Failure {
                    code: FailureCode::WorkerDied,
                    message: "The process that sends this output ended unexpectedly. It is being \
                              started again."
                        .to_owned(),
                });
                self.phase = DestinationPhase::Retrying { at: None };
            }
            DestinationPhase::Connecting
            | DestinationPhase::Retrying { .. }
            | DestinationPhase::Failed
            | DestinationPhase::Leaving { .. }
            | DestinationPhase::Ended => {}
        }
    }

    fn bank_counters(&mut self) {
        self.before = self.counters();
        self.current = Counters::default();
    }
}

/// Returns how long a worker of this age may say nothing.
fn silence_limit(age: Duration) -> Duration {
    if age < SETTLING {
        SETTLING_LIMIT
    } else {
        SILENCE_LIMIT
    }
}

/// A worker is ready in 50 ms; the first start after an installation scans all GStreamer plugins.
const START_LIMIT: Duration = Duration::from_secs(20);
/// A worker reports every 250 ms.
const SILENCE_LIMIT: Duration = Duration::from_millis(1500);
/// A worker that loads its plugins on a machine far above its load was seen silent for two seconds.
const SETTLING: Duration = Duration::from_secs(10);
const SETTLING_LIMIT: Duration = Duration::from_secs(6);
/// Below the bound of the whole server's shutdown.
const DRAIN_LIMIT: Duration = Duration::from_secs(4);
const KILL_AGAIN: Duration = Duration::from_secs(1);
/// What ran this long was not broken from the start.
const STABLE: Duration = Duration::from_secs(30);
const CRASH_DELAY: Duration = Duration::from_millis(200);
const CRASH_DELAY_CAP: Duration = Duration::from_secs(10);
/// Crashes in a row after which the job is given up: about a minute.
const CRASH_BUDGET: u32 = 10;
const RETRY_DELAY: Duration = Duration::from_millis(800);
const RETRY_DELAY_CAP: Duration = Duration::from_secs(8);
const REFUSED_DELAY: Duration = Duration::from_secs(3);
/// A key that was refused so often before it ever worked is wrong.
const REFUSAL_BUDGET: u32 = 2;
/// A server may take a while to forget the session of an earlier job: about 45 s.
const BUSY_BUDGET: u32 = 15;
/// A session of our own that the server has not given up yet is not far from its end.
const BUSY_DELAY_CAP: Duration = Duration::from_millis(1500);
/// A server that worked is live again soon after its return.
const RETURN_DELAY_CAP: Duration = Duration::from_millis(1200);
/// How long a destination that was taken out has for its goodbye.
const LEAVE_LIMIT: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn drain(job: &mut Job) -> Vec<Action> {
        std::iter::from_fn(|| job.poll_action()).collect()
    }

    /// Returns a job with two RTMP destinations whose worker has just become ready.
    fn running(t0: Instant) -> Job {
        let mut job = Job::new(3, t0);
        job.add(0, false);
        job.add(1, false);
        assert_eq!(drain(&mut job), [Action::Spawn]);
        job.handle_report(&Report::Ready, t0);
        assert_eq!(drain(&mut job), [Action::Connect(0), Action::Connect(1)]);
        job
    }

    fn live(destination: usize) -> Report {
        Report::State {
            destination,
            state: DestinationState::Live,
        }
    }

    fn failed(destination: usize, code: FailureCode) -> Report {
        Report::Failed {
            destination,
            failure: Failure {
                code,
                message: "x".into(),
            },
        }
    }

    /// Advances to the job's next wake-up and returns it.
    fn wake(job: &mut Job) -> Instant {
        let at = job.poll_timeout().expect("something is due");
        job.handle_timeout(at);
        at
    }

    #[test]
    fn a_failing_destination_retries_and_leaves_the_other_alone() {
        let t0 = Instant::now();
        let mut job = running(t0);
        job.handle_report(&live(1), t0);
        job.handle_report(&failed(0, FailureCode::ConnectionRefused), t0 + ms(10));
        assert_eq!(job.destinations()[0].state(), DestinationState::Retrying);
        let at = job.destinations()[0].next_try_at().unwrap();
        assert!(at > t0 + ms(400) && at < t0 + ms(820));
        assert_eq!(wake(&mut job), at);
        assert_eq!(drain(&mut job), [Action::Connect(0)]);
        assert_eq!(job.destinations()[0].state(), DestinationState::Retrying);
        assert_eq!(job.destinations()[0].attempt(), 2);
        job.handle_report(&live(0), at + ms(50));
        assert_eq!(job.destinations()[0].state(), DestinationState::Live);
        assert_eq!(job.destinations()[1].state(), DestinationState::Live);
        assert_eq!(job.state(), JobState::Running);
    }

    #[test]
    fn delays_grow_to_the_cap_and_retrying_never_stops() {
        let t0 = Instant::now();
        let mut job = running(t0);
        let mut now = t0;
        for _ in 0..50 {
            job.handle_report(&failed(0, FailureCode::Timeout), now);
            let at = job.destinations()[0].next_try_at().unwrap();
            assert!(at - now <= RETRY_DELAY_CAP);
            now = at;
            job.handle_report(&Report::Ready, now);
            job.handle_timeout(now);
            assert!(drain(&mut job).contains(&Action::Connect(0)));
        }
        assert_eq!(job.destinations()[0].attempt(), 51);
    }

    #[test]
    fn a_codec_that_is_not_taken_ends_the_job() {
        let t0 = Instant::now();
        let mut job = running(t0);
        for destination in 0..2 {
            job.handle_report(&failed(destination, FailureCode::CodecUnsupported), t0);
        }
        assert_eq!(drain(&mut job), [Action::Drain]);
        job.handle_worker_gone(t0);
        assert_eq!(job.state(), JobState::Failed);
        let code = job.destinations()[0].failure().map(|f| f.code);
        assert_eq!(code, Some(FailureCode::CodecUnsupported));
    }

    #[test]
    fn a_key_refused_from_the_start_is_given_up() {
        let t0 = Instant::now();
        let mut job = running(t0);
        for _ in 0..REFUSAL_BUDGET {
            job.handle_report(&failed(0, FailureCode::Rejected), t0);
        }
        assert_eq!(job.destinations()[0].state(), DestinationState::Failed);
        assert_eq!(job.state(), JobState::Running);
        for _ in 0..REFUSAL_BUDGET {
            job.handle_report(&failed(1, FailureCode::Rejected), t0);
        }
        assert_eq!(drain(&mut job), [Action::Drain]);
        job.handle_worker_gone(t0);
        assert_eq!(job.state(), JobState::Failed);
    }

    #[test]
    fn a_key_that_worked_once_is_never_given_up() {
        let t0 = Instant::now();
        let mut job = running(t0);
        job.handle_report(&live(0), t0);
        for _ in 0..20 {
            job.handle_report(&failed(0, FailureCode::Rejected), t0);
        }
        assert_eq!(job.destinations()[0].state(), DestinationState::Retrying);
    }

    #[test]
    fn a_dead_worker_is_restarted_with_its_destinations() {
        let t0 = Instant::now();
        let mut job = running(t0);
        job.handle_report(&live(0), t0);
        let counters = Counters {
            bytes: 100,
            frames: 3,
            dropped_frames: 1,
            ..Counters::default()
        };
        let alive = Report::Alive {
            receiving: true,
            cpu_ms: 0,
            counters: vec![(0, counters), (1, counters)],
        };
        job.handle_report(&alive, t0 + ms(1));
        job.handle_worker_gone(t0 + ms(500));
        assert_eq!(job.state(), JobState::Restarting);
        let code = job.destinations()[0].failure().map(|f| f.code);
        assert_eq!(code, Some(FailureCode::WorkerDied));
        let at = wake(&mut job);
        assert!(at <= t0 + ms(800));
        assert_eq!(drain(&mut job), [Action::Spawn]);
        job.handle_report(&Report::Ready, at);
        assert_eq!(drain(&mut job), [Action::Connect(0), Action::Connect(1)]);
        job.handle_report(&alive, at);
        assert_eq!(job.destinations()[0].counters().bytes, 200);
        assert_eq!(job.restarts(), 1);
    }

    #[test]
    fn a_worker_that_keeps_dying_is_given_up() {
        let t0 = Instant::now();
        let mut job = Job::new(1, t0);
        job.add(0, false);
        let mut now = t0;
        for _ in 0..CRASH_BUDGET {
            job.handle_worker_gone(now);
            assert_eq!(job.state(), JobState::Restarting);
            now = wake(&mut job);
        }
        job.handle_worker_gone(now);
        assert_eq!(job.state(), JobState::Failed);
        assert_eq!(job.poll_timeout(), None);
    }

    #[test]
    fn destinations_come_and_go_while_the_job_runs() {
        let t0 = Instant::now();
        let mut job = running(t0);
        job.add(7, false);
        assert_eq!(drain(&mut job), [Action::Connect(7)]);
        job.handle_report(&live(7), t0);
        job.remove(7, t0);
        assert_eq!(drain(&mut job), [Action::Disconnect(7)]);
        assert_eq!(job.destinations()[2].state(), DestinationState::Ended);
        let goodbye = Report::State {
            destination: 7,
            state: DestinationState::Ended,
        };
        job.handle_report(&goodbye, t0 + ms(90));
        assert_eq!(job.destinations().len(), 2);
        job.remove(1, t0);
        // The worker is well, but says nothing of it.
        job.handle_report(&Report::KeyframeWanted, t0 + LEAVE_LIMIT);
        job.handle_timeout(t0 + LEAVE_LIMIT);
        assert_eq!(job.destinations().len(), 1, "without a goodbye, too");
    }

    #[test]
    fn one_that_was_given_up_is_tried_again_on_request() {
        let t0 = Instant::now();
        let mut job = running(t0);
        for _ in 0..REFUSAL_BUDGET {
            job.handle_report(&failed(0, FailureCode::Rejected), t0);
        }
        assert_eq!(job.destinations()[0].state(), DestinationState::Failed);
        job.retry(0);
        assert_eq!(drain(&mut job), [Action::Connect(0)]);
        assert_eq!(job.destinations()[0].state(), DestinationState::Connecting);
    }

    #[test]
    fn what_it_recovered_from_is_the_past() {
        let t0 = Instant::now();
        let mut job = running(t0);
        job.handle_report(&failed(0, FailureCode::Timeout), t0);
        job.handle_report(&live(0), t0 + ms(5));
        let destination = &job.destinations()[0];
        assert_eq!(destination.failure(), None);
        let (past, at) = destination.past().unwrap();
        assert_eq!((past.code, *at), (FailureCode::Timeout, t0 + ms(5)));
    }

    #[test]
    fn a_silent_worker_is_killed() {
        let t0 = Instant::now();
        let mut job = running(t0);
        assert_eq!(wake(&mut job), t0 + SETTLING_LIMIT);
        assert_eq!(drain(&mut job), [Action::Kill]);
        let mut job = running(t0);
        let old = t0 + SETTLING;
        job.handle_report(&Report::KeyframeWanted, old);
        assert_eq!(wake(&mut job), old + SILENCE_LIMIT);
        assert_eq!(drain(&mut job), [Action::Kill]);
        job.handle_worker_gone(old + SILENCE_LIMIT + ms(5));
        assert_eq!(job.state(), JobState::Restarting);
    }

    #[test]
    fn ending_drains_and_a_worker_that_hangs_is_killed() {
        let t0 = Instant::now();
        let mut job = running(t0);
        job.handle_report(&live(0), t0);
        job.end(t0);
        assert_eq!(drain(&mut job), [Action::Drain]);
        assert_eq!(job.state(), JobState::Draining);
        assert_eq!(wake(&mut job), t0 + DRAIN_LIMIT);
        assert_eq!(drain(&mut job), [Action::Kill]);
        job.handle_worker_gone(t0 + DRAIN_LIMIT);
        assert_eq!(job.state(), JobState::Ended);
        assert_eq!(job.destinations()[0].state(), DestinationState::Ended);
        assert!(job.is_over());
    }

    #[test]
    fn a_job_can_be_ended_in_every_phase() {
        let t0 = Instant::now();
        let mut starting = Job::new(1, t0);
        starting.add(0, false);
        starting.end(t0);
        assert_eq!(drain(&mut starting), [Action::Spawn, Action::Kill]);
        assert_eq!(starting.state(), JobState::Ended);

        let mut waiting = running(t0);
        waiting.handle_worker_gone(t0);
        waiting.end(t0);
        assert_eq!(waiting.state(), JobState::Ended);
        assert_eq!(drain(&mut waiting), []);
    }
}
