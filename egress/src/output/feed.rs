//! What stands between the programme and a session: frames are queued, and the session's thread is woken.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sfu::MediaKind;

use super::{
    Meter, Stop,
    queue::{Queue, Taken},
};
use crate::pipeline::{Air, Frame, Output};

/// A queue that the programme fills and a session empties.
pub(super) type SharedQueue = Arc<Mutex<Queue>>;

/// Puts frames into a session's queue.
pub(super) struct Feed {
    air: Air,
    video: bool,
    queue: SharedQueue,
    stop: Stop,
    meter: Arc<Meter>,
}

impl Feed {
    /// Feeds a new queue with what is on `air`.
    pub(super) fn new(air: Air, video: bool, stop: &Stop, meter: &Arc<Meter>) -> Self {
        Self {
            air,
            video,
            queue: Arc::new(Mutex::new(Queue::new(video))),
            stop: stop.clone(),
            meter: meter.clone(),
        }
    }

    pub(super) fn queue(&self) -> SharedQueue {
        self.queue.clone()
    }
}

impl Output for Feed {
    fn switch(&mut self, air: Air) {
        if air != self.air {
            // The session notices by itself, and ends.
            self.air = Air::Off;
            self.stop.wake();
        }
    }

    fn push(&mut self, frame: &Frame) {
        if self.air == Air::Off {
            return;
        }
        let taken = lock(&self.queue).push(frame);
        if taken == Taken::Dropped {
            self.meter.count_dropped(1);
        }
        // One wake-up a picture is enough: sound leaves with it, or with the next time-out.
        if taken == Taken::Queued && (frame.kind == MediaKind::Video || !self.video) {
            self.stop.wake();
        }
    }
}

pub(super) fn lock(queue: &Mutex<Queue>) -> MutexGuard<'_, Queue> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}
