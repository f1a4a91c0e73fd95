//! Cloneable handle: typed async calls over a bounded command queue.

use bytes::Bytes;
use thiserror::Error;

use crate::{
    Answer, CloseReason, Join, NegotiateError, PeerId, PeerStats, RoomId, RoomStats, Stats, Tap,
};

/// Talks to the driver. Calls wait while the command queue (1024 commands) is full.
#[derive(Clone, Debug)]
pub struct Handle {}

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

impl Handle {
    /// Accepts an offer; see [`sfu_core::Sfu::negotiate`].
    ///
    /// # Errors
    /// [`HandleError`]
    pub async fn negotiate(&self, _join: Join, _offer: String) -> Result<Answer, HandleError> {
        unimplemented!()
    }

    /// Closes a peer. Unknown peers are ignored.
    pub async fn close(&self, _peer: PeerId, _reason: CloseReason) {
        unimplemented!()
    }

    /// Sends a text message to one peer's data channel; dropped when the channel is not open or too slow.
    pub async fn send(&self, _peer: PeerId, _label: &'static str, _payload: Bytes) {
        unimplemented!()
    }

    /// Sends a text message to everyone in the room who has the channel open.
    pub async fn broadcast(&self, _room: RoomId, _label: &'static str, _payload: Bytes) {
        unimplemented!()
    }

    /// Opens a tap on the room's program. It ends when dropped.
    ///
    /// # Errors
    /// [`HandleError::Stopped`]
    pub async fn tap(&self, _room: RoomId) -> Result<Tap, HandleError> {
        unimplemented!()
    }

    /// Returns the totals.
    ///
    /// # Errors
    /// [`HandleError::Stopped`]
    pub async fn stats(&self) -> Result<Stats, HandleError> {
        unimplemented!()
    }

    /// Returns one room's state.
    ///
    /// # Errors
    /// [`HandleError::Stopped`]
    pub async fn room_stats(&self, _room: RoomId) -> Result<RoomStats, HandleError> {
        unimplemented!()
    }

    /// Returns one peer's state.
    ///
    /// # Errors
    /// [`HandleError::Stopped`]
    pub async fn peer_stats(&self, _peer: PeerId) -> Result<Option<PeerStats>, HandleError> {
        unimplemented!()
    }
}
