//! [`Sfu`]: the input/output contract; owns demux, peers and rooms.

mod input;
mod paths;
mod relays;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;

use crate::{
    CloseReason, Event, Outgoing, ParticipantId, Path, PeerId, PeerStats, PublicationId,
    RelayMessage, RoomId, RoomStats, ShardId, Snapshot, Ssrc, Stats, SubscriptionId, TapId,
    TapPacket,
    allotment::Allotment,
    clock::ServerClock,
    demux::{Bound, Demux},
    flow::Flow,
    ingress::{Ingress, Track},
    negotiate::{Line, Plan},
    peer::{Idle, Peer},
    peers::Peers,
    publication::Publication,
    relay::Outbound,
    rng::Rng,
    room::{Room, Sinks},
    slot::View,
    stage::STAGE_SIZE,
    stats::{Counters, Totals},
    tap::{Queue, TapSource, TapVideo},
    timers::{Owner, Scheduled, Timers},
    transport::{
        AnswerLine, IceFragment, MediaLine, Offer, Protocol, SdpError, SendStream, Shared,
        Transport, write_answer,
    },
};

pub use paths::{IceRestart, RestartError};

/// Limits and addresses of one [`Sfu`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Addresses put into answers as host candidates, best first. At least one.
    pub advertise: Vec<SocketAddr>,
    /// Addresses at which the owner accepts TCP connections (RFC 6544), put into answers behind those.
    pub advertise_tcp: Vec<SocketAddr>,
    /// Which of the server's SFUs it is.
    pub shard: ShardId,
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
    /// The limit of peers is reached.
    #[error("the server is full")]
    Full,
}

/// A selective forwarding unit. Call [`Sfu::flush`] after every input and send what it returns; read the
/// events and tap packets then, too.
#[derive(Debug)]
pub struct Sfu {
    config: Config,
    shared: Shared,
    clock: ServerClock,
    rng: Rng,
    demux: Demux,
    peers: Peers,
    rooms: BTreeMap<RoomId, Room>,
    taps: BTreeMap<TapId, RoomId>,
    touched: Vec<RoomId>,
    held_until: Option<Instant>,
    waiting: usize,
    outbound: Outbound,
    timers: Timers,
    next_id: u64,
    events: VecDeque<Event>,
    tap_queue: Queue,
    totals: Totals,
    began: Vec<PeerId>,
    paced: Vec<PeerId>,
    out: Outgoing,
}

impl Sfu {
    /// Creates an SFU with a fresh DTLS certificate.
    pub fn new(config: Config, now: Instant) -> Self {
        Self {
            shared: Shared::new(&config.advertise).with_tcp(&config.advertise_tcp),
            clock: ServerClock::new(config.unix_time, now),
            rng: Rng::new(config.seed),
            peers: Peers::new(config.shard),
            config,
            demux: Demux::default(),
            rooms: BTreeMap::new(),
            taps: BTreeMap::new(),
            touched: Vec::new(),
            held_until: None,
            waiting: 0,
            outbound: Outbound::new(),
            timers: Timers::default(),
            next_id: 0,
            events: VecDeque::new(),
            tap_queue: Queue::default(),
            totals: Totals::default(),
            began: Vec::new(),
            paced: Vec::new(),
            out: Outgoing::default(),
        }
    }

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
        if plan.is_empty() {
            return Err(NegotiateError::NoCommonMedia);
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

    /// Closes a peer, saying goodbye to it. Unknown peers are ignored.
    pub fn close(&mut self, peer: PeerId, reason: CloseReason, now: Instant) {
        let Some(mut peer) = self.peers.remove(peer) else {
            return;
        };
        self.timers
            .cancel(Owner::Peer(peer.id), &mut peer.scheduled);
        peer.transport.close(now, &mut self.out);
        self.demux.remove(peer.id, &peer.bound);
        let room = peer.join.room;
        if let Some(state) = self.rooms.get_mut(&room) {
            let unpublished = state.leave(peer.id).into_iter();
            self.events
                .extend(unpublished.map(|(publication, kind)| Event::Unpublished {
                    room,
                    publication,
                    kind,
                }));
            self.touch(room);
            self.drop_empty(room);
        }
        self.events.push_back(Event::Closed {
            peer: peer.id,
            room,
            participant: peer.join.participant,
            reason,
        });
    }

    /// Sends a text message to one peer on the channel with this label. Returns whether it was taken:
    /// not when the channel is not open, or when too much is waiting already.
    pub fn send(&mut self, peer: PeerId, label: &str, payload: &Bytes, now: Instant) -> bool {
        let Some(peer) = self.peers.get_mut(peer) else {
            return false;
        };
        let taken = peer
            .transport
            .send_message(label, payload, now, &mut self.out);
        let id = peer.id;
        self.reschedule(id, now);
        taken
    }

    /// Sends a text message to everyone in the room who has the channel open.
    pub fn broadcast(&mut self, room: RoomId, label: &str, payload: &Bytes, now: Instant) {
        let Some(room) = self.rooms.get(&room) else {
            return;
        };
        let members: Vec<_> = room.publishers().iter().chain(room.viewers()).collect();
        let members: Vec<_> = members.into_iter().copied().collect();
        for id in members {
            self.send(id, label, payload, now);
        }
    }

    /// Puts a participant into the room's program whoever speaks, for as long as they have video; `None`
    /// lets the speakers have it again. Rooms without anybody are ignored.
    pub fn feature(&mut self, room: RoomId, participant: Option<ParticipantId>, _now: Instant) {
        if let Some(state) = self.rooms.get_mut(&room) {
            state.stage.feature(participant);
            self.touch(room);
        }
    }

    /// Starts a tap. The first video packet it yields starts a keyframe.
    pub fn add_tap(&mut self, room: RoomId, source: TapSource, _now: Instant) -> TapId {
        let tap = TapId(self.new_id());
        self.taps.insert(tap, room);
        self.rooms.entry(room).or_default().add_tap(tap, source);
        self.touch(room);
        tap
    }

    /// Ends a tap. Unknown taps are ignored.
    pub fn remove_tap(&mut self, tap: TapId) {
        let Some(room) = self.taps.remove(&tap) else {
            return;
        };
        self.tap_queue.remove(tap);
        if let Some(state) = self.rooms.get_mut(&room) {
            state.remove_tap(tap);
            self.drop_empty(room);
        }
    }

    /// Changes how much of the video a tap yields. Unknown taps are ignored.
    pub fn set_tap_video(&mut self, tap: TapId, video: TapVideo, _now: Instant) {
        if let Some(room) = self.taps.get(&tap).copied()
            && let Some(state) = self.rooms.get_mut(&room)
        {
            state.set_tap_video(tap, video);
            self.touch(room);
        }
    }

    /// Asks for a keyframe of what a tap reads; coalesced and paced.
    pub fn request_keyframe(&mut self, tap: TapId, now: Instant) {
        if let Some(room) = self.taps.get(&tap).copied()
            && let Some(state) = self.rooms.get_mut(&room)
        {
            state.request_keyframe_for_tap(tap, now);
            self.touch(room);
        }
    }

    /// Takes one received datagram. It is decrypted in place. Hostile or broken ones are counted and dropped.
    pub fn handle_datagram(&mut self, from: Path, datagram: &mut [u8], now: Instant) {
        let result = match Protocol::of(datagram) {
            None => Err("unknown_protocol"),
            Some(Protocol::Stun) => self.handle_stun(from, datagram, now),
            Some(protocol) => match self.demux.find(from) {
                None => Err("unknown_source_address"),
                Some(peer) => match protocol {
                    Protocol::Stun => Ok(()),
                    Protocol::Dtls => self.handle_dtls(peer, datagram, now),
                    Protocol::Rtp => self.handle_rtp(peer, datagram, now),
                    Protocol::Rtcp => self.handle_rtcp(peer, datagram, now),
                }
                .map(|()| self.heard(peer, from, now)),
            },
        };
        if let Err(reason) = result {
            self.totals.drop(reason);
        }
    }

    /// Does what is due. Call it when [`Sfu::poll_timeout`] is reached.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(owner) = self.timers.due(now) {
            match owner {
                Owner::Room(room) => {
                    if let Some(state) = self.rooms.get_mut(&room) {
                        self.timers.cancel(owner, &mut state.scheduled);
                    }
                    self.touch(room);
                }
                Owner::Peer(peer) => self.handle_peer_timeout(peer, now),
            }
        }
    }

    /// Returns when [`Sfu::handle_timeout`], and after it [`Sfu::flush`], wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = [self.timers.poll_timeout(), self.held_until];
        deadlines.into_iter().flatten().min()
    }

    /// Forwards what arrived since the last call and returns everything to be sent; clear it afterwards.
    pub fn flush(&mut self, now: Instant) -> &mut Outgoing {
        self.flush_held(Duration::ZERO, now)
    }

    /// Like [`Sfu::flush`], but lets the beginnings of video frames and audio wait for what follows them, for
    /// `hold` at most, so that each viewer gets several packets at once. A complete frame never waits.
    pub fn flush_held(&mut self, hold: Duration, now: Instant) -> &mut Outgoing {
        self.held_until = None;
        let mut touched = std::mem::take(&mut self.touched);
        touched.retain(|id| {
            let Some(room) = self.rooms.get_mut(id) else {
                return false;
            };
            let id = *id;
            if let Some(until) = room.held.until(hold).filter(|until| now < *until) {
                let earliest = self.held_until.map_or(until, |at| at.min(until));
                self.held_until = Some(earliest);
                return true;
            }
            room.held.clear();
            room.touched = false;
            if room.stage.arrange(now) {
                for viewer in room.viewers() {
                    if let Some(viewer) = self.peers.get_mut(*viewer) {
                        viewer.open_slots(&room.stage, &mut self.rng, now);
                    }
                }
                // Its home tells.
                if room.inlet.is_none() {
                    self.events.push_back(room.stage_event(id));
                }
            }
            let mut sinks = Sinks {
                out: &mut self.out,
                taps: &mut self.tap_queue,
                totals: &mut self.totals,
                began: &mut self.began,
                relayed: &mut self.outbound,
                paced: &mut self.paced,
            };
            room.forward(id, &mut self.peers, &mut sinks, now);
            let home = room.inlet.as_ref().map(|inlet| inlet.home);
            let events = &mut self.events;
            room.look_at_demand(&self.peers, now, |event| match (home, event) {
                (
                    Some(home),
                    Event::LayersWanted {
                        publication,
                        wanted,
                        ..
                    },
                ) => {
                    let wanted = RelayMessage::LayersWanted {
                        room: id,
                        publication,
                        wanted,
                    };
                    sinks.relayed.push_back((home, wanted));
                }
                (_, event) => events.push_back(event),
            });
            room.ask(id, &mut self.peers, &mut sinks, now);
            let at = room.poll_timeout(now).map(|at| at.max(now + TICK));
            self.timers
                .schedule(Owner::Room(id), &mut room.scheduled, at);
            false
        });
        self.touched = touched;
        if self.touched.is_empty() {
            self.waiting = 0;
        }
        self.greet_with_reports(now);
        let mut paced = std::mem::take(&mut self.paced);
        paced.drain(..).for_each(|id| self.reschedule(id, now));
        self.paced = paced;
        &mut self.out
    }

    /// Returns how many packets wait to be forwarded, at most.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns the next packet for a tap.
    pub fn poll_tap(&mut self) -> Option<(TapId, TapPacket)> {
        self.tap_queue.pop()
    }

    /// Returns the totals.
    pub fn stats(&self) -> Stats {
        let connected = |role| {
            let peers = self.peers.iter().filter(|peer| peer.join.role == role);
            peers.filter(|peer| peer.transport.is_connected()).count()
        };
        // A connection for data channels only watches nothing.
        let viewers = || {
            let peers = self.peers.iter();
            peers.filter(|peer| peer.transport.is_connected() && peer.has_views())
        };
        let mut stats = Stats {
            rooms: self.rooms.values().filter(|room| room.counts()).count(),
            publishers: connected(Role::Publisher),
            viewers: viewers().count(),
            viewers_limited: viewers().filter(|p| p.allotment.is_limited()).count(),
            viewers_paused: viewers().filter(|p| p.allotment.is_paused()).count(),
            ..self.totals.snapshot()
        };
        for peer in self.peers.iter().filter(|p| p.transport.is_connected()) {
            stats.add(peer);
        }
        stats
    }

    /// Returns the newest keyframe of what a room shows as its program; `None` while nothing flows. When none
    /// came within `fresh`, one is asked for, paced as always.
    pub fn snapshot(
        &mut self,
        room: RoomId,
        fresh: Option<Duration>,
        now: Instant,
    ) -> Option<Snapshot> {
        let (snapshot, asked) = self.rooms.get_mut(&room)?.snapshot(fresh, now);
        if asked {
            self.touch(room);
        }
        snapshot
    }

    /// Returns the state of one room; all zero for a room without peers.
    pub fn room_stats(&self, room: RoomId, now: Instant) -> RoomStats {
        let Some(room) = self.rooms.get(&room) else {
            return RoomStats::default();
        };
        let viewers = room.viewers().iter().filter_map(|id| self.peers.get(*id));
        RoomStats {
            live: room.is_live(now),
            viewers: viewers.filter(|p| p.transport.is_connected()).count(),
        }
    }

    /// Returns the state of one peer.
    pub fn peer_stats(&self, peer: PeerId, now: Instant) -> Option<PeerStats> {
        let peer = self.peers.get(peer)?;
        let room = self.rooms.get(&peer.join.room);
        let publications = room.map_or(&[][..], |room| &room.publications);
        Some(PeerStats::of(peer, publications, now))
    }

    /// Limits what a viewer is sent of every video: nothing above the layer (simulcast) or spatial layer (SVC)
    /// of this number, 0 being the smallest; `None` for no limit. Unknown peers are ignored.
    pub fn limit(&mut self, peer: PeerId, highest: Option<u8>, _now: Instant) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.allotment.set_limit(highest);
            let room = peer.join.room;
            self.touch(room);
        }
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
                let stream = SendStream {
                    ssrc: self.new_ssrc(),
                    rtx_ssrc: self.new_ssrc(),
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

    /// Sends sender reports to viewers who have just begun to receive something, so that they can play
    /// audio and video in step from the start.
    fn greet_with_reports(&mut self, now: Instant) {
        let mut began = std::mem::take(&mut self.began);
        for id in began.drain(..) {
            if let Some(peer) = self.peers.get_mut(id)
                && let Some(room) = self.rooms.get(&peer.join.room)
            {
                peer.send_sender_reports(&room.publications, self.clock, &mut self.out, now);
            }
            self.reschedule(id, now);
        }
        self.began = began;
    }

    /// Makes the next flush look at a room.
    fn touch(&mut self, id: RoomId) {
        self.note(id);
        if let Some(room) = self.rooms.get_mut(&id) {
            room.held.hurry();
        }
    }

    /// Like [`Sfu::touch`], but what arrived may wait.
    fn note(&mut self, id: RoomId) {
        if let Some(room) = self.rooms.get_mut(&id)
            && !room.touched
        {
            room.touched = true;
            self.touched.push(id);
        }
    }

    fn drop_empty(&mut self, id: RoomId) {
        if let Some(room) = self.rooms.get_mut(&id)
            && room.is_empty()
        {
            self.timers.cancel(Owner::Room(id), &mut room.scheduled);
            if let Some(inlet) = &room.inlet {
                let leave = RelayMessage::Leave(id);
                self.outbound.push_back((inlet.home, leave));
            }
            self.rooms.remove(&id);
        }
    }

    fn reschedule(&mut self, id: PeerId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(id) {
            let at = peer.poll_timeout(self.config.connect_timeout);
            let at = at.map(|at| at.max(now + TICK));
            self.timers
                .schedule(Owner::Peer(id), &mut peer.scheduled, at);
        }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.config.shard.id(self.next_id)
    }

    fn new_ssrc(&mut self) -> Ssrc {
        Ssrc(self.rng.next_u32() | 1)
    }
}

/// Timers are not more precise than this, so that nothing can be due for ever.
const TICK: Duration = Duration::from_millis(1);
