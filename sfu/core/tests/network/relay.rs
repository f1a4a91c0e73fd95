//! A room over two SFUs, over a virtual network.

use crate::world::{
    ELSEWHERE, NETWORKS, ROOM, World,
    continuity::assert_continuous,
    publisher::Publisher,
    viewer::{BOTH, WITHOUT_RTX},
};
use sfu_core::{Codec, Event};

#[test]
fn viewers_elsewhere_get_everything_whatever_the_network_does() {
    for (seed, (codec, network)) in (1..).zip(NETWORKS).take(4) {
        let mut world = World::new(seed);
        let publisher = world.publish(Publisher::new(1, codec));
        world.publisher(publisher).padding = true;
        let here = world.watch(BOTH);
        world.joins_elsewhere = true;
        let there = [BOTH, WITHOUT_RTX].map(|media| world.watch(media));
        world.run(1000);
        world.run_over(network, 5000);
        for viewer in there.into_iter().chain([here]) {
            let packets = world.viewer(viewer).video.complete();
            assert!(packets.len() > 600, "{codec:?}: {}", packets.len());
            assert_continuous(&packets);
        }
        assert!(world.viewer(there[0]).audio.packets().len() > 250);
        let repaired = world.elsewhere.stats().retransmitted;
        assert_eq!(repaired > 0, network.loss > 0, "from its own history");
        let publisher = world.publisher(publisher);
        assert!(publisher.requests <= 4, "{} requests", publisher.requests);
    }
}

#[test]
fn a_newcomer_elsewhere_starts_at_once() {
    let mut world = World::new(1);
    let publisher = world.publish(Publisher::new(1, Codec::H264));
    let _here = world.watch(BOTH);
    world.run(2000);
    let asked = world.publisher(publisher).requests;
    world.joins_elsewhere = true;
    let first = world.watch(BOTH);
    world.run(300);
    assert!(!world.viewer(first).video.complete().is_empty());
    let second = world.watch(BOTH);
    world.run(300);
    assert!(!world.viewer(second).video.complete().is_empty());
    let asked = world.publisher(publisher).requests - asked;
    assert!(asked <= 1, "{asked} requests for two newcomers");
}

#[test]
fn keyframe_requests_cross_back_to_the_publisher() {
    let mut world = World::new(1);
    let publisher = world.publish(Publisher::new(1, Codec::H264));
    world.joins_elsewhere = true;
    let viewer = world.watch(BOTH);
    world.run(2000);
    let before = world.publisher(publisher).requests;
    let ssrc = world.viewer(viewer).video.ssrc();
    let [a, b, c, d] = ssrc.to_be_bytes();
    world.send_rtcp(viewer, &[0x81, 206, 0, 2, 0, 0, 0, 9, a, b, c, d]);
    world.run(600);
    assert_eq!(world.publisher(publisher).requests, before + 1);
    let stats = world.elsewhere.stats();
    assert_eq!(stats.keyframe_requests, 0, "counted where they are sent");
}

#[test]
fn lost_news_is_made_up_for() {
    let mut world = World::new(1);
    world.publish(Publisher::new(1, Codec::H264));
    world.joins_elsewhere = true;
    let viewer = world.watch(BOTH);
    world.run(2000);
    for outage in [50, 2000] {
        world.loses_news = true;
        world.run(outage);
        world.loses_news = false;
        world.sfu.relay_lost(ELSEWHERE);
        let before = world.viewer(viewer).video.complete().len();
        world.run(2000);
        let after = world.viewer(viewer).video.complete().len();
        assert!(after > before + 150, "{outage} ms: {before} to {after}");
    }
}

#[test]
fn a_takeover_at_home_is_a_cut_elsewhere() {
    let mut world = World::new(1);
    let old = world.publish(Publisher::new(1, Codec::Vp8));
    world.joins_elsewhere = true;
    let viewer = world.watch(BOTH);
    world.run(2000);
    world.joins_elsewhere = false;
    world.publish(Publisher::new(2, Codec::H264));
    world.run(3000);
    world.members[old].silent = true;
    let packets = world.viewer(viewer).video.complete();
    assert_continuous(&packets);
    let before = packets.len();
    world.run(1000);
    assert!(world.viewer(viewer).video.complete().len() > before + 50);
    let stages = world.events.iter();
    let stages = stages.filter(|event| matches!(event, Event::Stage { .. }));
    assert!(stages.count() >= 2, "told by the home alone");
}

#[test]
fn a_room_is_left_with_its_last_viewer() {
    let mut world = World::new(1);
    world.publish(Publisher::new(1, Codec::H264));
    world.joins_elsewhere = true;
    let viewer = world.watch(BOTH);
    world.run(1000);
    assert_eq!(world.sfu.stats().rooms + world.elsewhere.stats().rooms, 1);
    world.leave(viewer);
    world.run(1000);
    let now = world.now;
    assert_eq!(world.elsewhere.room_stats(ROOM, now).viewers, 0);
    let viewer = world.watch(BOTH);
    world.run(1500);
    assert!(!world.viewer(viewer).video.complete().is_empty(), "again");
}
