//! Cloneable handle: typed async calls over a bounded command queue.

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Answer, CloseReason, IceRestart, Join, NegotiateError, ParticipantId, PeerId, PeerStats,
    RestartError, RoomId, RoomStats, Stats, Tap, TapSource,
};

/// Talks to the driver. Calls wait while the command queue (1024 commands) is full.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: mpsc::Sender<Command>,
}

/// Why a call had no result.
#[derive(Debug, Error)]
pub enum HandleError {
    /// The driver has stopped.
    #[error("the media server has stopped")]
    Stopped,
    /// The offer was refused.
    #[error(transparent)]
    Negotiate(#[from] NegotiateError),
}

/// Why an ICE session was not begun anew.
#[derive(Debug, Error)]
pub enum RestartIceError {
    /// The driver has stopped.
    #[error("the media server has stopped")]
    Stopped,
    /// The fragment was refused.
    #[error(transparent)]
    Refused(#[from] RestartError),
}

/// What the control plane asks of a shard.
#[derive(Debug)]
pub(crate) enum Command {
    Negotiate {
        join: Join,
        offer: String,
        reply: oneshot::Sender<Result<Answer, NegotiateError>>,
    },
    Close {
        peer: PeerId,
        reason: CloseReason,
    },
    Send {
        peer: PeerId,
        label: &'static str,
        payload: Bytes,
    },
    Broadcast {
        room: RoomId,
        label: &'static str,
        payload: Bytes,
    },
    Feature {
        room: RoomId,
        participant: Option<ParticipantId>,
    },
    Tap {
        room: RoomId,
        source: TapSource,
        reply: oneshot::Sender<Tap>,
    },
    Stats {
        reply: oneshot::Sender<Stats>,
    },
    RoomStats {
        room: RoomId,
        reply: oneshot::Sender<RoomStats>,
    },
    RestartIce {
        peer: PeerId,
        fragment: String,
        reply: oneshot::Sender<Result<Option<IceRestart>, RestartError>>,
    },
    Limit {
        peer: PeerId,
        highest: Option<u8>,
    },
    PeerStats {
        peer: PeerId,
        reply: oneshot::Sender<Option<PeerStats>>,
    },
}

impl Handle {
    /// Creates a handle and the queue that its shard reads.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Command>) {
        let (commands, queue) = mpsc::channel(QUEUED_COMMANDS);
        (Self { commands }, queue)
    }

    /// Accepts an offer; see [`sfu_core::Sfu::negotiate`]. A peer whose caller has gone away meanwhile is
    /// closed again.
    ///
    /// # Errors
    /// [`HandleError`]
    pub async fn negotiate(&self, join: Join, offer: String) -> Result<Answer, HandleError> {
        let answer = self
            .ask(|reply| Command::Negotiate { join, offer, reply })
            .await??;
        Ok(answer)
    }

    /// Begins a new ICE session of a peer if the fragment (RFC 8840) or offer has other credentials than its
    /// present session; see [`sfu_core::Sfu::restart_ice`].
    ///
    /// # Errors
    /// [`RestartIceError`]
    pub async fn restart_ice(
        &self,
        peer: PeerId,
        fragment: String,
    ) -> Result<Option<IceRestart>, RestartIceError> {
        let answer = self.ask(|reply| Command::RestartIce {
            peer,
            fragment,
            reply,
        });
        let answer = answer.await.map_err(|_| RestartIceError::Stopped)?;
        Ok(answer?)
    }

    /// Limits the layers of the videos that a viewer is sent; see [`sfu_core::Sfu::limit`].
    pub async fn limit(&self, peer: PeerId, highest: Option<u8>) {
        self.tell(Command::Limit { peer, highest }).await;
    }

    /// Closes a peer. Unknown peers are ignored.
    pub async fn close(&self, peer: PeerId, reason: CloseReason) {
        self.tell(Command::Close { peer, reason }).await;
    }

    /// Sends a text message to one peer's data channel; dropped when the channel is not open or too slow.
    pub async fn send(&self, peer: PeerId, label: &'static str, payload: Bytes) {
        self.tell(Command::Send {
            peer,
            label,
            payload,
        })
        .await;
    }

    /// Sends a text message to everyone in the room who has the channel open.
    pub async fn broadcast(&self, room: RoomId, label: &'static str, payload: Bytes) {
        self.tell(Command::Broadcast {
            room,
            label,
            payload,
        })
        .await;
    }

    /// Puts a participant into the room's program whoever speaks, or lets the speakers have it again; see
    /// [`sfu_core::Sfu::feature`].
    pub async fn feature(&self, room: RoomId, participant: Option<ParticipantId>) {
        self.tell(Command::Feature { room, participant }).await;
    }

    /// Opens a tap. It ends when dropped.
    ///
    /// # Errors
    /// [`HandleError::Stopped`]
    pub async fn tap(&self, room: RoomId, source: TapSource) -> Result<Tap, HandleError> {
        self.ask(|reply| Command::Tap {
            room,
            source,
            reply,
        })
        .await
    }

    /// Returns the totals.
    ///
    /// # Errors
    /// [`HandleError::Stopped`]
    pub async fn stats(&self) -> Result<Stats, HandleError> {
        self.ask(|reply| Command::Stats { reply }).await
    }

    /// Returns one room's state.
    ///
    /// # Errors
    /// [`HandleError::Stopped`]
    pub async fn room_stats(&self, room: RoomId) -> Result<RoomStats, HandleError> {
        self.ask(|reply| Command::RoomStats { room, reply }).await
    }

    /// Returns one peer's state.
    ///
    /// # Errors
    /// [`HandleError::Stopped`]
    pub async fn peer_stats(&self, peer: PeerId) -> Result<Option<PeerStats>, HandleError> {
        self.ask(|reply| Command::PeerStats { peer, reply }).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, HandleError> {
        let (reply, answer) = oneshot::channel();
        self.tell(command(reply)).await;
        // A stopped driver drops the command, and with it the reply.
        answer.await.map_err(|_| HandleError::Stopped)
    }

    async fn tell(&self, command: Command) {
        // Without a driver there are no peers, and nothing to be done.
        let _ = self.commands.send(command).await;
    }
}

/// Most commands waiting; callers wait for room.
const QUEUED_COMMANDS: usize = 1024;
