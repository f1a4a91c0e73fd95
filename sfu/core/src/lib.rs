//! The selective forwarding unit as a sans-I/O state machine.
//!
//! Owns every decision between a received datagram and the datagrams it causes: ICE, DTLS, SRTP, SCTP,
//! the room's media graph, retransmission, reports. Refuses to know sockets, clocks, threads, people,
//! permissions and chat: time arrives as a value, bytes leave in [`Outgoing`].

mod event;
mod id;
mod media;
mod outgoing;
mod sfu;
pub mod transport;

pub use event::{CloseReason, Event};
pub use id::{Mid, ParticipantId, PeerId, Pt, PublicationId, RoomId, Ssrc, SubscriptionId, TapId};
pub use media::{Codec, MediaKind, TapPacket};
pub use outgoing::Outgoing;
pub use sfu::{Answer, Config, Join, NegotiateError, PeerStats, Role, RoomStats, Sfu, Stats};
