//! A browser that publishes: frames, audio, retransmissions, reports; keyframes when asked.

mod stream;

use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc_rtcp::{
    extended_report::{
        DLRRReport, DLRRReportBlock, ExtendedReport, ReceiverReferenceTimeReportBlock,
    },
    packet,
    payload_feedbacks::picture_loss_indication::PictureLossIndication,
    receiver_report::ReceiverReport,
    sender_report::SenderReport,
    transport_feedbacks::{
        transport_layer_cc::TransportLayerCc, transport_layer_nack::TransportLayerNack,
    },
};
use sfu_core::Codec;

use super::{
    payload::{h264, vp8},
    svc::{Place, Svc},
};
use stream::{DESCRIPTOR_ID, LEVEL_ID, MID_ID, REPAIRED_RID_ID, RID_ID, Stream, TWCC_ID};

/// Time from capture to sending.
pub(crate) const VIDEO_DELAY: Duration = Duration::from_millis(40);
pub(crate) const AUDIO_DELAY: Duration = Duration::from_millis(10);

const IGNORES_REQUESTS_FOR: Duration = Duration::from_millis(300);

pub(crate) struct Publisher {
    /// Written into every packet.
    pub(crate) id: u8,
    /// Keyframe requests received.
    pub(crate) requests: u32,
    /// Whether it gets none of them.
    pub(crate) is_deaf: bool,
    /// Keyframes sent.
    pub(crate) keyframes: u32,
    /// Packets reported as arrived by transport-wide feedback.
    pub(crate) reported_arrived: usize,
    /// Packets covered by transport-wide feedback.
    pub(crate) reported: usize,
    /// Receiver reports that had blocks.
    pub(crate) receiver_reports: u32,
    /// The audio level that it sends with its audio, in -dBov; `None` sends none.
    pub(crate) level: Option<u8>,
    /// Whether video is sent.
    pub(crate) has_video: bool,
    /// Whether audio is sent.
    pub(crate) has_audio: bool,
    muted: bool,
    /// How layers within one stream hang together.
    svc: Option<Svc>,
    /// Whether dependency descriptors tell of them.
    has_descriptor: bool,
    /// How many times as large keyframes are as other frames.
    pub(crate) keyframe_size: u32,
    /// Whether padding is mixed into the video.
    pub(crate) padding: bool,
    codec: Codec,
    /// Lowest first.
    pub(crate) layers: Vec<Stream>,
    pub(crate) audio: Stream,
    transport_seq: u16,
    epoch: Option<Instant>,
    next_frame: Option<Instant>,
    next_audio: Option<Instant>,
    next_report: Option<Instant>,
    picture: u16,
    frames: u32,
    /// The last reference time: its sender, the middle of its NTP time, and when it came.
    reference: Option<(u32, u32, Instant)>,
}

impl Publisher {
    /// Header extensions that it may use, by id.
    pub(crate) const CARRIED: [(u8, &str); 2] = [
        (
            9,
            "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
        ),
        (
            10,
            "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
        ),
    ];

    pub(crate) fn new(id: u8, codec: Codec) -> Self {
        let ssrc = u32::from(id) * 100;
        let stream = |ssrc, pt, rate| Stream::new(ssrc, pt, rate, 0xffc0 + u16::from(id));
        Self {
            id,
            requests: 0,
            is_deaf: false,
            keyframes: 0,
            reported_arrived: 0,
            reported: 0,
            receiver_reports: 0,
            level: None,
            has_video: true,
            has_audio: true,
            muted: false,
            svc: None,
            has_descriptor: codec == Codec::Av1,
            keyframe_size: 4,
            padding: false,
            codec,
            layers: vec![stream(
                ssrc,
                match codec {
                    Codec::Vp8 => 96,
                    Codec::Vp9 => 98,
                    Codec::Av1 => 45,
                    _ => 102,
                },
                90_000,
            )],
            audio: stream(ssrc + 10, 111, 48_000),
            transport_seq: 65_000,
            epoch: None,
            next_frame: None,
            next_audio: None,
            next_report: None,
            picture: u16::from(id).wrapping_mul(5000) & 0x7fff,
            frames: 0,
            reference: None,
        }
    }

    /// Sends two layers, announced by rid only.
    pub(crate) fn simulcast(id: u8, codec: Codec) -> Self {
        let mut this = Self::new(id, codec);
        let mut high = Self::new(id, codec).layers.remove(0);
        high.ssrc += 20;
        high.base = 7;
        high.rid = Some('h');
        high.packets_per_frame *= 3;
        this.layers[0].rid = Some('q');
        this.layers.push(high);
        this
    }

    /// Sends VP9 or AV1 with layers within the stream; those of AV1 are told by dependency descriptors.
    pub(crate) fn svc(id: u8, codec: Codec, svc: Svc) -> Self {
        Self {
            svc: Some(svc),
            ..Self::new(id, codec)
        }
    }

    /// Sends dependency descriptors, too, where the payload tells of layers.
    pub(crate) fn with_descriptor(mut self) -> Self {
        self.has_descriptor = true;
        self
    }

    /// Sends VP8 as a browser does: the layers of [`Publisher::ladder`], each with three temporal ones.
    pub(crate) fn temporal_ladder(id: u8) -> Self {
        Self {
            svc: Some(Svc::L1T3),
            ..Self::ladder(id, Codec::Vp8)
        }
    }

    /// Changes how many spatial layers are sent, as a browser does: with a key picture.
    pub(crate) fn set_spatial_layers(&mut self, spatial: usize) {
        let svc = self.svc.as_mut().unwrap();
        let spatial = u32::try_from(spatial).unwrap();
        if svc.spatial != spatial {
            svc.spatial = spatial;
            self.layers[0].wants_keyframe = true;
        }
    }

    /// Sends one of the layers of [`Publisher::ladder`], the lowest being 0.
    pub(crate) fn rung(id: u8, codec: Codec, rung: usize) -> Self {
        let mut this = Self::ladder(id, codec);
        this.layers = vec![this.layers.remove(rung)];
        this
    }

    /// Sends three layers as a browser does: about 150, 500 and 2000 kbit/s.
    pub(crate) fn ladder(id: u8, codec: Codec) -> Self {
        Self::layered(id, codec, &[(1, 610), (2, 1030), (8, 1030)])
    }

    /// Sends layers, the lowest first, of so many packets a frame, each with a body of so many bytes.
    pub(crate) fn layered(id: u8, codec: Codec, layers: &[(u32, usize)]) -> Self {
        let mut this = Self::new(id, codec);
        let layer = |((n, rid), (packets, len)): ((u32, char), &(u32, usize))| {
            let mut layer = Self::new(id, codec).layers.remove(0);
            layer.ssrc += 20 * n;
            layer.rid = Some(rid);
            layer.packets_per_frame = *packets;
            layer.body_len = *len;
            layer
        };
        let rids = (0..).zip(['q', 'h', 'f']);
        this.layers = rids.zip(layers).map(layer).collect();
        this
    }

    /// Sends nothing any more.
    pub(crate) fn mute(&mut self) {
        self.muted = true;
    }

    /// Returns how many pictures were sent.
    pub(crate) fn frames(&self) -> u32 {
        self.frames
    }

    pub(crate) fn media(&self) -> String {
        let codec = match self.codec {
            Codec::Vp8 => {
                "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 VP8/90000\r\n\
                a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
            }
            Codec::Vp9 => {
                "m=video 9 UDP/TLS/RTP/SAVPF 98 99\r\na=rtpmap:98 VP9/90000\r\n\
                a=rtpmap:99 rtx/90000\r\na=fmtp:99 apt=98\r\n"
            }
            Codec::Av1 => {
                "m=video 9 UDP/TLS/RTP/SAVPF 45 46\r\na=rtpmap:45 AV1/90000\r\n\
                a=rtpmap:46 rtx/90000\r\na=fmtp:46 apt=45\r\n"
            }
            _ => {
                "m=video 9 UDP/TLS/RTP/SAVPF 102 103\r\na=rtpmap:102 H264/90000\r\n\
                a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
                a=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n"
            }
        };
        let streams = if self.layers.len() > 1 {
            let rids: Vec<_> = self.layers.iter().filter_map(|layer| layer.rid).collect();
            let lines = rids.iter().map(|rid| format!("a=rid:{rid} send\r\n"));
            let list: Vec<_> = rids.iter().map(char::to_string).collect();
            let lines: String = lines.collect();
            format!("{lines}a=simulcast:send {}\r\n", list.join(";"))
        } else {
            let ssrc = self.layers[0].ssrc;
            let rtx = ssrc + 1;
            format!(
                "a=ssrc-group:FID {ssrc} {rtx}\r\na=ssrc:{ssrc} cname:x\r\na=ssrc:{rtx} cname:x\r\n"
            )
        };
        let extensions = format!(
            "a=extmap:{TWCC_ID} {TWCC}\r\na=extmap:{MID_ID} {SDES}:mid\r\n\
             a=extmap:{RID_ID} {SDES}:rtp-stream-id\r\n\
             a=extmap:{REPAIRED_RID_ID} {SDES}:repaired-rtp-stream-id\r\n\
             a=extmap:{DESCRIPTOR_ID} {DESCRIPTOR}\r\na=rtcp-fb:* transport-cc\r\n"
        );
        let carried = Self::CARRIED.map(|(id, uri)| format!("a=extmap:{id} {uri}\r\n"));
        let extensions = extensions + &carried.concat();
        format!(
            "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\n\
             a=ssrc:{audio} cname:x\r\na=extmap:{LEVEL_ID} {LEVEL}\r\n{extensions}\
             {codec}a=mid:1\r\na=sendonly\r\n{extensions}{streams}",
            audio = self.audio.ssrc,
        )
    }

    /// Returns RTP and RTCP packets to send.
    pub(crate) fn tick(&mut self, now: Instant) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        let epoch = *self.epoch.get_or_insert(now);
        let (mut rtp, mut rtcp) = (Vec::new(), Vec::new());
        if self.muted {
            return (rtp, rtcp);
        }
        if *self.next_audio.get_or_insert(now) <= now {
            self.next_audio = Some(now + Duration::from_millis(20));
            if self.has_audio {
                let packet = self.audio_packet(now, epoch);
                rtp.push(packet);
            }
        }
        if *self.next_frame.get_or_insert(now) <= now {
            let number = self.frames + 1;
            self.next_frame = Some(epoch + Duration::from_micros(u64::from(number) * 33_333));
            self.frame(now, epoch, &mut rtp);
        }
        if *self
            .next_report
            .get_or_insert(now + Duration::from_millis(500))
            <= now
        {
            self.next_report = Some(now + Duration::from_secs(1));
            rtcp.extend(self.sender_reports(now, epoch));
        }
        for layer in &mut self.layers {
            for seq in std::mem::take(&mut layer.again) {
                self.transport_seq = self.transport_seq.wrapping_add(1);
                rtp.extend(layer.retransmission(seq, self.transport_seq));
            }
        }
        (rtp, rtcp)
    }

    pub(crate) fn handle_rtcp(&mut self, packet: &[u8], now: Instant) {
        for report in packet::unmarshal(&mut Bytes::copy_from_slice(packet)).unwrap() {
            let any = report.as_any();
            if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
                self.requests += 1;
                let is_deaf = self.is_deaf;
                let recently =
                    |at: Instant| now.saturating_duration_since(at) < IGNORES_REQUESTS_FOR;
                let layer = self.layer(pli.media_ssrc);
                layer.requests += 1;
                let heeds = !is_deaf && !layer.last_keyframe.is_some_and(recently);
                layer.wants_keyframe |= heeds;
            } else if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
                let seqs = nack.nacks.iter().flat_map(|pair| pair.packet_list());
                self.layer(nack.media_ssrc).again.extend(seqs);
            } else if let Some(feedback) = any.downcast_ref::<TransportLayerCc>() {
                self.reported += usize::from(feedback.packet_status_count);
                self.reported_arrived += feedback.recv_deltas.len();
            } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
                self.receiver_reports += u32::from(!report.reports.is_empty());
            } else if let Some(report) = any.downcast_ref::<ExtendedReport>() {
                let block = report.reports[0].as_any();
                let block = block.downcast_ref::<ReceiverReferenceTimeReportBlock>();
                let middle = (block.unwrap().ntp_timestamp >> 16) as u32;
                self.reference = Some((report.sender_ssrc, middle, now));
            }
        }
    }

    fn audio_packet(&mut self, now: Instant, epoch: Instant) -> Vec<u8> {
        let captured = now - AUDIO_DELAY;
        let ms = captured_ms(captured, epoch);
        let body = self
            .audio
            .body(self.audio.body_len, self.id, ms, true, Default::default());
        self.transport_seq = self.transport_seq.wrapping_add(1);
        let timestamp = self.audio.timestamp(captured, epoch);
        let mut packet = self
            .audio
            .packet(true, timestamp, self.transport_seq, &body);
        if let Some(level) = self.level {
            packet[19..21].copy_from_slice(&[LEVEL_ID << 4, level]);
        }
        packet
    }

    fn frame(&mut self, now: Instant, epoch: Instant, rtp: &mut Vec<Vec<u8>>) {
        let captured = now - VIDEO_DELAY;
        self.frames += 1;
        if !self.has_video {
            return;
        }
        self.picture = (self.picture + 1) & 0x7fff;
        for (position, layer) in self.layers.iter_mut().enumerate() {
            if !layer.enabled {
                continue;
            }
            let key = std::mem::take(&mut layer.wants_keyframe);
            if key {
                layer.last_keyframe = Some(now);
                layer.key_picture = self.frames;
                self.keyframes += 1;
            }
            let sizes = match &self.svc {
                Some(svc) if self.codec != Codec::Vp8 => &svc.sizes[..svc.spatial as usize],
                _ => &[(layer.packets_per_frame, layer.body_len)],
            };
            let timestamp = layer.timestamp(captured, epoch);
            if self.padding && self.frames.is_multiple_of(5) {
                self.transport_seq = self.transport_seq.wrapping_add(1);
                rtp.push(layer.padding(timestamp, self.transport_seq));
            }
            for (spatial, (count, len)) in (0..).zip(sizes) {
                let count = count * if key { self.keyframe_size } else { 1 };
                for n in 0..count {
                    let place = Place {
                        picture: self.frames,
                        since_key: self.frames - layer.key_picture,
                        spatial,
                        starts: n == 0,
                        ends: n + 1 == count,
                    };
                    let svc = self.svc.as_ref();
                    let mut payload = match (self.codec, svc) {
                        (Codec::Vp9, Some(svc)) => svc.vp9(place, self.picture),
                        (Codec::Av1, Some(svc)) => svc.av1(place),
                        (Codec::Vp8, Some(svc)) => svc.vp8(place, self.picture),
                        (Codec::Vp8, _) => vp8(self.picture, self.frames, n == 0, key),
                        _ => h264(n, key),
                    };
                    let id = self.id + 100 * position as u8;
                    let frames = svc.map(|svc| svc.frames(place, position as u32));
                    let frames = frames.unwrap_or_default();
                    let ms = captured_ms(captured, epoch);
                    payload.extend(layer.body(*len, id, ms, place.ends, frames));
                    self.transport_seq = self.transport_seq.wrapping_add(1);
                    let described = svc.filter(|_| self.has_descriptor);
                    layer.descriptor = described.map_or(Vec::new(), |svc| svc.descriptor(place));
                    let marker = place.ends && spatial as usize + 1 == sizes.len();
                    rtp.push(layer.packet(marker, timestamp, self.transport_seq, &payload));
                }
            }
        }
    }

    fn sender_reports(&self, now: Instant, epoch: Instant) -> Vec<Vec<u8>> {
        let since = now - epoch;
        // A clock that has nothing to do with the server's.
        let seconds = 1_000_000 * u64::from(self.id) + since.as_secs();
        let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        let answer = self.reference.map(|(ssrc, last_rr, at)| {
            let report = DLRRReport {
                ssrc,
                last_rr,
                dlrr: ((now - at).as_micros() * 65_536 / 1_000_000) as u32,
            };
            let block = DLRRReportBlock {
                reports: vec![report],
            };
            let report = ExtendedReport {
                sender_ssrc: self.audio.ssrc,
                reports: vec![Box::new(block)],
            };
            packet::marshal(&[Box::new(report)]).unwrap().to_vec()
        });
        let reports = self.layers.iter().chain([&self.audio]);
        reports
            .map(|stream| {
                let report = SenderReport {
                    ssrc: stream.ssrc,
                    ntp_time: seconds << 32 | fraction,
                    rtp_time: stream.timestamp(now, epoch),
                    ..SenderReport::default()
                };
                packet::marshal(&[Box::new(report)]).unwrap().to_vec()
            })
            .chain(answer)
            .collect()
    }

    fn layer(&mut self, ssrc: u32) -> &mut Stream {
        let mut layers = self.layers.iter_mut();
        layers.find(|layer| layer.ssrc == ssrc).unwrap()
    }
}

fn captured_ms(captured: Instant, epoch: Instant) -> u32 {
    (captured + Duration::from_secs(1) - epoch).as_millis() as u32
}

const DESCRIPTOR: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
const LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
const SDES: &str = "urn:ietf:params:rtp-hdrext:sdes";
const TWCC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
