//! Entry points for the fuzz targets and for the test that replays their corpus.
//!
//! Each takes arbitrary bytes and must return: no panic, no read past the end, no work without bound.

use std::sync::OnceLock;

use bytes::Bytes;

use super::{
    AnswerLine, ArrivalReport, ExtensionIds, IceCredentials, MediaLine, MediaLineKind, Offer,
    Protocol, Rtp, SendStream, Shared, binding_request_ufrag, client_hello::ClientHello,
    dcep::Open, dtls::Dtls, rtcp, rtp::Header, sctp_guard::SctpGuard, write_answer,
};
use crate::{Ssrc, av1, dependency, h264, red, vp8, vp9};

/// A target's name, which is also the name of its corpus, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 10] = [
    ("arrivals", arrivals),
    ("client_hello", client_hello),
    ("datagram", datagram),
    ("dcep", dcep),
    ("dependency", dependency),
    ("payload", payload),
    ("rtcp", rtcp),
    ("rtp", rtp),
    ("sctp", sctp),
    ("sdp", sdp),
];

/// Reads an offer and answers whatever it holds.
pub fn sdp(bytes: &[u8]) {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    let Some(offer) = std::str::from_utf8(bytes).ok().map(Offer::parse) else {
        return;
    };
    if let Ok(offer) = offer {
        let lines: Vec<AnswerLine> = offer.media.iter().map(answer).collect();
        let credentials = IceCredentials {
            ufrag: "core".to_owned(),
            pwd: "password".to_owned(),
        };
        let shared = SHARED.get_or_init(|| Shared::new(&[]));
        let answer = write_answer(shared, &offer, &lines, &credentials);
        assert!(answer.ends_with("\r\n"));
    }
}

fn answer(line: &MediaLine) -> AnswerLine {
    match (line.kind, line.codecs.first()) {
        (MediaLineKind::DataChannel, _) => AnswerLine::DataChannel,
        (_, Some(codec)) if line.sends => AnswerLine::Receive {
            codec: codec.clone(),
        },
        (_, Some(_)) => AnswerLine::Send {
            codecs: line.codecs.clone(),
            stream: SendStream {
                ssrc: Ssrc(1),
                rtx_ssrc: Ssrc(2),
            },
            msid: ("stream".to_owned(), "track".to_owned()),
        },
        (_, None) => AnswerLine::Reject,
    }
}

/// Tells a datagram's protocol and, of a check, the user.
pub fn datagram(bytes: &[u8]) {
    let protocol = Protocol::of(bytes);
    if binding_request_ufrag(bytes).is_some() {
        assert_eq!(protocol, Some(Protocol::Stun));
    }
}

/// Reads an RTP packet as if it had been decrypted.
pub fn rtp(bytes: &[u8]) {
    const IDS: ExtensionIds = ExtensionIds {
        mid: 1,
        rid: 2,
        repaired_rid: 3,
        transport_cc: 4,
        audio_level: 5,
        abs_capture_time: 6,
        playout_delay: 7,
        dependency_descriptor: 8,
    };
    if let Some(header) = Header::parse(bytes)
        && let Some((head, payload)) = bytes.split_at_checked(header.len)
        && let Some(rtp) = Rtp::new(&header, head, payload, &IDS)
    {
        assert!(rtp.payload.len() <= payload.len());
    }
}

/// Reads a compound RTCP packet.
pub fn rtcp(bytes: &[u8]) {
    let _ = rtcp::parse(&Bytes::copy_from_slice(bytes));
}

/// Reads transport-wide feedback.
pub fn arrivals(bytes: &[u8]) {
    if let Some(report) = ArrivalReport::parse(&Bytes::copy_from_slice(bytes)) {
        assert!(report.arrivals().count() <= 2048);
    }
}

/// Reads dependency descriptors, each behind its length, as those of one stream.
pub fn dependency(bytes: &[u8]) {
    let mut structure = None;
    for descriptor in split(bytes) {
        let mut buffer = [0; 64];
        let same = dependency::renumber(descriptor, 0, &mut buffer);
        assert!(same.is_empty() || same == descriptor);
        let known = structure.as_deref();
        if let Some(parsed) = dependency::Descriptor::parse(descriptor, known) {
            structure = parsed.structure.or(structure);
        }
    }
}

/// Reads the start of a payload, of any codec.
pub fn payload(bytes: &[u8]) {
    let _ = h264::starts_keyframe(bytes);
    let _ = red::primary(bytes);
    let _ = av1::starts_sequence(bytes);
    let pictures = [
        vp8::Descriptor::parse(bytes).map(|descriptor| descriptor.picture),
        vp9::Descriptor::parse(bytes).map(|descriptor| descriptor.picture),
    ];
    for picture in pictures.into_iter().flatten() {
        let same = picture.write(bytes, &picture);
        assert!(bytes.starts_with(same.as_slice()));
    }
}

/// Looks at SCTP packets, each behind its length, before and after the handshake.
pub fn sctp(bytes: &[u8]) {
    let mut guard = SctpGuard::default();
    for packet in split(bytes) {
        let _ = guard.check(packet);
        guard.observe_sent(packet, 1 << 18);
    }
}

/// Reads a data channel's control message.
pub fn dcep(bytes: &[u8]) {
    if let Some(open) = Open::parse(bytes) {
        assert!(open.label.len() <= bytes.len());
    }
}

/// Collects a ClientHello from datagrams, each behind its length, and counts what they would cost.
pub fn client_hello(bytes: &[u8]) {
    let dtls = Dtls::new([0; 32]);
    let mut hello = ClientHello::default();
    for datagram in split(bytes).take(96) {
        let _ = dtls.count_unprotected(datagram);
        hello.push(datagram);
        let _ = hello.offers_gcm();
    }
}

/// Cuts bytes into packets, each behind its length of two bytes; the last may be shorter.
fn split(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&[high, low], rest) = bytes.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (packet, rest) = rest.split_at_checked(len)?;
        bytes = rest;
        Some(packet)
    })
}
