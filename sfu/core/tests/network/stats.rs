//! What the server tells of a publisher's connection.

use crate::world::{Network, World, ms, publisher::Publisher};
use sfu_core::{Codec, MediaKind, PeerStats};

#[test]
fn a_publisher_sees_what_came_of_each_layer() {
    for (seed, loss, jitter) in [(1, 0, 0), (2, 5, 4), (3, 12, 8)] {
        let mut world = World::new(seed);
        let publisher = world.publish(Publisher::ladder(1, Codec::Vp8));
        let network = Network {
            loss,
            jitter,
            ..Network::default()
        };
        world.uplinks.insert(publisher, network);
        world.run(5000);
        world.publisher(publisher).mute();
        world.run(1500);
        let facts = facts(&world, publisher);
        let mut repaired = 0;
        for (kind, layers) in [(MediaKind::Audio, 1), (MediaKind::Video, 3)] {
            let mut tracks = facts.tracks.iter().filter(|track| track.kind == kind);
            let track = tracks.next().unwrap();
            assert_eq!(track.layers.len(), layers);
            for (position, layer) in track.layers.iter().enumerate() {
                let label = format!("{loss} % lost, {kind:?} {position}: {layer:?}");
                let app = world.publisher(publisher);
                let stream = match kind {
                    MediaKind::Audio => &app.audio,
                    MediaKind::Video => &app.layers[position],
                };
                assert_eq!(layer.ssrc, Some(stream.ssrc()), "{label}");
                // The last ones may be lost, and nobody knows.
                let missing = stream.count() - layer.packets - layer.lost;
                assert!(
                    missing <= if loss == 0 { 0 } else { 3 },
                    "{label}: {missing}"
                );
                let per_packet = layer.payload_bytes / layer.packets;
                let expected = if kind == MediaKind::Audio { 100 } else { 610 };
                assert!(per_packet >= expected, "{label}");
                assert_eq!(
                    layer.repaired > 0,
                    loss > 0 && kind == MediaKind::Video,
                    "{label}"
                );
                let is_lost = loss > 0 && kind == MediaKind::Audio;
                assert_eq!(layer.lost > 0, is_lost, "{label}");
                // Packets of one frame leave at once.
                let expected = jitter as f64 / 3.0;
                assert!((layer.jitter_ms - expected).abs() < 1.5, "{label}");
                repaired += layer.repaired;
            }
        }
        let all: u64 = world
            .publisher(publisher)
            .layers
            .iter()
            .map(|l| l.count())
            .sum();
        let share = repaired as f64 * 100.0 / all as f64;
        assert!((share - loss as f64).abs() < 3.0, "{share} % repaired");
    }
}

#[test]
fn a_publishers_round_trip_is_followed() {
    let mut world = World::new(4);
    let publisher = world.publish(Publisher::new(1, Codec::H264));
    world.run(5000);
    let rtt = |world: &World| facts(world, publisher).rtt_ms.unwrap();
    assert!((18.0..25.0).contains(&rtt(&world)), "{}", rtt(&world));
    world.delay = ms(45);
    world.run(20_000);
    assert!((80.0..95.0).contains(&rtt(&world)), "{}", rtt(&world));
}

/// Browsers have timers that are shorter than the way, and first messages that are longer than a datagram.
#[test]
fn the_way_is_measured_by_answers_alone() {
    for has_long_hellos in [false, true] {
        for patience in [None, Some(1), Some(10), Some(50), Some(80)] {
            let mut world = World::new(5);
            world.delay = ms(45);
            world.patience = patience.map(ms);
            world.has_long_hellos = has_long_hellos;
            let publisher = world.publish(Publisher::new(1, Codec::H264));
            while !world.is_connected(publisher) {
                world.run(1);
            }
            let rtt = facts(&world, publisher).rtt_ms.unwrap();
            let label = format!("repeated after {patience:?} ms, long: {has_long_hellos}");
            assert!((90.0..95.0).contains(&rtt), "{label}: {rtt}");
        }
    }
}

fn facts(world: &World, index: usize) -> PeerStats {
    let peer = world.members[index].peer;
    world.sfu.peer_stats(peer, world.now).unwrap()
}
