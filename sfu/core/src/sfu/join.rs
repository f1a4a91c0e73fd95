//! Who joins, and how their offer is answered.

use std::time::Instant;

use serde::Serialize;
use thiserror::Error;

use super::Sfu;
use crate::{
    MediaKind, ParticipantId, PeerId, PublicationId, RoomId, Ssrc, SubscriptionId,
    allotment::Allotment,
    demux::Bound,
    flow::Flow,
    ingress::{Ingress, Track},
    negotiate::{Line, Plan},
    peer::{Idle, Peer},
    publication::Publication,
    slot::View,
    stage::STAGE_SIZE,
    stats::Counters,
    timers::Scheduled,
    transport::{
        AnswerLine, IceFragment, MediaLine, Offer, SdpError, SendStream, Transport, write_answer,
    },
};

/// What a peer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Sends media into the room.
    Publisher,
    /// Receives the room's stage or program.
    Viewer,
}

/// What one room is like, apart from who is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomConfig {
    /// Video slots, 1 to 16. Of more publications those of who spoke lately are shown.
    pub stage_size: usize,
}

impl Default for RoomConfig {
    fn default() -> Self {
        Self {
            stage_size: STAGE_SIZE,
        }
    }
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
    /// Whether a viewer is shown what the same participant publishes: a player wants it, somebody on stage does not.
    pub sees_own: bool,
    /// What the room is like from this moment on.
    pub config: RoomConfig,
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
    #[error(
        "the offer has no media the server supports (H264 constrained baseline, VP8, VP9, AV1, Opus)"
    )]
    NoCommonMedia,
    /// A publisher's sound or picture would be missing.
    #[error("{}", no_codec(*.0))]
    NoCommonCodec(MediaKind),
    /// The limit of peers is reached.
    #[error("the server is full")]
    Full,
}

fn no_codec(kind: MediaKind) -> &'static str {
    match kind {
        MediaKind::Audio => {
            "the server does not forward the audio codecs that are offered: send Opus"
        }
        MediaKind::Video => {
            "the server does not forward the video codecs that are offered: send H264 in the profile baseline, VP8, VP9 \
             or AV1"
        }
    }
}

impl Join {
    /// Returns whether it is shown what a participant publishes.
    pub(crate) fn sees(&self, participant: ParticipantId) -> bool {
        self.sees_own || participant != self.participant
    }
}

impl Sfu {
    /// Accepts an offer and returns the answer. Candidates in the offer are not needed: the server is
    /// ICE-lite (RFC 8445 §2.5) and learns addresses from checks. A publisher takes over from its
    /// participant's present one as soon as it is connected.
    ///
    /// A viewer that offers to receive on one m-line of a kind is sent the program, one that offers several
    /// what the slots of the stage show, in order; see [`Event::Stage`].
    ///
    /// # Errors
    /// See [`NegotiateError`]; nothing has changed then.
    pub fn negotiate(
        &mut self,
        join: Join,
        offer: &str,
        now: Instant,
    ) -> Result<Answer, NegotiateError> {
        if self.peers.len() >= self.config.max_peers {
            return Err(NegotiateError::Full);
        }
        let remote_ufrag = IceFragment::parse(offer).map_or("", |fragment| fragment.ufrag);
        let offer = Offer::parse(offer)?;
        let plan = Plan::of(&offer, join.role);
        if plan.is_empty(join.role) {
            return Err(NegotiateError::NoCommonMedia);
        }
        if join.role == Role::Publisher
            && let Some(kind) = plan.missing_kind(&offer)
        {
            return Err(NegotiateError::NoCommonCodec(kind));
        }
        let credentials = self.new_credentials();
        let ufrag = credentials.ufrag.clone();
        let created = self.peers.insert(|id| Peer {
            id,
            join,
            remote_ufrag: remote_ufrag.to_owned(),
            transport: Transport::new(
                &self.shared,
                credentials.clone(),
                &offer,
                plan.extensions,
                now,
            ),
            flow: Flow::default(),
            bound: Bound::default(),
            scheduled: Scheduled::default(),
            ingress: Ingress::new(plan.extensions.transport_cc != 0),
            subscriptions: Vec::new(),
            idle: Vec::new(),
            allotment: Allotment::default(),
            counters: Counters::default(),
            joined_at: now,
            sender_report_at: None,
        });
        let id = created.ok_or(NegotiateError::Full)?;
        if let Some(peer) = self.peers.get_mut(id) {
            self.demux.add(ufrag.clone(), id, &mut peer.bound);
        }
        let room = self.rooms.entry(join.room).or_default();
        room.join(id, join.role);
        room.stage.resize(join.config.stage_size);
        let lines = offer.media.iter().zip(plan.lines);
        let lines: Vec<_> = lines
            .map(|(media, line)| self.answer_line(id, join, media, line, now))
            .collect();
        self.reschedule(id, now);
        Ok(Answer {
            peer: id,
            sdp: write_answer(&self.shared, &offer, &lines, &credentials),
            ice_ufrag: ufrag,
        })
    }

    fn answer_line(
        &mut self,
        id: PeerId,
        join: Join,
        media: &MediaLine,
        line: Line,
        now: Instant,
    ) -> AnswerLine {
        match line {
            Line::Reject => AnswerLine::Reject,
            Line::DataChannel => AnswerLine::DataChannel,
            Line::Receive(codec) => {
                let publication = PublicationId(self.new_id());
                let track = Track::new(publication, media, codec.codec);
                let publication = Publication::new(
                    publication,
                    id,
                    codec.codec.codec,
                    track.layers(),
                    self.config.history_packets,
                );
                if let Some(room) = self.rooms.get_mut(&join.room) {
                    room.publish(publication, join.participant);
                }
                if let Some(peer) = self.peers.get_mut(id) {
                    peer.ingress.add(track, media);
                }
                AnswerLine::Receive { codec }
            }
            Line::Send(view, codecs) => {
                let subscription = SubscriptionId(self.new_id());
                let peer = self.peers.get(id);
                let reports = peer.is_some_and(|peer| peer.transport.has_feedback());
                let stream = SendStream {
                    ssrc: self.new_ssrc(),
                    rtx_ssrc: self.new_ssrc(),
                    is_reported: reports && media.extensions.transport_cc != 0,
                };
                let idle = Idle {
                    view,
                    stream,
                    codecs: codecs.iter().map(|offer| offer.codec).collect(),
                };
                if let Some(peer) = self.peers.get_mut(id)
                    && let Some(room) = self.rooms.get(&join.room)
                {
                    peer.idle.push(idle);
                    peer.open_slots(&room.stage, &mut self.rng, now);
                }
                // One stream id for both kinds of the program, and of the first slots: receivers play what
                // has the same id in step, and only two of it.
                let name = match view {
                    View::Program(_) | View::Slot(_, 0) => format!("room-{}", join.room),
                    View::Slot(_, slot) => format!("room-{}-{slot}", join.room),
                };
                AnswerLine::Send {
                    codecs,
                    stream,
                    msid: (name, format!("slot-{subscription}")),
                }
            }
        }
    }

    fn new_ssrc(&mut self) -> Ssrc {
        Ssrc(self.rng.next_u32() | 1)
    }
}
