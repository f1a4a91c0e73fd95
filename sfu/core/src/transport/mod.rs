//! One peer's transport: the only folder that names the WebRTC stack's types.
//!
//! Each part (ICE, DTLS, SRTP, SCTP, SDP) is one file with a guard in front of it, so that a better part
//! can replace it. Everything outside this folder sees [`Transport`], [`Offer`] and plain values.

mod answer;
mod client_hello;
mod connection;
mod dcep;
mod dtls;
mod error;
mod feedback;
mod fragment;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod ice;
mod protocol;
mod reader;
pub(crate) mod rtcp;
mod rtp;
mod sctp;
mod sctp_guard;
mod sdp;
mod shared;
mod srtp;

pub use answer::{AnswerLine, SendStream, write_answer};
pub use connection::{Shown, Transport, TransportEvent};
pub use error::PacketError;
pub(crate) use feedback::ArrivalReport;
pub use fragment::IceFragment;
pub use ice::{IceCredentials, binding_request_ufrag};
pub use protocol::Protocol;
pub use rtp::{Carried, Rtp, SendHeader};
pub use sdp::{CodecOffer, CodecPt, ExtensionIds, MediaLine, MediaLineKind, Offer, SdpError};
pub use shared::Shared;
