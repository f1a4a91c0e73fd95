//! The selective forwarding unit as a sans-I/O state machine.
//!
//! Owns every decision between a received datagram and the datagrams it causes: ICE, DTLS, SRTP, SCTP,
//! the room's media graph, retransmission, reports. Refuses to know sockets, clocks, threads, people,
//! permissions and chat: time arrives as a value, bytes leave in [`Outgoing`].

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]
#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        clippy::cast_possible_truncation,
        reason = "tests make their own time and know their numbers"
    )
)]

mod allocate;
mod allotment;
mod av1;
mod clock;
mod delay;
mod demand;
mod demux;
mod departures;
mod dependency;
mod estimate;
mod event;
mod fallback;
mod flow;
mod frame;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzz;
mod h264;
mod held;
mod history;
mod id;
mod ingress;
mod keyframe;
mod ladder;
mod layer;
mod media;
mod nack;
mod negotiate;
mod numbering;
mod outgoing;
mod pacer;
mod path;
mod peer;
mod peers;
mod picture;
mod probe;
mod publication;
mod reading;
mod reception;
mod red;
mod relay;
mod repeat;
mod replay;
mod rewrite;
mod rng;
mod room;
mod sequence;
mod sfu;
mod shard;
mod slot;
mod snapshot;
mod speaker;
mod stage;
mod stats;
mod subscription;
mod tap;
pub mod tcp;
mod throughput;
mod timers;
pub mod transport;
mod twcc;
mod vp8;
mod vp9;

pub use event::{CloseReason, Event};
pub use id::{Mid, ParticipantId, PeerId, Pt, PublicationId, RoomId, Ssrc, SubscriptionId, TapId};
pub use media::{Codec, MediaKind, TapPacket};
pub use outgoing::Outgoing;
pub use path::{Local, Path};
pub use relay::{RelayBatch, RelayMessage};
pub use sfu::{
    Answer, Config, IceRestart, Join, NegotiateError, RestartError, Role, RoomConfig, Sfu,
};
pub use shard::ShardId;
pub use snapshot::Snapshot;
pub use stats::{ESTIMATE_STEPS, LayerStats, PeerStats, RoomStats, RungStats, Stats, TrackStats};
pub use tap::{TapSource, TapVideo};
