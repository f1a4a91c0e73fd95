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
    delivery::Delivery,
    link::Report,
    status::{DestinationState, JobState},
    vigil::{Verdict, Vigil},
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
    /// Find out why the worker process says nothing, and call [`Job::handle_examined`].
    Examine,
    /// Kill the worker process.
    Kill,
}

/// One egress job.
#[derive(Debug)]
pub(crate) struct Job {
    phase: Phase,
    destinations: Vec<Delivery>,
    actions: VecDeque<Action>,
    receiving: bool,
    restarts: u32,
    backoff: Backoff,
    /// What `Draining` turns into.
    gave_up: bool,
    /// Whether `Draining` turns into `Paused`, and whether that is over then.
    pausing: bool,
    resume_at_once: bool,
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting {
        deadline: Instant,
    },
    Running(Vigil),
    Draining {
        kill_at: Instant,
    },
    Waiting {
        retry_at: Instant,
    },
    /// For want of processor time.
    Paused,
    Ended,
    Failed,
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
            backoff: Backoff::new(CRASH_DELAY, CRASH_DELAY_CAP, seed),
            gave_up: false,
            pausing: false,
            resume_at_once: false,
            seed,
        }
    }

    /// Adds a destination. `proved` says that its key was accepted before, so that a refusal is not the key's
    /// fault.
    pub(crate) fn add(&mut self, number: usize, proved: bool) {
        let salt = 2 * u64::try_from(number).unwrap_or(0) + 3;
        let mut destination = Delivery::new(number, proved, self.seed.wrapping_mul(salt));
        if matches!(self.phase, Phase::Running(_)) && destination.start_attempt() {
            self.actions.push_back(Action::Connect(number));
        }
        self.destinations.push(destination);
    }

    /// Ends a destination and forgets it afterwards.
    pub(crate) fn remove(&mut self, number: usize, now: Instant) {
        let running = matches!(self.phase, Phase::Running(_));
        if let Some(destination) = self.find(number) {
            destination.leave(now);
            if running {
                self.actions.push_back(Action::Disconnect(number));
            }
        }
        if !running {
            self.destinations.retain(|d| d.number() != number);
        }
        self.drain_when_hopeless(now);
    }

    /// Tries a destination again now, even one that was given up.
    pub(crate) fn retry(&mut self, number: usize) {
        let running = matches!(self.phase, Phase::Running(_));
        let Some(destination) = self.find(number) else {
            return;
        };
        if destination.stop_waiting() && running && destination.start_attempt() {
            self.actions.push_back(Action::Connect(number));
        }
    }

    fn find(&mut self, number: usize) -> Option<&mut Delivery> {
        self.destinations.iter_mut().find(|d| d.number() == number)
    }

    /// Takes in what the worker says.
    pub(crate) fn handle_report(&mut self, report: &Report, now: Instant) {
        if let Phase::Running(vigil) = &mut self.phase {
            vigil.hear(now);
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
                        destination.handle_counters(*counters, now);
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
            Report::Held {
                destination,
                failure,
            } => {
                if let Some(destination) = self.find(*destination) {
                    destination.hold(failure.clone());
                }
            }
            Report::KeyframeWanted
            | Report::Picture { .. }
            | Report::HlsInit(_)
            | Report::HlsStep(_)
            | Report::Layers(_)
            | Report::Broken { .. } => {}
        }
    }

    /// Takes in whether a worker that says nothing got no processor time since it was last examined.
    pub(crate) fn handle_examined(&mut self, starved: bool, now: Instant) {
        if let Phase::Running(vigil) = &mut self.phase
            && vigil.examine(starved, now) == Verdict::Kill
        {
            self.actions.push_back(Action::Kill);
        }
    }

    /// Takes in that the worker process could not be started or has ended.
    pub(crate) fn handle_worker_gone(&mut self, now: Instant) {
        self.receiving = false;
        for destination in &mut self.destinations {
            destination.bank_counters();
        }
        self.destinations.retain(|d| !d.is_leaving());
        let ran_long = match self.phase {
            Phase::Ended | Phase::Failed | Phase::Waiting { .. } | Phase::Paused => return,
            Phase::Draining { .. } if self.pausing => {
                self.finish_pausing();
                if std::mem::take(&mut self.resume_at_once) {
                    self.spawn(now);
                }
                return;
            }
            Phase::Draining { .. } => return self.finish(),
            Phase::Starting { .. } => false,
            Phase::Running(vigil) => now >= vigil.since() + SOUND,
        };
        if ran_long {
            self.backoff.reset();
        }
        for destination in &mut self.destinations {
            destination.handle_worker_death();
        }
        self.phase = Phase::Waiting {
            retry_at: now + self.backoff.next(),
        };
    }

    /// Ends the job on request.
    pub(crate) fn end(&mut self, now: Instant) {
        match self.phase {
            Phase::Running(_) => self.drain(now),
            Phase::Starting { .. } => {
                self.actions.push_back(Action::Kill);
                self.finish();
            }
            Phase::Waiting { .. } | Phase::Paused => self.finish(),
            Phase::Draining { .. } => self.pausing = false,
            Phase::Ended | Phase::Failed => {}
        }
    }

    /// Ends the worker until [`Job::resume`].
    pub(crate) fn pause(&mut self, now: Instant) {
        match self.phase {
            Phase::Running(_) => {
                self.pausing = true;
                self.drain(now);
            }
            Phase::Starting { .. } => {
                self.actions.push_back(Action::Kill);
                self.finish_pausing();
            }
            Phase::Waiting { .. } => self.finish_pausing(),
            Phase::Draining { .. } | Phase::Paused | Phase::Ended | Phase::Failed => {}
        }
    }

    /// Starts a worker again after [`Job::pause`].
    pub(crate) fn resume(&mut self, now: Instant) {
        match self.phase {
            Phase::Paused => self.spawn(now),
            Phase::Draining { .. } if self.pausing => self.resume_at_once = true,
            Phase::Draining { .. }
            | Phase::Starting { .. }
            | Phase::Running(_)
            | Phase::Waiting { .. }
            | Phase::Ended
            | Phase::Failed => {}
        }
    }

    fn spawn(&mut self, now: Instant) {
        self.phase = Phase::Starting {
            deadline: now + START_LIMIT,
        };
        self.actions.push_back(Action::Spawn);
    }

    fn finish_pausing(&mut self) {
        self.pausing = false;
        self.receiving = false;
        self.phase = Phase::Paused;
        for destination in &mut self.destinations {
            destination.pause();
        }
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Starting { deadline: due } | Phase::Draining { kill_at: due } if now >= due => {
                self.actions.push_back(Action::Kill);
                self.push_deadline(now);
            }
            Phase::Running(vigil) if now >= vigil.due() => self.actions.push_back(Action::Examine),
            Phase::Waiting { retry_at } if now >= retry_at => {
                self.restarts += 1;
                self.spawn(now);
            }
            Phase::Running(_) => {
                for destination in &mut self.destinations {
                    if destination.take_due_retry(now) {
                        self.actions
                            .push_back(Action::Connect(destination.number()));
                    }
                }
                self.forget_left(now);
            }
            Phase::Starting { .. }
            | Phase::Draining { .. }
            | Phase::Waiting { .. }
            | Phase::Paused
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
            Phase::Running(vigil) => vigil.due(),
            Phase::Paused | Phase::Ended | Phase::Failed => return None,
        };
        let retries = self.destinations.iter().filter_map(Delivery::poll_timeout);
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
        matches!(self.phase, Phase::Running(_))
    }

    pub(crate) fn state(&self) -> JobState {
        match self.phase {
            Phase::Starting { .. } if self.restarts > 0 => JobState::Restarting,
            Phase::Starting { .. } => JobState::Starting,
            Phase::Running(_) => JobState::Running,
            Phase::Draining { .. } => JobState::Draining,
            Phase::Waiting { .. } => JobState::Restarting,
            Phase::Paused => JobState::Paused,
            Phase::Ended => JobState::Ended,
            Phase::Failed => JobState::Failed,
        }
    }

    pub(crate) fn destinations(&self) -> &[Delivery] {
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
        self.phase = Phase::Running(Vigil::new(now));
        for destination in &mut self.destinations {
            if destination.start_attempt() {
                self.actions
                    .push_back(Action::Connect(destination.number()));
            }
        }
    }

    fn forget_left(&mut self, now: Instant) {
        let before = self.destinations.len();
        self.destinations.retain(|d| !d.has_left(now));
        if self.destinations.len() < before {
            self.drain_when_hopeless(now);
        }
    }

    /// A worker all of whose destinations were given up does nothing but cost memory.
    fn drain_when_hopeless(&mut self, now: Instant) {
        let running = matches!(self.phase, Phase::Running(_));
        let hopeless = |d: &Delivery| d.state() == DestinationState::Failed;
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
            destination.end();
        }
    }

    /// The process that was told to die is asked again if it does not.
    fn push_deadline(&mut self, now: Instant) {
        let later = now + KILL_AGAIN;
        match &mut self.phase {
            Phase::Starting { deadline: due } | Phase::Draining { kill_at: due } => *due = later,
            Phase::Running(_)
            | Phase::Waiting { .. }
            | Phase::Paused
            | Phase::Ended
            | Phase::Failed => {}
        }
    }
}

/// A worker is ready in 50 ms; the first start after an installation scans all GStreamer plugins.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Below the bound of the whole server's shutdown.
const DRAIN_LIMIT: Duration = Duration::from_secs(4);
const KILL_AGAIN: Duration = Duration::from_secs(1);
const CRASH_DELAY: Duration = Duration::from_millis(200);
const CRASH_DELAY_CAP: Duration = Duration::from_secs(10);
/// A worker that ran for so long did not die of what it began with: the next one is not put off.
const SOUND: Duration = Duration::from_secs(4);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        delivery::{LEAVE_LIMIT, REFUSAL_BUDGET, RETRY_DELAY_CAP, STABLE},
        link::{Counters, Failure},
        status::FailureCode,
    };

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

    fn connecting(destination: usize) -> Report {
        Report::State {
            destination,
            state: DestinationState::Connecting,
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
    fn a_codec_that_is_not_taken_is_waited_out() {
        let t0 = Instant::now();
        let mut job = running(t0);
        // The second one has failed by itself, and is not in the worker any more.
        job.handle_report(&failed(1, FailureCode::Timeout), t0);
        for destination in 0..2 {
            job.handle_report(&failed(destination, FailureCode::CodecUnsupported), t0);
        }
        assert_eq!(drain(&mut job), [], "the worker goes on");
        // The broadcaster leaves.
        for destination in 0..2 {
            job.handle_report(&connecting(destination), t0);
        }
        let expected = [
            (DestinationState::Connecting, FailureCode::CodecUnsupported),
            (DestinationState::Retrying, FailureCode::Timeout),
        ];
        for (destination, (state, code)) in job.destinations().iter().zip(expected) {
            assert_eq!(destination.state(), state);
            assert_eq!(destination.failure().map(|f| f.code), Some(code));
        }
        assert_eq!(job.destinations()[0].next_try_at(), None);
        let later = t0 + Duration::from_secs(3600);
        let alive = Report::Alive {
            late_ms: 0,
            foreign: None,
            receiving: true,
            cpu_ms: 0,
            counters: Vec::new(),
        };
        job.handle_report(&alive, later);
        job.handle_timeout(later);
        assert_eq!(drain(&mut job), [Action::Connect(1)]);
        for (destination, (_, code)) in expected.into_iter().enumerate() {
            job.handle_report(&live(destination), later);
            let delivery = &job.destinations()[destination];
            assert_eq!(delivery.state(), DestinationState::Live);
            let past = delivery.past().map(|(failure, _)| failure.code);
            assert_eq!(past, Some(code));
        }
        assert_eq!(job.state(), JobState::Running);
    }

    #[test]
    fn what_holds_a_destination_is_no_reason_to_give_it_up() {
        let t0 = Instant::now();
        let mut job = running(t0);
        job.handle_report(&failed(1, FailureCode::DiskFull), t0);
        for destination in 0..2 {
            let failure = Failure {
                code: FailureCode::DiskFull,
                message: String::new(),
            };
            let held = Report::Held {
                destination,
                failure,
            };
            job.handle_report(&held, t0);
        }
        assert_eq!(drain(&mut job), [], "the worker goes on");
        let states = |job: &Job| {
            let states = job.destinations().iter().map(Delivery::state);
            states.collect::<Vec<_>>()
        };
        assert_eq!(
            states(&job),
            [DestinationState::Retrying, DestinationState::Failed]
        );
        assert_eq!(job.destinations()[0].next_try_at(), None);
        job.handle_report(&live(0), t0);
        assert_eq!(states(&job)[0], DestinationState::Live);
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
    fn a_job_is_over_when_only_what_was_given_up_is_left() {
        let t0 = Instant::now();
        let mut job = running(t0);
        for _ in 0..REFUSAL_BUDGET {
            job.handle_report(&failed(0, FailureCode::Rejected), t0);
        }
        job.handle_report(&live(1), t0);
        job.remove(1, t0);
        assert_eq!(drain(&mut job), [Action::Disconnect(1)]);
        let goodbye = Report::State {
            destination: 1,
            state: DestinationState::Ended,
        };
        job.handle_report(&goodbye, t0 + ms(90));
        assert_eq!(drain(&mut job), [Action::Drain]);
        job.handle_worker_gone(t0 + ms(100));
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
            late_ms: 0,
            foreign: None,
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
    fn a_worker_that_keeps_dying_is_put_off_but_never_given_up() {
        let t0 = Instant::now();
        let mut job = Job::new(1, t0);
        job.add(0, false);
        let mut now = t0;
        for _ in 0..100 {
            job.handle_worker_gone(now);
            assert_eq!(job.state(), JobState::Restarting);
            let next = wake(&mut job);
            assert!(next <= now + CRASH_DELAY_CAP);
            now = next;
        }
        assert!(now > t0 + 50 * CRASH_DELAY_CAP / 2);
        drain(&mut job);

        // One that ran for a while is replaced at once, however often.
        for _ in 0..50 {
            job.handle_report(&Report::Ready, now);
            now += SOUND;
            job.handle_worker_gone(now);
            let next = wake(&mut job);
            assert!(next <= now + 2 * CRASH_DELAY);
            now = next;
        }
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
    fn a_silent_worker_is_examined_and_killed() {
        let t0 = Instant::now();
        for starved in [false, true] {
            let mut job = running(t0);
            let old = t0 + STABLE;
            job.handle_report(&Report::KeyframeWanted, old);
            let first = wake(&mut job);
            assert_eq!(drain(&mut job), [Action::Examine]);
            job.handle_examined(starved, first);
            assert_eq!(drain(&mut job), [], "it may still say something");
            let second = wake(&mut job);
            assert_eq!(drain(&mut job), [Action::Examine]);
            job.handle_examined(starved, second);
            let killed: &[Action] = if starved { &[] } else { &[Action::Kill] };
            assert_eq!(drain(&mut job), killed);
            job.handle_worker_gone(second + ms(5));
            assert_eq!(job.state(), JobState::Restarting);
        }
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

    #[test]
    fn a_paused_job_comes_back_with_its_destinations() {
        let t0 = Instant::now();
        let mut job = running(t0);
        drain(&mut job);
        job.pause(t0);
        assert_eq!(drain(&mut job), [Action::Drain]);
        job.handle_worker_gone(t0);
        assert_eq!((job.state(), job.poll_timeout()), (JobState::Paused, None));
        let destination = &job.destinations()[0];
        assert_eq!(destination.state(), DestinationState::Retrying);
        assert_eq!(
            destination.failure().map(|failure| failure.code),
            Some(FailureCode::Overloaded)
        );
        job.resume(t0);
        assert_eq!(drain(&mut job), [Action::Spawn]);
        job.handle_report(&Report::Ready, t0);
        assert_eq!(drain(&mut job).len(), 2, "both are connected again");
        assert_eq!(job.restarts(), 0);
    }

    #[test]
    fn a_job_that_is_paused_can_be_ended_and_one_that_drains_be_resumed() {
        let t0 = Instant::now();
        let mut job = running(t0);
        job.pause(t0);
        job.handle_worker_gone(t0);
        job.end(t0);
        assert_eq!(job.state(), JobState::Ended);
        let mut job = running(t0);
        job.pause(t0);
        job.resume(t0);
        drain(&mut job);
        job.handle_worker_gone(t0);
        assert_eq!(drain(&mut job), [Action::Spawn]);
        let mut job = running(t0);
        job.pause(t0);
        job.end(t0);
        job.handle_worker_gone(t0);
        assert_eq!(job.state(), JobState::Ended);
    }
}
