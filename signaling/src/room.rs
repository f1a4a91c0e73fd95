//! One room: who broadcasts, who watches, and what its members are told. Pure.
//!
//! The only place that decides whether it is on air.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use sfu::{MediaKind, ParticipantId, PeerId, PublicationId, Role, RoomId};

use crate::{
    Problem,
    auth::{self, Member},
    protocol::{ErrorCode, Participant, ParticipantList, RoomInfo, Slot, StageMember, TrackKind},
    stage::Stage,
    store::RoomRecord,
};

/// The state of one room in use.
#[derive(Debug)]
pub(crate) struct Room {
    id: RoomId,
    slug: String,
    title: String,
    /// How long a broadcast may be away and still be the same.
    grace: Duration,
    stage: Stage,
    peers: HashMap<PeerId, Peer>,
    /// Connected peers that watch, of participants who are not on stage.
    viewers: u32,
    publications: HashMap<PublicationId, Published>,
    bindings: Bindings,
    broadcast: Option<Broadcast>,
    paused: bool,
    hls: bool,
    announced: RoomInfo,
    announced_slots: Slots,
    used_at: Instant,
}

/// A publication and whose it is.
#[derive(Debug)]
struct Published {
    kind: MediaKind,
    member: Arc<Member>,
}

/// Which publication each slot of the room's viewers carries, as the SFU says.
#[derive(Debug, Default)]
pub(crate) struct Bindings {
    pub(crate) video: Vec<Option<PublicationId>>,
    pub(crate) audio: Vec<Option<PublicationId>>,
    pub(crate) program: Option<PublicationId>,
}

/// The same, as members see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    pub(crate) video: Vec<Option<Slot>>,
    pub(crate) audio: Vec<Option<Slot>>,
    pub(crate) program: Option<String>,
}

#[derive(Debug)]
struct Peer {
    member: Arc<Member>,
    purpose: Purpose,
    connected: bool,
    /// Whether it is one of [`Room::viewers`].
    counted: bool,
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

/// What members are to be told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Announcement {
    pub(crate) info: Option<RoomInfo>,
    pub(crate) slots: Option<Slots>,
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
    pub(crate) fn new(record: &RoomRecord, grace: Duration, now: Instant) -> Self {
        Self {
            id: record.id,
            slug: record.slug.clone(),
            title: record.title.clone(),
            grace,
            stage: Stage::new(record.stage_size),
            peers: HashMap::new(),
            viewers: 0,
            publications: HashMap::new(),
            bindings: Bindings::default(),
            broadcast: None,
            paused: false,
            hls: false,
            announced: record.idle_info(),
            announced_slots: Slots::default(),
            used_at: now,
        }
    }

    pub(crate) fn id(&self) -> RoomId {
        self.id
    }

    pub(crate) fn slug(&self) -> &str {
        &self.slug
    }

    /// Takes over what was changed in the store.
    pub(crate) fn change_record(&mut self, record: &RoomRecord) {
        self.title.clone_from(&record.title);
        self.stage.resize(record.stage_size);
    }

    /// Reserves a place on stage for an offer to publish; see [`Stage::reserve`]. Follow with
    /// [`Room::add_peer`] or [`Room::release`].
    pub(crate) fn reserve(&mut self, by: &Member, now: Instant) -> Result<(), Problem> {
        self.used_at = now;
        self.stage.reserve(by)
    }

    /// Gives a reservation back: the offer was refused.
    pub(crate) fn release(&mut self, by: &Member, now: Instant) {
        self.stage.release(&by.identity, now);
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
            if self.is_host(&member) {
                // A page that goes on with a pause says so once it has its answer.
                self.paused = false;
            }
            self.stage.arrive(&member.identity);
            self.recount(&member.identity);
        }
        self.peers.insert(
            peer,
            Peer {
                member,
                purpose,
                connected: false,
                counted: false,
                leaving: false,
            },
        );
    }

    /// Returns who has a media connection, those on stage first, and how many they are.
    pub(crate) fn participants(&self, most: usize) -> ParticipantList {
        let mut by_identity: BTreeMap<&str, Participant> = BTreeMap::new();
        let host = self.stage.host().map(|host| host.identity.as_str());
        for peer in self.peers.values().filter(|peer| peer.connected) {
            let Member { identity, name, .. } = &*peer.member;
            let of = by_identity.entry(identity).or_insert_with(|| Participant {
                identity: identity.clone(),
                name: name.clone(),
                host: host == Some(identity),
                on_stage: self.stage.has(identity),
                publishing: 0,
                watching: 0,
            });
            match peer.purpose {
                Purpose::Publish => of.publishing += 1,
                Purpose::Watch => of.watching += 1,
                Purpose::Talk => {}
            }
        }
        let mut participants: Vec<_> = by_identity
            .into_values()
            .filter(|one| one.publishing + one.watching > 0)
            .collect();
        let total = u32::try_from(participants.len()).unwrap_or(u32::MAX);
        participants.sort_by_key(|one| (!one.host, !one.on_stage));
        participants.truncate(most);
        ParticipantList {
            participants,
            total,
        }
    }

    /// Returns the media connections of a participant.
    pub(crate) fn peers_of(&self, identity: &str) -> Vec<PeerId> {
        let mut peers: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.member.identity == identity && peer.purpose != Purpose::Talk)
            .map(|(id, _)| *id)
            .collect();
        peers.sort();
        peers
    }

    /// Returns what a peer is there for.
    pub(crate) fn purpose(&self, peer: PeerId) -> Option<Purpose> {
        self.peers.get(&peer).map(|peer| peer.purpose)
    }

    /// Returns whose peer this is.
    pub(crate) fn member(&self, peer: PeerId) -> Option<&Arc<Member>> {
        self.peers.get(&peer).map(|peer| &peer.member)
    }

    pub(crate) fn handle_connected(&mut self, peer: PeerId) {
        let Some(peer) = self.peers.get_mut(&peer) else {
            return;
        };
        let watches = peer.purpose == Purpose::Watch;
        let is_new = !std::mem::replace(&mut peer.connected, true);
        if is_new && watches && !self.stage.has(&peer.member.identity) {
            peer.counted = true;
            self.viewers += 1;
        }
    }

    pub(crate) fn handle_closed(&mut self, peer: PeerId, now: Instant) {
        self.used_at = now;
        let Some(peer) = self.peers.remove(&peer) else {
            return;
        };
        self.viewers -= u32::from(peer.counted);
        if peer.purpose == Purpose::Publish {
            if !peer.leaving {
                self.depart(&peer.member.identity, now);
            }
            self.leave_air(now);
        }
    }

    pub(crate) fn handle_published(
        &mut self,
        peer: PeerId,
        publication: PublicationId,
        kind: MediaKind,
        now: Instant,
        now_ms: u64,
    ) {
        let Some(member) = self.member(peer).cloned() else {
            return;
        };
        let identity = member.identity.clone();
        let host = self.is_host(&member);
        self.publications
            .insert(publication, Published { kind, member });
        if !host {
            return;
        }
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

    /// Notes what the SFU has bound to the slots.
    pub(crate) fn handle_stage(&mut self, bindings: Bindings) {
        self.bindings = bindings;
    }

    /// Notes that a participant is done, whose peer is about to be closed. The host's end is everybody's:
    /// returns the guests' peers, which are to be closed too.
    pub(crate) fn stop(&mut self, peer: PeerId, now: Instant) -> Vec<PeerId> {
        let Some(stopped) = self.peers.get(&peer) else {
            return Vec::new();
        };
        let member = Arc::clone(&stopped.member);
        let is_end = stopped.purpose == Purpose::Publish && self.is_host(&member);
        self.dismiss(peer, now);
        if !is_end || self.stage.host().is_some() {
            return Vec::new();
        }
        if let Some(broadcast) = &mut self.broadcast
            && broadcast.state == Air::On
        {
            broadcast.state = Air::Ending;
        }
        self.close_stage(now)
    }

    /// The same for a participant whose peer is gone already: it was no interruption.
    pub(crate) fn finish(&mut self, by: &Member, now: Instant) -> Vec<PeerId> {
        let Some(broadcast) = &mut self.broadcast else {
            return Vec::new();
        };
        if broadcast.identity != by.identity || self.stage.host().is_some() {
            return Vec::new();
        }
        match broadcast.state {
            Air::On => broadcast.state = Air::Ending,
            Air::Ending => {}
            Air::Off { .. } => self.broadcast = None,
        }
        self.close_stage(now)
    }

    /// Takes a guest off the stage for good. Returns their peers, which are to be closed.
    pub(crate) fn remove_guest(
        &mut self,
        identity: &str,
        now: Instant,
    ) -> Result<Vec<PeerId>, Problem> {
        self.stage.remove(identity)?;
        let peers = self.publishing(|member| member.identity == identity);
        for peer in &peers {
            self.dismiss(*peer, now);
        }
        Ok(peers)
    }

    /// Returns the peers of guests whose host has been away for too long; they are to be closed.
    pub(crate) fn abandoned_guests(&mut self, now: Instant) -> Vec<PeerId> {
        if self.stage.is_abandoned(self.grace, now) {
            self.close_stage(now)
        } else {
            Vec::new()
        }
    }

    /// Returns who is featured and on stage, by their id in the SFU.
    pub(crate) fn featured(&self) -> Option<ParticipantId> {
        self.stage.featured().map(auth::participant)
    }

    /// Features somebody on stage, or nobody. Returns their id in the SFU.
    pub(crate) fn feature(
        &mut self,
        identity: Option<&str>,
    ) -> Result<Option<ParticipantId>, Problem> {
        self.stage.feature(identity)?;
        Ok(identity.map(auth::participant))
    }

    /// The broadcaster pauses or goes on.
    pub(crate) fn set_paused(&mut self, by: &Member, paused: bool) -> Result<(), Problem> {
        if !self.is_host(by) {
            return Err(Problem::new(
                ErrorCode::NotAllowed,
                "Only the one who is broadcasting can pause.",
            ));
        }
        self.paused = paused;
        Ok(())
    }

    /// Notes how high the layers of a member's picture are, the lowest first.
    pub(crate) fn set_heights(&mut self, by: &Member, heights: &[u32]) {
        self.stage.set_heights(&by.identity, heights);
    }

    /// Notes whether the room's playlist is being written.
    pub(crate) fn set_hls(&mut self, hls: bool) {
        self.hls = hls;
    }

    /// Returns how many may be on stage.
    pub(crate) fn stage_size(&self) -> usize {
        self.stage.size()
    }

    /// Returns what members see.
    pub(crate) fn info(&self) -> RoomInfo {
        let on_air = self
            .broadcast
            .as_ref()
            .filter(|broadcast| matches!(broadcast.state, Air::On | Air::Ending));
        let stage = self.seen_on_stage();
        RoomInfo {
            slug: self.slug.clone(),
            title: self.title.clone(),
            live: on_air.is_some(),
            // With guests there is something to see and hear all the same.
            paused: on_air.is_some() && self.paused && stage.iter().all(|member| member.host),
            live_since_ms: on_air.map(|broadcast| broadcast.since_ms),
            viewers: self.viewers,
            hls: self.hls,
            stage_size: u32::try_from(self.stage_size()).unwrap_or(u32::MAX),
            featured: self.stage.featured().map(str::to_owned),
            stage,
        }
    }

    /// Returns what the slots of viewers carry.
    pub(crate) fn slots(&self) -> Slots {
        let bound = |publications: &[Option<PublicationId>]| {
            (0..)
                .zip(publications)
                .map(|(slot, publication)| self.slot(slot, (*publication)?))
                .collect()
        };
        Slots {
            video: bound(&self.bindings.video),
            audio: bound(&self.bindings.audio),
            program: self
                .bindings
                .program
                .and_then(|program| self.publications.get(&program))
                .map(|published| published.member.identity.clone()),
        }
    }

    /// Returns how soon members are to be told what has changed since [`Room::announce`].
    pub(crate) fn change(&self) -> Change {
        let info = self.info();
        if self.slots() != self.announced_slots {
            Change::Now
        } else if info == self.announced {
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
    pub(crate) fn announce(&mut self) -> Announcement {
        let (info, slots) = (self.info(), self.slots());
        let announcement = Announcement {
            info: (info != self.announced).then(|| info.clone()),
            slots: (slots != self.announced_slots).then(|| slots.clone()),
        };
        (self.announced, self.announced_slots) = (info, slots);
        announcement
    }

    /// Returns whether nothing is lost by forgetting this state.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let unused = now.duration_since(self.used_at) > self.grace + IDLE_AFTER;
        unused && self.peers.is_empty() && self.stage.members().is_empty() && !self.hls
    }

    /// Notes that somebody has asked for the room.
    pub(crate) fn touch(&mut self, now: Instant) {
        self.used_at = now;
    }

    fn is_host(&self, member: &Member) -> bool {
        self.stage
            .host()
            .is_some_and(|host| host.identity == member.identity)
    }

    /// Notes that a peer is about to be closed.
    fn dismiss(&mut self, peer: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&peer) else {
            return;
        };
        let left = !std::mem::replace(&mut peer.leaving, true);
        if left && peer.purpose == Purpose::Publish {
            let member = Arc::clone(&peer.member);
            self.depart(&member.identity, now);
        }
    }

    fn depart(&mut self, identity: &str, now: Instant) {
        self.stage.depart(identity, now);
        self.recount(identity);
    }

    /// Dismisses all who are left on stage, and returns their peers.
    fn close_stage(&mut self, now: Instant) -> Vec<PeerId> {
        let peers = self.publishing(|_| true);
        for peer in &peers {
            self.dismiss(*peer, now);
        }
        peers
    }

    /// Returns the publishing peers of some members that are not about to be closed.
    fn publishing(&self, of: impl Fn(&Member) -> bool) -> Vec<PeerId> {
        let peers = self.peers.iter().filter(|(_, peer)| {
            peer.purpose == Purpose::Publish && !peer.leaving && of(&peer.member)
        });
        peers.map(|(id, _)| *id).collect()
    }

    /// Counts a peer as a viewer or not: who is on stage and sees the others is none.
    fn recount(&mut self, identity: &str) {
        let on_stage = self.stage.has(identity);
        let peers = self.peers.values_mut();
        for peer in peers.filter(|peer| peer.member.identity == identity) {
            let counted = peer.connected && peer.purpose == Purpose::Watch && !on_stage;
            self.viewers += u32::from(counted);
            self.viewers -= u32::from(std::mem::replace(&mut peer.counted, counted));
        }
    }

    /// Returns who is sending, the host first.
    fn seen_on_stage(&self) -> Vec<StageMember> {
        let sends = |identity: &str| {
            self.publications
                .values()
                .any(|published| published.member.identity == identity)
        };
        let members = self.stage.members().iter();
        let mut seen: Vec<_> = members
            .filter(|member| sends(&member.identity))
            .map(|member| StageMember {
                identity: member.identity.clone(),
                name: member.name.clone(),
                host: member.host,
            })
            .collect();
        seen.sort_by_key(|member| !member.host);
        seen
    }

    fn slot(&self, slot: u32, publication: PublicationId) -> Option<Slot> {
        let Published { kind, member } = self.publications.get(&publication)?;
        Some(Slot {
            slot,
            identity: member.identity.clone(),
            name: member.name.clone(),
            kind: match kind {
                MediaKind::Audio => TrackKind::Audio,
                MediaKind::Video => TrackKind::Video,
            },
            heights: match kind {
                MediaKind::Audio => Vec::new(),
                MediaKind::Video => self.stage.heights(&member.identity).to_vec(),
            },
        })
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
        room.handle_published(
            PeerId(2),
            PublicationId(2),
            MediaKind::Video,
            t0 + ms(300),
            1300,
        );
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
        room.release(&ann(), t0);
        assert!(
            room.reserve(&bob(), t0).is_err(),
            "the other offer is pending"
        );
        room.release(&ann(), t0);
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
            room.handle_published(
                PeerId(2),
                PublicationId(2),
                MediaKind::Video,
                t0 + away,
                5000,
            );
            assert_eq!(room.info().live_since_ms, Some(expected), "{label}");
        }
    }

    #[test]
    fn a_broadcast_after_a_stop_is_a_new_one() {
        let (mut room, t0) = on_air();
        room.stop(PeerId(1), t0);
        assert!(room.info().live, "until its media ends");
        assert_eq!(
            room.reserve(&bob(), t0),
            Ok(()),
            "the stage is free at once"
        );
        room.release(&bob(), t0);
        room.handle_unpublished(PublicationId(1), t0);
        room.handle_closed(PeerId(1), t0);
        assert!(!room.info().live);
        room.reserve(&ann(), t0).unwrap();
        room.add_peer(PeerId(2), Purpose::Publish, ann(), t0);
        room.handle_connected(PeerId(2));
        room.handle_published(
            PeerId(2),
            PublicationId(2),
            MediaKind::Video,
            t0 + ms(500),
            5000,
        );
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
        room.handle_published(PeerId(1), PublicationId(2), MediaKind::Video, t0, 1000);
        assert!(
            room.info().paused,
            "a second track of the same peer changes nothing"
        );
        room.reserve(&ann(), t0).unwrap();
        room.add_peer(PeerId(2), Purpose::Publish, ann(), t0);
        assert!(!room.info().paused, "after a reload");
        room.set_paused(&ann(), true).unwrap();
        room.handle_published(PeerId(2), PublicationId(3), MediaKind::Video, t0, 1000);
        assert!(room.info().paused, "paused before its first packet");
    }

    #[test]
    fn guests_leave_with_the_host_who_stops_but_not_with_one_who_reloads() {
        let (mut room, t0) = with_guest();
        room.handle_unpublished(PublicationId(1), t0);
        room.handle_closed(PeerId(1), t0);
        assert!(room.info().live, "the guest is on air");
        assert_eq!(room.abandoned_guests(t0 + ms(9_000)), []);
        assert_eq!(room.abandoned_guests(t0 + ms(11_000)), [PeerId(5)]);

        let (mut room, t0) = with_guest();
        assert_eq!(room.stop(PeerId(5), t0), [], "a guest leaves");
        assert!(room.info().live);
        let (mut room, t0) = with_guest();
        assert_eq!(room.finish(&ann(), t0), [], "she is there");
        room.handle_unpublished(PublicationId(1), t0);
        room.handle_closed(PeerId(1), t0);
        assert_eq!(room.finish(&gil(), t0), [], "no host");
        assert_eq!(room.finish(&ann(), t0), [PeerId(5)], "her peer was faster");
        room.handle_unpublished(PublicationId(5), t0);
        room.handle_closed(PeerId(5), t0);
        assert!(!room.info().live);
        let (mut room, t0) = with_guest();
        assert_eq!(room.stop(PeerId(1), t0), [PeerId(5)]);
        for (peer, publication) in [(1, 1), (5, 5)] {
            assert!(room.info().live, "until the last media ends");
            room.handle_unpublished(PublicationId(publication), t0);
            room.handle_closed(PeerId(peer), t0);
        }
        assert!(!room.info().live);
        room.reserve(&ann(), t0).unwrap();
    }

    #[test]
    fn stage_is_seen_in_the_room_and_slots_by_name() {
        let (mut room, t0) = with_guest();
        let seen = |room: &Room| {
            let stage = room.info().stage.into_iter();
            stage.map(|member| member.name).collect::<Vec<_>>()
        };
        assert_eq!(seen(&room), ["Ann", "Gil"]);
        room.announce();
        room.handle_stage(Bindings {
            video: vec![
                Some(PublicationId(5)),
                None,
                Some(PublicationId(1)),
                Some(PublicationId(9)),
            ],
            audio: Vec::new(),
            program: Some(PublicationId(5)),
        });
        assert_eq!(room.change(), Change::Now);
        room.set_heights(&gil(), &[180, 360, 720]);
        let slots = room.announce().slots.unwrap();
        let shown: Vec<_> = slots
            .video
            .iter()
            .map(|slot| slot.as_ref().map(|slot| (slot.slot, &*slot.name)))
            .collect();
        assert_eq!(shown, [Some((0, "Gil")), None, Some((2, "Ann")), None]);
        assert_eq!(slots.video[0].as_ref().unwrap().heights, [180, 360, 720]);
        assert_eq!(slots.program.as_deref(), Some("gil"));
        room.handle_unpublished(PublicationId(5), t0);
        let slots = room.announce().slots.unwrap();
        assert_eq!((&slots.video[0], slots.program), (&None, None));
        assert_eq!(room.announce(), Announcement::default(), "told once");
    }

    #[test]
    fn who_is_on_stage_is_no_viewer_of_it() {
        let (mut room, t0) = with_guest();
        for (id, member) in [(20, ann()), (21, gil()), (22, bob())] {
            room.add_peer(PeerId(id), Purpose::Watch, member, t0);
            room.handle_connected(PeerId(id));
        }
        assert_eq!(room.info().viewers, 1);
        room.stop(PeerId(5), t0);
        assert_eq!(room.info().viewers, 2, "Gil has come down to watch");
        room.handle_closed(PeerId(21), t0);
        room.handle_closed(PeerId(20), t0);
        assert_eq!(room.info().viewers, 1);
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
        assert_eq!(room.announce().info.map(|info| info.viewers), Some(1));
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

    fn record() -> RoomRecord {
        RoomRecord {
            id: RoomId(1),
            slug: "one".into(),
            title: "One".into(),
            stage_size: 9,
        }
    }

    fn room() -> (Room, Instant) {
        let t0 = Instant::now();
        (Room::new(&record(), Duration::from_secs(10), t0), t0)
    }

    /// Ann's peer 1 sends publication 1 since 1000 ms.
    fn on_air() -> (Room, Instant) {
        let (mut room, t0) = room();
        room.reserve(&ann(), t0).unwrap();
        room.add_peer(PeerId(1), Purpose::Publish, ann(), t0);
        room.handle_connected(PeerId(1));
        room.handle_published(PeerId(1), PublicationId(1), MediaKind::Video, t0, 1000);
        (room, t0)
    }

    /// Ann's peer 1 sends publication 1, the invited Gil's peer 5 sends publication 5.
    fn with_guest() -> (Room, Instant) {
        let (mut room, t0) = on_air();
        room.reserve(&gil(), t0).unwrap();
        room.add_peer(PeerId(5), Purpose::Publish, gil(), t0);
        room.handle_connected(PeerId(5));
        room.handle_published(PeerId(5), PublicationId(5), MediaKind::Video, t0, 1200);
        (room, t0)
    }

    fn gil() -> Arc<Member> {
        let mut gil = Member::clone(&member("Gil", false));
        gil.grants.stage = true;
        Arc::new(gil)
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
            invited_until: None,
        })
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }
}
