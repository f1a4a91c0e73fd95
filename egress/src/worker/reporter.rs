//! The way back to the supervisor.

use std::{
    io::Write as _,
    os::unix::net::UnixStream,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use crate::link::{self, Report};

/// Sends reports. At most [`QUEUE_LIMIT`] wait; a supervisor that reads none of them is gone or broken, and the
/// process ends.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    /// `None` for one that says nothing.
    queue: Option<SyncSender<Vec<u8>>>,
}

impl Reporter {
    /// Starts the thread that writes to `control`; it ends after [`Self::finish`].
    pub(crate) fn start(control: UnixStream) -> (Self, JoinHandle<()>) {
        let (queue, frames) = sync_channel(QUEUE_LIMIT);
        let writer = thread::spawn(move || write_frames(control, &frames));
        (Self { queue: Some(queue) }, writer)
    }

    /// Returns one that says nothing.
    pub(crate) fn silent() -> Self {
        Self { queue: None }
    }

    /// Never blocks.
    pub(crate) fn send(&self, report: &Report, body: &[u8]) {
        let Some(queue) = &self.queue else { return };
        let sent = match link::encode_frame(report, body) {
            Ok(frame) => queue.try_send(frame).is_ok(),
            Err(_) => false,
        };
        if !sent {
            std::process::exit(2);
        }
    }

    /// Ends the writing once everything that was sent is written.
    pub(crate) fn finish(&self) {
        if let Some(queue) = &self.queue {
            let _ = queue.send(Vec::new());
        }
    }
}

fn write_frames(mut control: UnixStream, frames: &Receiver<Vec<u8>>) {
    for frame in frames.iter().take_while(|frame| !frame.is_empty()) {
        if control.write_all(&frame).is_err() {
            std::process::exit(2);
        }
    }
}

const QUEUE_LIMIT: usize = 256;
