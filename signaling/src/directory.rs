//! [`Directory`]: which rooms are in use, and who is in them: sessions, HTTP resources, peers.
//!
//! No I/O: callers hold it under a lock for a moment, and do outside what it returns.

mod announcements;
mod dismissals;
mod events;
mod peers;
mod resources;
mod sessions;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use axum::extract::ws::Utf8Bytes;
use sfu::{PeerId, RoomId};

use crate::{
    Problem,
    protocol::{ErrorCode, RoomInfo},
    room::{Performance, Room},
    store::RoomRecord,
};

pub(crate) use events::Errand;
pub(crate) use peers::Owner;
use peers::{Link, Orphaned};
pub(crate) use resources::Resource;
use sessions::Presence;
pub(crate) use sessions::{Seat, SessionId};

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

/// A room, and whom to tell about it.
#[derive(Debug)]
struct Place {
    room: Room,
    seats: HashMap<SessionId, Seat>,
    /// The last states of its outputs.
    outputs: Option<Utf8Bytes>,
    has_outputs: bool,
    /// The last of its performance that was told.
    told: Option<Performance>,
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
            told: None,
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

    /// Forgets rooms that nobody uses.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.rooms
            .retain(|_, place| !place.seats.is_empty() || !place.room.is_idle(now));
        self.by_slug.retain(|_, id| self.rooms.contains_key(id));
    }
}

fn gone() -> Problem {
    Problem::new(
        ErrorCode::RoomUnknown,
        "The room has been closed. Join again.",
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use sfu::{CloseReason, Codec, Event, MediaKind, ParticipantId, PublicationId, Role};
    use tokio::sync::mpsc;

    use super::{events::CHAT_PLACES, *};
    use crate::{
        auth::Member,
        look::Look,
        outbox::{Outbox, Waiting},
        protocol::{CHAT_CHANNEL, Grants, Layout},
        room::{Change, Purpose},
    };

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
    fn performance_changes_with_a_screen_that_is_shared() {
        let (mut directory, t0) = directory();
        let ann = member("ann");
        let (session, ..) = enter(&mut directory, &ann);
        publish(&mut directory, session, PeerId(1), t0);
        let told = |directory: &mut Directory| -> Vec<bool> {
            let changed = directory.changed_performances().into_iter();
            let performers = changed.flat_map(|(_, performance)| performance.performers);
            performers.map(|performer| performer.screen).collect()
        };
        assert_eq!(told(&mut directory), [false]);
        for screen in [true, false, true] {
            directory.room_mut(ROOM).unwrap().set_screen(&ann, screen);
            assert_eq!(told(&mut directory), [screen]);
            assert!(told(&mut directory).is_empty(), "told once");
        }
        let (by, owner) = (Arc::new(ann), Owner::Resource("r".into()));
        directory.reserve(ROOM, Role::Publisher, &by, t0).unwrap();
        directory.add_peer(ROOM, PeerId(2), Purpose::Publish, by, owner, t0);
        assert_eq!(told(&mut directory), [false], "taken over by WHIP");
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
            layout: Layout::default(),
            look: Look::default(),
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
