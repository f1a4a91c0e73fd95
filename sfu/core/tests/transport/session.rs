//! Sessions with an honest client, on good and bad networks.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use rtc_srtp::protection_profile::ProtectionProfile;
use sctp_proto::PayloadProtocolIdentifier;
use sfu_core::{
    Path, Pt, Ssrc,
    transport::{Carried, PacketError, SendHeader, TransportEvent},
};

use crate::{
    pair::{PWD, Pair, UFRAG, address, media},
    support::client::{CHROMIUM_ORDER, Client, SHA1_ONLY},
};

#[test]
fn media_flows_both_ways_with_each_profile() {
    for (profiles, expected) in [
        (CHROMIUM_ORDER, ProtectionProfile::AeadAes128Gcm),
        (SHA1_ONLY, ProtectionProfile::Aes128CmHmacSha1_80),
    ] {
        let mut pair = Pair::connected(profiles);
        assert_eq!(pair.client.profile() as u16, expected as u16);

        let plain = rtp(1000, 0xaa, b"from the client");
        let mut sealed = pair.client.seal_rtp(&plain);
        let mut again = sealed.clone();
        let opened = pair.server.open_rtp(&mut sealed, |_| false).unwrap();
        assert_eq!(opened.payload, b"from the client");
        assert_eq!(
            (opened.seq, opened.ssrc, opened.pt),
            (1000, Ssrc(0xaa), Pt(96))
        );
        assert_eq!(opened.mid, Some("v"));
        let replayed = pair.server.open_rtp(&mut again, |_| true);
        assert_eq!(replayed.unwrap_err(), PacketError::Unauthentic);

        for seq in [0xfffe, 0xffff, 0x1_0000, 0x1_0001] {
            let header = SendHeader {
                marker: seq == 0xffff,
                pt: Pt(97),
                seq,
                timestamp: 5,
                ssrc: Ssrc(0xbb),
                padding: 0,
            };
            let payload: [&[u8]; 2] = [b"to the ", b"client"];
            let len =
                pair.server
                    .seal_rtp(&header, None, &Carried::default(), payload, &mut pair.out);
            let (to, datagram) = pair.out.iter().next().unwrap();
            assert_eq!((to, datagram.len()), (address(1), len));
            let opened = pair.client.open_rtp(datagram);
            assert_eq!(&opened[12..], b"to the client");
            pair.out.clear();
        }

        let report = [0x80, 201, 0, 1, 0, 0, 0, 9];
        let sealed = pair.client.seal_rtcp(&report);
        assert_eq!(&pair.server.open_rtcp(&sealed).unwrap()[..], &report);
        assert_eq!(
            pair.server.open_rtcp(&sealed).unwrap_err(),
            PacketError::Unauthentic
        );
        pair.server.seal_rtcp(&report, &mut pair.out);
        let datagram = pair.out.iter().next().unwrap().1.to_vec();
        assert_eq!(pair.client.open_rtcp(&datagram), report);
    }
}

#[test]
fn handshake_survives_lost_datagrams() {
    for seed in 1..=20_u64 {
        let mut pair = Pair::new(CHROMIUM_ORDER);
        pair.check(1, true);
        pair.client.connect(pair.now);
        let mut random = seed;
        pair.run(Duration::from_secs(8), |_| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % 100 >= 20
        });
        let connected = pair.client.is_connected() && pair.server.is_connected();
        assert!(connected, "seed {seed}: {:?}", pair.server);
        assert_eq!(pair.events(), [TransportEvent::Connected], "seed {seed}");
    }
}

#[test]
fn another_certificate_fails_the_handshake() {
    let offer = Client::new(CHROMIUM_ORDER).offer(&media());
    let mut pair = Pair::with_offer(Client::new(CHROMIUM_ORDER), &offer);
    pair.check(1, true);
    pair.client.connect(pair.now);
    pair.run(Duration::from_secs(1), |_| true);
    assert_eq!(pair.events(), [TransportEvent::HandshakeFailed]);
    assert!(!pair.server.is_connected());
    let mut sealed = rtp(1, 1, b"x");
    let opened = pair.server.open_rtp(&mut sealed, |_| true);
    assert_eq!(opened.unwrap_err(), PacketError::NoKeys);
}

#[test]
fn channels_open_and_carry_messages() {
    let mut pair = Pair::connected(CHROMIUM_ORDER);
    pair.events();
    pair.client.connect_sctp();
    pair.run(Duration::from_secs(1), |_| true);
    pair.client.open_channel(2, b"chat");
    pair.run(Duration::from_secs(1), |_| true);
    let label = "chat".to_owned();
    assert_eq!(
        pair.events(),
        [TransportEvent::ChannelOpened {
            label: label.clone()
        }]
    );
    assert_eq!(
        pair.client.messages,
        [(2, PayloadProtocolIdentifier::Dcep, vec![2])]
    );

    let long = vec![b'x'; 60 * 1024];
    for (ppi, sent, expected) in [
        (
            PayloadProtocolIdentifier::String,
            &b"hello"[..],
            &b"hello"[..],
        ),
        (PayloadProtocolIdentifier::Binary, &long, &long),
        (PayloadProtocolIdentifier::StringEmpty, &[0], b""),
    ] {
        pair.client.send(2, ppi, sent);
        pair.run(Duration::from_secs(1), |_| true);
        let payload = Bytes::copy_from_slice(expected);
        let label = label.clone();
        assert_eq!(pair.events(), [TransportEvent::Message { label, payload }]);
    }

    pair.client.messages.clear();
    assert!(!pair.send("other", b"hello"));
    assert!(pair.send("chat", b"hello"));
    assert!(pair.send("chat", b""));
    pair.run(Duration::from_secs(1), |_| true);
    assert_eq!(
        pair.client.messages,
        [
            (2, PayloadProtocolIdentifier::String, b"hello".to_vec()),
            (2, PayloadProtocolIdentifier::StringEmpty, vec![0]),
        ]
    );
}

#[test]
fn goodbyes_are_told_both_ways() {
    let mut pair = Pair::connected(CHROMIUM_ORDER);
    pair.events();
    pair.client.close(pair.now);
    pair.run(Duration::from_millis(100), |_| true);
    assert_eq!(pair.events(), [TransportEvent::Left]);

    let mut pair = Pair::connected(CHROMIUM_ORDER);
    pair.server.close(pair.now, &mut pair.out);
    assert!(!pair.server.is_connected());
    pair.run(Duration::from_millis(100), |_| true);
    assert!(pair.client.is_closed);
}

#[test]
fn nominating_checks_move_the_address() {
    let mut pair = Pair::new(CHROMIUM_ORDER);
    assert!(pair.check(1, false));
    assert!(pair.check(2, false));
    assert_eq!(pair.server.paths(), [address(1), address(2)]);
    pair.client.connect(pair.now);
    pair.run(Duration::from_secs(1), |_| true);
    assert_eq!(pair.sent_to, [address(1)]);

    assert!(pair.check(2, true));
    pair.server
        .seal_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 9], &mut pair.out);
    pair.run(Duration::from_millis(10), |_| true);
    assert_eq!(pair.sent_to, [address(1), address(2)]);

    let controlled = pair.client.check_as_controlled(UFRAG, PWD);
    let handled = pair.server.handle_stun(
        &pair.shared,
        address(3),
        &controlled,
        pair.now,
        &mut pair.out,
    );
    assert_eq!(handled, Ok(()));
    assert!(!pair.server.paths().contains(&address(3)));

    for port in 10..40 {
        assert!(pair.check(port, false));
    }
    assert_eq!(pair.server.paths().len(), 8);
    assert!(pair.server.paths().contains(&address(2)));
}

#[test]
fn mapped_sources_are_answered_as_what_they_are() {
    let mut pair = Pair::new(CHROMIUM_ORDER);
    for (source, family, len) in [
        ("[::ffff:192.0.2.1]:5000", 1, 8),
        ("192.0.2.1:5000", 1, 8),
        ("[2001:db8::1]:5000", 2, 20),
    ] {
        let datagram = pair.client.check(UFRAG, PWD, true);
        let source = Path::from(source.parse::<SocketAddr>().unwrap());
        let now = pair.now;
        let handled = pair
            .server
            .handle_stun(&pair.shared, source, &datagram, now, &mut pair.out);
        assert_eq!(handled, Ok(()));
        let (to, answer) = pair.out.iter().next().unwrap();
        assert_eq!(to, source);
        // XOR-MAPPED-ADDRESS (RFC 8489 §14.2) is the first attribute.
        assert_eq!(answer[20..26], [0, 0x20, 0, len, 0, family], "{source:?}");
        pair.out.clear();
    }
}

#[test]
fn unauthentic_checks_get_no_answer() {
    let mut pair = Pair::new(CHROMIUM_ORDER);
    let wrong_password = pair.client.check(UFRAG, "wrong password 0123456789", true);
    let wrong_user = pair.client.check("nobody", PWD, true);
    let mut broken = pair.client.check(UFRAG, PWD, true);
    broken.pop();
    let mut without_integrity = vec![0, 1, 0, 12, 0x21, 0x12, 0xa4, 0x42];
    without_integrity.extend([9; 12]);
    without_integrity.extend([0, 6, 0, 8]);
    without_integrity.extend(b"core:abc");
    for (label, datagram, expected) in [
        ("password", wrong_password, PacketError::Unauthentic),
        ("user", wrong_user, PacketError::Unauthentic),
        ("length", broken, PacketError::Malformed),
        ("integrity", without_integrity, PacketError::Unauthentic),
    ] {
        let handled =
            pair.server
                .handle_stun(&pair.shared, address(1), &datagram, pair.now, &mut pair.out);
        assert_eq!(handled, Err(expected), "{label}");
        assert!(pair.out.is_empty(), "{label}");
    }
    assert!(pair.server.paths().is_empty());
}

fn rtp(seq: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x90, 96];
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 5]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xbe, 0xde, 0, 1, 0x40, b'v', 0, 0]);
    packet.extend(payload);
    packet
}
