//! What broken and hostile peers can do to a running broadcast: nothing but raise a counter.

use std::{net::SocketAddr, time::Duration};

use crate::world::{
    HERE, ROOM, World,
    link::{Conditions, Link},
    ms,
    publisher::Publisher,
    viewer::{BOTH, with_feedback},
};
use sfu_core::{Codec, Config, Join, NegotiateError, ParticipantId, Role, RoomConfig, Sfu};

#[test]
fn garbage_is_counted_and_the_broadcast_goes_on() {
    let mut world = World::remembering(64, 1);
    let publisher = world.publish(Publisher::new(1, Codec::H264));
    let viewer = world.watch(BOTH);
    world.run(2000);
    world.memory.begin();
    for round in 0..2000 {
        let len = (world.next_random() % 200) as usize;
        let mut datagram: Vec<u8> = (0..len).map(|_| world.next_random() as u8).collect();
        if let Some(first) = datagram.first_mut() {
            *first = [*first, 0x80, 0x90, 22, 23, 0][round % 6];
        }
        let from = [publisher, viewer][round % 2];
        world.send_raw(from, &datagram);
        let nowhere = SocketAddr::from(([203, 0, 113, 9], 9)).into();
        let mut stranger = datagram.clone();
        world.handle(HERE, nowhere, &mut stranger);
        if round % 20 == 0 {
            world.run(10);
        }
    }
    world.memory.assert_within(4_000, 8_000, "garbage");
    world.run(1500);
    let packets = world.viewer(viewer).video.complete();
    assert!(packets.windows(2).all(|p| p[1].content == p[0].content + 1));
    for reason in ["unknown_protocol", "unknown_source_address", "unauthentic"] {
        assert!(world.dropped(reason) > 0, "{reason}");
    }
}

#[test]
fn a_publisher_cannot_exhaust_the_server_with_sources() {
    let mut world = World::remembering(64, 1);
    let publisher = world.publish(Publisher::new(1, Codec::H264));
    let viewer = world.watch(BOTH);
    world.run(2000);
    world.memory.begin();
    for ssrc in 0..2000_u32 {
        let packet = rtp(102, 1, 50_000 + ssrc, &[0x65, 0, 0]);
        world.send_rtp(publisher, &packet);
    }
    world.memory.assert_within(30_000, 50_000, "sources");
    world.run(1000);
    let refused = world.dropped("unknown_source") + world.dropped("over_budget");
    assert!(refused >= 2000, "{:?}", world.sfu.stats().dropped);
    world.viewer(viewer).video.complete();
}

#[test]
fn a_stream_of_nothing_known_keeps_no_timer_busy() {
    let mut world = World::new(1);
    let publisher = world.publish(Publisher::new(1, Codec::H264));
    world.publisher(publisher).mute();
    world.run(500);
    world.memory.begin();
    for seq in 0..100 {
        world.send_rtp(publisher, &rtp(77, seq, 9, &[1, 2, 3]));
        world.run(10);
    }
    world.memory.assert_within(3_000, 5_000, "nothing known");
    assert!(world.dropped("unknown_source") >= 100);
    assert!(
        world.publisher(publisher).reported > 0,
        "feedback covers everything"
    );
}

#[test]
fn impossible_packets_are_refused() {
    let mut world = World::new(1);
    let publisher = world.publish(Publisher::new(1, Codec::Vp8));
    let viewer = world.watch(BOTH);
    world.run(1000);
    let ssrc = 100;
    let seq = world.publisher(publisher).layers[0].seq();
    let long = vec![0x10; 1600];
    let far = seq.wrapping_add(20_000);
    let cases: [(&str, Vec<u8>); 3] = [
        ("unknown_source", rtp(111, seq.wrapping_add(1), ssrc, &[1])),
        ("too_long", rtp(96, seq.wrapping_add(2), ssrc, &long)),
        ("stray_sequence", rtp(96, far, ssrc, &[0x10, 0, 0])),
    ];
    for (reason, packet) in cases {
        assert_eq!(world.dropped(reason), 0);
        world.send_rtp(publisher, &packet);
        assert_eq!(world.dropped(reason), 1, "{reason}");
    }
    // An RTCP header that promises more than there is.
    world.send_rtcp(publisher, &[0x81, 200, 0, 90, 0, 0, 0, 1]);
    assert_eq!(world.dropped("malformed_rtcp"), 1);
    // Feedback about streams that are not the sender's, or not there.
    world.send_rtcp(viewer, &[0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 99]);
    world.send_rtcp(publisher, &[0x81, 203, 0, 1, 0, 0, 0, 99]);
    world.run(500);
    assert!(world.is_live());
    world.viewer(viewer).video.complete();
}

#[test]
fn retransmission_is_bounded() {
    let mut world = World::remembering(256, 1);
    world.publish(Publisher::new(1, Codec::H264));
    let viewer = world.watch(BOTH);
    world.run(4000);
    let ssrc = world.viewer(viewer).video.ssrc();
    let newest = *world
        .viewer(viewer)
        .video
        .numbers
        .last_key_value()
        .unwrap()
        .0;
    let before = world.sfu.stats().retransmitted;
    world.memory.begin();
    for _ in 0..50 {
        for back in (0..300).step_by(17) {
            world.send_rtcp(viewer, &nack(ssrc, newest - back));
        }
        world.run(1);
    }
    world.memory.assert_within(20_000, 30_000, "retransmission");
    let sent = world.sfu.stats().retransmitted - before;
    assert!((200..=500).contains(&sent), "{sent} packets");
}

#[test]
fn who_asks_for_what_came_again_does_not_keep_the_rest_waiting() {
    let mut world = World::new(1);
    world.publish(Publisher::new(1, Codec::H264));
    let viewer = world.watch(&with_feedback());
    let narrow = Conditions::of_rate(900_000);
    world.links.insert(viewer, Link::new(narrow, 1));
    world.run(6000);
    let video = &world.viewer(viewer).video;
    let (ssrc, newest) = (video.ssrc(), *video.numbers.last_key_value().unwrap().0);
    let wanted = newest - 39..=newest;
    let before = video.came.len();
    // As players do that do not see retransmissions where they count packets.
    for _ in 0..10 {
        for first in wanted.clone().step_by(17) {
            world.send_rtcp(viewer, &nack(ssrc, first));
        }
        world.run(100);
    }
    let came = &world.viewer(viewer).video.came[before..];
    let never: Vec<_> = wanted
        .filter(|number| !came.iter().any(|(_, n)| n == number))
        .collect();
    assert!(never.is_empty(), "{never:?} never came again");
}

#[test]
fn what_is_too_old_to_be_of_use_is_not_sent_again() {
    let mut world = World::new(1);
    world.publish(Publisher::new(1, Codec::H264));
    let viewer = world.watch(&with_feedback());
    world.run(6000);
    for (age, is_repeated) in [(3900, true), (4100, false)] {
        let video = &world.viewer(viewer).video;
        let at = world.now - ms(age);
        let mut came = video.came.iter();
        let (_, number) = came.find(|(since, _)| *since >= at).unwrap();
        let (ssrc, number, before) = (video.ssrc(), *number, video.came.len());
        world.send_rtcp(viewer, &nack(ssrc, number));
        world.run(100);
        let came = &world.viewer(viewer).video.came[before..];
        let is_there = came.iter().any(|(_, n)| *n == number);
        assert_eq!(is_there, is_repeated, "{age} ms old");
    }
}

#[test]
fn unusable_offers_change_nothing() {
    let start = std::time::Instant::now();
    let config = Config {
        advertise: vec![([192, 0, 2, 1], 7000).into()],
        advertise_tcp: Vec::new(),
        shard: sfu_core::ShardId(0),
        max_peers: 1,
        history_packets: 256,
        connect_timeout: Duration::from_secs(10),
        unix_time: Duration::ZERO,
        seed: [1; 32],
    };
    let mut sfu = Sfu::new(config, start);
    let client = crate::support::client::Client::new(crate::support::client::CHROMIUM_ORDER);
    let join = |role| Join {
        room: ROOM,
        participant: ParticipantId(1),
        role,
        sees_own: false,
        config: RoomConfig::default(),
    };
    let h265 = "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=rtpmap:96 H265/90000\r\n";
    let offer = client.offer(h265);
    let refused = sfu.negotiate(join(Role::Viewer), &offer, start);
    assert!(matches!(refused, Err(NegotiateError::NoCommonMedia)));
    // A broadcast without its picture would be a surprise.
    let opus =
        "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:1\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\n";
    let offer = client.offer(&format!("{h265}{opus}"));
    let refused = sfu.negotiate(join(Role::Publisher), &offer, start);
    let video = sfu_core::MediaKind::Video;
    assert!(matches!(refused, Err(NegotiateError::NoCommonCodec(kind)) if kind == video));
    let refused = sfu.negotiate(join(Role::Viewer), "nonsense", start);
    assert!(matches!(refused, Err(NegotiateError::Sdp(_))));
    assert_eq!(sfu.poll_timeout(), None);
    assert_eq!(sfu.stats().rooms, 0);
    let offer = client.offer(BOTH);
    sfu.negotiate(join(Role::Viewer), &offer, start).unwrap();
    let refused = sfu.negotiate(join(Role::Viewer), &offer, start);
    assert!(matches!(refused, Err(NegotiateError::Full)));
}

fn rtp(pt: u8, seq: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x90, pt];
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 5]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xbe, 0xde, 0, 1, 0x31]);
    packet.extend(seq.to_be_bytes());
    packet.push(0);
    packet.extend(payload);
    packet
}

/// Asks for a packet and the sixteen behind it (RFC 4585 §6.2.1).
fn nack(ssrc: u32, first: u64) -> Vec<u8> {
    let mut nack = vec![0x81, 205, 0, 3, 0, 0, 0, 1];
    nack.extend(ssrc.to_be_bytes());
    nack.extend((first as u16).to_be_bytes());
    nack.extend([0xff, 0xff]);
    nack
}
