//! A whole room over a virtual network: real client stacks, real encryption, seeded chance.

use crate::world::{
    NETWORKS, Network, ROOM, World,
    continuity::assert_continuous,
    publisher::Publisher,
    viewer::{BOTH, Packet, WITHOUT_RTX},
};
use sfu_core::{CloseReason, Codec, Event, MediaKind, TapId, TapSource};

#[test]
fn more_viewers_than_are_served_at_once_all_get_everything() {
    let mut world = World::new(11);
    let publisher = world.publish(Publisher::new(1, Codec::H264));
    world.run(300);
    let viewers: Vec<usize> = (0..70).map(|_| world.watch(BOTH)).collect();
    world.run(500);
    world.sfu.close(
        world.members[viewers[3]].peer,
        CloseReason::Requested,
        world.now,
    );
    world.run(500);
    world.publisher(publisher).mute();
    world.run(300);
    let sent = world.viewer(viewers[0]).video.packets().len();
    assert!(sent > 60, "{sent}");
    for viewer in viewers.iter().filter(|viewer| **viewer != viewers[3]) {
        assert_eq!(world.viewer(*viewer).video.complete().len(), sent);
    }
}

#[test]
fn lossy_networks_are_repaired() {
    for (seed, (codec, network)) in (1..).zip(NETWORKS) {
        let mut world = World::new(seed);
        let publisher = world.publish(Publisher::new(1, codec));
        world.publisher(publisher).padding = true;
        let viewers = [BOTH, WITHOUT_RTX, BOTH].map(|media| world.watch(media));
        world.run(1000);
        world.run_over(network, 5000);
        for viewer in viewers {
            let packets = world.viewer(viewer).video.complete();
            assert!(packets.len() > 600, "{}", packets.len());
            assert_continuous(&packets);
        }
        assert!(world.viewer(viewers[0]).audio.packets().len() > 250);
        let publisher = world.publisher(publisher);
        assert!(publisher.requests <= 3, "{} requests", publisher.requests);
        assert!(publisher.receiver_reports >= 4);
        let arrived = publisher.reported_arrived * 100 / publisher.reported;
        let expected = 100 - (network.loss * 5 / 7) as usize;
        assert!(arrived.abs_diff(expected) <= 4, "{arrived} % reported");
        let stats = world.sfu.stats();
        assert_eq!((stats.publishers, stats.viewers, stats.rooms), (1, 3, 1));
        assert_eq!(stats.packets_lost, 0);
    }
}

#[test]
fn a_takeover_is_a_cut() {
    for (seed, before, after, loss) in [
        (1, Codec::H264, Codec::Vp8, 0),
        (2, Codec::Vp8, Codec::Vp8, 0),
        (3, Codec::Vp8, Codec::H264, 3),
    ] {
        let mut world = World::new(seed);
        let old = world.publish(Publisher::new(1, before));
        let viewer = world.watch(BOTH);
        world.run(3000);
        world.network.loss = loss;
        let new = world.publish(Publisher::new(2, after));
        world.run(3000);
        world.network.loss = 0;
        world.run(1500);
        let packets = world.viewer(viewer).video.complete();
        assert_continuous(&packets);
        let cut = packets.iter().position(|p| p.publisher == 2).unwrap();
        assert!(packets[..cut].iter().all(|p| p.publisher == 1));
        assert!(packets[cut..].iter().all(|p| p.publisher == 2));
        let step = packets[cut]
            .timestamp
            .wrapping_sub(packets[cut - 1].timestamp);
        assert!((3000..45_000).contains(&step), "{step} ticks");
        if before == Codec::Vp8 && after == Codec::Vp8 {
            let pictures = packets.windows(2).map(|p| {
                let id = |p: &Packet| p.picture.unwrap();
                id(&p[1]).wrapping_sub(id(&p[0])) & 0x7fff
            });
            assert!(pictures.max().unwrap() <= 1);
        }
        let audio = world.viewer(viewer).audio.packets().into_iter();
        assert!(audio.clone().any(|p| p.publisher == 1));
        assert!(audio.clone().any(|p| p.publisher == 2));
        assert_order_of_takeover(&world, old, new);
    }
}

#[test]
fn newcomers_start_at_a_keyframe_and_cost_few_requests() {
    let mut world = World::new(1);
    let publisher = world.publish(Publisher::new(1, Codec::H264));
    world.run(3000);
    assert_eq!(world.publisher(publisher).requests, 0);
    let mut viewers = Vec::new();
    for _ in 0..25 {
        viewers.push(world.watch(BOTH));
        world.run(40);
    }
    world.run(1000);
    for viewer in viewers {
        assert_continuous(&world.viewer(viewer).video.complete());
    }
    let requests = world.publisher(publisher).requests;
    assert!(requests <= 2, "{requests} requests");
}

#[test]
fn a_viewer_may_come_first_and_stay_longest() {
    let mut world = World::new(1);
    let viewer = world.watch(BOTH);
    world.run(5000);
    let publisher = world.publish(Publisher::new(1, Codec::Vp8));
    world.run(2000);
    assert!(world.is_live());
    assert_continuous(&world.viewer(viewer).video.complete());
    world.leave(publisher);
    world.run(3000);
    assert!(!world.is_live());
    assert_eq!(world.sfu.room_stats(ROOM, world.now).viewers, 1);
    let before = world.viewer(viewer).video.packets().len();
    world.publish(Publisher::new(2, Codec::Vp8));
    world.run(2000);
    let packets = world.viewer(viewer).video.complete();
    assert!(packets.len() > before);
    assert_continuous(&packets);
    let ended = |kind| {
        let mut events = world.events.iter();
        events.any(|e| matches!(e, Event::Unpublished { kind: k, .. } if *k == kind))
    };
    assert!(ended(MediaKind::Audio) && ended(MediaKind::Video));
}

#[test]
fn audio_and_video_are_in_step_for_viewers_and_taps() {
    for (seed, jitter) in [(1, 0), (2, 10)] {
        let mut world = World::new(seed);
        world.network.jitter = jitter;
        let tap = world.sfu.add_tap(ROOM, TapSource::Program, world.now);
        let viewer = world.watch(BOTH);
        world.publish(Publisher::new(1, Codec::H264));
        for publisher in 1..=2 {
            world.run(6000);
            let viewer = world.viewer(viewer);
            let lag = |stream: &crate::world::viewer::Received, rate| {
                let newest = stream.packets().last().copied().unwrap();
                assert_eq!(newest.publisher, publisher);
                stream.wall_ms(newest.timestamp, rate) - f64::from(newest.captured_ms)
            };
            let offset = lag(&viewer.video, 90_000.0) - lag(&viewer.audio, 48_000.0);
            assert!(offset.abs() < 20.0, "viewer: {offset} ms");
            let offset =
                tap_lag(&world, tap, MediaKind::Video) - tap_lag(&world, tap, MediaKind::Audio);
            assert!(offset.abs() < 20.0, "tap: {offset} ms");
            world.publish(Publisher::new(2, Codec::Vp8));
        }
    }
}

#[test]
fn taps_are_in_order_and_complete() {
    let mut world = World::new(1);
    let tap = world.sfu.add_tap(ROOM, TapSource::Program, world.now);
    world.publish(Publisher::new(1, Codec::H264));
    world.run(1000);
    world.network = Network {
        loss: 5,
        duplicate: 2,
        jitter: 10,
    };
    world.run(5000);
    world.network = Network::default();
    world.run(500);
    world.publish(Publisher::new(2, Codec::Vp8));
    world.run(1500);
    for kind in [MediaKind::Audio, MediaKind::Video] {
        let packets: Vec<_> = world
            .tapped
            .iter()
            .filter(|(id, p)| *id == tap && p.codec.kind() == kind)
            .collect();
        assert!(packets[0].1.keyframe);
        for pair in packets.windows(2) {
            let ((_, a), (_, b)) = (pair[0], pair[1]);
            let seq = |p: &sfu_core::TapPacket| u16::from_be_bytes([p.rtp[2], p.rtp[3]]);
            assert!(b.presentation >= a.presentation);
            let step = seq(b).wrapping_sub(seq(a));
            if kind == MediaKind::Video {
                assert_eq!(step, 1);
            }
            assert!((1..100).contains(&step));
            if a.codec != b.codec {
                assert!(b.keyframe);
            }
        }
    }
}

#[test]
fn the_best_live_layer_is_forwarded() {
    for (seed, codec, loss) in [(1, Codec::H264, 0), (2, Codec::Vp8, 5)] {
        let mut world = World::new(seed);
        let publisher = world.publish(Publisher::simulcast(1, codec));
        let viewer = world.watch(BOTH);
        world.network.loss = loss;
        world.run(4000);
        world.publisher(publisher).layers[1].enabled = false;
        world.run(3000);
        world.publisher(publisher).layers[1].enabled = true;
        world.run(3000);
        world.network.loss = 0;
        world.run(1000);
        let packets = world.viewer(viewer).video.complete();
        assert_continuous(&packets);
        let mut order: Vec<_> = packets.iter().map(|p| p.publisher).collect();
        order.dedup();
        assert!(order.ends_with(&[101, 1, 101]), "{order:?}");
        let gap = packets
            .windows(2)
            .map(|p| i64::from(p[1].captured_ms) - i64::from(p[0].captured_ms))
            .max();
        assert!(gap.unwrap() < 400, "{gap:?} ms without a picture");
        assert!(world.publisher(publisher).requests <= 6);
    }
}

#[test]
fn a_viewer_without_the_codec_hears_and_is_counted() {
    let mut world = World::new(1);
    world.publish(Publisher::new(1, Codec::H264));
    let (audio, _) = BOTH.split_once("m=video").unwrap();
    let vp8 =
        "m=video 9 UDP/TLS/RTP/SAVPF 120\r\na=mid:1\r\na=recvonly\r\na=rtpmap:120 VP8/90000\r\n";
    let deaf_to_h264 = world.watch(&format!("{audio}{vp8}"));
    let listener = world.watch(audio);
    world.run(2000);
    for viewer in [deaf_to_h264, listener] {
        assert!(world.viewer(viewer).video.numbers.is_empty());
        assert!(world.viewer(viewer).audio.packets().len() > 80);
    }
    assert_eq!(world.dropped("codec_unsupported"), 1);
    world.publish(Publisher::new(2, Codec::Vp8));
    world.run(1000);
    assert_continuous(&world.viewer(deaf_to_h264).video.complete());
}

#[test]
fn peers_end_for_the_right_reason() {
    let mut world = World::new(1);
    let left = world.watch(BOTH);
    let expired = world.watch(BOTH);
    let never = world.watch(BOTH);
    world.members[never].silent = true;
    world.run(1000);
    world.leave(left);
    world.members[expired].silent = true;
    world.run(40_000);
    let closed = |index: usize| {
        let peer = world.members[index].peer;
        world.events.iter().find_map(|event| match event {
            Event::Closed {
                peer: p, reason, ..
            } if *p == peer => Some(*reason),
            _ => None,
        })
    };
    assert_eq!(closed(left), Some(CloseReason::Left));
    assert_eq!(closed(expired), Some(CloseReason::ConsentExpired));
    assert_eq!(closed(never), Some(CloseReason::NeverConnected));
    assert_eq!(world.sfu.stats().rooms, 0);
    assert_eq!(world.sfu.poll_timeout(), None);
}

fn assert_order_of_takeover(world: &World, old: usize, new: usize) {
    let [old, new] = [old, new].map(|index| world.members[index].peer);
    let position = |what: &dyn Fn(&Event) -> bool| world.events.iter().position(what).unwrap();
    let connected = position(&|e| matches!(e, Event::Connected { peer } if *peer == new));
    let unpublished = position(&|e| matches!(e, Event::Unpublished { .. }));
    let closed = position(
        &|e| matches!(e, Event::Closed { peer, reason: CloseReason::Replaced, .. } if *peer == old),
    );
    let published = position(&|e| matches!(e, Event::Published { peer, .. } if *peer == new));
    assert!(connected < unpublished && unpublished < closed && closed < published);
}

fn tap_lag(world: &World, tap: TapId, kind: MediaKind) -> f64 {
    let newest = world
        .tapped
        .iter()
        .rev()
        .find(|(id, p)| *id == tap && p.codec.kind() == kind);
    let (_, packet) = newest.unwrap();
    let captured = Packet::read(packet.codec, false, 0, &packet.rtp[12..]).captured_ms;
    let presentation = packet.presentation - world.start;
    presentation.as_secs_f64() * 1000.0 - f64::from(captured)
}

#[test]
fn nobody_is_always_served_last() {
    let mut world = World::new(1);
    world.publish(Publisher::new(1, Codec::Vp8));
    let mut viewers: Vec<_> = (0..7).map(|_| world.watch(BOTH)).collect();
    world.run(2000);
    let left = viewers.remove(3);
    world.leave(left);
    world.run(3000);
    let flushes = world.served.iter();
    let complete: Vec<_> = flushes.filter(|f| f.len() == viewers.len()).collect();
    assert!(complete.len() > 2 * viewers.len());
    for turn in complete.windows(viewers.len()) {
        let ends = [0, viewers.len() - 1].map(|place| {
            let mut served: Vec<_> = turn.iter().map(|flush| flush[place]).collect();
            served.sort();
            served
        });
        assert_eq!(ends, [viewers.clone(), viewers.clone()], "{turn:?}");
    }
}
