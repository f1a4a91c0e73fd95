//! What the SFU tells its owner.

use bytes::Bytes;

use crate::{Codec, MediaKind, ParticipantId, PeerId, PublicationId, RoomId};

/// Something that happened, in the order it happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// DTLS is established and the fingerprint matches: media and data may flow.
    Connected {
        /// The peer.
        peer: PeerId,
    },
    /// The peer is gone and its id is no longer valid.
    Closed {
        /// The peer.
        peer: PeerId,
        /// Its room.
        room: RoomId,
        /// Who it belonged to.
        participant: ParticipantId,
        /// Why.
        reason: CloseReason,
    },
    /// A data channel was opened by the peer (RFC 8832).
    ChannelOpened {
        /// The peer.
        peer: PeerId,
        /// The channel's label.
        label: String,
    },
    /// A message arrived on a data channel.
    Message {
        /// The peer.
        peer: PeerId,
        /// The channel's label.
        label: String,
        /// The message, at most 64 KiB.
        payload: Bytes,
    },
    /// The first packet of a publication arrived.
    Published {
        /// The peer that sends it.
        peer: PeerId,
        /// Its room.
        room: RoomId,
        /// The publication.
        publication: PublicationId,
        /// Audio or video.
        kind: MediaKind,
        /// The codec of its packets.
        codec: Codec,
    },
    /// What viewers are shown has changed: which publication each stage slot is bound to. Viewers that negotiated
    /// one m-line of a kind receive the program instead of slots.
    Stage {
        /// The room.
        room: RoomId,
        /// By slot: the n-th video m-line of each viewer.
        video: Vec<Option<PublicationId>>,
        /// By slot: the n-th audio m-line of each viewer; the loudest speakers.
        audio: Vec<Option<PublicationId>>,
        /// The featured video.
        program: Option<PublicationId>,
    },
    /// Which layers of a publication anybody wants has changed. A publisher may stop encoding the others.
    LayersWanted {
        /// The peer that publishes.
        peer: PeerId,
        /// Its publication.
        publication: PublicationId,
        /// By position of the layer, in the order of the offer's rids; by spatial layer for a stream of SVC that is alone.
        wanted: Vec<bool>,
    },
    /// A publication ended, by leaving or by being replaced.
    Unpublished {
        /// Its room.
        room: RoomId,
        /// The publication.
        publication: PublicationId,
        /// Audio or video.
        kind: MediaKind,
    },
}

/// Why a peer was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The peer said goodbye (DTLS close_notify) or its SCTP association was aborted.
    Left,
    /// Signaling asked for it.
    Requested,
    /// Another connection of the same publisher took over.
    Replaced,
    /// It was never connected within the limit.
    NeverConnected,
    /// No authenticated check arrived for 30 s (RFC 7675).
    ConsentExpired,
    /// The DTLS handshake failed, or the certificate did not match the offer's fingerprint.
    HandshakeFailed,
}

impl CloseReason {
    /// Returns a stable word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Requested => "requested",
            Self::Replaced => "replaced",
            Self::NeverConnected => "never_connected",
            Self::ConsentExpired => "consent_expired",
            Self::HandshakeFailed => "handshake_failed",
        }
    }
}
