//! Peers that passed ICE and mean harm. Each attack stopped or slowed a library; each has its bound.

use std::time::Duration;

use bytes::Bytes;
use sctp_proto::PayloadProtocolIdentifier;
use sfu_core::{
    Ssrc,
    transport::{PacketError, TransportEvent},
};

use crate::{
    pair::Pair,
    raw_sctp::{RawSctp, chunk, data, init},
    support::{client::CHROMIUM_ORDER, stopwatch::Stopwatch},
};

#[test]
fn a_flood_of_handshake_fragments_ends_the_handshake() {
    let fragment = |sequence: u16, length: u32, offset: u32, bytes: &[u8]| {
        let u24 = |n: u32| n.to_be_bytes()[1..].to_vec();
        let mut fragment = vec![1];
        fragment.extend(u24(length));
        fragment.extend(sequence.to_be_bytes());
        fragment.extend(u24(offset));
        fragment.extend(u24(u32::try_from(bytes.len()).unwrap()));
        fragment.extend(bytes);
        fragment
    };
    for (label, contents) in [
        ("empty, one per record", vec![fragment(0, 9, 0, b"")]),
        (
            "one byte each, many per record",
            (0..60).map(|at| fragment(0, 8000, at, b"x")).collect(),
        ),
        ("later messages", vec![fragment(9, 400, 0, &[7; 400])]),
        ("huge", vec![fragment(0, 1 << 23, 0, &[7; 1000])]),
    ] {
        let mut pair = Pair::new(CHROMIUM_ORDER);
        pair.check(1, true);
        start_handshake(&mut pair);
        let start = Stopwatch::start();
        for number in 0..3000_u32 {
            let _ = pair.send_to_server(&record(22, 0, number, &contents.concat()));
        }
        assert!(start.elapsed() < Duration::from_secs(2), "{label}");
        pair.memory.assert_within(80_000, 110_000, label);
        let events = pair.events();
        assert_eq!(events, [TransportEvent::HandshakeFailed], "{label}");
        // A repeated ClientHello is answered, within the budget.
        assert!(pair.out.len() < 100, "{label}: {}", pair.out.len());
    }
}

#[test]
fn early_encrypted_records_are_limited() {
    let start = Stopwatch::start();
    for kind in [20, 21, 22, 23] {
        let mut pair = Pair::new(CHROMIUM_ORDER);
        pair.check(1, true);
        start_handshake(&mut pair);
        let refused = (0..3000_u32)
            .filter(|&number| {
                let datagram = record(kind, 1, number, &[9; 200]);
                pair.send_to_server(&datagram) == Err(PacketError::OverBudget)
            })
            .count();
        assert!(refused > 2800, "{kind}: {refused}");
        pair.memory.assert_within(50_000, 50_000, "early records");
    }
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn nobody_without_keys_disturbs_a_connected_peer() {
    let start = Stopwatch::start();
    let mut pair = Pair::connected(CHROMIUM_ORDER);
    pair.events();
    pair.memory.begin();
    for number in 0..3000_u32 {
        for (kind, epoch, content) in [
            (21, 0, &[2, 40][..]),
            (21, 0, &[1, 0]),
            (21, 1, &[9; 40]),
            (20, 0, &[1]),
            (22, 0, &[1, 0, 0, 1, 0, 9, 0, 0, 0, 0, 0, 1, 7]),
            (22, 1, &[9; 40]),
            (23, 0, b"plain"),
            (23, 1, &[9; 40]),
            (99, 1, &[9; 40]),
        ] {
            let _ = pair.send_to_server(&record(kind, epoch, number, content));
        }
    }
    assert_eq!(pair.events(), []);
    assert!(pair.out.len() < 40, "{} answers", pair.out.len());
    pair.memory
        .assert_within(5_000, 20_000, "records without keys");
    pair.run(Duration::from_millis(50), |_| true);
    assert_media_flows(&mut pair);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn forged_sources_cost_nothing_and_keep_nobody_out() {
    let start = Stopwatch::start();
    let mut pair = Pair::connected(CHROMIUM_ORDER);
    pair.memory.begin();
    for ssrc in 0..100_000_u32 {
        let mut forged = vec![0x80, 96, 0, 1, 0, 0, 0, 1];
        forged.extend(ssrc.to_be_bytes());
        forged.extend([7; 40]);
        let opened = pair.memory.measure(|| {
            let opened = pair.server.open_rtp(&mut forged, |_| false);
            opened.map(|_| ())
        });
        assert_eq!(opened, Err(PacketError::Unauthentic));
        let mut forged = vec![0x80, 201, 0, 7];
        forged.extend(ssrc.to_be_bytes());
        forged.extend([7; 20]);
        forged.extend([0x80, 0, 0, 1]);
        let opened = pair.memory.measure(|| pair.server.open_rtcp(&forged));
        assert_eq!(opened, Err(PacketError::Unauthentic));
    }
    pair.memory.assert_within(0, 1_000, "forged sources");
    assert_media_flows(&mut pair);

    // Sources made up by a peer that has the keys.
    let mut taken = 0;
    for ssrc in 1..1000 {
        let mut sealed = pair.client.seal_rtp(&rtp(1, ssrc));
        let opened = pair
            .memory
            .measure(|| pair.server.open_rtp(&mut sealed, |_| false).is_ok());
        taken += usize::from(opened);
    }
    pair.memory
        .assert_within(20_000, 40_000, "invented sources");
    assert!(taken < 64, "{taken}");
    let mut sealed = pair.client.seal_rtp(&rtp(1, 5000));
    assert!(pair.server.open_rtp(&mut sealed, |_| true).is_ok());
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn forward_tsn_does_not_block() {
    // How far each is beyond the one before, and how many TSNs are given up by those that are in reach: what is sent
    // under these has come already, as far as the receiver knows.
    for (distance, given_up) in [
        (1, 50),
        (4000, 49 * 4000 + 1),
        (5000, 0),
        (0x7fff_ffff, 0),
        (0x8000_0000, 1),
        (u32::MAX, 0),
    ] {
        let mut raw = RawSctp::established();
        let mut other = chatting_beside(&raw.pair);
        let start = Stopwatch::start();
        for step in 1..50_u32 {
            let tsn = raw.tsn.wrapping_add(distance.wrapping_mul(step));
            raw.send(&[chunk(192, 0, &tsn.to_be_bytes())]);
        }
        assert!(start.elapsed() < Duration::from_millis(500), "{distance}");
        raw.pair.memory.assert_within(20_000, 30_000, "forward TSN");
        assert_chat_flows(&mut other);
        raw.tsn = raw.tsn.wrapping_add(given_up);
        raw.assert_channels_work();
    }
}

#[test]
fn broken_error_causes_are_refused() {
    let start = Stopwatch::start();
    for kind in [6, 9] {
        for cause in [
            &[0, 12, 0, 200][..],
            &[0, 12, 0, 3],
            &[0, 12, 0, 0],
            &[0, 12],
            &[0, 12, 0xff, 0xff, 1],
        ] {
            let mut raw = RawSctp::established();
            raw.send(&[chunk(kind, 0, cause)]);
            raw.pair.memory.assert_within(1_000, 2_000, "error causes");
            assert_eq!(raw.pair.events(), [], "{kind} {cause:?}");
            raw.assert_channels_work();
        }
    }
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn an_abort_is_a_goodbye() {
    for causes in [&[][..], &[0, 12, 0, 4]] {
        let mut raw = RawSctp::established();
        raw.send(&[chunk(6, 0, causes)]);
        assert_eq!(raw.pair.events(), [TransportEvent::Left], "{causes:?}");
    }
}

#[test]
fn streams_and_channels_are_limited() {
    let start = Stopwatch::start();
    let mut raw = RawSctp::established();
    for stream in 0..2000_u16 {
        raw.send_message(stream, 0, DCEP, &open(b"flood"));
        raw.pair.out.clear();
    }
    raw.run();
    raw.pair.memory.assert_within(300_000, 400_000, "streams");
    let opened = raw.pair.events();
    assert_eq!(opened.len(), 16);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn short_and_foreign_control_messages_are_ignored() {
    let start = Stopwatch::start();
    let whole = open(b"chat");
    let mut messages: Vec<Vec<u8>> = (1..whole.len()).map(|len| whole[..len].to_vec()).collect();
    messages.extend((0..=255).filter(|&kind| kind != 3).map(|kind| vec![kind]));
    let mut raw = RawSctp::established();
    for (stream, message) in (10..200).zip(&messages) {
        raw.send_message(stream, 0, DCEP, message);
        raw.pair.out.clear();
    }
    raw.pair
        .memory
        .assert_within(200_000, 250_000, "control messages");
    assert_eq!(raw.pair.events(), []);
    raw.assert_channels_work();
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn tiny_fragments_are_limited() {
    let start = Stopwatch::start();
    let heartbeat = chunk(4, 0, &[&[0, 1, 4, 0][..], &[7; 1020]].concat());
    // A message that never ends, and messages that are never their turn; alone, and with much that is not kept.
    for (flags, ballast) in [
        (0, vec![]),
        (3, vec![]),
        (0, vec![heartbeat.clone()]),
        (3, vec![heartbeat]),
    ] {
        let mut raw = RawSctp::established();
        raw.send_message(0, 0, DCEP, &open(b"chat"));
        for step in 0..20_000_u16 {
            let flags = if step == 0 && flags == 0 { 2 } else { flags };
            let sequence = if flags == 3 { 2 + step } else { 1 };
            let fragment = data(raw.tsn, flags, 0, sequence, TEXT, b"x");
            raw.send(&[vec![fragment], ballast.clone()].concat());
            raw.pair.out.clear();
            raw.tsn += 1;
        }
        raw.pair
            .memory
            .assert_within(1_000_000, 1_200_000, "tiny fragments");
    }
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_association_is_made_once() {
    let start = Stopwatch::start();
    let mut raw = RawSctp::established();
    for tag in 100..400 {
        raw.send(&[init(tag, 1)]);
        raw.send(&[init(7, 1000)]);
    }
    raw.pair.memory.assert_within(2_000, 4_000, "associations");
    assert_eq!(raw.pair.events(), []);
    raw.assert_channels_work();
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn mutated_packets_never_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..60 {
        let mut raw = RawSctp::established();
        for _ in 0..60 {
            let mut seeds = vec![
                data(raw.tsn, 3, 1, 0, TEXT, b"hello"),
                data(raw.tsn, 2, 1, 0, DCEP, &open(b"chat")),
                chunk(
                    3,
                    0,
                    &[0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 2, 0, 0, 0, 9],
                ),
                chunk(4, 0, &[0, 1, 0, 8, 1, 2, 3, 4]),
                chunk(6, 0, &[0, 12, 0, 4]),
                chunk(7, 0, &[0, 0, 0, 1]),
                chunk(9, 0, &[0, 6, 0, 4]),
                chunk(10, 0, &[1; 32]),
                chunk(
                    130,
                    0,
                    &[0, 13, 0, 18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 232, 0, 1],
                ),
                chunk(192, 0, &[raw.tsn.to_be_bytes(), [0, 1, 0, 1]].concat()),
                init(7, 1000),
            ];
            raw.tsn += random.below(2);
            let which = usize::try_from(random.below(11)).unwrap();
            let mut packet = seeds.swap_remove(which);
            for _ in 0..random.below(4) {
                let at = usize::try_from(random.below(u32::try_from(packet.len()).unwrap()));
                packet[at.unwrap()] = random.next().to_be_bytes()[0];
            }
            if random.below(8) == 0 {
                packet.truncate(packet.len() / 2);
            }
            raw.send(&[packet]);
        }
        raw.run();
    }
}

const DCEP: u32 = 50;
const TEXT: u32 = 51;

impl RawSctp {
    fn assert_channels_work(&mut self) {
        self.send_message(0, 0, DCEP, &open(b"still"));
        self.send_message(0, 1, TEXT, b"up");
        let label = "still".to_owned();
        let opened = TransportEvent::ChannelOpened {
            label: label.clone(),
        };
        assert_eq!(self.pair.events(), [opened, message(&label, b"up")]);
        self.pair.client.packets.clear();
        assert!(self.pair.send(&label, b"down"));
        self.run();
        let mut packets = self.pair.client.packets.iter();
        assert!(packets.any(|packet| packet.ends_with(b"down")));
    }
}

/// Returns somebody else at the server, with a channel.
fn chatting_beside(pair: &Pair) -> Pair {
    let mut other = pair.beside(CHROMIUM_ORDER);
    other.client.connect_sctp();
    other.run(Duration::from_millis(100), |_| true);
    other.client.open_channel(2, b"chat");
    other.run(Duration::from_millis(100), |_| true);
    other.events();
    other.client.messages.clear();
    other
}

/// Asserts that a message arrives each way.
fn assert_chat_flows(pair: &mut Pair) {
    const TEXT: PayloadProtocolIdentifier = PayloadProtocolIdentifier::String;
    pair.client.send(2, TEXT, b"up");
    assert!(pair.send("chat", b"down"));
    pair.run(Duration::from_millis(100), |_| true);
    assert_eq!(pair.events(), [message("chat", b"up")]);
    assert_eq!(pair.client.messages, [(2, TEXT, b"down".to_vec())]);
}

fn message(label: &str, payload: &'static [u8]) -> TransportEvent {
    TransportEvent::Message {
        label: label.to_owned(),
        payload: Bytes::from_static(payload),
    }
}

/// Lets the client's first message through, so that the library has an association.
fn start_handshake(pair: &mut Pair) {
    pair.client.connect(pair.now);
    for datagram in pair.client.poll(pair.now) {
        pair.send_to_server(&datagram).unwrap();
    }
}

fn assert_media_flows(pair: &mut Pair) {
    let mut sealed = pair.client.seal_rtp(&rtp(77, 0xfeed));
    let opened = pair.server.open_rtp(&mut sealed, |_| false).unwrap();
    assert_eq!((opened.ssrc, opened.payload), (Ssrc(0xfeed), &b"media"[..]));
}

fn record(kind: u8, epoch: u16, number: u32, content: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 254, 253];
    record.extend(epoch.to_be_bytes());
    record.extend([0, 0]);
    record.extend((number + 100).to_be_bytes());
    record.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
    record.extend(content);
    record
}

fn open(label: &[u8]) -> Vec<u8> {
    let mut open = vec![3, 0, 0, 0, 0, 0, 0, 0];
    open.extend(u16::try_from(label.len()).unwrap().to_be_bytes());
    open.extend([0, 0]);
    open.extend(label);
    open
}

fn rtp(seq: u16, ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 5]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend(b"media");
    packet
}

/// Xorshift, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from(self.0 >> 32).unwrap()
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit.max(1)
    }
}
