//! An entry point for fuzzing a whole [`Sfu`]; see [`crate::fuzz`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Config, Join, Role, RoomConfig, Sfu};
use crate::{
    CloseReason, Outgoing, ParticipantId, PeerId, RoomId, ShardId, Ssrc, TapId, TapSource,
    TapVideo,
    transport::{
        IceCredentials, Protocol,
        fuzz::{EXTENSIONS, authentic, opened, split},
    },
};

/// A publisher, two viewers and a tap: one viewer reports on every packet, one does not and is at another SFU. Takes
/// what happens to them, each behind its length: packets as if they had been decrypted, and time that passes.
///
/// No viewer is sent two packets of one number of a picture's stream, and whatever is due is done once it was.
pub fn room(bytes: &[u8]) {
    let Some((&kind, bytes)) = bytes.split_first() else {
        return;
    };
    let mut scene = Scene::new(kind);
    for input in split(bytes).take(MOST_INPUTS) {
        let Some((&what, input)) = input.split_first() else {
            continue;
        };
        match what & 7 {
            0..=2 => scene.publish(what >> 3, input),
            3 => scene.report(PUBLISHER, what >> 3, input),
            4 => scene.report(usize::from(what >> 3 & 1), what >> 4, input),
            5 => scene.arrive(input),
            6 => scene.pass(input),
            _ => scene.command(what >> 3, input),
        }
        scene.send();
    }
}

struct Scene {
    now: Instant,
    /// The publisher's, and another one.
    sfus: [Sfu; 2],
    /// Two viewers, each at the SFU of the same place, and the publisher.
    peers: [Option<PeerId>; 3],
    tap: Option<TapId>,
    /// The numbers that each viewer was sent, by stream.
    numbers: BTreeMap<(SocketAddr, Ssrc), BTreeSet<u16>>,
    /// The video streams of each viewer, with those of repeats.
    videos: [Vec<Ssrc>; 2],
    /// The transport-wide number of the next packet that the first viewer reports on, and of the next it gets.
    arrived: (u16, u16),
    joined: u32,
}

impl Scene {
    fn new(kind: u8) -> Self {
        static START: OnceLock<Instant> = OnceLock::new();
        #[expect(clippy::disallowed_methods, reason = "there has to be a first instant")]
        let now = *START.get_or_init(Instant::now);
        let sfu = |shard| {
            let config = Config {
                advertise: vec![([192, 0, 2, 1], 7000).into()],
                advertise_tcp: Vec::new(),
                shard: ShardId(shard),
                max_peers: 8,
                history_packets: 512,
                connect_timeout: Duration::from_secs(10),
                unix_time: Duration::from_secs(1_700_000_000),
                seed: [7; 32],
            };
            Sfu::new(config, now)
        };
        let mut scene = Self {
            now,
            sfus: [sfu(0), sfu(1)],
            peers: [None; 3],
            tap: None,
            numbers: BTreeMap::new(),
            videos: [Vec::new(), Vec::new()],
            arrived: (0, 0),
            joined: 0,
        };
        scene.join(PUBLISHER, &published(kind));
        scene.join(0, &watched(true, kind));
        scene.join(1, &watched(false, kind));
        scene
    }

    /// A peer comes, in place of the one before.
    fn join(&mut self, who: usize, media: &str) {
        self.leave(who);
        self.joined += 1;
        let (at, now) = (who % PUBLISHER, self.now);
        let [.., last] = self.joined.to_be_bytes();
        let from = SocketAddr::from(([198, 51, 100, last], 1000));
        let Some(sfu) = self.sfus.get_mut(at) else {
            return;
        };
        let role = match who {
            PUBLISHER => Role::Publisher,
            _ => Role::Viewer,
        };
        let join = Join {
            room: ROOM,
            participant: ParticipantId(1 + who as u64),
            role,
            sees_own: false,
            config: RoomConfig::default(),
        };
        let Ok(answer) = sfu.negotiate(join, &format!("{SESSION}{media}"), now) else {
            panic!("the offer is refused: {media}");
        };
        let pwd = answer
            .sdp
            .lines()
            .find_map(|l| l.strip_prefix("a=ice-pwd:"));
        let credentials = IceCredentials {
            ufrag: answer.ice_ufrag.clone(),
            pwd: pwd.unwrap_or_default().to_owned(),
        };
        let mut check = authentic(&credentials, &USE_CANDIDATE);
        sfu.handle_datagram(from.into(), &mut check, now);
        if let Some(peer) = sfu.peers.get_mut(answer.peer) {
            peer.transport.connect();
        }
        sfu.handle_transport_events(answer.peer, now);
        if at == 1 {
            sfu.follow(ROOM, ShardId(0));
        }
        let (_, video) = answer.sdp.split_once("m=video").unwrap_or_default();
        let ssrcs = video.lines().filter_map(|line| {
            let (ssrc, _) = line.strip_prefix("a=ssrc:")?.split_once(' ')?;
            ssrc.parse().ok().map(Ssrc)
        });
        if let Some(videos) = self.videos.get_mut(who) {
            *videos = ssrcs.collect();
        }
        if who == 0 {
            self.arrived = (0, 0);
        }
        if let Some(peer) = self.peers.get_mut(who) {
            *peer = Some(answer.peer);
        }
    }

    fn leave(&mut self, who: usize) {
        let peer = self.peers.get_mut(who).and_then(Option::take);
        if let Some((peer, sfu)) = peer.zip(self.sfus.get_mut(who % PUBLISHER)) {
            sfu.close(peer, CloseReason::Left, self.now);
        }
    }

    /// The publisher sends a packet: which source, number, time, payload type and header extensions, then its payload.
    fn publish(&mut self, source: u8, input: &[u8]) {
        let Some((&[pt, s0, s1, t0, t1, len], rest)) = input.split_first_chunk() else {
            return;
        };
        let (extra, payload) = rest.split_at(usize::from(len & 63).min(rest.len()));
        let (ssrc, mid, name) = match source & 7 {
            0 => (10, b'0', None),
            layer @ 1..=3 => (20 + u32::from(layer), b'1', Some((2, layer))),
            layer @ 4..=6 => (30 + u32::from(layer), b'1', Some((3, layer - 3))),
            _ => (u32::from(s0 & 3), b'1', None),
        };
        let mut extensions = vec![0x10, mid];
        if let Some((id, layer)) = name {
            extensions.extend([id << 4, b'a' + layer]);
        }
        extensions.extend(extra);
        extensions.resize(extensions.len().next_multiple_of(4), 0);
        let words = u8::try_from(extensions.len() / 4).unwrap_or_default();
        let padding = if len & 64 == 0 { 0 } else { 0x20 };
        let mut packet = vec![0x90 | padding, pt, s0, s1, 0, t0, t1, 0];
        packet.extend(ssrc.to_be_bytes());
        packet.extend([0xbe, 0xde, 0, words]);
        packet.extend(extensions);
        packet.extend(payload);
        let ([home, _], [_, _, publisher]) = (&mut self.sfus, self.peers);
        if let Some((publisher, rtp)) = publisher.zip(opened(&packet)) {
            let _ = home.take_packet(publisher, packet.len() as u64, &rtp, self.now);
        }
    }

    /// A peer sends a compound packet, if it is to be about its own stream of this place.
    fn report(&mut self, who: usize, stream: u8, input: &[u8]) {
        let Some(peer) = self.peers.get(who).copied().flatten() else {
            return;
        };
        let mut compound = input.to_vec();
        let streams = self.videos.get(who);
        let own = streams.and_then(|streams| streams.get(usize::from(stream)));
        if let Some(ssrc) = own
            && let Some(place) = compound.get_mut(8..12)
        {
            place.copy_from_slice(&ssrc.0.to_be_bytes());
        }
        if let Some(sfu) = self.sfus.get_mut(who % PUBLISHER) {
            let _ = sfu.take_reports(peer, &compound.into(), self.now);
        }
    }

    /// The first viewer reports on the packets that it was sent: after how many quarters of a millisecond each came, a
    /// byte each, and 255 for never.
    fn arrive(&mut self, input: &[u8]) {
        let [Some(viewer), ..] = self.peers else {
            return;
        };
        let (base, next) = self.arrived;
        let left = usize::from(next.wrapping_sub(base));
        let told = input.get(..input.len().min(left)).unwrap_or_default();
        if told.is_empty() {
            return;
        }
        let count = u16::try_from(told.len()).unwrap_or_default();
        self.arrived.0 = base.wrapping_add(count);
        let [home, _] = &mut self.sfus;
        let [.., r0, r1, r2] = (home.clock.micros(self.now) / 64_000).to_be_bytes();
        let mut report = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        report.extend(base.to_be_bytes());
        report.extend(count.to_be_bytes());
        report.extend([r0, r1, r2, 0]);
        for seven in told.chunks(7) {
            let mut chunk = 0b11;
            for place in 0..7 {
                let came = seven.get(place).is_some_and(|after| *after < 255);
                chunk = chunk << 2 | u16::from(came);
            }
            report.extend(chunk.to_be_bytes());
        }
        report.extend(told.iter().filter(|after| **after < 255));
        report.resize(report.len().next_multiple_of(4), 0);
        let words = u16::try_from(report.len() / 4 - 1).unwrap_or_default();
        if let Some(place) = report.get_mut(2..4) {
            place.copy_from_slice(&words.to_be_bytes());
        }
        let _ = home.take_reports(viewer, &Bytes::from(report), self.now);
    }

    /// So many milliseconds pass, at most two bytes of them.
    fn pass(&mut self, input: &[u8]) {
        let millis = match *input {
            [] => 1,
            [millis] => u64::from(millis),
            [high, low, ..] => u64::from(u16::from_be_bytes([high & 0x1f, low])),
        };
        let until = self.now + Duration::from_millis(millis);
        let mut steps = 0;
        loop {
            let due = self.sfus.iter().filter_map(Sfu::poll_timeout).min();
            let Some(due) = due.filter(|due| *due <= until) else {
                break;
            };
            self.now = due.max(self.now);
            let now = self.now;
            self.sfus.iter_mut().for_each(|sfu| sfu.handle_timeout(now));
            self.send();
            steps += 1;
            assert!(steps < 10 * (millis + 10), "something is due for ever");
        }
        self.now = until;
    }

    fn command(&mut self, what: u8, input: &[u8]) {
        let now = self.now;
        let first = input.first().copied().unwrap_or_default();
        let who = usize::from(first) % self.peers.len();
        let [home, _] = &mut self.sfus;
        match what {
            0 => self.leave(who),
            1 if self.joined < 8 => {
                let media = match who {
                    PUBLISHER => published(first >> 2),
                    0 => watched(true, first >> 2),
                    _ => watched(false, first >> 2),
                };
                self.join(who, &media);
            }
            2 => {
                let highest = (first > 0).then_some(first & 3);
                let peers = self.peers.iter().flatten();
                peers.for_each(|peer| home.limit(*peer, highest, now));
            }
            3 => home.feature(ROOM, (first > 0).then_some(ParticipantId(3)), now),
            4 => match self.tap.take() {
                Some(tap) => home.remove_tap(tap),
                None => {
                    let source = match first & 1 {
                        0 => TapSource::Program,
                        _ => TapSource::Stage,
                    };
                    self.tap = Some(home.add_tap(ROOM, source, now));
                }
            },
            5 => {
                let Some(tap) = self.tap else {
                    return;
                };
                let video = match first & 3 {
                    0 => TapVideo::None,
                    1 => TapVideo::Best,
                    _ => TapVideo::Layers,
                };
                home.set_tap_video(tap, video, now);
                home.set_tap_layers(tap, [(0, usize::from(first >> 2))].into(), now);
            }
            6 => {
                if let Some(tap) = self.tap {
                    home.request_keyframe(tap, now);
                }
            }
            7 => home.relay_lost(ShardId(1)),
            _ => {
                for peer in self.peers.iter().flatten() {
                    let stats = self.sfus.iter().find_map(|sfu| sfu.peer_stats(*peer, now));
                    assert!(stats.is_some_and(|stats| stats.fraction_lost <= 1.0));
                }
            }
        }
    }

    /// Sends what is to be sent, to the other SFU and to viewers, and reads everything else.
    fn send(&mut self) {
        let now = self.now;
        for _ in 0..2 {
            let [home, other] = &mut self.sfus;
            while let Some((_, message)) = home.poll_relay() {
                other.handle_relay(ShardId(0), &message, now);
            }
            while let Some((_, message)) = other.poll_relay() {
                home.handle_relay(ShardId(1), &message, now);
            }
            for sfu in &mut self.sfus {
                let out = std::mem::take(sfu.flush(now));
                Self::look(&out, &self.videos, &mut self.numbers, &mut self.arrived.1);
                while sfu.poll_event().is_some() {}
                while sfu.poll_tap().is_some() {}
            }
        }
        let closed = |sfu: &Sfu, peer: PeerId| sfu.peers.get(peer).is_none();
        for (who, peer) in self.peers.iter_mut().enumerate() {
            let sfu = self.sfus.get(who % PUBLISHER);
            *peer = peer.filter(|peer| sfu.is_some_and(|sfu| !closed(sfu, *peer)));
        }
    }

    fn look(
        out: &Outgoing,
        videos: &[Vec<Ssrc>; 2],
        numbers: &mut BTreeMap<(SocketAddr, Ssrc), BTreeSet<u16>>,
        next: &mut u16,
    ) {
        for (to, datagram) in out.iter() {
            assert!(datagram.len() <= LARGEST, "{} bytes", datagram.len());
            if Protocol::of(datagram) != Some(Protocol::Rtp) {
                continue;
            }
            let mut header = datagram.to_vec();
            if let Some(first) = header.first_mut() {
                // How much of it is padding is encrypted.
                *first &= !0x20;
            }
            let Some(rtp) = opened(&header) else {
                panic!("sends what nobody can read");
            };
            if let Some(seq) = rtp.transport_seq {
                assert_eq!(seq, *next, "transport-wide numbers follow each other");
                *next = next.wrapping_add(1);
            }
            if videos.iter().flatten().any(|ssrc| *ssrc == rtp.ssrc) {
                let stream = numbers.entry((to.remote, rtp.ssrc)).or_default();
                assert!(stream.insert(rtp.seq), "sent twice: {}", rtp.seq);
            }
        }
    }
}

/// Returns a publisher's m-lines: one of four codecs, in one stream or three.
fn published(kind: u8) -> String {
    let layers = match kind & 4 {
        0 => "",
        _ => "a=rid:b send\r\na=rid:c send\r\na=rid:d send\r\na=simulcast:send b;c;d\r\n",
    };
    let codec = CODECS.get(usize::from(kind & 3)).copied();
    format!(
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\na=mid:0\r\na=sendonly\r\na=ssrc:10 cname:x\r\n{AUDIO}{EXTENSIONS}\
         m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:1\r\na=sendonly\r\na=rtpmap:96 {}\r\n\
         a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n{EXTENSIONS}{layers}",
        codec.unwrap_or_default(),
    )
}

/// Returns a viewer's m-lines: for the program, or for two of the slots. Who reports may not do so on each of them.
fn watched(reports: bool, kind: u8) -> String {
    let feedback = |bit: u8| match reports && kind & bit == 0 {
        true => "a=rtcp-fb:* transport-cc\r\n",
        false => "",
    };
    let video = |mid: &str, bit| {
        let codecs = (0..4).zip(CODECS).map(|(n, codec)| {
            let (pt, rtx) = (100 + 2 * n, 101 + 2 * n);
            format!(
                "a=rtpmap:{pt} {codec}\r\na=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={pt}\r\n"
            )
            .replace("a=fmtp:96", &format!("a=fmtp:{pt}"))
        });
        let codecs: String = codecs.collect();
        format!(
            "m=video 9 UDP/TLS/RTP/SAVPF 100 101 102 103 104 105 106 107\r\na=mid:{mid}\r\na=recvonly\r\n\
             {codecs}{}{EXTENSIONS}",
            feedback(bit)
        )
    };
    let more = match kind & 8 {
        0 => String::new(),
        _ => video("2", 64),
    };
    format!(
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\na=mid:0\r\na=recvonly\r\n{AUDIO}{}{EXTENSIONS}{}{more}",
        feedback(16),
        video("1", 32),
    )
}

const PUBLISHER: usize = 2;
const ROOM: RoomId = RoomId(1);

const CODECS: [&str; 4] = [
    "VP8/90000",
    "H264/90000\r\na=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    "VP9/90000",
    "AV1/90000",
];

const AUDIO: &str = "a=rtpmap:111 opus/48000/2\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n";

const SESSION: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:cafe\r\n\
    a=ice-pwd:0123456789012345678901\r\na=setup:active\r\na=fingerprint:sha-256 \
    00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n";

const USE_CANDIDATE: [u8; 4] = [0, 0x25, 0, 0];

/// No peer sends more than fits into a datagram that the sockets take.
const LARGEST: usize = 2048;

const MOST_INPUTS: usize = 400;
