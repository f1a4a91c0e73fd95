//! [`Sfu`]: the input/output contract; owns demux, peers and rooms.

mod flush;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzz;
mod input;
mod join;
mod paths;
mod relays;
mod view;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    CloseReason, Event, Outgoing, ParticipantId, Path, PeerId, RelayMessage, RoomId, ShardId,
    TapId, TapPacket,
    clock::ServerClock,
    demux::Demux,
    peers::Peers,
    relay::Outbound,
    rng::Rng,
    room::Room,
    stats::Totals,
    tap::{Queue, TapSource, TapVideo},
    timers::{Owner, Timers},
    transport::{Protocol, Shared},
};

pub use join::{Answer, Join, NegotiateError, Role, RoomConfig};
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
    /// Where something is to be forwarded or asked for.
    touched: Vec<RoomId>,
    /// Of those, the ones whose time has come, in this order.
    due: VecDeque<RoomId>,
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
            due: VecDeque::new(),
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

    /// Changes which simulcast layer a tap yields of each of its lanes, how many below the top: 0 for those that are
    /// not listed. Another one begins at a keyframe, which is asked for; one that the sender has paused is asked for,
    /// and until it comes a richer one is yielded. Unknown taps are ignored.
    pub fn set_tap_layers(&mut self, tap: TapId, layers: BTreeMap<u32, usize>, _now: Instant) {
        if let Some(room) = self.taps.get(&tap).copied()
            && let Some(state) = self.rooms.get_mut(&room)
        {
            state.set_tap_layers(tap, layers);
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
                    self.revisit(room);
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

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns the next packet for a tap.
    pub fn poll_tap(&mut self) -> Option<(TapId, TapPacket)> {
        self.tap_queue.pop()
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
}

/// Timers are not more precise than this, so that nothing can be due for ever.
const TICK: Duration = Duration::from_millis(1);
