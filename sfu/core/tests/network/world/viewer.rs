//! A browser that watches: puts packets in order, asks for missing ones, and remembers everything.

mod feedback;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rtc_rtcp::{
    packet,
    payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
    receiver_report::ReceiverReport,
    reception_report::ReceptionReport,
    sender_report::SenderReport,
    transport_feedbacks::transport_layer_nack::{
        TransportLayerNack, nack_pairs_from_sequence_numbers,
    },
};
use sfu_core::Codec;

use feedback::Feedback;

pub(crate) const BOTH: &str = "m=audio 9 UDP/TLS/RTP/SAVPF 109\r\na=mid:0\r\na=recvonly\r\n\
    a=rtpmap:109 opus/48000/2\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 120 121 126 127\r\na=mid:1\r\na=recvonly\r\n\
    a=rtpmap:120 VP8/90000\r\na=rtpmap:121 rtx/90000\r\na=fmtp:121 apt=120\r\n\
    a=rtpmap:126 H264/90000\r\n\
    a=fmtp:126 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
    a=rtpmap:127 rtx/90000\r\na=fmtp:127 apt=126\r\n";

/// VP9 only.
pub(crate) const VP9: &str = "m=video 9 UDP/TLS/RTP/SAVPF 118 119\r\na=mid:1\r\na=recvonly\r\n\
    a=rtpmap:118 VP9/90000\r\na=rtpmap:119 rtx/90000\r\na=fmtp:119 apt=118\r\n";

/// AV1 only, without the dependency descriptor.
pub(crate) const AV1: &str = "m=video 9 UDP/TLS/RTP/SAVPF 116 117\r\na=mid:1\r\na=recvonly\r\n\
    a=rtpmap:116 AV1/90000\r\na=rtpmap:117 rtx/90000\r\na=fmtp:117 apt=116\r\n";

/// Adds the dependency descriptor to an m-line.
pub(crate) fn describing(media: &str) -> String {
    format!(
        "{media}a=extmap:{DESCRIPTOR_ID} \
         https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension\r\n"
    )
}

/// Like [`BOTH`], with transport-wide feedback.
pub(crate) fn with_feedback() -> String {
    offering_feedback(BOTH)
}

/// Adds transport-wide feedback to m-lines.
pub(crate) fn offering_feedback(media: &str) -> String {
    let sections = media.split("m=").skip(1).map(|section| {
        let pts = [109, 116, 118, 120, 126];
        let feedback = pts
            .iter()
            .filter(|pt| section.contains(&format!("a=rtpmap:{pt} ")))
            .map(|pt| format!("a=rtcp-fb:{pt} transport-cc\r\n"));
        let feedback: String = feedback.collect();
        format!("m={section}a=extmap:{TWCC_ID} {TWCC}\r\n{feedback}")
    });
    sections.collect()
}

/// Like [`with_feedback`], with audio that repeats itself.
pub(crate) fn with_red() -> String {
    let red = "a=rtpmap:110 red/48000/2\r\na=fmtp:110 109/109\r\n";
    let (audio, video) = with_feedback()
        .split_once("m=video")
        .map(|(audio, video)| {
            (
                audio.replace("SAVPF 109", "SAVPF 109 110"),
                video.to_owned(),
            )
        })
        .unwrap();
    format!("{audio}{red}m=video{video}")
}

const TWCC_ID: u8 = 5;
const DESCRIPTOR_ID: u8 = 9;
const TWCC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

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
    /// Audio that came again with the packet behind it, by sequence number.
    pub(crate) repeated_audio: BTreeMap<u16, Packet>,
    pub(crate) paddings: u32,
    /// Bytes of padding, decrypted.
    pub(crate) padding_bytes: usize,
    /// Bytes of all packets.
    pub(crate) bytes: u64,
    /// How many packets said what, by the id of the header extension.
    pub(crate) carried: BTreeMap<(u8, Vec<u8>), u32>,
    feedback: Feedback,
    /// Whether it does not see transport-wide numbers of sound, as where only the m-line of video has them.
    pub(crate) reports_video_only: bool,
    /// What it believes it can receive, if it says that.
    pub(crate) remb: Option<Remb>,
    next_report: Option<Instant>,
}

/// A receiver's own estimate, as browsers make it: less than what comes while packets are more and more late,
/// else up to half as much again.
#[derive(Debug, Default)]
pub(crate) struct Remb {
    bitrate: f64,
    due: Option<Instant>,
    bytes: u64,
    /// The least delay of audio so far, and since the last word, in milliseconds.
    least: Option<i64>,
    lately: Option<i64>,
}

impl Remb {
    pub(crate) fn new(bitrate: f64) -> Self {
        Self {
            bitrate,
            ..Self::default()
        }
    }

    /// Takes a packet's delay by a clock of no meaning.
    fn delayed(&mut self, delay: i64) {
        self.least = Some(self.least.map_or(delay, |least| least.min(delay)));
        self.lately = Some(self.lately.map_or(delay, |lately| lately.min(delay)));
    }

    /// Returns what to say every half second, when `bytes` have come in all.
    fn poll(&mut self, bytes: u64, now: Instant) -> Option<f32> {
        let interval = Duration::from_millis(500);
        if *self.due.get_or_insert(now + interval) > now {
            return None;
        }
        self.due = Some(now + interval);
        let incoming = (bytes - self.bytes) as f64 * 16.0;
        self.bytes = bytes;
        let late = self.lately.take()? - self.least?;
        self.bitrate = match late > 40 {
            true => incoming * 0.85,
            false => (self.bitrate * 1.08 + 1000.0).min(incoming * 1.5 + 10_000.0),
        };
        Some(self.bitrate as f32)
    }
}

#[derive(Default)]
pub(crate) struct Received {
    ssrc: u32,
    rtx_ssrc: u32,
    /// The sequence number of the first packet that was sent, whether it came or not.
    first_sent: Option<u16>,
    /// By extended sequence number; `None` for padding.
    pub(crate) numbers: BTreeMap<u64, Option<Packet>>,
    /// Sender reports: NTP time and RTP timestamp.
    pub(crate) reports: Vec<(u64, u32)>,
    /// In order of arrival.
    pub(crate) arrivals: Vec<(Instant, Packet)>,
    /// The same by extended sequence number, with padding.
    pub(crate) came: Vec<(Instant, u64)>,
    missing: BTreeMap<u64, Instant>,
    newest: Option<(Packet, Instant)>,
    /// Packets that came, but for what came again.
    count: u64,
    /// The highest number, and the count, of the last receiver report.
    reported: (u64, u64),
    /// The last sender report: the middle of its NTP time, and when it came.
    last_report: Option<(u32, Instant)>,
}

/// What a packet said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) codec: Codec,
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    pub(crate) starts_keyframe: bool,
    pub(crate) picture: Option<u16>,
    /// Spatial and temporal layer within the stream.
    pub(crate) layers: (u8, u8),
    /// Who sent it.
    pub(crate) publisher: u8,
    /// The number of the packet among all of its publisher.
    pub(crate) content: u32,
    pub(crate) captured_ms: u32,
    /// Whether a frame ends with it.
    pub(crate) ends: bool,
    /// The number of its frame within a stream that has layers, and those of the frames that it needs; 0 for none.
    pub(crate) frame: u32,
    pub(crate) needs: [u32; 2],
    /// The number of its frame by the dependency descriptor.
    pub(crate) described: Option<u16>,
}

impl Packet {
    /// Reads the marks that a [`super::publisher::Publisher`] leaves in a payload.
    pub(crate) fn read(codec: Codec, marker: bool, timestamp: u32, payload: &[u8]) -> Self {
        let (head, body) = payload.split_at(match codec {
            Codec::H264 | Codec::Av1 => 2,
            Codec::Vp8 if payload[1] & 0x20 != 0 => 7,
            Codec::Vp8 => 6,
            Codec::Vp9 => 5,
            Codec::Opus => 0,
        });
        let number = |at: usize| u32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        Self {
            codec,
            timestamp,
            marker,
            starts_keyframe: match codec {
                Codec::H264 => head[0] == 0x67,
                Codec::Vp8 => head[0] == 0x90 && head[head.len() - 1] == 0,
                Codec::Vp9 => head[0] & 0x48 == 0x08 && head[3] & 0x0e == 0,
                Codec::Av1 => head[0] & 0x08 != 0,
                Codec::Opus => true,
            },
            picture: match codec {
                Codec::Vp8 => Some(u16::from_be_bytes([head[2] & 0x7f, head[3]])),
                Codec::Vp9 => Some(u16::from_be_bytes([head[1] & 0x7f, head[2]])),
                Codec::H264 | Codec::Av1 | Codec::Opus => None,
            },
            layers: match codec {
                Codec::Vp8 if head.len() == 7 => (0, head[5] >> 6),
                Codec::Vp9 => (head[3] >> 1 & 7, head[3] >> 5),
                Codec::Av1 => (head[1] & 15, head[1] >> 4),
                _ => (0, 0),
            },
            publisher: body[0],
            content: number(1),
            captured_ms: number(5),
            ends: body[9] != 0,
            frame: number(10),
            needs: [number(14), number(18)],
            described: None,
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
            repeated_audio: BTreeMap::new(),
            paddings: 0,
            padding_bytes: 0,
            bytes: 0,
            carried: BTreeMap::new(),
            feedback: Feedback::default(),
            reports_video_only: false,
            remb: None,
            next_report: None,
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

    /// Notes a packet that is sent to it. Who loses the first of a stream could not tell, and a browser would ask for
    /// a keyframe; this one asks for the packet, so that every stream is seen from its beginning.
    pub(crate) fn note_sent(&mut self, packet: &[u8]) {
        let seq = u16::from_be_bytes([packet[2], packet[3]]);
        let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        if let Some((_, stream)) = self.all().find(|(_, stream)| stream.ssrc == ssrc) {
            stream.first_sent.get_or_insert(seq);
        }
    }

    pub(crate) fn handle_rtp(&mut self, packet: &[u8], now: Instant) {
        let number = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        let (marker, pt) = (packet[1] & 0x80 != 0, packet[1] & 0x7f);
        let mut seq = u16::from_be_bytes([packet[2], packet[3]]);
        let (timestamp, ssrc) = (number(4), number(8));
        self.bytes += packet.len() as u64;
        let (mut payload, mut described) = (&packet[12..], None);
        if packet[0] & 0x10 != 0 {
            let len = usize::from(u16::from_be_bytes([payload[2], payload[3]])) * 4;
            let is_long = payload[0] == 0x10;
            let (mut elements, behind) = payload[4..].split_at(len);
            while let Some(first) = elements.first().copied() {
                let (id, head, len) = match is_long {
                    true if first != 0 => (first, 2, usize::from(elements[1])),
                    false if first != 0 => (first >> 4, 1, usize::from(first & 15) + 1),
                    _ => (0, 1, 0),
                };
                if id == TWCC_ID && self.reports_video_only && matches!(pt, 109 | 110) {
                    // Nothing was said of it for this m-line.
                } else if id == TWCC_ID {
                    let seq = u16::from_be_bytes([elements[head], elements[head + 1]]);
                    self.feedback.arrived(seq, now);
                } else if id != 0 {
                    let value = elements[head..head + len].to_vec();
                    if id == DESCRIPTOR_ID {
                        described = Some(u16::from_be_bytes([value[1], value[2]]));
                    }
                    *self.carried.entry((id, value)).or_default() += 1;
                }
                elements = &elements[head + len..];
            }
            payload = behind;
        }
        if packet[0] & 0x20 != 0 {
            let is_rtx = self.all().any(|(_, stream)| stream.rtx_ssrc == ssrc);
            assert!(is_rtx, "padding has a stream of its own");
            assert_eq!(payload.len(), usize::from(*payload.last().unwrap()));
            self.paddings += 1;
            self.padding_bytes += packet.len();
            return;
        }
        let codec = match pt {
            109 | 110 => Codec::Opus,
            120 | 121 => Codec::Vp8,
            118 | 119 => Codec::Vp9,
            116 | 117 => Codec::Av1,
            126 | 127 => Codec::H264,
            _ => panic!("payload type {pt} was not negotiated"),
        };
        if pt == 110 && payload[0] & 0x80 != 0 {
            let len = usize::from(u16::from_be_bytes([payload[2] & 3, payload[3]]));
            let (old, new) = payload[5..].split_at(len);
            let before = timestamp.wrapping_sub(960);
            let old = Packet::read(Codec::Opus, true, before, old);
            self.repeated_audio.insert(seq.wrapping_sub(1), old);
            payload = new;
        }
        let is_repeat = matches!(pt, 117 | 119 | 121 | 127);
        if is_repeat {
            self.retransmissions += 1;
            seq = u16::from_be_bytes([payload[0], payload[1]]);
            payload = &payload[2..];
        }
        let packet = (!payload.is_empty()).then(|| Packet {
            described,
            ..Packet::read(codec, marker, timestamp, payload)
        });
        if let (Some(remb), Some(packet), Codec::Opus) = (&mut self.remb, &packet, codec) {
            let epoch = *self.feedback.epoch.get_or_insert(now);
            remb.delayed((now - epoch).as_millis() as i64 - i64::from(packet.captured_ms));
        }
        let is_it = |stream: &Received| match is_repeat {
            true => stream.rtx_ssrc == ssrc,
            false => stream.ssrc == ssrc,
        };
        let (is_video, stream) = self.all().find(|(_, stream)| is_it(stream)).unwrap();
        assert_eq!(is_video, codec != Codec::Opus);
        stream.count += u64::from(!is_repeat);
        if let Some(packet) = packet {
            stream.arrivals.push((now, packet));
            stream.newest = Some((packet, now));
        }
        let number = stream.keep(seq, packet, is_video.then_some(now));
        stream.came.push((now, number));
    }

    pub(crate) fn handle_rtcp(&mut self, packet: &[u8], now: Instant) {
        for report in packet::unmarshal(&mut Bytes::copy_from_slice(packet)).unwrap() {
            if let Some(report) = report.as_any().downcast_ref::<SenderReport>() {
                let mut streams = self.all();
                let (_, stream) = streams.find(|(_, s)| s.ssrc == report.ssrc).unwrap();
                stream.reports.push((report.ntp_time, report.rtp_time));
                stream.last_report = Some(((report.ntp_time >> 16) as u32, now));
            }
        }
    }

    /// Returns RTCP packets to send.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut packets: Vec<_> = self.feedback.poll(now).into_iter().collect();
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
        let second = Duration::from_secs(1);
        if *self.next_report.get_or_insert(now + second) <= now {
            self.next_report = Some(now + second);
            let reports = self.all().filter_map(|(_, stream)| stream.report(now));
            let reports = reports.collect();
            nacks.push(Box::new(ReceiverReport {
                ssrc: 1,
                reports,
                ..ReceiverReport::default()
            }));
        }
        if let Some(bitrate) = self
            .remb
            .as_mut()
            .and_then(|remb| remb.poll(self.bytes, now))
        {
            nacks.push(Box::new(ReceiverEstimatedMaximumBitrate {
                sender_ssrc: 1,
                bitrate,
                ssrcs: vec![self.video.ssrc],
            }));
        }
        let compounds = nacks.into_iter().map(|nack| packet::marshal(&[nack]));
        packets.extend(compounds.map(|packet| packet.unwrap().to_vec()));
        packets
    }
}

impl Received {
    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Returns its extended sequence number.
    fn keep(&mut self, seq: u16, packet: Option<Packet>, ask: Option<Instant>) -> u64 {
        let highest = self.numbers.last_key_value().map(|(seq, _)| *seq);
        let reference = highest.unwrap_or(1 << 32 | u64::from(seq));
        let delta = seq.wrapping_sub((reference & 0xffff) as u16).cast_signed();
        let number = reference.wrapping_add_signed(i64::from(delta));
        if let Some(now) = ask {
            let before = seq.wrapping_sub(self.first_sent.unwrap_or(seq));
            let next = highest.map_or(number - u64::from(before), |highest| highest + 1);
            for missing in next..number {
                self.missing
                    .insert(missing, now + Duration::from_millis(15));
            }
        }
        self.missing.remove(&number);
        if let Some(before) = self.numbers.insert(number, packet) {
            assert_eq!(before, packet, "one number, two packets");
        }
        number
    }

    /// Returns a block of a receiver report, once something came.
    fn report(&mut self, now: Instant) -> Option<ReceptionReport> {
        let (highest, _) = self.numbers.last_key_value()?;
        let (before, count) = self.reported;
        let expected = highest.saturating_sub(before);
        let lost = expected.saturating_sub(self.count - count);
        let fraction = (lost * 256).checked_div(expected).unwrap_or_default();
        let is_first = before == 0;
        self.reported = (*highest, self.count);
        let (last_sender_report, delay) = self.last_report.map_or((0, 0), |(ntp, at)| {
            let units = (now - at).as_micros() * 65_536 / 1_000_000;
            (ntp, units as u32)
        });
        Some(ReceptionReport {
            ssrc: self.ssrc,
            fraction_lost: if is_first { 0 } else { fraction.min(255) as u8 },
            last_sequence_number: (*highest & 0xffff_ffff) as u32,
            last_sender_report,
            delay,
            ..ReceptionReport::default()
        })
    }

    /// Returns the packet that came last, and when.
    pub(crate) fn newest(&self) -> Option<(Packet, Instant)> {
        self.newest
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
        assert_eq!(Some((first & 0xffff) as u16), self.first_sent);
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
