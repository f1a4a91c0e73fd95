//! A browser that watches: puts packets in order, asks for missing ones, and remembers everything.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rtc_rtcp::{
    packet,
    sender_report::SenderReport,
    transport_feedbacks::transport_layer_nack::{
        TransportLayerNack, nack_pairs_from_sequence_numbers,
    },
};
use sfu_core::Codec;

pub(crate) const BOTH: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 109\r\na=mid:0\r\na=recvonly\r\n\
    a=rtpmap:109 opus/48000/2\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 120 121 126 127\r\na=mid:1\r\na=recvonly\r\n\
    a=rtpmap:120 VP8/90000\r\na=rtpmap:121 rtx/90000\r\na=fmtp:121 apt=120\r\n\
    a=rtpmap:126 H264/90000\r\n\
    a=fmtp:126 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
    a=rtpmap:127 rtx/90000\r\na=fmtp:127 apt=126\r\n";

/// Returns the m-lines of a viewer of the whole stage.
pub(crate) fn stage(videos: usize, audios: usize) -> String {
    let (audio, video) = BOTH.split_at(BOTH.find("m=video").unwrap());
    let lines = |line: &str, kind: char, count| {
        let line = |n| line.replace("a=mid:0", &format!("a=mid:{kind}{n}"));
        (0..count).map(line).collect::<String>()
    };
    let video = video.replace("a=mid:1", "a=mid:0");
    lines(&video, 'v', videos) + &lines(audio, 'a', audios)
}

/// Without retransmission streams: packets come again as they were.
pub(crate) const WITHOUT_RTX: &str = "m=video 9 UDP/TLS/RTP/SAVPF 120 126\r\na=mid:1\r\n\
    a=recvonly\r\na=rtpmap:120 VP8/90000\r\na=rtpmap:126 H264/90000\r\n\
    a=fmtp:126 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n";

pub(crate) struct Viewer {
    pub(crate) video: Received,
    pub(crate) audio: Received,
    /// What comes on the m-lines behind the first of each kind.
    others: Vec<(bool, Received)>,
    pub(crate) retransmissions: u32,
}

#[derive(Default)]
pub(crate) struct Received {
    ssrc: u32,
    rtx_ssrc: u32,
    /// By extended sequence number; `None` for padding.
    pub(crate) numbers: BTreeMap<u64, Option<Packet>>,
    /// Sender reports: NTP time and RTP timestamp.
    pub(crate) reports: Vec<(u64, u32)>,
    missing: BTreeMap<u64, Instant>,
}

/// What a packet said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) codec: Codec,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) starts_keyframe: bool,
    pub(crate) picture: Option<u16>,
    /// Who sent it.
    pub(crate) publisher: u8,
    /// The number of the packet among all of its publisher.
    pub(crate) content: u32,
    pub(crate) captured_ms: u32,
}

impl Packet {
    /// Reads the marks that a [`super::publisher::Publisher`] leaves in a payload.
    pub(crate) fn read(codec: Codec, marker: bool, timestamp: u32, payload: &[u8]) -> Self {
        let (head, body) = payload.split_at(match codec {
            Codec::H264 => 2,
            Codec::Vp8 => 6,
            Codec::Vp9 | Codec::Av1 | Codec::Opus => 0,
        });
        let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        Self {
            codec,
            timestamp,
            marker,
            starts_keyframe: match codec {
                Codec::H264 => head[0] == 0x67,
                Codec::Vp8 => head[0] == 0x90 && head[5] == 0,
                Codec::Vp9 | Codec::Av1 => false,
                Codec::Opus => true,
            },
            picture: (codec == Codec::Vp8).then(|| u16::from_be_bytes([head[2] & 0x7f, head[3]])),
            publisher: body[0],
            content: number(1),
            captured_ms: number(5),
        }
    }
}

impl Viewer {
    pub(crate) fn new(answer: &str) -> Self {
        let received = |section: &str| {
            let lines = section.lines();
            let ssrcs: Vec<u32> = lines
                .filter_map(|line| line.strip_prefix("a=ssrc:")?.split(' ').next())
                .map(|ssrc| ssrc.parse().unwrap())
                .collect();
            Received {
                ssrc: ssrcs.first().copied().unwrap_or_default(),
                rtx_ssrc: ssrcs.last().copied().unwrap_or_default(),
                ..Received::default()
            }
        };
        let sections = |kind| {
            let sections = answer.split("m=").filter(move |s| s.starts_with(kind));
            sections.map(received)
        };
        let (mut videos, mut audios) = (sections("video"), sections("audio"));
        let (video, audio) = (videos.next(), audios.next());
        let audios = audios.map(|audio| (false, audio));
        Self {
            video: video.unwrap_or_default(),
            audio: audio.unwrap_or_default(),
            others: videos.map(|video| (true, video)).chain(audios).collect(),
            retransmissions: 0,
        }
    }

    /// Returns what came on the n-th m-line of video or audio.
    pub(crate) fn slot(&self, is_video: bool, slot: usize) -> &Received {
        let mut others = self.others.iter().filter(|(video, _)| *video == is_video);
        match (slot, is_video) {
            (0, true) => &self.video,
            (0, false) => &self.audio,
            (_, _) => others.nth(slot - 1).map(|(_, received)| received).unwrap(),
        }
    }

    fn all(&mut self) -> impl Iterator<Item = (bool, &mut Received)> {
        let firsts = [(true, &mut self.video), (false, &mut self.audio)];
        let others = self.others.iter_mut();
        firsts
            .into_iter()
            .chain(others.map(|(video, received)| (*video, received)))
    }

    pub(crate) fn handle_rtp(&mut self, packet: &[u8], now: Instant) {
        let number = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        let (marker, pt) = (packet[1] & 0x80 != 0, packet[1] & 0x7f);
        let mut seq = u16::from_be_bytes([packet[2], packet[3]]);
        let (timestamp, ssrc) = (number(4), number(8));
        let mut payload = &packet[12..];
        let codec = match pt {
            109 => Codec::Opus,
            120 | 121 => Codec::Vp8,
            126 | 127 => Codec::H264,
            _ => panic!("payload type {pt} was not negotiated"),
        };
        if matches!(pt, 121 | 127) {
            assert_eq!(ssrc, self.video.rtx_ssrc);
            self.retransmissions += 1;
            seq = u16::from_be_bytes([payload[0], payload[1]]);
            payload = &payload[2..];
        } else {
            let expected = if pt == 109 { &self.audio } else { &self.video };
            assert_eq!(ssrc, expected.ssrc);
        }
        let packet = (!payload.is_empty()).then(|| Packet::read(codec, marker, timestamp, payload));
        match codec {
            Codec::Opus => self.audio.keep(seq, packet, None),
            Codec::H264 | Codec::Vp8 | Codec::Vp9 | Codec::Av1 => {
                self.video.keep(seq, packet, Some(now))
            }
        }
    }

    pub(crate) fn handle_rtcp(&mut self, packet: &[u8], _now: Instant) {
        for report in packet::unmarshal(&mut Bytes::copy_from_slice(packet)).unwrap() {
            if let Some(report) = report.as_any().downcast_ref::<SenderReport>() {
                let mut streams = self.all();
                let (_, stream) = streams.find(|(_, s)| s.ssrc == report.ssrc).unwrap();
                stream.reports.push((report.ntp_time, report.rtp_time));
            }
        }
    }

    /// Returns RTCP packets to send.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut nacks: Vec<Box<dyn packet::Packet>> = Vec::new();
        for (_, stream) in self.all() {
            let mut seqs = Vec::new();
            for (seq, due) in &mut stream.missing {
                if *due <= now {
                    *due = now + Duration::from_millis(50);
                    seqs.push((seq & 0xffff) as u16);
                }
            }
            if !seqs.is_empty() {
                nacks.push(Box::new(TransportLayerNack {
                    sender_ssrc: 1,
                    media_ssrc: stream.ssrc,
                    nacks: nack_pairs_from_sequence_numbers(&seqs),
                }));
            }
        }
        let compounds = nacks.into_iter().map(|nack| packet::marshal(&[nack]));
        compounds.map(|packet| packet.unwrap().to_vec()).collect()
    }
}

impl Received {
    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    fn keep(&mut self, seq: u16, packet: Option<Packet>, ask: Option<Instant>) {
        let highest = self.numbers.last_key_value().map(|(seq, _)| *seq);
        let reference = highest.unwrap_or(1 << 32 | u64::from(seq));
        let delta = seq.wrapping_sub((reference & 0xffff) as u16).cast_signed();
        let number = reference.wrapping_add_signed(i64::from(delta));
        if let (Some(now), Some(highest)) = (ask, highest) {
            for missing in highest + 1..number {
                self.missing
                    .insert(missing, now + Duration::from_millis(15));
            }
        }
        self.missing.remove(&number);
        if let Some(before) = self.numbers.insert(number, packet) {
            assert_eq!(before, packet, "one number, two packets");
        }
    }

    /// Returns what arrived, in order.
    pub(crate) fn packets(&self) -> Vec<Packet> {
        self.numbers.values().flatten().copied().collect()
    }

    /// Asserts that nothing is missing or repeated, and returns the packets in order.
    pub(crate) fn complete(&self) -> Vec<Packet> {
        let (first, last) = (
            self.numbers.first_key_value(),
            self.numbers.last_key_value(),
        );
        let (first, last) = (*first.unwrap().0, *last.unwrap().0);
        let missing: Vec<_> = (first..=last)
            .filter(|seq| !self.numbers.contains_key(seq))
            .collect();
        assert_eq!(missing, [] as [u64; 0], "of {first}..={last}");
        self.packets()
    }

    /// Returns the wall-clock time of a timestamp in milliseconds, by the sender reports.
    pub(crate) fn wall_ms(&self, timestamp: u32, rate: f64) -> f64 {
        let (ntp, rtp) = self.reports.last().unwrap();
        let ntp_ms = (*ntp as f64) / 4_294_967.296;
        ntp_ms + f64::from(timestamp.wrapping_sub(*rtp).cast_signed()) * 1000.0 / rate
    }
}
