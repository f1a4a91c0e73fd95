//! [`Directory`]: which rooms are in use, and who is in them: sessions, HTTP resources, peers.
//!
//! No I/O: callers hold it under a lock for a moment, and do outside what it returns.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::extract::ws::Utf8Bytes;
use bytes::Bytes;
use sfu::{Event, PeerId, Role, RoomId};
use tokio::sync::{Semaphore, mpsc};

use crate::{
    Problem,
    auth::Member,
    chat,
    outbox::{Outbox, text},
    protocol::{
        CHAT_CHANNEL, EVENTS_CHANNEL, ErrorCode, IceServer, RoomEvent, RoomInfo, ServerMessage,
        close_code,
    },
    room::{Bindings, Change, Purpose, Room, Slots},
    store::RoomRecord,
};

/// Identifies a WebSocket session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(u64);

/// Everything that is going on.
#[derive(Debug)]
pub(crate) struct Directory {
    grace: Duration,
    rooms: HashMap<RoomId, Place>,
    by_slug: HashMap<String, RoomId>,
    sessions: HashMap<SessionId, Presence>,
    resources: HashMap<String, Resource>,
    peers: HashMap<PeerId, Link>,
    /// Peers whose session is gone, the last one of each identity: the next session takes it over.
    orphans: HashMap<Orphaned, PeerId>,
    last_session: u64,
}

/// What a peer without a session is found by: its room, identity, and whether it publishes.
type Orphaned = (RoomId, String, bool);

/// What a session has, from its arrival on.
#[derive(Debug, Default)]
struct Presence {
    room: Option<RoomId>,
    peers: Vec<PeerId>,
}

/// A room, and whom to tell about it.
#[derive(Debug)]
struct Place {
    room: Room,
    seats: HashMap<SessionId, Seat>,
    /// The last states of its outputs.
    outputs: Option<Utf8Bytes>,
    has_outputs: bool,
}

/// How a session is reached.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) outbox: Outbox,
    /// Ends of the session's peers and why, at most a few; when full, the session is closed as too slow.
    pub(crate) ended: mpsc::Sender<(PeerId, &'static str)>,
    /// Whether it is told about outputs.
    pub(crate) egress: bool,
}

/// A WHIP or WHEP session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) peer: PeerId,
    pub(crate) room: RoomId,
    pub(crate) role: Role,
    /// Entity tag of its ICE session, with quotes.
    pub(crate) etag: String,
    pub(crate) identity: String,
    /// Digest of the token that made it; `None` when none was needed.
    pub(crate) token: Option<Vec<u8>>,
}

/// What a peer belongs to.
#[derive(Debug)]
struct Link {
    room: RoomId,
    owner: Owner,
    /// Why signaling is about to close it, when its owner is to be told more than that it was requested.
    dismissed: Option<&'static str>,
    /// Places in the chat queue, so that one flooding peer does not take them all.
    chat_places: Arc<Semaphore>,
}

/// Who is told when a peer is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A WebSocket session.
    Session(SessionId),
    /// A WHIP or WHEP session.
    Resource(String),
    /// Nobody: its session was cut off and may come back.
    Nobody,
}

/// What is to be done after an event.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Send the room to a newcomer's `events` channel.
    Greet(PeerId, RoomId),
    /// Give this to the chat desk.
    Chat(chat::Errand),
}

impl Directory {
    pub(crate) fn new(grace: Duration) -> Self {
        Self {
            grace,
            rooms: HashMap::new(),
            by_slug: HashMap::new(),
            sessions: HashMap::new(),
            resources: HashMap::new(),
            peers: HashMap::new(),
            orphans: HashMap::new(),
            last_session: 0,
        }
    }

    /// Returns the room in use with this name, and keeps it for a while.
    pub(crate) fn find(&mut self, slug: &str, now: Instant) -> Option<RoomId> {
        let id = *self.by_slug.get(slug)?;
        self.room_mut(id)?.touch(now);
        Some(id)
    }

    /// Takes a room into use.
    pub(crate) fn open(&mut self, record: &RoomRecord, now: Instant) -> RoomId {
        let RoomRecord { id, slug, .. } = record;
        let place = self.rooms.entry(*id).or_insert_with(|| Place {
            room: Room::new(record, self.grace, now),
            seats: HashMap::new(),
            outputs: None,
            has_outputs: false,
        });
        place.room.touch(now);
        self.by_slug.insert(slug.clone(), *id);
        *id
    }

    pub(crate) fn room(&self, id: RoomId) -> Option<&Room> {
        self.rooms.get(&id).map(|place| &place.room)
    }

    pub(crate) fn room_mut(&mut self, id: RoomId) -> Option<&mut Room> {
        self.rooms.get_mut(&id).map(|place| &mut place.room)
    }

    /// Returns the rooms in use.
    pub(crate) fn rooms(&self) -> Vec<RoomInfo> {
        let infos = self.rooms.values().map(|place| place.room.info());
        infos.collect()
    }

    /// Returns how many sessions and resources there are.
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len() + self.resources.len()
    }

    /// Counts a new session in. [`Directory::leave`] counts it out.
    pub(crate) fn arrive(&mut self) -> SessionId {
        self.last_session += 1;
        let id = SessionId(self.last_session);
        self.sessions.insert(id, Presence::default());
        self.gauge();
        id
    }

    /// Seats a session in a room and sends it `joined`, before anything else can be sent to it. Returns the
    /// peers that an earlier session of the same identity has left, which are this session's from now on.
    pub(crate) fn enter(
        &mut self,
        session: SessionId,
        room: RoomId,
        member: &Member,
        seat: Seat,
        ice_servers: Vec<IceServer>,
        guest_token: Option<String>,
    ) -> Vec<(Role, PeerId)> {
        let Some(place) = self.rooms.get_mut(&room) else {
            return Vec::new();
        };
        seat.outbox.push(&ServerMessage::Joined {
            identity: member.identity.clone(),
            name: member.name.clone(),
            grants: member.grants,
            room: place.room.info(),
            ice_servers,
            guest_token,
        });
        if let (true, Some(outputs)) = (seat.egress, &place.outputs) {
            seat.outbox.push_text(outputs.clone());
        }
        place.seats.insert(session, seat);
        let Some(presence) = self.sessions.get_mut(&session) else {
            return Vec::new();
        };
        presence.room = Some(room);
        let mut adopted = Vec::new();
        for (role, publishes) in [(Role::Publisher, true), (Role::Viewer, false)] {
            let key = (room, member.identity.clone(), publishes);
            if let Some(orphan) = self.orphans.remove(&key)
                && let Some(link) = self.peers.get_mut(&orphan)
            {
                link.owner = Owner::Session(session);
                presence.peers.push(orphan);
                adopted.push((role, orphan));
            }
        }
        adopted
    }

    /// Takes a session out of its room. One that said goodbye takes its peers with it: they are returned,
    /// to be closed. The peers of one that was cut off stay: their media may well arrive.
    pub(crate) fn leave(&mut self, session: SessionId, goodbye: bool, now: Instant) -> Vec<PeerId> {
        let presence = self.sessions.remove(&session);
        self.gauge();
        let Some(Presence {
            room: Some(room),
            peers,
        }) = presence
        else {
            return Vec::new();
        };
        let Some(place) = self.rooms.get_mut(&room) else {
            return Vec::new();
        };
        place.seats.remove(&session);
        place.room.touch(now);
        for &peer in &peers {
            if let Some(link) = self.peers.get_mut(&peer) {
                link.owner = Owner::Nobody;
            }
            if let (false, Some(key)) = (goodbye, orphaned(&place.room, peer)) {
                self.orphans.insert(key, peer);
            }
        }
        if goodbye { peers } else { Vec::new() }
    }

    /// Reserves what an offer needs; see [`Room::reserve`]. Follow with [`Directory::add_peer`] or
    /// [`Directory::release`].
    pub(crate) fn reserve(
        &mut self,
        room: RoomId,
        role: Role,
        by: &Member,
        now: Instant,
    ) -> Result<(), Problem> {
        let room = self.room_mut(room).ok_or_else(gone)?;
        match role {
            Role::Publisher => room.reserve(by, now),
            Role::Viewer => Ok(()),
        }
    }

    /// Gives back what was reserved.
    pub(crate) fn release(&mut self, room: RoomId, role: Role, by: &Member, now: Instant) {
        if let (Role::Publisher, Some(room)) = (role, self.room_mut(room)) {
            room.release(by, now);
        }
    }

    /// Notes a new peer. A session that is gone by now leaves it to its successor.
    pub(crate) fn add_peer(
        &mut self,
        room: RoomId,
        peer: PeerId,
        purpose: Purpose,
        member: Arc<Member>,
        owner: Owner,
        now: Instant,
    ) {
        let Some(place) = self.rooms.get_mut(&room) else {
            return;
        };
        let owner = match owner {
            Owner::Session(session) => match self.sessions.get_mut(&session) {
                Some(presence) => {
                    presence.peers.push(peer);
                    Owner::Session(session)
                }
                None => {
                    let publishes = purpose == Purpose::Publish;
                    let key = (room, member.identity.clone(), publishes);
                    self.orphans.insert(key, peer);
                    Owner::Nobody
                }
            },
            owner @ (Owner::Resource(_) | Owner::Nobody) => owner,
        };
        place.room.add_peer(peer, purpose, member, now);
        let chat_places = Arc::new(Semaphore::new(CHAT_PLACES));
        self.peers.insert(
            peer,
            Link {
                room,
                owner,
                dismissed: None,
                chat_places,
            },
        );
    }

    pub(crate) fn add_resource(&mut self, id: String, resource: Resource) {
        // The peer may have ended while its resource was being made.
        if self.peers.contains_key(&resource.peer) {
            self.resources.insert(id, resource);
            self.gauge();
        }
    }

    pub(crate) fn resource(&self, id: &str) -> Option<&Resource> {
        self.resources.get(id)
    }

    /// Notes that a resource has a new ICE session.
    pub(crate) fn change_etag(&mut self, id: &str, etag: &str) {
        if let Some(resource) = self.resources.get_mut(id) {
            etag.clone_into(&mut resource.etag);
        }
    }

    pub(crate) fn remove_resource(&mut self, id: &str) {
        self.resources.remove(id);
        self.gauge();
    }

    /// Notes that the participant of a peer, which is about to be closed, is done. Returns the guests' peers
    /// that are to be closed with it.
    pub(crate) fn stop(&mut self, peer: PeerId, now: Instant) -> Vec<PeerId> {
        let Some(link) = self.peers.get(&peer) else {
            return Vec::new();
        };
        let Some(place) = self.rooms.get_mut(&link.room) else {
            return Vec::new();
        };
        let guests = place.room.stop(peer, now);
        self.dismiss(&guests, STAGE_CLOSED);
        guests
    }

    /// Notes that a participant is done whose publishing peer is gone already. Returns the guests' peers that are
    /// to be closed.
    pub(crate) fn finish(&mut self, room: RoomId, by: &Member, now: Instant) -> Vec<PeerId> {
        let guests = self.room_mut(room).map(|room| room.finish(by, now));
        let guests = guests.unwrap_or_default();
        self.dismiss(&guests, STAGE_CLOSED);
        guests
    }

    /// Takes a guest off the stage. Returns their peers, which are to be closed.
    pub(crate) fn remove_guest(
        &mut self,
        room: RoomId,
        identity: &str,
        now: Instant,
    ) -> Result<Vec<PeerId>, Problem> {
        let room = self.room_mut(room).ok_or_else(gone)?;
        let peers = room.remove_guest(identity, now)?;
        self.dismiss(&peers, REMOVED);
        Ok(peers)
    }

    /// Returns the peers of guests whose host has not come back in time; they are to be closed.
    pub(crate) fn abandoned_guests(&mut self, now: Instant) -> Vec<PeerId> {
        let rooms = self.rooms.values_mut();
        let guests: Vec<_> = rooms
            .flat_map(|place| place.room.abandoned_guests(now))
            .collect();
        self.dismiss(&guests, STAGE_CLOSED);
        guests
    }

    /// Takes what the SFU tells.
    pub(crate) fn handle_event(
        &mut self,
        event: Event,
        now: Instant,
        now_ms: u64,
    ) -> Option<Errand> {
        match event {
            Event::Connected { peer } => {
                let room = self.peers.get(&peer)?.room;
                self.room_mut(room)?.handle_connected(peer);
                None
            }
            Event::Closed { peer, reason, .. } => {
                self.handle_closed(peer, reason.as_str(), now);
                None
            }
            Event::Published {
                peer,
                room,
                publication,
                kind,
                ..
            } => {
                self.room_mut(room)?
                    .handle_published(peer, publication, kind, now, now_ms);
                None
            }
            Event::Unpublished {
                room, publication, ..
            } => {
                self.room_mut(room)?.handle_unpublished(publication, now);
                None
            }
            Event::Stage {
                room,
                video,
                audio,
                program,
            } => {
                self.room_mut(room)?.handle_stage(Bindings {
                    video,
                    audio,
                    program,
                });
                None
            }
            Event::LayersWanted { peer, wanted, .. } => {
                self.tell_wanted(peer, wanted);
                None
            }
            Event::ChannelOpened { peer, label } if label == EVENTS_CHANNEL => {
                Some(Errand::Greet(peer, self.peers.get(&peer)?.room))
            }
            Event::ChannelOpened { peer, label } if label == CHAT_CHANNEL => {
                self.chat_errand(peer, None)
            }
            Event::Message {
                peer,
                label,
                payload,
            } if label == CHAT_CHANNEL => self.chat_errand(peer, Some(payload)),
            Event::ChannelOpened { .. } | Event::Message { .. } => None,
        }
    }

    /// Returns how soon somebody is to be told something.
    pub(crate) fn change(&self) -> Change {
        self.rooms
            .values()
            .map(|place| place.room.change())
            .max()
            .unwrap_or(Change::None)
    }

    /// Tells the sessions of all rooms with changes at least that urgent, and returns what their `events`
    /// channels are to be told.
    pub(crate) fn announce(&mut self, at_least: Change) -> Vec<(RoomId, Bytes)> {
        let changed = self.rooms.values_mut().filter(|place| {
            let change = place.room.change();
            change != Change::None && change >= at_least
        });
        let mut events = Vec::new();
        for place in changed {
            let announcement = place.room.announce();
            if let Some(room) = announcement.info {
                let message = text(&ServerMessage::Room { room: room.clone() });
                for seat in place.seats.values() {
                    seat.outbox.push_text(message.clone());
                }
                events.push((place.room.id(), event(&RoomEvent::Room { room })));
            }
            if let Some(slots) = announcement.slots {
                events.push((place.room.id(), event(&stage_event(slots))));
            }
        }
        events
    }

    /// Returns what a newcomer's `events` channel is told.
    pub(crate) fn greeting(&self, room: RoomId) -> Vec<Bytes> {
        let Some(room) = self.room(room) else {
            return Vec::new();
        };
        let info = event(&RoomEvent::Room { room: room.info() });
        vec![info, event(&stage_event(room.slots()))]
    }

    /// Tells those who may see them what a room's outputs do.
    pub(crate) fn set_outputs(&mut self, room: RoomId, jobs: serde_json::Value, hls: bool) {
        let Some(place) = self.rooms.get_mut(&room) else {
            return;
        };
        place.room.set_hls(hls);
        place.has_outputs = jobs.as_array().is_some_and(|jobs| !jobs.is_empty());
        let message = text(&ServerMessage::Outputs { jobs });
        for seat in place.seats.values().filter(|seat| seat.egress) {
            seat.outbox.push_text(message.clone());
        }
        place.outputs = Some(message);
    }

    /// Forgets rooms that nobody uses.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.rooms
            .retain(|_, place| !place.seats.is_empty() || !place.room.is_idle(now));
        self.by_slug.retain(|_, id| self.rooms.contains_key(id));
    }

    /// Closes all sessions: the server stops, and pages are to come back.
    pub(crate) fn close_sessions(&self) {
        for seat in self.rooms.values().flat_map(|place| place.seats.values()) {
            seat.outbox
                .close(close_code::RESTARTING, "server restarting");
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "there are far fewer than 2^52 sessions"
    )]
    fn gauge(&self) {
        metrics::gauge!("fanlight_sessions", "kind" => "ws").set(self.sessions.len() as f64);
        metrics::gauge!("fanlight_sessions", "kind" => "http").set(self.resources.len() as f64);
    }

    /// Tells a broadcasting page which of its layers anybody wants.
    fn tell_wanted(&self, peer: PeerId, wanted: Vec<bool>) {
        if let Some(link) = self.peers.get(&peer)
            && let Owner::Session(session) = link.owner
            && let Some(place) = self.rooms.get(&link.room)
            && let Some(seat) = place.seats.get(&session)
        {
            seat.outbox.push(&ServerMessage::WantedLayers { wanted });
        }
    }

    /// Notes why these peers are about to be closed.
    fn dismiss(&mut self, peers: &[PeerId], why: &'static str) {
        for peer in peers {
            if let Some(link) = self.peers.get_mut(peer) {
                link.dismissed = Some(why);
            }
        }
    }

    fn handle_closed(&mut self, peer: PeerId, reason: &'static str, now: Instant) {
        let Some(link) = self.peers.remove(&peer) else {
            return;
        };
        let Some(place) = self.rooms.get_mut(&link.room) else {
            return;
        };
        if let Some(key) = orphaned(&place.room, peer)
            && self.orphans.get(&key) == Some(&peer)
        {
            self.orphans.remove(&key);
        }
        place.room.handle_closed(peer, now);
        match link.owner {
            Owner::Session(session) => {
                if let Some(presence) = self.sessions.get_mut(&session) {
                    presence.peers.retain(|&other| other != peer);
                }
                if let Some(seat) = place.seats.get(&session)
                    && let Err(mpsc::error::TrySendError::Full(_)) = seat
                        .ended
                        .try_send((peer, link.dismissed.unwrap_or(reason)))
                {
                    seat.outbox.give_up();
                }
            }
            Owner::Resource(id) => self.remove_resource(&id),
            Owner::Nobody => {}
        }
    }

    fn chat_errand(&self, peer: PeerId, payload: Option<Bytes>) -> Option<Errand> {
        // What is far too long is refused as nonsense, and does not wait with all its bytes.
        let payload = payload.map(|payload| match payload.len() {
            0..=chat::MAX_REQUEST => payload,
            _ => Bytes::new(),
        });
        let link = self.peers.get(&peer)?;
        let by = self.room(link.room)?.member(peer)?.clone();
        let Ok(place) = Arc::clone(&link.chat_places).try_acquire_owned() else {
            metrics::counter!("fanlight_chat_dropped_total", "reason" => "flood").increment(1);
            return None;
        };
        Some(Errand::Chat(chat::Errand {
            peer,
            room: link.room,
            by,
            payload,
            _place: place,
        }))
    }
}

fn orphaned(room: &Room, peer: PeerId) -> Option<Orphaned> {
    let member = room.member(peer)?;
    let publishes = room.purpose(peer) == Some(Purpose::Publish);
    Some((room.id(), member.identity.clone(), publishes))
}

fn stage_event(slots: Slots) -> RoomEvent {
    let Slots {
        video,
        audio,
        program,
    } = slots;
    RoomEvent::Stage {
        video,
        audio,
        program,
    }
}

fn event(event: &RoomEvent) -> Bytes {
    serde_json::to_vec(event)
        .expect("wire types are JSON")
        .into()
}

fn gone() -> Problem {
    Problem::new(
        ErrorCode::RoomUnknown,
        "The room has been closed. Join again.",
    )
}

/// Why guests lose their peers.
const REMOVED: &str = "removed";
const STAGE_CLOSED: &str = "stage_closed";

/// Messages of one peer that may wait for the chat desk; the rest is dropped. Nobody writes that fast.
const CHAT_PLACES: usize = 32;

#[cfg(test)]
mod tests {
    use sfu::{CloseReason, Codec, MediaKind, ParticipantId, PublicationId};

    use super::*;
    use crate::{outbox::Waiting, protocol::Grants};

    const ROOM: RoomId = RoomId(1);

    #[test]
    fn newcomer_hears_joined_first_then_every_change() {
        let (mut directory, t0) = directory();
        let (session, mut waiting, _ended) = enter(&mut directory, &member("ann"));
        publish(&mut directory, session, PeerId(1), t0);
        assert_eq!(directory.change(), Change::Now);
        let told = directory.announce(Change::Now);
        assert_eq!(told.len(), 1);
        let words = received(&mut waiting);
        assert!(words[0].starts_with(r#"{"type":"joined""#), "{words:?}");
        assert!(words[1].contains(r#""live":true"#), "{words:?}");
        assert_eq!(directory.announce(Change::Soon), [], "told once");
    }

    #[test]
    fn goodbye_takes_the_media_along_and_a_cut_leaves_it_to_the_next_session() {
        let (mut directory, t0) = directory();
        let (session, ..) = enter(&mut directory, &member("ann"));
        publish(&mut directory, session, PeerId(1), t0);
        assert_eq!(directory.leave(session, false, t0), []);
        assert!(
            directory.rooms().iter().filter(|room| room.live).count() == 1,
            "its media goes on"
        );

        let session = directory.arrive();
        let (seat, _waiting, _ended) = seat();
        let adopted = directory.enter(session, ROOM, &member("ann"), seat, Vec::new(), None);
        assert_eq!(adopted, [(Role::Publisher, PeerId(1))]);
        assert_eq!(directory.leave(session, true, t0), [PeerId(1)]);
    }

    #[test]
    fn only_the_same_identity_takes_over_what_was_left() {
        let (mut directory, t0) = directory();
        let (session, ..) = enter(&mut directory, &member("ann"));
        publish(&mut directory, session, PeerId(1), t0);
        directory.leave(session, false, t0);
        let other = directory.arrive();
        let adopted = directory.enter(other, ROOM, &member("bob"), seat().0, Vec::new(), None);
        assert_eq!(adopted, []);
        close(&mut directory, PeerId(1), t0);
        let again = directory.arrive();
        let adopted = directory.enter(again, ROOM, &member("ann"), seat().0, Vec::new(), None);
        assert_eq!(adopted, [], "it has ended");
    }

    #[test]
    fn end_of_a_peer_reaches_its_owner() {
        let (mut directory, t0) = directory();
        let (session, _waiting, mut ended) = enter(&mut directory, &member("ann"));
        publish(&mut directory, session, PeerId(1), t0);
        let by = Arc::new(member("bob"));
        let owner = Owner::Resource("r".into());
        directory.add_peer(ROOM, PeerId(2), Purpose::Watch, by, owner, t0);
        directory.add_resource("r".into(), resource(PeerId(2)));
        assert_eq!(directory.session_count(), 2);

        close(&mut directory, PeerId(1), t0);
        assert_eq!(ended.try_recv(), Ok((PeerId(1), "left")));
        close(&mut directory, PeerId(2), t0);
        assert_eq!(directory.resource("r"), None);
        assert_eq!(directory.session_count(), 1);
        close(&mut directory, PeerId(3), t0);
    }

    #[test]
    fn outputs_are_for_those_who_may_see_them() {
        let (mut directory, _) = directory();
        let (_, mut may, _e1) = enter(&mut directory, &member("ann"));
        let (mut not_seat, mut may_not, _e2) = seat();
        not_seat.egress = false;
        let session = directory.arrive();
        directory.enter(session, ROOM, &member("bob"), not_seat, Vec::new(), None);
        directory.set_outputs(ROOM, serde_json::json!([{"id": "x"}]), true);
        assert!(
            received(&mut may)
                .iter()
                .any(|m| m.contains(r#""jobs":[{"id":"x"}]"#))
        );
        assert!(!received(&mut may_not).iter().any(|m| m.contains("jobs")));
        assert!(directory.room(ROOM).unwrap().info().hls);
        let (_, mut late, _e3) = enter(&mut directory, &member("cid"));
        assert!(
            received(&mut late)[1].contains("jobs"),
            "who comes later is told too"
        );
    }

    #[test]
    fn flood_of_chat_waits_in_few_places() {
        let (mut directory, t0) = directory();
        let (session, ..) = enter(&mut directory, &member("ann"));
        publish(&mut directory, session, PeerId(1), t0);
        let say = |directory: &mut Directory| {
            let (label, payload) = (CHAT_CHANNEL.to_owned(), Bytes::from_static(b"{}"));
            directory.handle_event(
                Event::Message {
                    peer: PeerId(1),
                    label,
                    payload,
                },
                t0,
                0,
            )
        };
        let waiting: Vec<_> = (0..100).filter_map(|_| say(&mut directory)).collect();
        assert_eq!(waiting.len(), CHAT_PLACES);
        drop(waiting);
        assert!(say(&mut directory).is_some());
    }

    #[test]
    fn unused_rooms_are_forgotten() {
        let (mut directory, t0) = directory();
        let (session, ..) = enter(&mut directory, &member("ann"));
        let later = t0 + Duration::from_secs(1000);
        directory.sweep(later);
        assert!(directory.room(ROOM).is_some(), "somebody is in it");
        directory.leave(session, true, t0);
        directory.sweep(later);
        assert!(directory.room(ROOM).is_none());
        assert_eq!(directory.find("one", later), None);
    }

    fn directory() -> (Directory, Instant) {
        let t0 = Instant::now();
        let mut directory = Directory::new(Duration::from_secs(10));
        let record = RoomRecord {
            id: ROOM,
            slug: "one".into(),
            title: "One".into(),
            stage_size: 9,
        };
        directory.open(&record, t0);
        (directory, t0)
    }

    type Ended = mpsc::Receiver<(PeerId, &'static str)>;

    fn enter(directory: &mut Directory, member: &Member) -> (SessionId, Waiting, Ended) {
        let session = directory.arrive();
        let (seat, waiting, ended) = seat();
        directory.enter(session, ROOM, member, seat, Vec::new(), None);
        (session, waiting, ended)
    }

    fn seat() -> (Seat, Waiting, Ended) {
        let (outbox, waiting) = Outbox::new();
        let (ended, inbox) = mpsc::channel(4);
        (
            Seat {
                outbox,
                ended,
                egress: true,
            },
            waiting,
            inbox,
        )
    }

    fn publish(directory: &mut Directory, session: SessionId, peer: PeerId, t0: Instant) {
        let by = member("ann");
        directory.reserve(ROOM, Role::Publisher, &by, t0).unwrap();
        let owner = Owner::Session(session);
        directory.add_peer(ROOM, peer, Purpose::Publish, Arc::new(by), owner, t0);
        directory.handle_event(Event::Connected { peer }, t0, 0);
        let event = Event::Published {
            peer,
            room: ROOM,
            publication: PublicationId(peer.0),
            kind: MediaKind::Audio,
            codec: Codec::Opus,
        };
        directory.handle_event(event, t0, 1000);
    }

    fn close(directory: &mut Directory, peer: PeerId, t0: Instant) {
        let (participant, reason) = (ParticipantId(1), CloseReason::Left);
        directory.handle_event(
            Event::Closed {
                peer,
                room: ROOM,
                participant,
                reason,
            },
            t0,
            0,
        );
    }

    fn received(waiting: &mut Waiting) -> Vec<String> {
        std::iter::from_fn(|| waiting.frames.try_recv().ok())
            .map(|frame| frame.into_text().unwrap().to_string())
            .collect()
    }

    fn resource(peer: PeerId) -> Resource {
        Resource {
            peer,
            room: ROOM,
            role: Role::Viewer,
            etag: "\"u\"".into(),
            identity: "bob".into(),
            token: None,
        }
    }

    fn member(identity: &str) -> Member {
        Member {
            identity: identity.into(),
            name: identity.into(),
            grants: Grants {
                publish: true,
                subscribe: true,
                ..Grants::default()
            },
            anonymous: false,
            invited_until: None,
        }
    }
}
