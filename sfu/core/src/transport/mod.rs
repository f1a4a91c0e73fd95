//! One peer's transport: the only folder that names the WebRTC stack's types.
//!
//! Each part (ICE, DTLS, SRTP, SCTP, SDP) is one file with a guard in front of it, so that a better part
//! can replace it. Everything outside this folder sees [`Transport`], [`Offer`] and plain values.

pub(crate) mod rtcp;
mod sdp;

use std::{net::SocketAddr, time::Instant};

use bytes::Bytes;
use thiserror::Error;

use crate::{Codec, MediaKind, Mid, Outgoing, Pt, Ssrc};

pub use sdp::{
    AnswerLine, CodecOffer, ExtensionIds, MediaLine, MediaLineKind, Offer, SdpError, SendStream,
    write_answer,
};

/// What all transports of one SFU share: the DTLS certificate, the crypto provider, the candidates.
#[derive(Debug)]
pub struct Shared {}

impl Shared {
    /// Generates a certificate. `advertise` become the host candidates of every answer, best first.
    pub fn new(_advertise: &[SocketAddr]) -> Self {
        unimplemented!()
    }
}

/// The server's ICE credentials of one peer (RFC 8445 §5.3): at least 24 bits of ufrag, 128 of password.
#[derive(Clone, Debug)]
pub struct IceCredentials {
    /// The username fragment.
    pub ufrag: String,
    /// The password.
    pub pwd: String,
}

/// What kind of datagram this is (RFC 7983), by its first byte; RTCP by its second (RFC 5761).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// STUN, RFC 8489.
    Stun,
    /// DTLS, RFC 6347.
    Dtls,
    /// SRTP, RFC 3711.
    Rtp,
    /// SRTCP, RFC 3711.
    Rtcp,
}

impl Protocol {
    /// Tells what a datagram is; `None` for anything that a peer never sends.
    pub fn of(_datagram: &[u8]) -> Option<Self> {
        unimplemented!()
    }
}

/// Returns the local username fragment of a STUN binding request, to find its peer, before any
/// authentication. `None` for anything else.
pub fn binding_request_ufrag(_datagram: &[u8]) -> Option<&str> {
    unimplemented!()
}

/// Why a packet could not be used. Counted by [`PacketError::reason`] and dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PacketError {
    /// Not parseable.
    #[error("malformed packet")]
    Malformed,
    /// The authentication failed, or the packet was seen before.
    #[error("packet failed authentication or was replayed")]
    Unauthentic,
    /// It came before the keys were known.
    #[error("packet came before the keys")]
    NoKeys,
    /// A limit against floods was reached.
    #[error("peer exceeded a limit")]
    OverBudget,
}

impl PacketError {
    /// Returns a stable word for metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unauthentic => "unauthentic",
            Self::NoKeys => "no_keys",
            Self::OverBudget => "over_budget",
        }
    }
}

/// A decrypted RTP packet.
#[derive(Clone, Copy, Debug)]
pub struct Rtp<'a> {
    /// Marker bit.
    pub marker: bool,
    /// Payload type.
    pub pt: Pt,
    /// Sequence number.
    pub seq: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Source.
    pub ssrc: Ssrc,
    /// The `mid` header extension (RFC 9143), if present.
    pub mid: Option<&'a str>,
    /// The `rtp-stream-id` header extension (RFC 8852), if present.
    pub rid: Option<&'a str>,
    /// The `repaired-rtp-stream-id` header extension (RFC 8852), if present.
    pub repaired_rid: Option<&'a str>,
    /// The transport-wide sequence number, if present.
    pub transport_seq: Option<u16>,
    /// The payload without padding; empty for a padding-only packet.
    pub payload: &'a [u8],
}

/// The header of an RTP packet to be sent.
#[derive(Clone, Copy, Debug)]
pub struct SendHeader {
    /// Marker bit.
    pub marker: bool,
    /// Payload type.
    pub pt: Pt,
    /// Extended sequence number: the upper 16 bits are the rollover counter (RFC 3711 §3.3.1).
    pub seq: u32,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Source.
    pub ssrc: Ssrc,
}

/// What a transport tells its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportEvent {
    /// The handshake is done, the fingerprint matches and the SRTP keys are in place.
    Connected,
    /// A data channel was opened.
    ChannelOpened {
        /// Its label.
        label: String,
    },
    /// A message arrived on a data channel.
    Message {
        /// The channel's label.
        label: String,
        /// The message.
        payload: Bytes,
    },
    /// The other side closed the session properly.
    Left,
    /// The handshake failed or the certificate did not match.
    HandshakeFailed,
}

/// One peer's ICE-lite, DTLS, SRTP and SCTP.
#[derive(Debug)]
pub struct Transport {}

impl Transport {
    /// Creates the server's side for an accepted offer.
    pub fn new(
        _shared: &Shared,
        _credentials: IceCredentials,
        _offer: &Offer,
        _extensions: ExtensionIds,
        _now: Instant,
    ) -> Self {
        unimplemented!()
    }

    /// Answers a STUN binding request. Returns whether it was authentic: then `source` is an address of
    /// this peer, and the selected one if the request nominates it (RFC 8445 §7.3.1.5). At most 8
    /// addresses are kept; see [`Transport::addresses`].
    ///
    /// # Errors
    /// [`PacketError`] for a request that is malformed or not authentic.
    pub fn handle_stun(
        &mut self,
        _shared: &Shared,
        _source: SocketAddr,
        _datagram: &[u8],
        _now: Instant,
        _out: &mut Outgoing,
    ) -> Result<(), PacketError> {
        unimplemented!()
    }

    /// Takes a DTLS datagram: handshake or SCTP. Poll events afterwards.
    ///
    /// # Errors
    /// [`PacketError`] for what was dropped.
    pub fn handle_dtls(
        &mut self,
        _shared: &Shared,
        _datagram: &[u8],
        _now: Instant,
        _out: &mut Outgoing,
    ) -> Result<(), PacketError> {
        unimplemented!()
    }

    /// Decrypts an SRTP packet.
    ///
    /// `known` tells whether the SSRC is one the peer announced or used before: packets of others are
    /// limited, because they cost memory before they are authenticated.
    ///
    /// # Errors
    /// [`PacketError`] for what was dropped.
    pub fn open_rtp<'a>(
        &'a mut self,
        _datagram: &'a mut [u8],
        _known: impl Fn(Ssrc) -> bool,
    ) -> Result<Rtp<'a>, PacketError> {
        unimplemented!()
    }

    /// Decrypts an SRTCP packet into a compound RTCP packet.
    ///
    /// # Errors
    /// [`PacketError`] for what was dropped.
    pub fn open_rtcp(&mut self, _datagram: &[u8]) -> Result<Bytes, PacketError> {
        unimplemented!()
    }

    /// Encrypts an RTP packet into `out`, its payload made of two parts. Nothing is sent before the
    /// peer is connected. Returns the datagram's length.
    pub fn seal_rtp(
        &mut self,
        _header: &SendHeader,
        _payload: [&[u8]; 2],
        _out: &mut Outgoing,
    ) -> usize {
        unimplemented!()
    }

    /// Encrypts a compound RTCP packet into `out`. Nothing is sent before the peer is connected.
    pub fn seal_rtcp(&mut self, _packet: &[u8], _out: &mut Outgoing) {
        unimplemented!()
    }

    /// Sends a text message on the channel with this label. Returns whether it was taken: not when the
    /// channel is not open or more than 256 KiB wait already.
    pub fn send_message(
        &mut self,
        _label: &str,
        _payload: &Bytes,
        _now: Instant,
        _out: &mut Outgoing,
    ) -> bool {
        unimplemented!()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<TransportEvent> {
        unimplemented!()
    }

    /// Returns when [`Transport::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// Does what is due: DTLS and SCTP retransmission.
    pub fn handle_timeout(&mut self, _now: Instant, _out: &mut Outgoing) {
        unimplemented!()
    }

    /// Returns whether the handshake is done.
    pub fn is_connected(&self) -> bool {
        unimplemented!()
    }

    /// Returns the addresses from which authentic checks came, to route datagrams by.
    pub fn addresses(&self) -> &[SocketAddr] {
        unimplemented!()
    }

    /// Returns when the last authentic check arrived (consent, RFC 7675); creation time before the first.
    pub fn last_heard(&self) -> Instant {
        unimplemented!()
    }

    /// Says goodbye (DTLS close_notify).
    pub fn close(&mut self, _now: Instant, _out: &mut Outgoing) {
        unimplemented!()
    }
}

/// The codec of an offered payload type, if it is one that is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecPt {
    /// The codec.
    pub codec: Codec,
    /// Its payload type in this session.
    pub pt: Pt,
    /// The payload type of its retransmissions (RFC 4588), if offered.
    pub rtx: Option<Pt>,
}

impl MediaLine {
    /// Returns whether this is the m-line with that `mid`.
    pub fn is(&self, mid: &Mid) -> bool {
        self.mid == *mid
    }

    /// Returns the kind of media, if it is media.
    pub fn media_kind(&self) -> Option<MediaKind> {
        match self.kind {
            MediaLineKind::Audio => Some(MediaKind::Audio),
            MediaLineKind::Video => Some(MediaKind::Video),
            MediaLineKind::DataChannel | MediaLineKind::Other => None,
        }
    }
}
