//! Offer in, answer out (RFC 8829, RFC 9429, RFC 8843, RFC 8851). The server writes its own answers.

use thiserror::Error;

use super::{CodecPt, IceCredentials, Shared};
use crate::{Mid, Pt, Ssrc};

/// Why an offer is not usable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SdpError {
    /// Not an SDP (RFC 8866).
    #[error("it cannot be parsed")]
    Syntax,
    /// Larger than 64 KiB.
    #[error("it is larger than 64 KiB")]
    TooLarge,
    /// No sha-256 fingerprint (RFC 8122).
    #[error("it has no sha-256 certificate fingerprint")]
    Fingerprint,
    /// No ICE credentials (RFC 8839).
    #[error("it has no ICE credentials")]
    IceCredentials,
    /// The offerer insists on being the DTLS server.
    #[error("its setup attribute must be actpass or active")]
    Setup,
    /// More than 32 m-lines, or an m-line without a mid.
    #[error("its m-lines cannot be bundled")]
    MediaLines,
}

/// A readable offer.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The certificate's sha-256 fingerprint, 32 bytes.
    pub fingerprint: [u8; 32],
    /// The m-lines in order.
    pub media: Vec<MediaLine>,
}

/// What an m-line carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaLineKind {
    /// Audio over SRTP.
    Audio,
    /// Video over SRTP.
    Video,
    /// SCTP over DTLS (RFC 8841).
    DataChannel,
    /// Anything else; always rejected.
    Other,
}

/// One m-line of an offer.
#[derive(Clone, Debug)]
pub struct MediaLine {
    /// Its id.
    pub mid: Mid,
    /// What it carries.
    pub kind: MediaLineKind,
    /// Whether the offerer wants to send on it (sendrecv or sendonly).
    pub sends: bool,
    /// Whether the offerer wants to receive on it (sendrecv or recvonly).
    pub receives: bool,
    /// The payload types of codecs that are forwarded, in the order of the offer. H264 only as
    /// constrained baseline (or baseline) with packetization mode 1.
    pub codecs: Vec<CodecOffer>,
    /// Simulcast streams that the offerer sends (RFC 8853), at most 4.
    pub rids: Vec<String>,
    /// SSRCs announced for sending, primary first (RFC 5576).
    pub ssrcs: Vec<Ssrc>,
    /// Retransmission SSRC of a primary SSRC (`ssrc-group:FID`).
    pub fid: Vec<(Ssrc, Ssrc)>,
    /// The header extensions it offers.
    pub extensions: ExtensionIds,
    /// Media type, protocol and formats of the m-line as written, for a rejection.
    pub head: (String, String, String),
}

/// One offered codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecOffer {
    /// What it is, and its payload types.
    pub codec: CodecPt,
    /// Its `rtpmap` value, as written.
    pub rtpmap: String,
    /// Its `fmtp` value, as written; empty when absent.
    pub fmtp: String,
}

/// Header extension ids of one m-line (RFC 8285), 0 when not offered. Only ids 1 to 14 are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    pub mid: u8,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    pub rid: u8,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`
    pub repaired_rid: u8,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`
    pub transport_cc: u8,
}

/// A stream the server sends.
#[derive(Clone, Debug)]
pub struct SendStream {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// The SSRC of its retransmissions.
    pub rtx_ssrc: Ssrc,
    /// `a=msid` stream id and track id.
    pub msid: (String, String),
}

/// The server's answer to one m-line.
#[derive(Clone, Debug)]
pub enum AnswerLine {
    /// Not wanted (port 0).
    Reject,
    /// A data channel (RFC 8832, 8841).
    DataChannel,
    /// The server receives this codec. All rids of the offer are received.
    Receive {
        /// The chosen codec.
        codec: CodecOffer,
    },
    /// The server sends; several codecs, best first, because the publisher's is not known in advance.
    Send {
        /// The accepted codecs.
        codecs: Vec<CodecOffer>,
        /// The stream.
        stream: SendStream,
    },
}

impl Offer {
    /// Reads an offer.
    ///
    /// # Errors
    /// [`SdpError`] says what is missing.
    pub fn parse(_sdp: &str) -> Result<Self, SdpError> {
        unimplemented!()
    }
}

/// Writes the answer; `lines` has one entry per m-line of the offer. ICE-lite, DTLS passive, BUNDLE, rtcp-mux.
pub fn write_answer(
    _shared: &Shared,
    _offer: &Offer,
    _lines: &[AnswerLine],
    _credentials: &IceCredentials,
) -> String {
    let _ = Pt(0);
    unimplemented!()
}
