//! One room: who broadcasts, who watches, and what its members are told. Pure.
//!
//! The only place that decides who may take the room's stage and whether it is on air.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use sfu::{PeerId, PublicationId, Role, RoomId};

use crate::{
    Problem,
    auth::Member,
    protocol::{ErrorCode, RoomInfo},
};

/// The state of one room in use.
#[derive(Debug)]
pub(crate) struct Room {
    id: RoomId,
    slug: String,
    title: String,
    /// How long a broadcast may be away and still be the same.
    grace: Duration,
    publisher: Option<Publisher>,
    peers: HashMap<PeerId, Peer>,
    /// Connected peers that watch.
    viewers: u32,
    publications: HashSet<PublicationId>,
    broadcast: Option<Broadcast>,
    paused: bool,
    hls: bool,
    announced: RoomInfo,
    used_at: Instant,
}

/// Who has the stage: from the offer until their last peer is gone.
#[derive(Debug)]
struct Publisher {
    identity: String,
    name: String,
    /// Offers that the SFU has not answered yet.
    pending: usize,
}

#[derive(Debug)]
struct Peer {
    member: Arc<Member>,
    purpose: Purpose,
    connected: bool,
    /// Its participant is done: it no longer holds the stage.
    leaving: bool,
}

/// What a peer is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Sends media.
    Publish,
    /// Receives media: a viewer.
    Watch,
    /// Data channels only, as of a broadcaster who is not on air yet: nobody's viewer.
    Talk,
}

impl Purpose {
    /// Returns what an offer is for.
    pub(crate) fn of(role: Role, offer: &str) -> Self {
        let is_media = |line: &str| line.starts_with("m=audio") || line.starts_with("m=video");
        match role {
            Role::Publisher => Self::Publish,
            Role::Viewer if offer.lines().any(is_media) => Self::Watch,
            Role::Viewer => Self::Talk,
        }
    }
}

#[derive(Debug)]
struct Broadcast {
    identity: String,
    since_ms: u64,
    state: Air,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Air {
    On,
    /// Still on air, but asked to end.
    Ending,
    Off {
        since: Instant,
    },
}

/// How soon members are to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Change {
    /// Nothing to tell.
    None,
    /// Only a count: may wait for more of them.
    Soon,
    /// Something to act on.
    Now,
}

impl Room {
    pub(crate) fn new(id: RoomId, slug: &str, title: &str, grace: Duration, now: Instant) -> Self {
        let announced = RoomInfo {
            slug: slug.to_owned(),
            title: title.to_owned(),
            live: false,
            paused: false,
            live_since_ms: None,
            viewers: 0,
            hls: false,
        };
        Self {
            id,
            slug: slug.to_owned(),
            title: title.to_owned(),
            grace,
            publisher: None,
            peers: HashMap::new(),
            viewers: 0,
            publications: HashSet::new(),
            broadcast: None,
            paused: false,
            hls: false,
            announced,
            used_at: now,
        }
    }

    pub(crate) fn id(&self) -> RoomId {
        self.id
    }

    pub(crate) fn slug(&self) -> &str {
        &self.slug
    }

    /// Reserves the stage for an offer to publish. Follow with [`Room::add_peer`] or [`Room::release`].
    ///
    /// The same identity always gets it: a reload must not wait for its own past.
    pub(crate) fn reserve(&mut self, by: &Member, now: Instant) -> Result<(), Problem> {
        self.used_at = now;
        let publisher = self.publisher.get_or_insert_with(|| Publisher {
            identity: by.identity.clone(),
            name: by.name.clone(),
            pending: 0,
        });
        if publisher.identity != by.identity {
            return Err(Problem::new(
                ErrorCode::RoomHasPublisher,
                format!(
                    "{} is broadcasting in this room. Ask them to stop, or use another room. After a \
                     lost connection the room is free again within 30 seconds.",
                    publisher.name
                ),
            ));
        }
        publisher.pending += 1;
        Ok(())
    }

    /// Gives a reservation back: the offer was refused.
    pub(crate) fn release(&mut self) {
        self.end_reservation();
        self.free_stage();
    }

    /// Notes the peer that an accepted offer has made.
    pub(crate) fn add_peer(
        &mut self,
        peer: PeerId,
        purpose: Purpose,
        member: Arc<Member>,
        now: Instant,
    ) {
        self.used_at = now;
        if purpose == Purpose::Publish {
            // A page that goes on with a pause says so once it has its answer.
            self.paused = false;
            self.end_reservation();
        }
        self.peers.insert(
            peer,
            Peer {
                member,
                purpose,
                connected: false,
                leaving: false,
            },
        );
    }

    /// Returns whose peer this is.
    pub(crate) fn member(&self, peer: PeerId) -> Option<&Arc<Member>> {
        self.peers.get(&peer).map(|peer| &peer.member)
    }

    pub(crate) fn handle_connected(&mut self, peer: PeerId) {
        if let Some(peer) = self.peers.get_mut(&peer)
            && !std::mem::replace(&mut peer.connected, true)
        {
            self.viewers += u32::from(peer.purpose == Purpose::Watch);
        }
    }

    pub(crate) fn handle_closed(&mut self, peer: PeerId, now: Instant) {
        self.used_at = now;
        let Some(peer) = self.peers.remove(&peer) else {
            return;
        };
        match peer.purpose {
            Purpose::Publish => {
                self.free_stage();
                self.leave_air(now);
            }
            Purpose::Watch => self.viewers -= u32::from(peer.connected),
            Purpose::Talk => {}
        }
    }

    pub(crate) fn handle_published(
        &mut self,
        peer: PeerId,
        publication: PublicationId,
        now: Instant,
        now_ms: u64,
    ) {
        let Some(member) = self.member(peer) else {
            return;
        };
        let identity = member.identity.clone();
        self.publications.insert(publication);
        let before = self.broadcast.take().filter(|broadcast| {
            broadcast.identity == identity
                && match broadcast.state {
                    Air::On => true,
                    Air::Ending => false,
                    Air::Off { since } => now.duration_since(since) <= self.grace,
                }
        });
        let since_ms = before.map_or(now_ms, |before| before.since_ms);
        self.broadcast = Some(Broadcast {
            identity,
            since_ms,
            state: Air::On,
        });
    }

    pub(crate) fn handle_unpublished(&mut self, publication: PublicationId, now: Instant) {
        self.publications.remove(&publication);
        self.leave_air(now);
    }

    /// Notes that a broadcaster is done, whose peer is about to be closed.
    pub(crate) fn stop(&mut self, peer: PeerId) {
        let Some(peer) = self.peers.get_mut(&peer) else {
            return;
        };
        peer.leaving = true;
        if peer.purpose == Purpose::Publish {
            if let Some(broadcast) = &mut self.broadcast
                && broadcast.state == Air::On
            {
                broadcast.state = Air::Ending;
            }
            self.free_stage();
        }
    }

    /// The broadcaster pauses or goes on.
    pub(crate) fn set_paused(&mut self, by: &Member, paused: bool) -> Result<(), Problem> {
        if self
            .publisher
            .as_ref()
            .is_none_or(|publisher| publisher.identity != by.identity)
        {
            return Err(Problem::new(
                ErrorCode::NotAllowed,
                "Only the one who is broadcasting can pause.",
            ));
        }
        self.paused = paused;
        Ok(())
    }

    /// Notes whether the room's playlist is being written.
    pub(crate) fn set_hls(&mut self, hls: bool) {
        self.hls = hls;
    }

    /// Returns what members see.
    pub(crate) fn info(&self) -> RoomInfo {
        let on_air = self
            .broadcast
            .as_ref()
            .filter(|broadcast| matches!(broadcast.state, Air::On | Air::Ending));
        RoomInfo {
            slug: self.slug.clone(),
            title: self.title.clone(),
            live: on_air.is_some(),
            paused: on_air.is_some() && self.paused,
            live_since_ms: on_air.map(|broadcast| broadcast.since_ms),
            viewers: self.viewers,
            hls: self.hls,
        }
    }

    /// Returns how soon members are to be told what has changed since [`Room::announce`].
    pub(crate) fn change(&self) -> Change {
        let info = self.info();
        if info == self.announced {
            Change::None
        } else if (RoomInfo {
            viewers: self.announced.viewers,
            ..info
        }) == self.announced
        {
            Change::Soon
        } else {
            Change::Now
        }
    }

    /// Returns what members are to be told, and notes that they are.
    pub(crate) fn announce(&mut self) -> RoomInfo {
        self.announced = self.info();
        self.announced.clone()
    }

    /// Returns whether nothing is lost by forgetting this state.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let unused = now.duration_since(self.used_at) > self.grace + IDLE_AFTER;
        unused && self.peers.is_empty() && self.publisher.is_none() && !self.hls
    }

    /// Notes that somebody has asked for the room.
    pub(crate) fn touch(&mut self, now: Instant) {
        self.used_at = now;
    }

    fn end_reservation(&mut self) {
        if let Some(publisher) = &mut self.publisher {
            publisher.pending = publisher.pending.saturating_sub(1);
        }
    }

    fn free_stage(&mut self) {
        let waiting = self
            .publisher
            .as_ref()
            .is_some_and(|publisher| publisher.pending > 0);
        if !waiting
            && !self
                .peers
                .values()
                .any(|peer| peer.purpose == Purpose::Publish && !peer.leaving)
        {
            self.publisher = None;
        }
    }

    /// Between two peers of the same broadcaster the room stays on air: viewers see a cut, not an end.
    fn leave_air(&mut self, now: Instant) {
        let taken_over = self
            .peers
            .values()
            .any(|peer| peer.connected && peer.purpose == Purpose::Publish);
        if self.publications.is_empty()
            && !taken_over
            && let Some(broadcast) = &mut self.broadcast
        {
            match broadcast.state {
                Air::On => broadcast.state = Air::Off { since: now },
                Air::Ending => self.broadcast = None,
                Air::Off { .. } => return,
            }
            self.paused = false;
        }
    }
}

/// Beyond the grace: who asked for a room a moment ago is about to enter it.
const IDLE_AFTER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Grants;

    #[test]
    fn another_identity_waits_until_the_last_peer_is_gone() {
        let (mut room, t0) = room();
        room.reserve(&ann(), t0).unwrap();
        let refusal = room.reserve(&bob(), t0).unwrap_err();
        assert_eq!(
            refusal.code,
            ErrorCode::RoomHasPublisher,
            "while the offer is being answered"
        );
        room.add_peer(PeerId(1), Purpose::Publish, ann(), t0);
        assert!(room.reserve(&bob(), t0).is_err(), "before it is connected");
        room.handle_connected(PeerId(1));
        let refusal = room.reserve(&bob(), t0).unwrap_err();
        assert!(refusal.detail.contains("Ann"), "{}", refusal.detail);
        room.handle_closed(PeerId(1), t0);
        assert_eq!(room.reserve(&bob(), t0), Ok(()));
    }

    #[test]
    fn same_identity_takes_over_and_keeps_the_stage() {
        let (mut room, t0) = on_air();
        room.reserve(&ann(), t0).unwrap();
        room.add_peer(PeerId(2), Purpose::Publish, ann(), t0);
        room.handle_connected(PeerId(2));
        room.handle_unpublished(PublicationId(1), t0);
        room.handle_closed(PeerId(1), t0);
        assert!(room.info().live, "between the peers");
        assert!(room.reserve(&bob(), t0).is_err());
        room.handle_published(PeerId(2), PublicationId(2), t0 + ms(300), 1300);
        assert_eq!(room.info().live_since_ms, Some(1000));
        room.handle_unpublished(PublicationId(2), t0 + ms(900));
        room.handle_closed(PeerId(2), t0 + ms(900));
        assert!(!room.info().live);
    }

    #[test]
    fn refused_offer_frees_the_stage() {
        let (mut room, t0) = room();
        room.reserve(&ann(), t0).unwrap();
        room.reserve(&ann(), t0).unwrap();
        room.release();
        assert!(
            room.reserve(&bob(), t0).is_err(),
            "the other offer is pending"
        );
        room.release();
        assert_eq!(room.reserve(&bob(), t0), Ok(()));
    }

    #[test]
    fn reload_within_the_grace_goes_on_with_the_broadcast() {
        for (label, by, away, expected) in [
            ("reload", ann(), ms(9_000), 1000),
            ("too late", ann(), ms(11_000), 5000),
            ("somebody else", bob(), ms(1_000), 5000),
        ] {
            let (mut room, t0) = on_air();
            room.handle_unpublished(PublicationId(1), t0);
            room.handle_closed(PeerId(1), t0);
            let gone = room.info();
            assert_eq!((gone.live, gone.live_since_ms), (false, None), "{label}");
            room.reserve(&by, t0).unwrap();
            room.add_peer(PeerId(2), Purpose::Publish, by, t0);
            room.handle_connected(PeerId(2));
            room.handle_published(PeerId(2), PublicationId(2), t0 + away, 5000);
            assert_eq!(room.info().live_since_ms, Some(expected), "{label}");
        }
    }

    #[test]
    fn a_broadcast_after_a_stop_is_a_new_one() {
        let (mut room, t0) = on_air();
        room.stop(PeerId(1));
        assert!(room.info().live, "until its media ends");
        assert_eq!(
            room.reserve(&bob(), t0),
            Ok(()),
            "the stage is free at once"
        );
        room.release();
        room.handle_unpublished(PublicationId(1), t0);
        room.handle_closed(PeerId(1), t0);
        assert!(!room.info().live);
        room.reserve(&ann(), t0).unwrap();
        room.add_peer(PeerId(2), Purpose::Publish, ann(), t0);
        room.handle_connected(PeerId(2));
        room.handle_published(PeerId(2), PublicationId(2), t0 + ms(500), 5000);
        assert_eq!(room.info().live_since_ms, Some(5000));
    }

    #[test]
    fn only_the_broadcaster_pauses_and_a_new_start_is_not_paused() {
        let (mut room, t0) = on_air();
        assert_eq!(
            room.set_paused(&bob(), true).unwrap_err().code,
            ErrorCode::NotAllowed
        );
        room.set_paused(&ann(), true).unwrap();
        assert!(room.info().paused);
        room.handle_published(PeerId(1), PublicationId(2), t0, 1000);
        assert!(
            room.info().paused,
            "a second track of the same peer changes nothing"
        );
        room.reserve(&ann(), t0).unwrap();
        room.add_peer(PeerId(2), Purpose::Publish, ann(), t0);
        assert!(!room.info().paused, "after a reload");
        room.set_paused(&ann(), true).unwrap();
        room.handle_published(PeerId(2), PublicationId(3), t0, 1000);
        assert!(room.info().paused, "paused before its first packet");
    }

    #[test]
    fn viewers_are_those_connected() {
        let (mut room, t0) = on_air();
        for id in 10..13 {
            room.add_peer(PeerId(id), Purpose::Watch, bob(), t0);
        }
        assert_eq!(room.info().viewers, 0);
        room.handle_connected(PeerId(10));
        room.handle_connected(PeerId(11));
        assert_eq!(room.info().viewers, 2);
        room.handle_closed(PeerId(11), t0);
        assert_eq!(room.info().viewers, 1);
    }

    #[test]
    fn who_only_talks_is_no_viewer() {
        for (role, offer, expected) in [
            (
                Role::Publisher,
                "v=0\r\nm=video 9 X 96\r\n",
                Purpose::Publish,
            ),
            (Role::Viewer, "v=0\r\nm=video 9 X 96\r\n", Purpose::Watch),
            (Role::Viewer, "v=0\nm=audio 9 X 111\n", Purpose::Watch),
            (
                Role::Viewer,
                "v=0\r\nm=application 9 X webrtc-datachannel\r\n",
                Purpose::Talk,
            ),
        ] {
            assert_eq!(Purpose::of(role, offer), expected, "{offer}");
        }
        let (mut room, t0) = on_air();
        room.add_peer(PeerId(10), Purpose::Talk, bob(), t0);
        room.handle_connected(PeerId(10));
        assert_eq!(room.info().viewers, 0);
    }

    #[test]
    fn counts_may_wait_and_the_rest_may_not() {
        let (mut room, t0) = on_air();
        assert_eq!(room.change(), Change::Now, "on air");
        room.announce();
        assert_eq!(room.change(), Change::None);
        room.add_peer(PeerId(10), Purpose::Watch, bob(), t0);
        assert_eq!(room.change(), Change::None, "not connected yet");
        room.handle_connected(PeerId(10));
        assert_eq!(room.change(), Change::Soon);
        room.set_paused(&ann(), true).unwrap();
        assert_eq!(room.change(), Change::Now, "a count and a pause");
        assert_eq!(room.announce().viewers, 1);
        assert_eq!(room.change(), Change::None);
    }

    #[test]
    fn room_is_kept_while_it_is_used_or_may_be_again() {
        let (mut room, t0) = on_air();
        assert!(!room.is_idle(t0 + ms(500_000)), "on air");
        room.handle_unpublished(PublicationId(1), t0);
        room.handle_closed(PeerId(1), t0);
        assert!(!room.is_idle(t0 + ms(10_000)), "its broadcast may go on");
        assert!(room.is_idle(t0 + ms(71_000)));
        room.touch(t0 + ms(71_000));
        assert!(!room.is_idle(t0 + ms(71_000)));
    }

    fn room() -> (Room, Instant) {
        let t0 = Instant::now();
        (
            Room::new(RoomId(1), "one", "One", Duration::from_secs(10), t0),
            t0,
        )
    }

    /// Ann's peer 1 sends publication 1 since 1000 ms.
    fn on_air() -> (Room, Instant) {
        let (mut room, t0) = room();
        room.reserve(&ann(), t0).unwrap();
        room.add_peer(PeerId(1), Purpose::Publish, ann(), t0);
        room.handle_connected(PeerId(1));
        room.handle_published(PeerId(1), PublicationId(1), t0, 1000);
        (room, t0)
    }

    fn ann() -> Arc<Member> {
        member("Ann", true)
    }

    fn bob() -> Arc<Member> {
        member("Bob", true)
    }

    fn member(name: &str, publish: bool) -> Arc<Member> {
        Arc::new(Member {
            identity: name.to_lowercase(),
            name: name.into(),
            grants: Grants {
                publish,
                subscribe: true,
                ..Grants::default()
            },
            anonymous: false,
        })
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}
