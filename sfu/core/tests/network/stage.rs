//! A stage of several publishers over a virtual network: who is shown in which slot, and who is heard.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{
    ROOM, World,
    continuity::assert_continuous,
    publisher::Publisher,
    viewer::{BOTH, Packet, Received, stage},
};
use sfu_core::{
    Codec, Event, MediaKind, ParticipantId, PeerId, PublicationId, RoomConfig, TapSource, TapVideo,
};

const SPEECH: u8 = 20;
const SILENCE: u8 = 127;

#[test]
fn a_guest_joins_in_front_of_viewers_without_new_sdp() {
    for (seed, loss) in [(1, 0), (2, 5)] {
        let mut world = World::new(seed);
        let host = world.publish_as(1, Publisher::new(1, Codec::H264));
        let viewers = [0; 3].map(|_| world.watch(&stage(9, 3)));
        let whep = world.watch(BOTH);
        world.network.loss = loss;
        world.run(2000);
        world.events.clear();
        let guest = world.publish_as(2, Publisher::new(2, Codec::Vp8));
        world.run(1000);
        let [host, guest] = [host, guest].map(|index| world.members[index].peer);
        let on_stage = last_stage(&world);
        assert_eq!(on_stage.video[..3], [Some(host), Some(guest), None]);
        assert_eq!(on_stage.audio, [Some(host), Some(guest), None]);
        assert_eq!(
            on_stage.program,
            Some(host),
            "a silent guest changes nothing"
        );
        world.run(2000);
        world.network.loss = 0;
        world.run(1500);
        for viewer in viewers {
            let viewer = world.viewer(viewer);
            assert_only(viewer.slot(true, 0), 1);
            assert_only(viewer.slot(true, 1), 2);
            assert!(viewer.slot(true, 2).numbers.is_empty());
            assert_eq!(senders(viewer.slot(false, 0)), [1]);
            assert_eq!(senders(viewer.slot(false, 1)), [2]);
            // A publisher counts from a second before it begins.
            let first = viewer.slot(true, 1).packets()[0].captured_ms;
            assert!(first < 1100, "captured {first} ms after the guest began");
        }
        assert_only(&world.viewer(whep).video, 1);
    }
}

#[test]
fn the_program_follows_who_speaks_but_not_a_word() {
    let mut world = World::new(1);
    let [a, b] = [1, 2].map(|n| world.publish_as(n, speaker(n as u8, SILENCE)));
    let whep = world.watch(BOTH);
    world.run(1500);
    let first = *senders(&world.viewer(whep).video).last().unwrap();
    let (on, other) = if first == 1 { (a, b) } else { (b, a) };
    let quiet = senders(&world.viewer(whep).video).len();
    world.publisher(other).level = Some(SPEECH);
    world.run(200);
    world.publisher(other).level = Some(SILENCE);
    world.run(2000);
    assert_eq!(senders(&world.viewer(whep).video).len(), quiet, "a cough");
    world.publisher(other).level = Some(SPEECH);
    world.run(1500);
    let program = last_stage(&world).program;
    assert_eq!(program, Some(world.members[other].peer));
    world.publisher(other).level = Some(SILENCE);
    world.publisher(on).level = Some(SPEECH);
    world.run(400);
    assert_eq!(
        last_stage(&world).program,
        program,
        "not before two seconds"
    );
    world.run(3000);
    let packets = world.viewer(whep).video.complete();
    assert_continuous(&packets);
    let order = senders(&world.viewer(whep).video);
    let [on, other] = [on, other].map(|index| world.publisher(index).id);
    assert!(order.ends_with(&[on, other, on]), "{order:?}");
    let heard = senders(&world.viewer(whep).audio);
    assert!(heard.ends_with(&[on, other, on]), "{heard:?}");
}

#[test]
fn the_old_picture_goes_on_until_the_new_one_has_a_keyframe() {
    let mut world = World::new(3);
    let [_, b] = [1, 2].map(|n| world.publish_as(n, speaker(n as u8, SILENCE)));
    let whep = world.watch(BOTH);
    world.sfu.feature(ROOM, Some(ParticipantId(1)), world.now);
    world.run(4000);
    let keyframes = world.publisher(b).keyframes;
    world.sfu.feature(ROOM, Some(ParticipantId(2)), world.now);
    world.run(1000);
    assert!(world.publisher(b).keyframes > keyframes, "one is asked for");
    let packets = world.viewer(whep).video.complete();
    assert_continuous(&packets);
    let cut = packets
        .windows(2)
        .find(|p| p[0].publisher != p[1].publisher);
    let [before, after] = cut.unwrap() else {
        unreachable!()
    };
    let step = after.timestamp.wrapping_sub(before.timestamp);
    assert!(step < 9000, "{step} ticks without a picture");
}

#[test]
fn a_pin_holds_whoever_speaks_and_is_given_back() {
    let mut world = World::new(1);
    let [a, b] = [1, 2].map(|n| world.publish_as(n, speaker(n as u8, SILENCE)));
    world.run(1000);
    world.sfu.feature(ROOM, Some(ParticipantId(1)), world.now);
    world.publisher(b).level = Some(SPEECH);
    world.run(5000);
    let [a, b] = [a, b].map(|index| (index, world.members[index].peer));
    assert_eq!(last_stage(&world).program, Some(a.1));
    world.sfu.feature(ROOM, None, world.now);
    world.run(1000);
    assert_eq!(last_stage(&world).program, Some(b.1));
    world.sfu.feature(ROOM, Some(ParticipantId(1)), world.now);
    world.run(500);
    assert_eq!(last_stage(&world).program, Some(a.1));
    world.leave(a.0);
    world.run(500);
    assert_eq!(last_stage(&world).program, Some(b.1), "a pin on nobody");
}

#[test]
fn who_leaves_frees_the_slot_and_finds_it_again() {
    let mut world = World::new(1);
    let members = [1, 2, 3].map(|n| world.publish_as(n, Publisher::new(n as u8, Codec::Vp8)));
    let viewer = world.watch(&stage(9, 3));
    world.run(1500);
    let before = last_stage(&world);
    let slot = |stage: &Layout, peer| stage.video.iter().position(|p| *p == Some(peer));
    let [one, two, three] = members.map(|index| world.members[index].peer);
    let (place, others) = (slot(&before, two), [one, three].map(|p| slot(&before, p)));
    world.leave(members[1]);
    world.run(500);
    let without = last_stage(&world);
    assert_eq!(without.video[place.unwrap()], None);
    assert_eq!([one, three].map(|p| slot(&without, p)), others);
    let again = world.publish_as(2, Publisher::new(4, Codec::Vp8));
    world.run(1500);
    let after = last_stage(&world);
    assert_eq!(slot(&after, world.members[again].peer), place);
    let received = world.viewer(viewer).slot(true, place.unwrap());
    assert_eq!(senders(received), [2, 4]);
    assert_continuous(&received.complete());
}

#[test]
fn a_small_stage_shows_who_spoke_last() {
    let mut world = World::new(1);
    world.config = RoomConfig { stage_size: 2 };
    let members = [1, 2, 3].map(|n| world.publish_as(n, speaker(n as u8, SILENCE)));
    let viewer = world.watch(&stage(2, 3));
    world.run(1500);
    let peers = members.map(|index| world.members[index].peer);
    let shown = last_stage(&world).video;
    let hidden = (0..3).find(|n| !shown.contains(&Some(peers[*n]))).unwrap();
    let visible = (hidden + 1) % 3;
    world.publisher(members[visible]).level = Some(SPEECH);
    world.run(1000);
    world.publisher(members[visible]).level = Some(SILENCE);
    world.publisher(members[hidden]).level = Some(SPEECH);
    world.run(3000);
    let shown = last_stage(&world).video;
    assert!(shown.contains(&Some(peers[hidden])), "who speaks is shown");
    assert!(shown.contains(&Some(peers[visible])), "who spoke stays");
    world.sfu.feature(
        ROOM,
        Some(ParticipantId((hidden as u64 + 2) % 3 + 1)),
        world.now,
    );
    world.run(1000);
    let shown = last_stage(&world).video;
    assert!(
        shown.contains(&Some(peers[(hidden + 2) % 3])),
        "the pinned one"
    );
    for slot in 0..2 {
        assert_continuous(&world.viewer(viewer).slot(true, slot).complete());
    }
}

#[test]
fn who_asks_for_it_receives_themselves() {
    let mut world = World::new(1);
    world.publish_as(1, speaker(1, SPEECH));
    world.sees_own = true;
    for media in [&*stage(9, 3), BOTH] {
        for is_elsewhere in [false, true] {
            world.joins_elsewhere = is_elsewhere;
            let viewer = world.watch_as(1, media);
            world.run(1500);
            let viewer = world.viewer(viewer);
            assert!(!viewer.slot(true, 0).complete().is_empty(), "{media}");
            assert!(!viewer.slot(false, 0).packets().is_empty(), "{media}");
        }
    }
}

#[test]
fn nobody_receives_themselves() {
    let mut world = World::new(1);
    let [a, b] = [1, 2].map(|n| world.publish_as(n, speaker(n as u8, SILENCE)));
    let [seen_by_a, seen_by_b] = [1, 2].map(|n| world.watch_as(n, &stage(9, 3)));
    let whep = [1, 2].map(|n| world.watch_as(n, BOTH));
    world.publisher(a).level = Some(SPEECH);
    world.run(3000);
    world.publisher(a).level = Some(SILENCE);
    world.publisher(b).level = Some(SPEECH);
    world.run(4000);
    for (viewer, own) in [(seen_by_a, 1), (seen_by_b, 2), (whep[0], 1), (whep[1], 2)] {
        let slots = if viewer == seen_by_a || viewer == seen_by_b {
            3
        } else {
            1
        };
        let viewer = world.viewer(viewer);
        let all = (0..slots).flat_map(|slot| [viewer.slot(true, slot), viewer.slot(false, slot)]);
        let senders: Vec<_> = all.flat_map(senders).collect();
        assert!(senders.iter().all(|sender| *sender != own), "{senders:?}");
        assert!(!senders.is_empty());
    }
}

#[test]
fn a_take_over_disturbs_nobody_else() {
    let mut world = World::new(1);
    world.publish_as(1, Publisher::new(1, Codec::H264));
    world.run(500);
    let guest = world.publish_as(2, Publisher::new(2, Codec::Vp8));
    let viewer = world.watch(&stage(9, 3));
    let whep = world.watch(BOTH);
    world.run(2000);
    let guest_requests = world.publisher(guest).requests;
    let new = world.publish_as(1, Publisher::new(3, Codec::H264));
    world.run(2000);
    let layout = last_stage(&world);
    let [new, guest_peer] = [new, guest].map(|index| world.members[index].peer);
    assert_eq!(layout.video[..2], [Some(new), Some(guest_peer)]);
    assert_eq!(
        layout.program,
        Some(new),
        "who reloads stays in the picture"
    );
    let viewer = world.viewer(viewer);
    assert_eq!(senders(viewer.slot(true, 0)), [1, 3]);
    assert_continuous(&viewer.slot(true, 0).complete());
    assert_only(viewer.slot(true, 1), 2);
    let longest = longest_gap(viewer.slot(true, 1));
    assert!(longest < 100, "{longest} ms without a picture of the guest");
    assert_eq!(senders(&world.viewer(whep).video), [1, 3]);
    assert_eq!(world.publisher(guest).requests, guest_requests);
}

#[test]
fn the_three_loudest_of_five_are_heard() {
    let mut world = World::new(1);
    let members = [1, 2, 3, 4, 5].map(|n| world.publish_as(n, speaker(n as u8, SILENCE)));
    let viewer = world.watch(&stage(9, 3));
    world.run(1000);
    for loud in [[0, 2, 4], [1, 2, 3], [0, 1, 4]] {
        for (n, member) in members.iter().enumerate() {
            let level = if loud.contains(&n) { SPEECH } else { SILENCE };
            world.publisher(*member).level = Some(level);
        }
        world.run(2000);
        let mut heard: Vec<_> = last_stage(&world).audio.into_iter().flatten().collect();
        heard.sort();
        assert_eq!(heard, loud.map(|n| world.members[members[n]].peer));
    }
    // Somebody as loud as the others has to wait until one of them pauses.
    world.events.clear();
    world.publisher(members[2]).level = Some(SPEECH - 3);
    world.run(2000);
    let stages = world
        .events
        .iter()
        .filter(|e| matches!(e, Event::Stage { .. }));
    assert_eq!(stages.count(), 0, "hysteresis");
    let viewer = world.viewer(viewer);
    let heard: usize = (0..3)
        .map(|slot| viewer.slot(false, slot).packets().len())
        .sum();
    assert!(heard > 3 * 8 * 50, "{heard} packets");
}

#[test]
fn who_speaks_without_a_camera_is_heard_in_the_program() {
    let mut world = World::new(1);
    let host = world.publish_as(1, speaker(1, SILENCE));
    let caller = world.publish_as(2, speaker(2, SILENCE));
    world.publisher(caller).has_video = false;
    let whep = world.watch(BOTH);
    world.run(1000);
    world.publisher(caller).level = Some(SPEECH);
    world.run(2000);
    world.publisher(caller).level = Some(SILENCE);
    world.publisher(host).level = Some(SPEECH);
    world.run(2000);
    assert_eq!(senders(&world.viewer(whep).audio), [1, 2, 1]);
    assert_only(&world.viewer(whep).video, 1);
}

#[test]
fn a_tap_reads_one_participant_or_the_program() {
    let mut world = World::new(1);
    for n in [1, 2] {
        world.publish_as(n, speaker(n as u8, SILENCE));
    }
    world.sfu.feature(ROOM, Some(ParticipantId(1)), world.now);
    let taps = [
        (TapSource::Program, [1, 2]),
        (TapSource::Participant(ParticipantId(1)), [1, 1]),
        (TapSource::Participant(ParticipantId(2)), [2, 2]),
    ];
    let taps = taps.map(|(tap, expected)| {
        let id = world.sfu.add_tap(ROOM, tap, world.now);
        (id, expected)
    });
    world.run(2000);
    world.sfu.feature(ROOM, Some(ParticipantId(2)), world.now);
    world.run(2000);
    for (id, expected) in taps {
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let packets = world.tapped.iter().filter(|(tap, _)| *tap == id);
            let of_kind = packets.filter(|(_, p)| p.codec.kind() == kind);
            let read = of_kind.map(|(_, p)| Packet::read(p.codec, false, 0, &p.rtp[12..]));
            let mut senders: Vec<_> = read.map(|p| p.publisher).collect();
            senders.dedup();
            let mut expected = expected.to_vec();
            expected.dedup();
            assert_eq!(senders, expected, "{kind:?}");
        }
    }
}

#[test]
fn a_silent_publisher_is_not_live() {
    let mut world = World::new(1);
    let publisher = world.publish_as(1, Publisher::new(1, Codec::H264));
    world.run(1000);
    assert!(world.is_live());
    world.publisher(publisher).has_video = false;
    world.run(10_000);
    assert!(world.is_live(), "there is sound");
    world.publisher(publisher).has_audio = false;
    world.run(4000);
    assert!(world.is_live(), "a pause");
    world.run(3000);
    assert!(!world.is_live());
    world.publisher(publisher).has_audio = true;
    world.run(100);
    assert!(world.is_live());
}

#[test]
fn a_publication_ends_when_all_its_layers_said_goodbye() {
    let mut world = World::new(1);
    let publisher = world.publish_as(1, Publisher::simulcast(1, Codec::H264));
    world.publisher(publisher).has_audio = false;
    world.run(1000);
    world.publisher(publisher).mute();
    let bye = |ssrc: u32| {
        let mut packet = vec![0x81, 203, 0, 1];
        packet.extend(ssrc.to_be_bytes());
        packet
    };
    let [low, high] = [0, 1].map(|n| world.publisher(publisher).layers[n].ssrc());
    world.send_rtcp(publisher, &bye(low));
    assert!(world.is_live(), "the other one goes on");
    world.send_rtcp(publisher, &bye(high));
    assert!(!world.is_live());
}

#[test]
fn a_layer_that_nobody_wants_is_told_to_its_publisher() {
    let mut world = World::new(1);
    let publisher = world.publish(Publisher::simulcast(1, Codec::H264));
    let viewer = world.watch(&stage(2, 2));
    world.run(12_000);
    let wanted = |world: &World| {
        let mut events = world.events.iter().rev();
        events.find_map(|event| match event {
            Event::LayersWanted { peer, wanted, .. } => Some((*peer, wanted.clone())),
            _ => None,
        })
    };
    assert_eq!(wanted(&world), None, "the top one is seen, the lowest kept");
    let [peer, viewer] = [publisher, viewer].map(|index| world.members[index].peer);
    world.sfu.limit(viewer, Some(0), world.now);
    world.run(13_000);
    assert_eq!(wanted(&world), Some((peer, vec![true, false])));
    world.publisher(publisher).layers[1].enabled = false;
    world.run(1000);
    world.sfu.limit(viewer, None, world.now);
    world.run(12_000);
    assert_eq!(
        wanted(&world),
        Some((peer, vec![true, true])),
        "it is tried"
    );
}

#[test]
fn a_tap_of_the_stage_yields_each_publication_in_its_lane() {
    let mut world = World::new(3);
    world.publish_as(1, speaker(1, SILENCE));
    let tap = world.sfu.add_tap(ROOM, TapSource::Stage, world.now);
    world.run(2000);
    let guest = world.publish_as(2, speaker(2, SILENCE));
    world.run(2000);
    world.leave(guest);
    world.run(2000);
    let published = world.published.clone();
    let lanes: BTreeSet<_> = published.iter().map(|(id, _)| id.lane()).collect();
    assert_eq!(lanes.len(), 4);
    for (publication, peer) in published {
        let of_lane = world
            .tapped
            .iter()
            .filter(|(id, packet)| *id == tap && packet.lane == publication.lane());
        let packets: Vec<_> = of_lane.map(|(_, packet)| packet).collect();
        assert!(packets.len() > 20, "{publication}: {}", packets.len());
        assert!(packets[0].keyframe, "{publication}");
        let seqs = packets
            .iter()
            .map(|p| u16::from_be_bytes([p.rtp[2], p.rtp[3]]));
        assert!(seqs.eq((0..).take(packets.len())), "{publication}");
        let times: Vec<_> = packets.iter().map(|packet| packet.presentation).collect();
        assert!(times.is_sorted(), "{publication}");
        let sender = world.members.iter().position(|m| m.peer == peer).unwrap();
        let read = packets
            .iter()
            .map(|p| Packet::read(p.codec, false, 0, &p.rtp[12..]));
        let ids: BTreeSet<_> = read.map(|packet| packet.publisher).collect();
        assert_eq!(ids.len(), 1, "{publication} of {sender}");
    }
}

#[test]
fn a_tap_of_the_stage_yields_the_layer_that_its_reader_wants() {
    let mut world = World::new(7);
    let publisher = world.publish(Publisher::simulcast(1, Codec::H264));
    let tap = world.sfu.add_tap(ROOM, TapSource::Stage, world.now);
    // Which layer it was of, picture by picture: those of the top one consist of three times as many packets.
    let of_top = |world: &World| {
        let packets = world.tapped.iter().map(|(_, packet)| packet);
        let mut pictures = BTreeMap::<_, usize>::new();
        for packet in packets.filter(|p| p.codec == Codec::H264) {
            *pictures.entry(packet.rtp[4..8].to_vec()).or_default() += 1;
        }
        // The last one may not be complete.
        pictures.pop_last();
        let mut of_top: Vec<_> = pictures.into_values().map(|n| n % 9 == 0).collect();
        of_top.dedup();
        of_top
    };
    world.run(2000);
    assert_eq!(of_top(&world).last(), Some(&true));
    let packets = world.tapped.iter().map(|(_, packet)| packet);
    let mut lanes = packets.filter(|p| p.codec == Codec::H264).map(|p| p.lane);
    let lane = lanes.next().unwrap();
    for (below_top, expected) in [(1, [true, false]), (0, [false, true])] {
        world.tapped.clear();
        let layers = BTreeMap::from([(lane, below_top)]);
        world.sfu.set_tap_layers(tap, layers, world.now);
        world.run(2000);
        assert_eq!(of_top(&world), expected, "{below_top} below the top");
        let packets = world.tapped.iter().map(|(_, packet)| packet);
        let video = packets.filter(|p| p.codec == Codec::H264);
        let seqs: Vec<_> = video
            .map(|p| u16::from_be_bytes([p.rtp[2], p.rtp[3]]))
            .collect();
        let is_continuous = |pair: &[u16]| pair[1] == pair[0].wrapping_add(1);
        assert!(seqs.windows(2).all(is_continuous), "{below_top}");
    }
    let layers = BTreeMap::from([(lane, 1)]);
    world.sfu.set_tap_layers(tap, layers, world.now);
    world.run(13_000);
    let mut events = world.events.iter().rev();
    let wanted = events.find_map(|event| match event {
        Event::LayersWanted { wanted, .. } => Some(wanted.clone()),
        _ => None,
    });
    assert_eq!(wanted, Some(vec![true, false]), "nobody sees the top one");
    world.publisher(publisher).layers[1].enabled = false;
    world.run(1000);
    world.tapped.clear();
    world.sfu.set_tap_layers(tap, BTreeMap::new(), world.now);
    world.run(2000);
    assert_eq!(of_top(&world), [false], "what there is");
    world.publisher(publisher).layers[1].enabled = true;
    world.run(3000);
    assert_eq!(of_top(&world).last(), Some(&true));
}

#[test]
fn a_tap_of_layers_yields_and_wants_all_of_them() {
    for video in [TapVideo::Layers, TapVideo::Best, TapVideo::None] {
        let mut world = World::new(1);
        world.publish(Publisher::simulcast(1, Codec::H264));
        let tap = world.sfu.add_tap(ROOM, TapSource::Program, world.now);
        world.sfu.set_tap_video(tap, video, world.now);
        world.run(3000);
        let lanes = [0, 1].map(|lane| {
            let packets = world.tapped.iter().map(|(_, packet)| packet);
            let video = packets.filter(|p| p.lane == lane && p.codec == Codec::H264);
            let video: Vec<_> = video.collect();
            assert!(
                video.first().is_none_or(|first| first.keyframe),
                "lane {lane}"
            );
            let seqs = video
                .iter()
                .map(|p| u16::from_be_bytes([p.rtp[2], p.rtp[3]]));
            assert!(seqs.eq((0..).take(video.len())), "lane {lane}");
            video.len() > 20
        });
        let expected = match video {
            TapVideo::Layers => [true, true],
            TapVideo::Best => [true, false],
            TapVideo::None => [false, false],
        };
        assert_eq!(lanes, expected, "{video:?}");
        let heard = world.tapped.iter().filter(|(_, p)| p.codec == Codec::Opus);
        assert!(heard.count() > 50, "{video:?}");
    }
}

#[test]
fn a_tap_of_one_track_yields_nothing_else_and_follows_who_comes_back() {
    let mut world = World::new(5);
    let tracks = [
        (MediaKind::Video, 0),
        (MediaKind::Audio, 0),
        (MediaKind::Video, 1),
    ];
    let taps = tracks.map(|(kind, position)| {
        let source = TapSource::Track {
            participant: ParticipantId(1),
            kind,
            position,
        };
        (world.sfu.add_tap(ROOM, source, world.now), kind, position)
    });
    let first = world.publish_as(1, speaker(1, SILENCE));
    world.run(2000);
    world.leave(first);
    world.run(1000);
    let halves = world.tapped.len();
    world.publish_as(1, speaker(1, SILENCE));
    world.run(2000);
    for (tap, kind, position) in taps {
        let numbered = world.tapped.iter().enumerate();
        let of_tap: Vec<_> = numbered.filter(|(_, (id, _))| *id == tap).collect();
        assert!(
            of_tap.iter().all(|(_, (_, p))| p.codec.kind() == kind),
            "{kind:?}"
        );
        let parts = [0..halves, halves..world.tapped.len()];
        let found = parts.map(|part| of_tap.iter().any(|(at, _)| part.contains(at)));
        assert_eq!(found, [position == 0; 2], "{kind:?} {position}");
        let seqs = of_tap
            .iter()
            .map(|(_, (_, p))| u16::from_be_bytes([p.rtp[2], p.rtp[3]]));
        assert!(seqs.eq((0..).take(of_tap.len())), "{kind:?}");
    }
}

/// What the last event said, by peers instead of publications.
#[derive(Clone, Debug)]
struct Layout {
    video: Vec<Option<PeerId>>,
    audio: Vec<Option<PeerId>>,
    program: Option<PeerId>,
}

fn last_stage(world: &World) -> Layout {
    let peer_of = |publication: PublicationId| {
        let mut published = world.published.iter();
        published.find(|(id, _)| *id == publication).unwrap().1
    };
    let peers = |slots: &[Option<PublicationId>]| {
        let slots = slots.iter();
        slots.map(|slot| slot.map(peer_of)).collect()
    };
    let layout = world.stage.as_ref().map(|(video, audio, program)| Layout {
        video: peers(video),
        audio: peers(audio),
        program: program.map(peer_of),
    });
    layout.unwrap()
}

fn speaker(id: u8, level: u8) -> Publisher {
    let mut publisher = Publisher::new(id, Codec::Vp8);
    publisher.level = Some(level);
    publisher
}

/// Returns whose packets came, in order, without repeats.
fn senders(received: &Received) -> Vec<u8> {
    let packets = received.packets();
    let mut senders: Vec<_> = packets.iter().map(|p| p.publisher).collect();
    senders.dedup();
    senders
}

fn assert_only(received: &Received, publisher: u8) {
    assert_eq!(senders(received), [publisher]);
    assert_continuous(&received.complete());
}

/// Returns the longest time between two pictures, ms.
fn longest_gap(received: &Received) -> u32 {
    let packets = received.packets();
    let gaps = packets
        .windows(2)
        .map(|p| p[1].captured_ms - p[0].captured_ms);
    gaps.max().unwrap()
}
