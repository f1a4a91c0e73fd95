//! Tells a destination's thread to end, and wakes it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll},
    fd::{AsFd, BorrowedFd, OwnedFd},
    io::{read, write},
};

/// A wake-up call that a thread can wait for together with its socket.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    stopped: AtomicBool,
    /// `None` when the process has no descriptor left; then the thread wakes with its next time-out.
    event: Option<OwnedFd>,
}

impl Default for Shared {
    fn default() -> Self {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        Self {
            stopped: AtomicBool::new(false),
            event: eventfd(0, flags).ok(),
        }
    }
}

impl Stop {
    /// Tells the thread to end.
    pub(crate) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }

    /// Wakes the thread: there is something to do.
    pub(super) fn wake(&self) {
        if let Some(event) = &self.shared.event {
            let _ = write(event, &1_u64.to_ne_bytes());
        }
    }

    /// Waits for a wake-up, at most `timeout`, and takes it.
    pub(super) fn wait(&self, timeout: Duration) {
        match &self.shared.event {
            Some(event) => {
                let mut descriptor = [PollFd::new(event, PollFlags::IN)];
                // Whatever it says, the caller looks for itself.
                let _ = poll(&mut descriptor, Timespec::try_from(timeout).ok().as_ref());
                self.clear();
            }
            None => thread::sleep(timeout),
        }
    }

    /// What becomes readable with a wake-up.
    pub(super) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.shared.event.as_ref().map(AsFd::as_fd)
    }

    /// Takes the wake-ups so far.
    pub(super) fn clear(&self) {
        if let Some(event) = &self.shared.event {
            let _ = read(event, &mut [0; 8]);
        }
    }
}
