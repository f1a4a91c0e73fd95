//! [`Sfu`]: the input/output contract; owns demux, peers and rooms.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use thiserror::Error;

use crate::{
    CloseReason, Event, Outgoing, ParticipantId, PeerId, RoomId, TapId, TapPacket,
    transport::SdpError,
};

/// Limits and addresses of one [`Sfu`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses put into answers as host candidates, best first. At least one.
    pub advertise: Vec<SocketAddr>,
    /// Most peers at a time.
    pub max_peers: usize,
    /// Most packets kept per video layer for retransmission. A power of two.
    pub history_packets: usize,
    /// How long a peer may take to connect.
    pub connect_timeout: Duration,
    /// Wall-clock time at the `now` given to [`Sfu::new`], since the Unix epoch; only for sender reports.
    pub unix_time: Duration,
    /// Seed of every random choice but the DTLS and SRTP keys.
    pub seed: [u8; 32],
}

/// What a peer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends media into the room.
    Publisher,
    /// Receives the room's program.
    Viewer,
}

/// Who joins where.
#[derive(Clone, Copy, Debug)]
pub struct Join {
    /// The room.
    pub room: RoomId,
    /// Who.
    pub participant: ParticipantId,
    /// What for.
    pub role: Role,
}

/// An accepted offer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The new peer.
    pub peer: PeerId,
    /// The SDP answer.
    pub sdp: String,
    /// The server's ICE username fragment of this session; changes with every ICE session.
    pub ice_ufrag: String,
}

/// Why an offer was refused.
#[derive(Debug, Error)]
pub enum NegotiateError {
    /// The offer cannot be read or lacks what a session needs.
    #[error("the SDP offer is not usable: {0}")]
    Sdp(#[from] SdpError),
    /// Nothing in the offer can be received or sent: no common codec and no data channel.
    #[error("the offer has no media the server supports (H264 constrained baseline, VP8, Opus)")]
    NoCommonMedia,
    /// The limit of peers is reached.
    #[error("the server is full")]
    Full,
}

/// Totals since the start, for metrics. Counters never decrease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Rooms with at least one peer.
    pub rooms: usize,
    /// Connected publishing peers.
    pub publishers: usize,
    /// Connected viewing peers.
    pub viewers: usize,
    /// RTP packets accepted from publishers.
    pub packets_in: u64,
    /// Bytes of those, headers included.
    pub bytes_in: u64,
    /// RTP packets sent to viewers.
    pub packets_out: u64,
    /// Bytes of those, headers included.
    pub bytes_out: u64,
    /// Packets that publishers sent and that never arrived, after retransmission.
    pub packets_lost: u64,
    /// Packets sent again to viewers.
    pub retransmitted: u64,
    /// Packets that viewers asked for and that were not kept any more.
    pub retransmit_missed: u64,
    /// Keyframe requests sent to publishers.
    pub keyframe_requests: u64,
    /// Datagrams dropped, by reason.
    pub dropped: Vec<(&'static str, u64)>,
}

/// One room, for the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomStats {
    /// Whether media of a publisher is arriving.
    pub live: bool,
    /// Connected viewing peers.
    pub viewers: usize,
}

/// One peer, for the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// RTP packets received from it.
    pub packets_in: u64,
    /// RTP packets sent to it.
    pub packets_out: u64,
    /// Packets it asked for again.
    pub nacked: u64,
    /// Fraction lost of its last receiver report, 0 to 1 in steps of 1/256, as a number of 256ths.
    pub fraction_lost: u8,
}

/// A selective forwarding unit. Call [`Sfu::flush`] after every input and send what it returns.
#[derive(Debug)]
pub struct Sfu {}

impl Sfu {
    /// Creates an SFU with a fresh DTLS certificate.
    pub fn new(_config: Config, _now: Instant) -> Self {
        unimplemented!()
    }

    /// Accepts an offer and returns the answer. Candidates in the offer are not needed: the server is
    /// ICE-lite (RFC 8445 §2.5) and learns addresses from checks. A publisher takes over from the
    /// room's present one as soon as it is connected.
    ///
    /// # Errors
    /// See [`NegotiateError`]; nothing has changed then.
    pub fn negotiate(
        &mut self,
        _join: Join,
        _offer: &str,
        _now: Instant,
    ) -> Result<Answer, NegotiateError> {
        unimplemented!()
    }

    /// Closes a peer, saying goodbye to it. Unknown peers are ignored.
    pub fn close(&mut self, _peer: PeerId, _reason: CloseReason, _now: Instant) {
        unimplemented!()
    }

    /// Sends a text message to one peer on the channel with this label. Returns whether it was taken:
    /// not when the channel is not open, or when too much is waiting already.
    pub fn send(&mut self, _peer: PeerId, _label: &str, _payload: &Bytes, _now: Instant) -> bool {
        unimplemented!()
    }

    /// Sends a text message to everyone in the room who has the channel open.
    pub fn broadcast(&mut self, _room: RoomId, _label: &str, _payload: &Bytes, _now: Instant) {
        unimplemented!()
    }

    /// Starts a tap on the room's program. The first video packet it yields starts a keyframe.
    pub fn add_tap(&mut self, _room: RoomId, _now: Instant) -> TapId {
        unimplemented!()
    }

    /// Ends a tap. Unknown taps are ignored.
    pub fn remove_tap(&mut self, _tap: TapId) {
        unimplemented!()
    }

    /// Asks the room's publisher for a keyframe on behalf of a tap; coalesced and paced.
    pub fn request_keyframe(&mut self, _tap: TapId, _now: Instant) {
        unimplemented!()
    }

    /// Takes one received datagram. It is decrypted in place. Hostile or broken ones are counted and dropped.
    pub fn handle_datagram(&mut self, _source: SocketAddr, _datagram: &mut [u8], _now: Instant) {
        unimplemented!()
    }

    /// Does what is due. Call it when [`Sfu::poll_timeout`] is reached.
    pub fn handle_timeout(&mut self, _now: Instant) {
        unimplemented!()
    }

    /// Returns when [`Sfu::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// Forwards what arrived since the last call and returns everything to be sent; clear it afterwards.
    pub fn flush(&mut self, _now: Instant) -> &mut Outgoing {
        unimplemented!()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        unimplemented!()
    }

    /// Returns the next packet for a tap.
    pub fn poll_tap(&mut self) -> Option<(TapId, TapPacket)> {
        unimplemented!()
    }

    /// Returns the totals.
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }

    /// Returns the state of one room; all zero for a room without peers.
    pub fn room_stats(&self, _room: RoomId) -> RoomStats {
        unimplemented!()
    }

    /// Returns the state of one peer.
    pub fn peer_stats(&self, _peer: PeerId) -> Option<PeerStats> {
        unimplemented!()
    }
}
