//! Runs `sfu-core`: sockets, clock and command queue. Everything async about media is here.
//!
//! [`bind`] opens the sockets and returns a [`Driver`] to be run by a task, a cloneable [`Handle`] for the
//! control plane, and the stream of [`Event`]s.

mod address;
mod batch;
mod config;
mod driver;
mod events;
mod handle;
mod hold;
mod link;
mod load;
mod meters;
mod port;
mod receive;
mod rest;
mod shard;
mod socket;
mod tap;
mod tcp;

pub use address::Reach;
pub use config::{BindError, Config};
pub use driver::{Driver, bind};
pub use handle::{Handle, HandleError, RestartIceError};
pub use sfu_core::{
    Answer, CloseReason, Codec, ESTIMATE_STEPS, Event, IceRestart, Join, LayerStats, MediaKind,
    NegotiateError, ParticipantId, PeerId, PeerStats, PublicationId, RestartError, Role,
    RoomConfig, RoomId, RoomStats, Snapshot, Stats, TapPacket, TapSource, TapVideo,
};
pub use tap::Tap;
