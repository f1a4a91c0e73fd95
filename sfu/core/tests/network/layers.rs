//! Which layers viewers receive, and how they begin, over a virtual network.

use crate::world::{
    Network, World,
    link::{Conditions, Link},
    ms,
    publisher::Publisher,
    svc::Svc,
    viewer::{AV1, BOTH, Packet, VP9, Viewer, describing, with_feedback, with_red},
};
use sfu_core::Codec;

#[test]
fn many_switches_leave_no_gap() {
    for (seed, codec, loss, jitter) in [
        (1, Codec::H264, 0, 0),
        (2, Codec::Vp8, 0, 10),
        (3, Codec::H264, 5, 5),
        (4, Codec::Vp8, 10, 15),
        (5, Codec::Vp8, 20, 20),
    ] {
        let mut world = World::new(seed);
        let publisher = world.publish(Publisher::simulcast(1, codec));
        let viewers = [world.watch(BOTH), world.watch(BOTH)];
        world.run(2000);
        world.network = Network {
            loss,
            jitter,
            duplicate: loss / 2,
        };
        for round in 0..20_u64 {
            for (n, viewer) in (0..).zip(viewers) {
                let limit = ((round + n) % 3 == 0).then_some(0);
                let peer = world.members[viewer].peer;
                world.sfu.limit(peer, limit, world.now);
            }
            let stops = round % 7 == 3;
            world.publisher(publisher).layers[1].enabled = !stops;
            let pause = 300 + world.next_random() % 600;
            world.run(pause);
        }
        world.network = Network::default();
        world.run(1500);
        let frames_sent = world.publisher(publisher).frames();
        for viewer in viewers {
            let packets = world.viewer(viewer).video.complete();
            assert_seamless(&packets);
            let mut layers: Vec<_> = packets.iter().map(|p| p.publisher).collect();
            layers.dedup();
            assert!(layers.len() > 8, "{layers:?}");
            let newest = packets.iter().map(|p| p.captured_ms).max();
            assert!(newest.unwrap() + 100 > frames_sent * 33, "at the live edge");
        }
    }
}

#[test]
fn publishers_that_restart_leave_no_gap() {
    let mut world = World::new(1);
    let viewer = world.watch(BOTH);
    for id in 1..=6 {
        let codec = if id % 3 == 0 { Codec::H264 } else { Codec::Vp8 };
        world.publish(Publisher::new(id, codec));
        world.run(1500);
    }
    let packets = world.viewer(viewer).video.complete();
    assert_seamless(&packets);
    let mut order: Vec<_> = packets.iter().map(|p| p.publisher).collect();
    order.dedup();
    assert_eq!(order, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_replay_ends_at_the_live_edge() {
    for (seed, codec, age) in [(1, Codec::H264, 1500), (2, Codec::Vp8, 400)] {
        let mut world = World::new(seed);
        let publisher = world.publish(Publisher::new(1, codec));
        let first = world.watch(BOTH);
        world.run(age);
        let requests = world.publisher(publisher).requests;
        let newcomer = world.watch(BOTH);
        world.run(1000);
        assert_eq!(
            world.publisher(publisher).requests,
            requests,
            "none is needed"
        );
        let packets = world.viewer(newcomer).video.complete();
        assert_seamless(&packets);
        assert!(packets[0].starts_keyframe);
        let (began, _) = world.viewer(newcomer).video.arrivals[0];
        let arrivals = &world.viewer(newcomer).video.arrivals;
        let at_once = arrivals.iter().take_while(|(at, _)| *at - began < ms(30));
        let replayed: Vec<_> = at_once.map(|(_, packet)| *packet).collect();
        let span = |a: &Packet, b: &Packet| b.timestamp.wrapping_sub(a.timestamp);
        let last = replayed.last().unwrap();
        let content = last.captured_ms - packets[0].captured_ms;
        assert!(
            u64::from(content) + 200 > age,
            "{content} ms replayed of {age}"
        );
        let pressed = span(&packets[0], last);
        assert!(pressed < 90 * 60, "{pressed} ticks");
        world.run(3000);
        // Both viewers see a picture at the same time by their own clocks.
        let lag = |viewer| {
            let video = &world.viewer(viewer).video;
            let newest = *video.packets().last().unwrap();
            video.wall_ms(newest.timestamp, 90_000.0) - f64::from(newest.captured_ms)
        };
        let offset = lag(newcomer) - lag(first);
        assert!(offset.abs() < 5.0, "{offset} ms");
    }
}

#[test]
fn a_stopped_layer_is_left_within_a_fifth_of_a_second() {
    for (seed, codec) in [(1, Codec::H264), (2, Codec::Vp8)] {
        let mut world = World::new(seed);
        let publisher = world.publish(Publisher::simulcast(1, codec));
        let viewer = world.watch(BOTH);
        world.run(3000);
        world.publisher(publisher).layers[1].enabled = false;
        world.run(1000);
        let arrivals = &world.viewer(viewer).video.arrivals;
        assert_eq!(arrivals.last().unwrap().1.publisher, 1);
        let pauses = arrivals.windows(2).map(|pair| pair[1].0 - pair[0].0);
        let longest = pauses.max().unwrap();
        assert!(longest < ms(260), "{longest:?}");
    }
}

#[test]
fn spatial_layers_within_a_stream_are_left_and_entered() {
    for svc in [Svc::L2T2, Svc::L2T2_KEY] {
        let mut world = World::new(1);
        let publisher = world.publish(Publisher::svc(1, Codec::Vp9, svc));
        let viewer = world.watch(VP9);
        let peer = world.members[viewer].peer;
        world.run(2000);
        world.sfu.limit(peer, Some(0), world.now);
        world.run(1500);
        let requests = world.publisher(publisher).requests;
        world.sfu.limit(peer, None, world.now);
        world.run(1500);
        assert!(world.publisher(publisher).requests <= requests + 1);
        let packets = world.viewer(viewer).video.complete();
        let at = |ms: u32| {
            let part = packets
                .iter()
                .filter(|p| (ms..ms + 700).contains(&p.captured_ms));
            part.copied().collect::<Vec<_>>()
        };
        // Times are counted from a second before the publisher began, on connecting.
        let (before, during, after) = (at(2000), at(3600), at(5000));
        assert!(before.iter().any(|p| p.layers.0 == 1), "{svc:?}");
        assert!(during.iter().all(|p| p.layers.0 == 0), "{svc:?}");
        assert!(after.iter().any(|p| p.layers.0 == 1), "{svc:?}");
        if !svc.is_full {
            let lower = after
                .iter()
                .filter(|p| p.layers.0 == 0 && !p.starts_keyframe);
            assert!(
                lower.count() * 4 < after.len(),
                "lower layers are of no use"
            );
        }
        let mut pictures = 0;
        for pair in packets.windows(2) {
            let is_same = pair[0].timestamp == pair[1].timestamp;
            assert_eq!(pair[0].marker, !is_same, "{svc:?}: {pair:?}");
            let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
            assert!(step < 9000, "{svc:?}: {step}");
            pictures += u32::from(!is_same);
        }
        assert!(pictures > 120, "{pictures}");
    }
}

#[test]
fn who_reads_dependency_descriptors_sees_the_upper_layer_of_av1() {
    let mut world = World::new(1);
    let publisher = world.publish(Publisher::svc(1, Codec::Av1, Svc::L2T1_KEY));
    world.run(2000);
    let viewer = world.watch(&describing(AV1));
    let other = world.watch(AV1);
    let upper = |world: &mut World, index: usize| {
        let before = world.viewer(index).video.packets().len();
        world.run(1000);
        let packets = world.viewer(index).video.complete();
        assert!(packets.len() > before, "a picture");
        let packets = &packets[before..];
        let count = packets.iter().filter(|packet| packet.layers.0 == 1).count();
        (count, packets.len() - count)
    };
    world.run(1000);
    let (count, lower) = upper(&mut world, viewer);
    assert!(count > 80 && lower * 4 < count, "{count} and {lower}");
    let (count, lower) = upper(&mut world, other);
    assert!(count == 0 && lower > 80, "{count} and {lower}");

    // It left the upper layer, and needs a keyframe to come back.
    let peer = world.members[viewer].peer;
    world.sfu.limit(peer, Some(0), world.now);
    world.run(1000);
    assert_eq!(upper(&mut world, viewer).0, 0);
    let requests = world.publisher(publisher).requests;
    world.sfu.limit(peer, None, world.now);
    world.run(1000);
    let (count, _) = upper(&mut world, viewer);
    assert!(count > 80, "{count}");
    assert_eq!(world.publisher(publisher).requests, requests + 1);
}

#[test]
fn sound_is_not_repeated_on_narrow_paths() {
    let mut world = World::new(1);
    world.publish(Publisher::new(1, Codec::H264));
    let viewer = world.watch(&with_red());
    // The picture and the sound just fit.
    let lossy = Conditions {
        loss: 80,
        ..Conditions::of_rate(200_000)
    };
    world.links.insert(viewer, Link::new(lossy, 1));
    world.run(8000);
    let repeated = world.viewer(viewer).repeated_audio.len();
    assert!(repeated < 50, "{repeated} in the beginning");
    world.run(8000);
    let more = world.viewer(viewer).repeated_audio.len() - repeated;
    assert_eq!(more, 0);
}

#[test]
fn sound_alone_is_repeated_again_when_its_path_is_not_narrow_any_more() {
    let mut world = World::new(1);
    let publisher = world.publish(Publisher::new(1, Codec::H264));
    world.publisher(publisher).has_video = false;
    let viewer = world.watch(&with_red());
    let lossy = |rate| Conditions {
        loss: 80,
        ..Conditions::of_rate(rate)
    };
    world.links.insert(viewer, Link::new(lossy(40_000), 1));
    world.run(6000);
    world.viewer_mut(viewer).repeated_audio.clear();
    world.run(4000);
    let repeated = world.viewer(viewer).repeated_audio.len();
    assert!(repeated < 20, "{repeated} while it is narrow");
    world.links.insert(viewer, Link::new(lossy(0), 1));
    world.run(12_000);
    world.viewer_mut(viewer).repeated_audio.clear();
    world.run(4000);
    let repeated = world.viewer(viewer).repeated_audio.len();
    assert!(repeated > 150, "{repeated} of 200");
}

#[test]
fn sound_is_repeated_for_those_who_lose_it() {
    let mut world = World::new(1);
    world.publish(Publisher::new(1, Codec::H264));
    let viewer = world.watch(&with_red());
    let other = world.watch(&with_feedback());
    world.run(3000);
    assert!(
        world.viewer(viewer).repeated_audio.is_empty(),
        "nothing is lost"
    );
    for index in [viewer, other] {
        let lossy = Conditions {
            loss: 80,
            ..Conditions::of_rate(0)
        };
        world.links.insert(index, Link::new(lossy, 1));
    }
    world.run(8000);
    assert!(
        world.viewer(other).repeated_audio.is_empty(),
        "not understood"
    );
    let Viewer {
        audio,
        repeated_audio,
        ..
    } = world.viewer(viewer);
    let (first, last) = (
        audio.numbers.first_key_value(),
        audio.numbers.last_key_value(),
    );
    let lost = (*first.unwrap().0..*last.unwrap().0).filter(|n| !audio.numbers.contains_key(n));
    let (mended, lost): (Vec<_>, Vec<_>) =
        lost.partition(|number| repeated_audio.contains_key(&((number & 0xffff) as u16)));
    assert!(
        mended.len() > 3 * lost.len(),
        "{} of {}",
        mended.len(),
        lost.len()
    );
    for (number, packet) in &audio.numbers {
        let again = repeated_audio.get(&((number & 0xffff) as u16));
        let same = again
            .zip(*packet)
            .is_none_or(|(a, b)| a.content == b.content);
        assert!(same, "packet {number}");
    }
}

/// Asserts that every picture is whole and later than the one before, that no packet of a layer is sent twice
/// or left out, and that time goes neither faster nor slower than it does for the publisher.
fn assert_seamless(packets: &[Packet]) {
    assert!(packets[0].starts_keyframe);
    for pair in packets.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let step = b.timestamp.wrapping_sub(a.timestamp).cast_signed();
        assert!(step >= 0, "{a:?} {b:?}");
        if let (Some(a), Some(b)) = (a.picture, b.picture) {
            assert!((b.wrapping_sub(a) & 0x7fff) <= 1, "{pair:?}");
        }
        if a.publisher == b.publisher && b.content == a.content + 1 {
            assert_eq!(step > 0, a.marker, "{a:?} {b:?}");
        } else {
            assert!(b.starts_keyframe && step > 0, "{a:?} {b:?}");
        }
        let captured = i64::from(b.captured_ms) - i64::from(a.captured_ms);
        let shown = i64::from(step) / 90;
        assert!(
            shown <= captured.max(0) + 420,
            "{shown} ms for {captured} ms"
        );
    }
}
