//! Cloneable handle: typed async calls over a bounded command queue.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sfu_core::ShardId;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Answer, CloseReason, IceRestart, Join, NegotiateError, ParticipantId, PeerId, PeerStats,
    RestartError, RoomId, RoomStats, Snapshot, Stats, Tap, TapSource,
    load::{self, Load, Place},
};

/// Talks to the driver. Calls wait while a shard's command queue (1024 commands) is full.
#[derive(Clone, Debug)]
pub struct Handle {
    shards: Arc<[Door]>,
    max_peers: usize,
}

/// The way to one shard.
#[derive(Debug)]
struct Door {
    commands: mpsc::Sender<Command>,
    load: Load,
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
        home: ShardId,
        place: Place,
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
    Snapshot {
        room: RoomId,
        fresh: Option<Duration>,
        reply: oneshot::Sender<Option<Snapshot>>,
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
    /// Creates a handle for this many shards and peers, and the queues that the shards read.
    pub(crate) fn new(shards: u8, max_peers: usize) -> (Self, Vec<mpsc::Receiver<Command>>) {
        let (doors, queues): (Vec<_>, Vec<_>) = (0..shards)
            .map(|_| {
                let (commands, queue) = mpsc::channel(QUEUED_COMMANDS);
                let load = Load::default();
                (Door { commands, load }, queue)
            })
            .unzip();
        let shards = doors.into();
        (Self { shards, max_peers }, queues)
    }

    /// Accepts an offer; see [`sfu_core::Sfu::negotiate`]. A peer whose caller has gone away meanwhile is
    /// closed again.
    ///
    /// # Errors
    /// [`HandleError`]
    pub async fn negotiate(&self, join: Join, offer: String) -> Result<Answer, HandleError> {
        let loads: Vec<usize> = self.shards.iter().map(|door| door.load.peers()).collect();
        if loads.iter().sum::<usize>() >= self.max_peers {
            return Err(NegotiateError::Full.into());
        }
        let shard = load::shard_for(join.role, join.room, &loads);
        let door = self.door(shard).ok_or(HandleError::Stopped)?;
        let home = self.home_of(join.room);
        let place = door.load.take();
        let answer = self
            .ask(shard, |reply| Command::Negotiate {
                join,
                offer,
                home,
                place,
                reply,
            })
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
        let answer = self.ask(ShardId::of_peer(peer), |reply| Command::RestartIce {
            peer,
            fragment,
            reply,
        });
        let answer = answer.await.map_err(|_| RestartIceError::Stopped)?;
        Ok(answer?)
    }

    /// Limits the layers of the videos that a viewer is sent; see [`sfu_core::Sfu::limit`].
    pub async fn limit(&self, peer: PeerId, highest: Option<u8>) {
        let limit = Command::Limit { peer, highest };
        self.tell(ShardId::of_peer(peer), limit).await;
    }

    /// Closes a peer. Unknown peers are ignored.
    pub async fn close(&self, peer: PeerId, reason: CloseReason) {
        let shard = ShardId::of_peer(peer);
        self.tell(shard, Command::Close { peer, reason }).await;
    }

    /// Sends a text message to one peer's data channel; dropped when the channel is not open or too slow.
    pub async fn send(&self, peer: PeerId, label: &'static str, payload: Bytes) {
        let command = Command::Send {
            peer,
            label,
            payload,
        };
        self.tell(ShardId::of_peer(peer), command).await;
    }

    /// Sends a text message to everyone in the room who has the channel open.
    pub async fn broadcast(&self, room: RoomId, label: &'static str, payload: Bytes) {
        for shard in self.all() {
            let command = Command::Broadcast {
                room,
                label,
                payload: payload.clone(),
            };
            self.tell(shard, command).await;
        }
    }

    /// Puts a participant into the room's program whoever speaks, or lets the speakers have it again; see
    /// [`sfu_core::Sfu::feature`].
    pub async fn feature(&self, room: RoomId, participant: Option<ParticipantId>) {
        let command = Command::Feature { room, participant };
        self.tell(self.home_of(room), command).await;
    }

    /// Opens a tap. It ends when dropped.
    ///
    /// # Errors
    /// [`HandleError::Stopped`]
    pub async fn tap(&self, room: RoomId, source: TapSource) -> Result<Tap, HandleError> {
        self.ask(self.home_of(room), |reply| Command::Tap {
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
        let mut total = Stats::default();
        for shard in self.all() {
            let stats = self.ask(shard, |reply| Command::Stats { reply }).await?;
            total.merge(&stats);
        }
        Ok(total)
    }

    /// Returns one room's state.
    ///
    /// # Errors
    /// [`HandleError::Stopped`]
    pub async fn room_stats(&self, room: RoomId) -> Result<RoomStats, HandleError> {
        let mut total = RoomStats::default();
        for shard in self.all() {
            let stats = self.ask(shard, |reply| Command::RoomStats { room, reply });
            total.merge(&stats.await?);
        }
        Ok(total)
    }

    /// Returns the newest keyframe of what a room shows; see [`sfu_core::Sfu::snapshot`].
    ///
    /// # Errors
    /// [`HandleError::Stopped`]
    pub async fn snapshot(
        &self,
        room: RoomId,
        fresh: Option<Duration>,
    ) -> Result<Option<Snapshot>, HandleError> {
        self.ask(self.home_of(room), |reply| Command::Snapshot {
            room,
            fresh,
            reply,
        })
        .await
    }

    /// Returns one peer's state.
    ///
    /// # Errors
    /// [`HandleError::Stopped`]
    pub async fn peer_stats(&self, peer: PeerId) -> Result<Option<PeerStats>, HandleError> {
        let shard = ShardId::of_peer(peer);
        self.ask(shard, |reply| Command::PeerStats { peer, reply })
            .await
    }

    async fn ask<T>(
        &self,
        shard: ShardId,
        command: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, HandleError> {
        let (reply, answer) = oneshot::channel();
        self.tell(shard, command(reply)).await;
        // A stopped driver drops the command, and with it the reply.
        answer.await.map_err(|_| HandleError::Stopped)
    }

    async fn tell(&self, shard: ShardId, command: Command) {
        // Without a driver there are no peers, and nothing to be done; nor for the peer of a shard that
        // does not exist.
        if let Some(door) = self.door(shard) {
            let _ = door.commands.send(command).await;
        }
    }

    fn home_of(&self, room: RoomId) -> ShardId {
        load::home_of(room, self.shards.len())
    }

    fn door(&self, shard: ShardId) -> Option<&Door> {
        self.shards.get(usize::from(shard.0))
    }

    fn all(&self) -> impl Iterator<Item = ShardId> + use<> {
        let count = u8::try_from(self.shards.len()).unwrap_or(u8::MAX);
        (0..count).map(ShardId)
    }
}

/// Most commands waiting; callers wait for room.
const QUEUED_COMMANDS: usize = 1024;
