//! Tells a destination's thread to end, and wakes it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{TryRecvError, sync_channel},
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

    /// Does `work`, which cannot be interrupted, on a thread of its own, and waits for it. `None` when told to end
    /// before: nobody waits for it then.
    pub(super) fn unless_stopped<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, outcome) = sync_channel(1);
        let waiting = self.clone();
        thread::spawn(move || {
            let _ = done.send(work());
            waiting.wake();
        });
        while !self.is_stopped() {
            match outcome.try_recv() {
                Ok(outcome) => return Some(outcome),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => self.wait(WORK_POLL),
            }
        }
        None
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

/// A wake-up may have been taken for another.
const WORK_POLL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use std::{sync::mpsc::channel, time::Instant};

    use super::*;

    #[test]
    fn what_takes_long_is_not_waited_for_by_who_is_to_end() {
        let stop = Stop::default();
        assert_eq!(stop.unless_stopped(|| 7), Some(7));
        let (release, held) = channel::<()>();
        let (ending, started) = (stop.clone(), Instant::now());
        let ended = thread::spawn(move || stop.unless_stopped(move || held.recv()));
        ending.stop();
        assert!(ended.join().unwrap().is_none());
        assert!(started.elapsed() < Duration::from_secs(5));
        drop(release);
    }
}
