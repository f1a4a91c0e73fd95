//! A WebRTC client without a socket: what a browser does on the wire, as little as it takes.

mod channel;
mod identity;
mod reception;
mod rtcp;
mod rtp;
mod sdp;
mod stun;
mod transport;
mod twcc;

pub(crate) use identity::Identity;
pub(crate) use reception::Reception;
pub(crate) use rtcp::{
    Feedback, Report, generic_nack, picture_loss, receiver_report, sender_report,
};
pub(crate) use rtp::{Header, write_header};
pub(crate) use sdp::{Answer, Kind, Offer};
pub(crate) use transport::{Event, Transport};
pub(crate) use twcc::Arrivals;
