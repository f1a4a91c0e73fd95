//! How soon newcomers see a picture, and what that costs, over a virtual network.

use crate::world::{
    World,
    link::{Conditions, Link},
    ms,
    publisher::Publisher,
    viewer::{BOTH, with_feedback},
};
use sfu_core::Codec;

#[test]
fn a_thousand_joins_in_a_second_cost_one_request_at_most() {
    for (age, joins) in [(200, 100), (1200, 1000), (5000, 100)] {
        let mut world = World::new(age);
        let mut publisher = Publisher::new(1, Codec::H264);
        publisher.has_audio = false;
        let publisher = world.publish(publisher);
        world.watch(BOTH);
        world.run(age);
        let requests = world.publisher(publisher).requests;
        let mut joining = Vec::new();
        let mut times = Vec::new();
        for ms in 0..1300 {
            if ms < 1000 && ms % (1000 / joins) == 0 {
                joining.push((world.watch(BOTH), world.now));
            }
            world.run(1);
            joining.retain(|(index, since)| {
                let first = world.first_picture(*index, *since);
                // What comes afterwards is the same for everyone.
                world.members[*index].silent |= first.is_some();
                times.extend(first);
                first.is_none()
            });
        }
        let asked = world.publisher(publisher).requests - requests;
        assert!(asked <= 1, "{asked} requests after {age} ms");
        assert_eq!(times.len() as u64, joins, "{age} ms: all see a keyframe");
        times.sort();
        // Of these two or three round trips of 20 ms are the handshake.
        let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!("{age} ms: p50 {half:?}, p99 {most:?}");
        assert!(
            half < ms(90) && most < ms(250),
            "{age} ms: {half:?} {most:?}"
        );
    }
}

/// A keyframe of 33 kB and a second behind it.
#[test]
fn a_near_viewer_has_the_keyframe_within_milliseconds() {
    for (seed, delay, within) in [(1, 1, 8), (2, 5, 25), (3, 25, 90)] {
        let mut world = World::live(seed, Publisher::rung(1, Codec::H264, 2), 900);
        world.delay = ms(delay);
        let viewer = world.watch(&with_feedback());
        while !world.is_connected(viewer) {
            world.run(1);
        }
        let since = world.now;
        world.run(within);
        let first = world.first_picture(viewer, since);
        assert!(
            first.is_some(),
            "{delay} ms away: nothing whole in {within} ms"
        );
    }
}

#[test]
fn a_slow_viewer_loses_little_at_its_start() {
    for (seed, age) in [(0, 60), (1, 300), (2, 900), (3, 1900), (4, 4000)] {
        let mut world = World::new(seed);
        world.has_long_hellos = true;
        world.publish(Publisher::ladder(1, Codec::Vp8));
        world.run(age);
        let viewer = world.watch(&with_feedback());
        let mut conditions = Conditions::of_rate(400_000);
        conditions.queue = ms(200);
        let link = Link::new(conditions, seed);
        world.links.insert(viewer, link);
        let since = world.now;
        world.run(5000);
        let first = world.first_picture(viewer, since);
        let dropped = world.links[&viewer].dropped;
        println!("{age} ms: {first:?}, {dropped} dropped");
        // What does not fit into the queue when the keyframe is old, and no storm of repeats behind it.
        assert!(dropped < 15, "{age} ms: {dropped}");
        assert!(
            first.is_some_and(|first| first < ms(700)),
            "{age} ms: {first:?}"
        );
    }
}
