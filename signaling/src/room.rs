//! One room: who broadcasts, who watches, and what its members are told. Pure.
//!
//! The only place that decides whether it is on air.

mod announcement;
mod broadcast;
mod peers;
mod slots;
mod stage;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use sfu::{PeerId, PublicationId, RoomId};

use crate::{
    look::Look,
    protocol::{Layout, RoomInfo},
    stage::Stage,
    store::RoomRecord,
};

pub(crate) use announcement::Change;
use broadcast::{Air, Broadcast};
use peers::Peer;
pub(crate) use peers::Purpose;
use slots::Published;
pub(crate) use slots::{Bindings, Slots};
pub use slots::{Performance, Performer};

/// The state of one room in use.
#[derive(Debug)]
pub(crate) struct Room {
    id: RoomId,
    slug: String,
    title: String,
    layout: Layout,
    look: Look,
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

impl Room {
    pub(crate) fn new(record: &RoomRecord, grace: Duration, now: Instant) -> Self {
        Self {
            id: record.id,
            slug: record.slug.clone(),
            title: record.title.clone(),
            layout: record.layout,
            look: record.look.clone(),
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
        self.layout = record.layout;
        self.look.clone_from(&record.look);
        self.stage.resize(record.stage_size);
    }

    /// Returns how its composed picture looks.
    pub(crate) fn look(&self) -> &Look {
        &self.look
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
            layout: self.layout,
            look: Box::new(self.look.shown(&self.slug)),
        }
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
}

/// Beyond the grace: who asked for a room a moment ago is about to enter it.
const IDLE_AFTER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sfu::{MediaKind, Role};

    use super::{announcement::Announcement, *};
    use crate::{
        auth::Member,
        protocol::{ErrorCode, Grants},
    };

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
    fn who_only_talks_is_a_viewer_unless_they_may_perform() {
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
        for (id, member) in [(10, ann()), (11, gil())] {
            room.add_peer(PeerId(id), Purpose::Talk, member, t0);
            room.handle_connected(PeerId(id));
        }
        assert_eq!(room.info().viewers, 0, "they prepare");
        let eve = member("Eve", false);
        room.add_peer(PeerId(12), Purpose::Talk, eve, t0);
        room.handle_connected(PeerId(12));
        assert_eq!(room.info().viewers, 1, "by HLS");
        room.handle_closed(PeerId(12), t0);
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
            layout: Layout::default(),
            look: Look::default(),
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
