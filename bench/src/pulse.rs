//! The pulse of a processor: when it was taken away from everybody who runs on it.
//!
//! Virtual machines lose their processors to others, and a kernel that does not preempt itself keeps them for
//! tens of milliseconds. No server can do anything about that, and none is to be blamed for it.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{server, socket::wall_clock};

/// A thread that wants nothing but to wake up in time, before everybody else on its processor. It ends when
/// dropped.
pub(crate) struct Pulse {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    pauses: Mutex<VecDeque<Range<i64>>>,
    stop: AtomicBool,
}

impl Pulse {
    /// Starts one on each processor. There are none without the right to go before everybody else.
    pub(crate) fn start_all(processors: &[usize]) -> Vec<Self> {
        processors.iter().copied().map_while(Self::start).collect()
    }

    /// Starts it on a processor. `None` without the right to go before everybody else: then a late wake-up says
    /// nothing.
    fn start(processor: usize) -> Option<Self> {
        let shared = Arc::new(Shared::default());
        let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
        let seen = Arc::clone(&shared);
        let run = move || {
            let is_first = server::pin(&[processor]).is_ok()
                && rustix::process::setpriority_process(None, HIGHEST).is_ok();
            if ready.send(is_first).is_ok() && is_first {
                seen.run();
            }
        };
        let thread = thread::Builder::new().name("pulse".to_owned()).spawn(run);
        let pulse = Self {
            shared,
            thread: thread.ok(),
        };
        is_ready.recv().ok()?.then_some(pulse)
    }

    /// Returns when the processor was away lately, in nanoseconds since the Unix epoch, the oldest first.
    pub(crate) fn pauses(&self) -> Vec<Range<i64>> {
        self.shared.lock().iter().cloned().collect()
    }
}

impl Shared {
    fn run(&self) {
        let mut before = wall_clock();
        while !self.stop.load(Ordering::Acquire) {
            thread::sleep(BEAT);
            let now = wall_clock();
            if now - before >= PAUSE {
                let mut pauses = self.lock();
                if pauses.len() >= KEPT {
                    pauses.pop_front();
                }
                pauses.push_back(before..now);
            }
            before = now;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Range<i64>>> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// As `nice`.
const HIGHEST: i32 = -20;

const BEAT: Duration = Duration::from_millis(2);

/// A wake-up that comes this much after the one before, in nanoseconds: more than two ticks of any kernel.
const PAUSE: i64 = 12_000_000;

/// Some minutes of a very busy machine.
const KEPT: usize = 1000;
