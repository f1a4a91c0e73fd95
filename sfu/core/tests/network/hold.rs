//! What it costs that packets wait for others, over a virtual network.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::world::{
    Network, World, ms,
    publisher::Publisher,
    svc::Svc,
    viewer::{AV1, BOTH, Received, VP9, describing},
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
    /// The spatial layer of what came last.
    spatial: u8,
}

/// What is published, and how it is watched.
struct Scene<'a> {
    publisher: &'a dyn Fn() -> Publisher,
    media: &'a str,
    /// The largest size that each viewer here wants of it, the smallest being 0, and each one elsewhere.
    limits: [&'a [Option<u8>]; 2],
    /// How long they watch before anything waits.
    start: Duration,
}

impl Scene<'_> {
    /// Lets the viewers watch while packets come in disorder. Returns what they got: those here, then those elsewhere.
    fn watch(&self, hold: Duration, uplink: Network) -> Vec<Times> {
        let mut world = World::new(1);
        let publisher = world.publish((self.publisher)());
        let mut viewers = Vec::new();
        for (limits, elsewhere) in self.limits.iter().zip([false, true]) {
            world.joins_elsewhere = elsewhere;
            for limit in *limits {
                let viewer = world.watch(self.media);
                let (peer, now) = (world.members[viewer].peer, world.now);
                world.sfu_of(viewer).limit(peer, *limit, now);
                viewers.push(viewer);
            }
        }
        world.run(self.start.as_millis() as u64);
        world.hold = hold;
        world.run(1000);
        world.uplinks.insert(publisher, uplink);
        world.run(4000);
        world.uplinks.clear();
        world.run(500);
        let times = viewers.into_iter().map(|viewer| Times::of(&world, viewer));
        times.collect()
    }
}

impl Times {
    fn of(world: &World, viewer: usize) -> Self {
        let times = |stream: &Received| {
            let mut seen = BTreeSet::new();
            let arrivals = stream.arrivals.iter();
            // What a viewer asked for again may come twice.
            let new = arrivals.filter(|(_, packet)| seen.insert(packet.content));
            new.map(|(at, packet)| (packet.captured_ms, *at - world.start))
                .collect::<BTreeMap<_, _>>()
        };
        let viewer = world.viewer(viewer);
        viewer.video.complete();
        let moments: BTreeSet<_> = viewer.video.arrivals.iter().map(|(at, _)| at).collect();
        let newest = viewer.video.newest();
        Self {
            frames: times(&viewer.video),
            audio: times(&viewer.audio),
            moments: moments.len(),
            spatial: newest.map_or(0, |(packet, _)| packet.layers.0),
        }
    }

    /// Asserts that no frame was complete later than without waiting.
    fn assert_no_later(&self, at_once: &Self, label: &str) {
        assert!(self.frames.len() > 150, "{label}: {}", self.frames.len());
        for (captured, at) in &self.frames {
            let before = at_once.frames[captured];
            assert!(
                *at <= before,
                "{label}: frame {captured} came at {at:?}, not {before:?}"
            );
        }
    }

    /// Asserts that packets came together that came apart without waiting.
    fn assert_fewer_runs(&self, at_once: &Self, label: &str) {
        let (more, fewer) = (at_once.moments, self.moments);
        assert!(fewer * 10 < more * 9, "{label}: {fewer} of {more} runs");
    }
}

#[test]
fn no_frame_is_complete_later_because_packets_waited() {
    let hold = ms(4);
    let scene = Scene {
        publisher: &|| {
            let mut publisher = Publisher::new(1, Codec::H264);
            publisher.layers[0].packets_per_frame = 5;
            publisher
        },
        media: BOTH,
        limits: [&[None], &[None]],
        start: Duration::ZERO,
    };
    for (loss, jitter) in [(0, 12), (5, 12), (5, 3)] {
        let uplink = disorder(loss, jitter);
        let at_once = scene.watch(Duration::ZERO, uplink);
        let held = scene.watch(hold, uplink);
        for (shards, (at_once, held)) in (1..).zip(at_once.iter().zip(&held)) {
            let label = format!("{loss} % lost, jitter of {jitter} ms, {shards} shards");
            held.assert_no_later(at_once, &label);
            // Audio may wait once at each shard.
            for (captured, at) in &held.audio {
                let before = at_once.audio[captured];
                assert!(*at <= before + hold * shards, "{label}: {at:?} {before:?}");
            }
            held.assert_fewer_runs(at_once, &label);
        }
    }
}

#[test]
fn who_gets_lower_spatial_layers_does_not_wait_for_the_upper_ones() {
    const EACH: [Option<u8>; 3] = [Some(0), Some(1), None];
    for (codec, svc) in [
        (Codec::Vp9, Svc::L3T3_KEY),
        (Codec::Vp9, Svc::L3T3),
        (Codec::Av1, Svc::L3T3_KEY),
    ] {
        let media = match codec {
            Codec::Av1 => describing(AV1),
            _ => VP9.to_owned(),
        };
        for (limits, loss) in [
            ([&EACH[..], &[]], 0),
            ([&EACH[2..], &EACH], 0),
            ([&EACH[2..], &EACH], 5),
        ] {
            let scene = Scene {
                publisher: &|| Publisher::svc(1, codec, svc),
                media: &media,
                limits,
                // What viewers of layers want is known by then.
                start: ms(2000),
            };
            let uplink = disorder(loss, 12);
            let at_once = scene.watch(Duration::ZERO, uplink);
            let held = scene.watch(ms(4), uplink);
            let wanted = limits.concat().into_iter().map(|limit| limit.unwrap_or(2));
            for ((at_once, held), wanted) in at_once.iter().zip(&held).zip(wanted) {
                let label = format!("{codec:?} {svc:?}, {loss} % lost, {limits:?}, {wanted}");
                assert_eq!(held.spatial, wanted, "{label}");
                held.assert_no_later(at_once, &label);
            }
        }
    }
}

#[test]
fn spatial_layers_wait_for_the_upper_ones_while_everybody_gets_those() {
    let scene = Scene {
        publisher: &|| Publisher::svc(1, Codec::Vp9, Svc::L3T3),
        media: VP9,
        limits: [&[None, None], &[]],
        start: ms(2000),
    };
    let uplink = disorder(0, 3);
    let at_once = scene.watch(Duration::ZERO, uplink);
    let held = scene.watch(ms(4), uplink);
    for (at_once, held) in at_once.iter().zip(&held) {
        held.assert_no_later(at_once, "L3T3");
        held.assert_fewer_runs(at_once, "L3T3");
    }
}

fn disorder(loss: u64, jitter: u64) -> Network {
    Network {
        loss,
        jitter,
        duplicate: 0,
    }
}
