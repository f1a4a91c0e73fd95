//! Peers whose way to the server changes, over a virtual network.

use std::net::SocketAddr;

use crate::world::{World, publisher::Publisher, viewer::BOTH};
use sfu_core::{Codec, Event, Local, Path, RestartError};

#[test]
fn media_follows_a_viewer_to_its_new_address() {
    // A check comes every 4 s, so the first one on the new path comes within that time. Without a nomination
    // the viewer's reports, which come all the time, tell that it has moved there.
    let cases = [
        ("nominating", true, udp(9999), 4200),
        ("without a nomination", false, udp(9999), 5500),
        ("to a connection", true, tcp(7), 4200),
    ];
    for (seed, (label, nominates, path, within)) in (1..).zip(cases) {
        let mut world = World::new(seed);
        world.publish(Publisher::new(1, Codec::H264));
        let viewer = world.watch(BOTH);
        world.run(3000);
        let before = world.viewer(viewer).video.complete().len();
        assert!(before > 100, "{label}: {before}");
        world.members[viewer].nominates = nominates;
        world.rebind(viewer, path);
        for _ in 0..within / 100 {
            world.run(100);
            world.send_rtcp(viewer, &EMPTY_REPORT);
        }
        let moved = world.viewer(viewer).video.complete().len();
        world.run(2000);
        let after = world.viewer(viewer).video.complete().len();
        assert!(after - moved > 100, "{label}: {} packets", after - moved);
        assert!(world.sfu.knows(path), "{label}");
        assert_eq!(closed(&world), 0, "{label}");
    }
}

#[test]
fn a_publisher_may_move_too() {
    let mut world = World::new(1);
    let publisher = world.publish(Publisher::new(1, Codec::Vp8));
    let viewer = world.watch(BOTH);
    world.run(3000);
    world.rebind(publisher, udp(9999));
    world.run(4200);
    let moved = world.viewer(viewer).video.complete().len();
    world.run(2000);
    let after = world.viewer(viewer).video.complete().len();
    assert!(after - moved > 100, "{} packets", after - moved);
    assert_eq!(closed(&world), 0);
}

#[test]
fn a_closed_connection_leaves_the_other_path() {
    let mut world = World::new(1);
    world.publish(Publisher::new(1, Codec::H264));
    let viewer = world.watch(BOTH);
    world.run(1000);
    let first = udp(1000 + viewer as u16);
    let first = Path {
        remote: SocketAddr::from(([198, 51, 100, 1], first.remote.port())),
        ..first
    };
    world.rebind(viewer, tcp(1));
    world.run(4500);
    assert!(world.sfu.knows(first) && world.sfu.knows(tcp(1)));
    world.rebind(viewer, first);
    world.sfu.forget(tcp(1));
    assert!(!world.sfu.knows(tcp(1)));
    let before = world.viewer(viewer).video.complete().len();
    world.run(1000);
    let after = world.viewer(viewer).video.complete().len();
    assert!(after > before + 50, "at once: {before} to {after}");
}

#[test]
fn an_ice_restart_interrupts_nothing() {
    let mut world = World::new(1);
    world.publish(Publisher::new(1, Codec::H264));
    let viewer = world.watch(BOTH);
    world.run(2000);
    let peer = world.members[viewer].peer;
    let old = world.members[viewer].credentials.clone();
    let fragment = |ufrag: &str| {
        format!("a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789abcdefghijklmn\r\na=mid:0\r\n")
    };
    let now = world.now;
    let restart = world.sfu.restart_ice(peer, &fragment("anew"), now);
    let restart = restart.unwrap().unwrap();
    assert_ne!(restart.ufrag, old.0);
    assert!(restart.fragment.contains("tcptype passive"));
    let again = world.sfu.restart_ice(peer, &fragment("anew"), now);
    assert_eq!(again, Ok(None), "the same session");
    // Checks of the session before are answered until one of the new session came.
    world.run(4500);
    let peer_paths = |world: &World| world.dropped("unknown_ufrag");
    assert_eq!(peer_paths(&world), 0);
    world.members[viewer].credentials = (restart.ufrag, restart.pwd);
    world.rebind(viewer, udp(9999));
    world.run(4500);
    let before = world.viewer(viewer).video.complete().len();
    world.run(1000);
    let after = world.viewer(viewer).video.complete().len();
    assert!(after > before + 50, "{before} to {after}");
    world.members[viewer].credentials = old;
    world.run(4500);
    assert!(peer_paths(&world) > 0, "the session before is over");
    assert_eq!(
        world.sfu.restart_ice(peer, "a=mid:0", now),
        Err(RestartError::NoCredentials)
    );
    let now = world.now;
    world.sfu.close(peer, sfu_core::CloseReason::Requested, now);
    assert_eq!(
        world.sfu.restart_ice(peer, &fragment("more"), now),
        Err(RestartError::UnknownPeer)
    );
}

/// A receiver report about nothing.
const EMPTY_REPORT: [u8; 8] = [0x80, 201, 0, 1, 0, 0, 0, 9];

fn closed(world: &World) -> usize {
    let closed = |event: &&Event| matches!(event, Event::Closed { .. });
    world.events.iter().filter(closed).count()
}

fn udp(port: u16) -> Path {
    SocketAddr::from(([203, 0, 113, 9], port)).into()
}

fn tcp(connection: u32) -> Path {
    Path {
        local: Local::Tcp(connection),
        ..udp(50_000)
    }
}
