//! One destination of a job: when it is tried again, and when it is given up.

use std::time::{Duration, Instant};

use crate::{
    backoff::Backoff,
    link::{Counters, Failure},
    rate::Rate,
    status::{DestinationState, FailureCode},
};

/// How it goes with one destination of a job.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// Never used twice in a job.
    number: usize,
    phase: Phase,
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
enum Phase {
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

impl Delivery {
    /// Creates one that is about to be connected. `proved` says that its key was accepted before, so that a
    /// refusal is not the key's fault.
    pub(crate) fn new(number: usize, proved: bool, seed: u64) -> Self {
        Self {
            number,
            past: None,
            phase: Phase::Connecting,
            attempt: 0,
            failure: None,
            backoff: Backoff::new(RETRY_DELAY, RETRY_DELAY_CAP, seed),
            was_live: proved,
            refusals: 0,
            before: Counters::default(),
            current: Counters::default(),
            rate: Rate::default(),
        }
    }

    pub(crate) fn state(&self) -> DestinationState {
        match self.phase {
            Phase::Connecting => DestinationState::Connecting,
            Phase::Live { .. } => DestinationState::Live,
            Phase::Retrying { .. } => DestinationState::Retrying,
            Phase::Failed => DestinationState::Failed,
            Phase::Leaving { .. } | Phase::Ended => DestinationState::Ended,
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
            Phase::Live { since } => Some(since),
            Phase::Connecting
            | Phase::Retrying { .. }
            | Phase::Failed
            | Phase::Leaving { .. }
            | Phase::Ended => None,
        }
    }

    pub(crate) fn next_try_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Retrying { at } => at,
            Phase::Connecting
            | Phase::Live { .. }
            | Phase::Failed
            | Phase::Leaving { .. }
            | Phase::Ended => None,
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
            Phase::Live { .. } => self.rate.bits_per_second(now),
            Phase::Connecting
            | Phase::Retrying { .. }
            | Phase::Failed
            | Phase::Leaving { .. }
            | Phase::Ended => 0,
        }
    }

    /// Takes in what was delivered since the worker started.
    pub(crate) fn handle_counters(&mut self, counters: Counters, now: Instant) {
        // One that is tried again after it was ended is counted anew.
        if counters.bytes < self.current.bytes {
            self.bank_counters();
        }
        self.current = counters;
        self.rate.record(self.counters().bytes, now);
    }

    /// Takes in what the worker says of it.
    pub(crate) fn handle_state(&mut self, state: DestinationState, now: Instant) {
        let given_up = matches!(
            self.phase,
            Phase::Failed | Phase::Leaving { .. } | Phase::Ended
        );
        match state {
            DestinationState::Live if !given_up => {
                self.phase = Phase::Live { since: now };
                if let Some(failure) = self.failure.take() {
                    self.past = Some((failure, now));
                }
                self.was_live = true;
                self.refusals = 0;
                self.attempt = 0;
            }
            // One that waits for its next try has ended; what is said of all destinations does not concern it.
            DestinationState::Connecting
                if !given_up && !matches!(self.phase, Phase::Retrying { at: Some(_) }) =>
            {
                self.phase = Phase::Connecting;
            }
            DestinationState::Ended => match &mut self.phase {
                Phase::Leaving { until } => *until = now,
                Phase::Failed => {}
                Phase::Connecting | Phase::Live { .. } | Phase::Retrying { .. } | Phase::Ended => {
                    self.phase = Phase::Ended
                }
            },
            DestinationState::Live
            | DestinationState::Connecting
            | DestinationState::Retrying
            | DestinationState::Failed => {}
        }
    }

    /// Takes in that an attempt, or the delivery, has failed.
    pub(crate) fn handle_failure(&mut self, failure: Failure, now: Instant) {
        match &mut self.phase {
            Phase::Leaving { until } => {
                *until = now;
                return;
            }
            Phase::Failed | Phase::Ended => return,
            // A connection that breaks at once is no reason to try faster.
            Phase::Live { since } if now >= *since + STABLE => self.backoff.reset(),
            Phase::Live { .. } | Phase::Connecting | Phase::Retrying { .. } => {}
        }
        if failure.code == FailureCode::CodecUnsupported {
            return self.hold(failure);
        }
        let refused = !self.was_live;
        let (refusals, budget) = match failure.code {
            FailureCode::Rejected | FailureCode::PassphraseWrong if refused => {
                (self.refusals + 1, REFUSAL_BUDGET)
            }
            FailureCode::AlreadyPublishing if refused => (self.refusals + 1, BUSY_BUDGET),
            FailureCode::PrivateAddress | FailureCode::DiskFull => (1, 1),
            FailureCode::Rejected
            | FailureCode::PassphraseWrong
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
            | FailureCode::CodecUnsupported
            | FailureCode::Overloaded
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
            Phase::Failed
        } else {
            Phase::Retrying {
                at: Some(now + delay),
            }
        };
    }

    /// Takes in why it cannot do its work at the moment. The worker goes on with it, and says when it is live again.
    /// One that has failed by itself still waits for its next try, and says why.
    pub(crate) fn hold(&mut self, failure: Failure) {
        match self.phase {
            Phase::Connecting | Phase::Live { .. } | Phase::Retrying { at: None } => {
                self.failure = Some(failure);
                self.phase = Phase::Retrying { at: None };
            }
            Phase::Retrying { at: Some(_) }
            | Phase::Failed
            | Phase::Leaving { .. }
            | Phase::Ended => {}
        }
    }

    /// Returns whether to connect to it now that a worker is ready.
    pub(crate) fn start_attempt(&mut self) -> bool {
        let wanted = match &mut self.phase {
            Phase::Connecting => true,
            Phase::Live { .. } => {
                self.phase = Phase::Connecting;
                true
            }
            // One that waits for its next try goes on waiting.
            Phase::Retrying { at } => at.is_none(),
            Phase::Failed | Phase::Leaving { .. } | Phase::Ended => false,
        };
        self.attempt += u32::from(wanted);
        wanted
    }

    /// Returns whether to try it again now.
    pub(crate) fn take_due_retry(&mut self, now: Instant) -> bool {
        let Phase::Retrying { at } = &mut self.phase else {
            return false;
        };
        let due = at.is_some_and(|at| now >= at);
        if due {
            *at = None;
            self.attempt += 1;
        }
        due
    }

    /// Makes it wait for its next try no longer, even if it was given up. Returns whether it was waiting.
    pub(crate) fn stop_waiting(&mut self) -> bool {
        let waiting = match self.phase {
            Phase::Failed => true,
            Phase::Retrying { at } => at.is_some(),
            Phase::Connecting | Phase::Live { .. } | Phase::Leaving { .. } | Phase::Ended => false,
        };
        if waiting {
            self.refusals = 0;
            self.backoff.reset();
            self.phase = Phase::Connecting;
        }
        waiting
    }

    /// Takes it out of the job.
    pub(crate) fn leave(&mut self, now: Instant) {
        self.phase = Phase::Leaving {
            until: now + LEAVE_LIMIT,
        };
    }

    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving { .. })
    }

    /// Returns whether it was taken out and has had its time for a goodbye.
    pub(crate) fn has_left(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Leaving { until } if now >= until)
    }

    /// Takes in that the job is over.
    pub(crate) fn end(&mut self) {
        if self.phase != Phase::Failed {
            self.phase = Phase::Ended;
        }
    }

    /// Returns when something is to be done about it.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Retrying { at } => at,
            Phase::Leaving { until } => Some(until),
            Phase::Connecting | Phase::Live { .. } | Phase::Failed | Phase::Ended => None,
        }
    }

    /// Takes in that the job is paused for want of processor time.
    pub(crate) fn pause(&mut self) {
        if !matches!(self.phase, Phase::Failed | Phase::Leaving { .. }) {
            self.failure = Some(Failure {
                code: FailureCode::Overloaded,
                message: "This server has more to do than it can. The newest outputs pause until there is room: \
                          end others, or choose a smaller preset."
                    .to_owned(),
            });
            self.phase = Phase::Retrying { at: None };
        }
    }

    /// Takes in that the worker process is gone.
    pub(crate) fn handle_worker_death(&mut self) {
        match &mut self.phase {
            Phase::Live { .. } => {
                self.failure = Some(Failure {
                    code: FailureCode::WorkerDied,
                    message: "The process that sends this output ended unexpectedly. It is being \
                              started again."
                        .to_owned(),
                });
                self.phase = Phase::Retrying { at: None };
            }
            Phase::Connecting
            | Phase::Retrying { .. }
            | Phase::Failed
            | Phase::Leaving { .. }
            | Phase::Ended => {}
        }
    }

    /// Adds what the last worker delivered to what those before did.
    pub(crate) fn bank_counters(&mut self) {
        self.before = self.counters();
        self.current = Counters::default();
    }
}

/// What ran this long was not broken from the start.
pub(crate) const STABLE: Duration = Duration::from_secs(30);
const RETRY_DELAY: Duration = Duration::from_millis(800);
pub(crate) const RETRY_DELAY_CAP: Duration = Duration::from_secs(8);
const REFUSED_DELAY: Duration = Duration::from_secs(3);
/// A key that was refused so often before it ever worked is wrong.
pub(crate) const REFUSAL_BUDGET: u32 = 2;
/// A server may take a while to forget the session of an earlier job: about 45 s.
const BUSY_BUDGET: u32 = 15;
/// A session of our own that the server has not given up yet is not far from its end.
const BUSY_DELAY_CAP: Duration = Duration::from_millis(1500);
/// A server that worked is live again soon after its return.
const RETURN_DELAY_CAP: Duration = Duration::from_millis(1200);
/// How long a destination that was taken out has for its goodbye.
pub(crate) const LEAVE_LIMIT: Duration = Duration::from_secs(4);
