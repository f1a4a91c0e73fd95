//! Writes the server's answer: ICE-lite, DTLS passive, everything bundled.

use std::fmt::Write;

use aws_lc_rs::digest;

use super::{
    CodecOffer, ExtensionIds, IceCredentials, MediaLine, Offer, Shared, sdp::TRANSPORT_CC,
};
use crate::{Codec, Ssrc};

/// A stream the server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendStream {
    /// Its SSRC.
    pub ssrc: Ssrc,
    /// The SSRC of its retransmissions.
    pub rtx_ssrc: Ssrc,
    /// Whether the viewer reports on each of its packets: browsers may do so for video only.
    pub is_reported: bool,
}

/// The server's answer to one m-line.
#[derive(Clone, Debug)]
pub enum AnswerLine {
    /// Not wanted (port 0).
    Reject,
    /// A data channel (RFC 8832, 8841).
    DataChannel,
    /// The server receives this codec. All rids of the offer are received.
    Receive {
        /// The chosen codec.
        codec: CodecOffer,
    },
    /// The server sends; several codecs, best first, because the publisher's is not known in advance.
    Send {
        /// The accepted codecs.
        codecs: Vec<CodecOffer>,
        /// The stream.
        stream: SendStream,
        /// `a=msid` stream id and track id.
        msid: (String, String),
    },
}

/// Writes the answer; `lines` has one entry per m-line of the offer. ICE-lite, DTLS passive, BUNDLE, rtcp-mux.
pub fn write_answer(
    shared: &Shared,
    offer: &Offer,
    lines: &[AnswerLine],
    credentials: &IceCredentials,
) -> String {
    let pairs = || offer.media.iter().zip(lines);
    let mids: Vec<&str> = pairs()
        .filter(|(_, line)| !matches!(line, AnswerLine::Reject))
        .map(|(media, _)| media.mid.0.as_str())
        .collect();
    let mut sdp = Sdp::default();
    sdp.line(format_args!("v=0"));
    sdp.line(format_args!(
        "o=- {} 1 IN IP4 127.0.0.1",
        session_id(credentials)
    ));
    sdp.line(format_args!("s=-"));
    sdp.line(format_args!("t=0 0"));
    sdp.line(format_args!("a=ice-lite"));
    sdp.line(format_args!("a=ice-options:trickle"));
    if !mids.is_empty() {
        sdp.line(format_args!("a=group:BUNDLE {}", mids.join(" ")));
    }
    if offer.mixed_extensions {
        sdp.line(format_args!("a=extmap-allow-mixed"));
    }
    sdp.line(format_args!("a=msid-semantic: WMS *"));
    for (media, line) in pairs() {
        sdp.media(media, line);
        if !matches!(line, AnswerLine::Reject) {
            sdp.transport(shared, credentials);
        }
    }
    sdp.text
}

/// The session id of RFC 8866 §5.2: random, because the credentials are.
fn session_id(credentials: &IceCredentials) -> u64 {
    let hash = digest::digest(&digest::SHA256, credentials.ufrag.as_bytes());
    let bytes = hash.as_ref().first_chunk::<8>().copied();
    u64::from_be_bytes(bytes.unwrap_or_default()) >> 2
}

/// The text being written.
#[derive(Default)]
struct Sdp {
    text: String,
}

impl Sdp {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.text.write_fmt(line);
        self.text.push_str("\r\n");
    }

    fn media(&mut self, media: &MediaLine, line: &AnswerLine) {
        let (kind, proto, formats) = &media.head;
        let (port, formats) = match line {
            AnswerLine::Reject => (0, formats.clone()),
            AnswerLine::DataChannel => (9, "webrtc-datachannel".to_owned()),
            AnswerLine::Receive { codec } => (9, format_list(std::slice::from_ref(codec))),
            AnswerLine::Send { codecs, .. } => (9, format_list(codecs)),
        };
        self.line(format_args!("m={kind} {port} {proto} {formats}"));
        self.line(format_args!("c=IN IP4 0.0.0.0"));
        self.line(format_args!("a=mid:{}", media.mid.0));
        match line {
            AnswerLine::Reject => self.line(format_args!("a=inactive")),
            AnswerLine::DataChannel => {
                self.line(format_args!("a=sctp-port:5000"));
                self.line(format_args!("a=max-message-size:{MAX_MESSAGE_LEN}"));
            }
            AnswerLine::Receive { codec } => self.receive(media, codec),
            AnswerLine::Send {
                codecs,
                stream,
                msid,
            } => self.send(media, codecs, stream, msid),
        }
    }

    fn receive(&mut self, media: &MediaLine, codec: &CodecOffer) {
        self.rtp(if media.sends { "recvonly" } else { "inactive" });
        let fmtp = match codec.codec.codec {
            Codec::Opus => OPUS_RECEIVE,
            Codec::H264 | Codec::Vp8 | Codec::Vp9 | Codec::Av1 => &codec.fmtp,
        };
        self.codec(codec, fmtp, RECEIVE_FEEDBACK);
        self.extensions(media.extensions.of_received(codec.codec.codec));
        let restrictions = media.rid_restrictions.iter().map(String::as_str);
        for (rid, restriction) in media.rids.iter().zip(restrictions.chain([""; 4])) {
            let separator = if restriction.is_empty() { "" } else { " " };
            self.line(format_args!("a=rid:{rid} recv{separator}{restriction}"));
        }
        if !media.rids.is_empty() {
            self.line(format_args!("a=simulcast:recv {}", media.rids.join(";")));
        }
    }

    fn send(
        &mut self,
        media: &MediaLine,
        codecs: &[CodecOffer],
        stream: &SendStream,
        (id, track): &(String, String),
    ) {
        self.rtp(if media.receives {
            "sendonly"
        } else {
            "inactive"
        });
        let extensions = media.extensions.of_sent();
        for codec in codecs {
            // What the viewer receives is estimated here by one of the two, the better one first.
            let offers = |feedback: &&str| codec.feedback.iter().any(|offered| offered == feedback);
            let is_transport_wide = extensions.transport_cc != 0 && offers(&TRANSPORT_CC);
            let estimate = if is_transport_wide {
                TRANSPORT_CC
            } else {
                REMB
            };
            let mut wanted = vec![estimate];
            wanted.extend(SEND_FEEDBACK);
            self.codec(codec, &codec.fmtp, &wanted);
        }
        self.extensions(extensions);
        self.line(format_args!("a=msid:{id} {track}"));
        let has_rtx = codecs.iter().any(|codec| codec.codec.rtx.is_some());
        let (primary, rtx) = (stream.ssrc, stream.rtx_ssrc);
        if has_rtx {
            self.line(format_args!("a=ssrc-group:FID {primary} {rtx}"));
        }
        for ssrc in [Some(primary), has_rtx.then_some(rtx)]
            .into_iter()
            .flatten()
        {
            self.line(format_args!("a=ssrc:{ssrc} cname:{CNAME}"));
            self.line(format_args!("a=ssrc:{ssrc} msid:{id} {track}"));
        }
    }

    fn rtp(&mut self, direction: &str) {
        self.line(format_args!("a={direction}"));
        self.line(format_args!("a=rtcp-mux"));
        self.line(format_args!("a=rtcp-rsize"));
    }

    fn extensions(&mut self, mut ids: ExtensionIds) {
        for (uri, id) in ids.uris() {
            if *id != 0 {
                self.line(format_args!("a=extmap:{id} {uri}"));
            }
        }
    }

    fn codec(&mut self, codec: &CodecOffer, fmtp: &str, wanted: &[&str]) {
        let pt = codec.codec.pt;
        self.line(format_args!("a=rtpmap:{pt} {}", codec.rtpmap));
        if !fmtp.is_empty() {
            self.line(format_args!("a=fmtp:{pt} {fmtp}"));
        }
        for feedback in wanted {
            if codec.feedback.iter().any(|offered| offered == feedback) {
                self.line(format_args!("a=rtcp-fb:{pt} {feedback}"));
            }
        }
        if let Some(rtx) = codec.codec.rtx {
            let clock_rate = codec.codec.codec.clock_rate();
            self.line(format_args!("a=rtpmap:{rtx} rtx/{clock_rate}"));
            self.line(format_args!("a=fmtp:{rtx} apt={pt}"));
        }
        if let Some(red) = codec.codec.red {
            self.line(format_args!("a=rtpmap:{red} red/48000/2"));
            self.line(format_args!("a=fmtp:{red} {pt}/{pt}"));
        }
    }

    /// Writes what JSEP needs in the first bundled m-line only; in every one, older stacks find it too.
    fn transport(&mut self, shared: &Shared, credentials: &IceCredentials) {
        self.line(format_args!("a=ice-ufrag:{}", credentials.ufrag));
        self.line(format_args!("a=ice-pwd:{}", credentials.pwd));
        self.line(format_args!(
            "a=fingerprint:sha-256 {}",
            shared.fingerprint()
        ));
        self.line(format_args!("a=setup:passive"));
        self.text.push_str(&candidate_lines(shared));
    }
}

/// Writes the server's candidates and that there are no more.
pub(super) fn candidate_lines(shared: &Shared) -> String {
    let mut sdp = Sdp::default();
    let udp = shared.candidates().iter().map(|a| (a, "udp", 126, 0, ""));
    // RFC 6544 §4.2: below every UDP candidate; 4 is the direction preference of a passive host candidate.
    let tcp = shared
        .tcp_candidates()
        .iter()
        .map(|a| (a, "tcp", 90, 4 << 13, " tcptype passive"));
    let candidates = udp.chain(tcp).zip((1..=MAX_CANDIDATES).rev());
    for ((address, protocol, kind, direction, suffix), rank) in candidates {
        // RFC 8445 §5.1.2.1, for component 1.
        let preference: u32 = match direction {
            0 => 0xffff - (MAX_CANDIDATES - rank),
            direction => direction | rank,
        };
        let priority = (kind << 24) | (preference << 8) | 255;
        let foundation = MAX_CANDIDATES - rank + 1;
        let (ip, port) = (address.ip().to_canonical(), address.port());
        sdp.line(format_args!(
            "a=candidate:{foundation} 1 {protocol} {priority} {ip} {port} typ host{suffix}"
        ));
    }
    sdp.line(format_args!("a=end-of-candidates"));
    sdp.text
}

/// RED comes before what it repeats: senders use the first codec of an answer.
fn format_list(codecs: &[CodecOffer]) -> String {
    let pts: Vec<String> = codecs
        .iter()
        .flat_map(|offer| [offer.codec.red, Some(offer.codec.pt), offer.codec.rtx])
        .flatten()
        .map(|pt| pt.to_string())
        .collect();
    pts.join(" ")
}

/// What the server likes to receive: music in stereo, repair by the codec (RFC 7587 §7).
const OPUS_RECEIVE: &str = "minptime=10;useinbandfec=1;stereo=1";

const REMB: &str = "goog-remb";
const RECEIVE_FEEDBACK: &[&str] = &[TRANSPORT_CC, REMB, "ccm fir", "nack", "nack pli"];
const SEND_FEEDBACK: &[&str] = &["ccm fir", "nack", "nack pli"];

/// One name for all streams, so that receivers keep them in step (RFC 7022).
const CNAME: &str = "fanlight";

/// More addresses than any server has.
const MAX_CANDIDATES: u32 = 255;

const MAX_MESSAGE_LEN: usize = 64 * 1024;
