//! What keyframes viewers cause, and what that costs the publisher, over a virtual network.

use crate::world::{
    World,
    link::{Conditions, Link},
    ms,
    publisher::Publisher,
    viewer::with_feedback,
};
use sfu_core::Codec;

/// Returns a room in which a viewer has just lost its place: more came than the server keeps while its path took
/// nothing. The path is as good as before.
fn lost() -> (World, usize, usize) {
    let mut world = World::remembering(128, 1);
    let publisher = world.publish(Publisher::rung(1, Codec::H264, 2));
    world.run(1000);
    let viewer = world.watch(&with_feedback());
    let link = Link::new(Conditions::of_rate(20_000_000), 1);
    world.links.insert(viewer, link);
    world.run(4000);
    ask(&mut world, viewer);
    world.run(200);
    assert_eq!(world.sfu.stats().gaps, 0);
    world.set_rate(viewer, 100_000);
    run_until(&mut world, |world| world.sfu.stats().gaps > 0);
    world.set_rate(viewer, 20_000_000);
    assert_eq!(world.sfu.stats().viewers_paused, 0, "it lost its place");
    (world, publisher, viewer)
}

/// Lets a viewer ask for a keyframe.
fn ask(world: &mut World, viewer: usize) {
    let [a, b, c, d] = world.viewer(viewer).video.ssrc().to_be_bytes();
    world.send_rtcp(viewer, &[0x81, 206, 0, 2, 0, 0, 0, 9, a, b, c, d]);
}

fn run_until(world: &mut World, mut is_over: impl FnMut(&mut World) -> bool) {
    for _ in 0..10_000 {
        if is_over(world) {
            return;
        }
        world.run(1);
    }
    panic!("it did not happen within ten seconds");
}

#[test]
fn a_viewer_who_lost_its_place_goes_on_though_a_request_is_lost() {
    let (mut world, publisher, viewer) = lost();
    let before = world.publisher(publisher).requests;
    world.publisher(publisher).is_deaf = true;
    run_until(&mut world, |world| {
        world.publisher(publisher).requests > before
    });
    world.publisher(publisher).is_deaf = false;
    world.run(2000);
    let before = world.viewer(viewer).video.packets().len();
    world.run(1000);
    let came = world.viewer(viewer).video.packets().len() - before;
    assert!(came > 200, "{came} packets");
}

#[test]
fn a_viewer_who_lost_its_place_may_ask_itself() {
    let (mut world, publisher, viewer) = lost();
    let before = world.publisher(publisher).requests;
    world.run(500);
    let asked = world.publisher(publisher).requests - before;
    assert_eq!(asked, 0, "others pay for it: that can wait");
    ask(&mut world, viewer);
    world.run(50);
    assert_eq!(world.publisher(publisher).requests - before, 1);
}

/// Everybody begins low, and a little later knows that the path carries the best.
#[test]
fn viewers_of_a_second_climb_at_two_keyframes_of_each_layer_at_most() {
    for (seed, age) in [(1, 1000), (2, 1300), (3, 5000)] {
        let mut world = World::new(seed);
        let mut publisher = Publisher::ladder(1, Codec::H264);
        publisher.has_audio = false;
        let publisher = world.publish(publisher);
        world.watch(&with_feedback());
        world.run(age);
        let requests = |world: &mut World| -> Vec<u32> {
            let layers = world.publisher(publisher).layers.iter();
            layers.map(|layer| layer.requests).collect()
        };
        let before = requests(&mut world);
        let mut viewers = Vec::new();
        for n in 0..4000 {
            if n < 1000 && n % 25 == 0 {
                let viewer = world.watch(&with_feedback());
                let link = Link::new(Conditions::of_rate(20_000_000), n);
                world.links.insert(viewer, link);
                viewers.push(viewer);
            }
            world.run(1);
        }
        let after = requests(&mut world);
        let asked: Vec<_> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        let mut longest = ms(0);
        for viewer in &viewers {
            let arrivals = &world.viewer(*viewer).video.arrivals;
            let (first, _) = arrivals.first().unwrap();
            let mut best = arrivals.iter().filter(|(_, p)| p.publisher / 100 == 2);
            let (climbed, _) = best.next().unwrap();
            longest = longest.max(*climbed - *first);
        }
        println!("{age} ms: {asked:?} requests, the top after {longest:?} at most");
        assert!(asked.iter().all(|asked| *asked <= 2), "{age} ms: {asked:?}");
        assert!(longest < ms(2500), "{age} ms: {longest:?}");
    }
}
