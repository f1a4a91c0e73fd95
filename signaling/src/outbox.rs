//! [`Outbox`]: what waits to be sent to one WebSocket session.

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::protocol::ServerMessage;

/// Frames waiting for one session, at most [`OUTBOX_LIMIT`]. When full, the session is closed as too slow:
/// a reconnect and a fresh snapshot cost less than replaying what it missed.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Message>,
    too_slow: CancellationToken,
}

/// The other end: the driver of the session's socket reads it.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) frames: mpsc::Receiver<Message>,
    /// Cancelled when a frame did not fit.
    pub(crate) too_slow: CancellationToken,
}

impl Outbox {
    pub(crate) fn new() -> (Self, Waiting) {
        let (queue, frames) = mpsc::channel(OUTBOX_LIMIT);
        let too_slow = CancellationToken::new();
        (
            Self {
                queue,
                too_slow: too_slow.clone(),
            },
            Waiting { frames, too_slow },
        )
    }

    pub(crate) fn push(&self, message: &ServerMessage) {
        self.push_text(text(message));
    }

    /// Takes a message written once for many sessions.
    pub(crate) fn push_text(&self, text: Utf8Bytes) {
        self.push_frame(Message::Text(text));
    }

    pub(crate) fn ping(&self) {
        self.push_frame(Message::Ping(Bytes::new()));
    }

    /// Closes the socket once everything before has been sent.
    pub(crate) fn close(&self, code: u16, reason: &'static str) {
        self.push_frame(Message::Close(Some(CloseFrame {
            code,
            reason: reason.into(),
        })));
    }

    /// Closes the session: something that it must know could not be queued.
    pub(crate) fn give_up(&self) {
        self.too_slow.cancel();
    }

    /// Returns whether the session was given up.
    pub(crate) fn has_given_up(&self) -> bool {
        self.too_slow.is_cancelled()
    }

    fn push_frame(&self, frame: Message) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.queue.try_send(frame) {
            self.give_up();
        }
    }
}

/// Writes a message.
pub(crate) fn text(message: &ServerMessage) -> Utf8Bytes {
    serde_json::to_string(message)
        .expect("wire types are JSON")
        .into()
}

/// More than a page misses while its tab is busy, and little enough for thousands of sessions.
const OUTBOX_LIMIT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_that_does_not_read_is_given_up() {
        let (outbox, waiting) = Outbox::new();
        for _ in 0..OUTBOX_LIMIT {
            outbox.push(&ServerMessage::Pong {});
        }
        assert!(!waiting.too_slow.is_cancelled());
        outbox.push(&ServerMessage::Pong {});
        assert!(waiting.too_slow.is_cancelled());
    }

    #[test]
    fn gone_session_is_not_too_slow() {
        let (outbox, waiting) = Outbox::new();
        let too_slow = waiting.too_slow.clone();
        drop(waiting);
        outbox.push(&ServerMessage::Pong {});
        assert!(!too_slow.is_cancelled());
    }
}
