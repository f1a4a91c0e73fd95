//! What it costs that packets wait for others, over a virtual network.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::world::{
    Network, World, ms,
    publisher::Publisher,
    viewer::{BOTH, Received},
};
use sfu_core::Codec;

/// When what a viewer got was there, after the beginning of the world.
struct Times {
    /// Frames, by when they were captured: when the last packet came.
    frames: BTreeMap<u32, Duration>,
    /// Packets of audio, likewise.
    audio: BTreeMap<u32, Duration>,
    /// At how many moments video came.
    moments: usize,
}

/// Lets viewers here and elsewhere watch a publisher whose packets come in disorder.
fn watch(hold: Duration, uplink: Network) -> [Times; 2] {
    let mut world = World::new(1);
    world.hold = hold;
    let mut publisher = Publisher::new(1, Codec::H264);
    publisher.layers[0].packets_per_frame = 5;
    let publisher = world.publish(publisher);
    let here = world.watch(BOTH);
    world.joins_elsewhere = true;
    let there = world.watch(BOTH);
    world.run(1000);
    world.uplinks.insert(publisher, uplink);
    world.run(4000);
    world.uplinks.clear();
    world.run(500);
    let start = world.start;
    [here, there].map(|viewer| {
        let times = |stream: &Received| {
            let mut seen = BTreeSet::new();
            let arrivals = stream.arrivals.iter();
            // What a viewer asked for again may come twice.
            let new = arrivals.filter(|(_, packet)| seen.insert(packet.content));
            new.map(|(at, packet)| (packet.captured_ms, *at - start))
                .collect::<BTreeMap<_, _>>()
        };
        let viewer = world.viewer(viewer);
        viewer.video.complete();
        let moments: BTreeSet<_> = viewer.video.arrivals.iter().map(|(at, _)| at).collect();
        Times {
            frames: times(&viewer.video),
            audio: times(&viewer.audio),
            moments: moments.len(),
        }
    })
}

#[test]
fn no_frame_is_complete_later_because_packets_waited() {
    let hold = ms(4);
    for (loss, jitter) in [(0, 12), (5, 12), (5, 3)] {
        let uplink = Network {
            loss,
            jitter,
            duplicate: 0,
        };
        let label = format!("{loss} % lost, jitter of {jitter} ms");
        let at_once = watch(Duration::ZERO, uplink);
        let held = watch(hold, uplink);
        for (shards, (at_once, held)) in (1..).zip(at_once.iter().zip(&held)) {
            assert!(held.frames.len() > 150, "{label}: {}", held.frames.len());
            for (captured, at) in &held.frames {
                let before = at_once.frames[captured];
                assert!(
                    *at <= before,
                    "{label}, {shards} shards: frame {captured} came at {at:?}, not {before:?}"
                );
            }
            // Audio may wait once at each shard.
            for (captured, at) in &held.audio {
                let before = at_once.audio[captured];
                assert!(*at <= before + hold * shards, "{label}: {at:?} {before:?}");
            }
            let (more, fewer) = (at_once.moments, held.moments);
            assert!(fewer * 10 < more * 9, "{label}: {fewer} of {more} runs");
        }
    }
}
