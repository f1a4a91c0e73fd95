//! Entry points for fuzzing what reads bytes; see [`crate::fuzz`].

use std::{
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use aws_lc_rs::hmac;
use bytes::Bytes;

use super::{
    AnswerLine, ArrivalReport, ExtensionIds, IceCredentials, IceFragment, MediaLine, MediaLineKind,
    Offer, Protocol, Rtp, SendHeader, SendStream, Shared, Transport, binding_request_ufrag,
    client_hello::ClientHello,
    dcep::Open,
    dtls::Dtls,
    ice::Ice,
    rtcp,
    rtp::{Carried, Header, SendExtensions},
    sctp_guard::SctpGuard,
    srtp::{Keys, Profile, Srtp},
    write_answer,
};
use crate::{Outgoing, Pt, Ssrc, av1, dependency, h264, red, tcp::Frames, vp8, vp9};

fn shared() -> &'static Shared {
    static SHARED: OnceLock<Shared> = OnceLock::new();
    SHARED.get_or_init(|| Shared::new(&[([192, 0, 2, 1], 7000).into()]))
}

fn credentials() -> IceCredentials {
    IceCredentials {
        ufrag: "core".to_owned(),
        pwd: "abcdefghijklmnopqrstuvwxyz".to_owned(),
    }
}

/// Reads an offer and answers whatever it holds.
pub fn sdp(bytes: &[u8]) {
    let Some(offer) = std::str::from_utf8(bytes).ok().map(Offer::parse) else {
        return;
    };
    if let Ok(offer) = offer {
        let lines: Vec<AnswerLine> = offer.media.iter().map(answer).collect();
        let answer = write_answer(shared(), &offer, &lines, &credentials());
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
                is_reported: true,
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

/// Takes checks, each behind its length: as they are, or what follows as the attributes of one that is authentic.
pub fn stun(bytes: &[u8]) {
    static START: OnceLock<Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "there has to be a first instant")]
    let mut now = *START.get_or_init(Instant::now);
    let mut ice = Ice::new(credentials(), now);
    let mut out = Outgoing::default();
    for datagram in split(bytes).take(64) {
        let Some((&how, datagram)) = datagram.split_first() else {
            continue;
        };
        let from = SocketAddr::from(([198, 51, 100, 7], 1000 + u16::from(how >> 4))).into();
        let datagram = match how & 1 {
            0 => datagram.to_vec(),
            _ => authentic(&credentials(), datagram),
        };
        now += Duration::from_secs(u64::from(how >> 1 & 7));
        let handled = ice.handle(shared().crypto(), from, &datagram, now, &mut out);
        if handled.is_err() {
            assert!(out.is_empty(), "an answer to somebody unknown");
        }
        for (to, answer) in out.iter() {
            assert_eq!(to, from);
            assert!(
                answer.len() <= 128
                    && [[1, 1], [1, 17]]
                        .iter()
                        .any(|kind| answer.starts_with(kind))
            );
        }
        out.clear();
        assert!(ice.paths().len() <= 8);
    }
}

/// Returns a binding request with these attributes, between a username and what makes it authentic.
pub(crate) fn authentic(credentials: &IceCredentials, attributes: &[u8]) -> Vec<u8> {
    let attributes = attributes
        .get(..attributes.len().min(1200))
        .unwrap_or_default();
    let mut username = format!("{}:cafe", credentials.ufrag).into_bytes();
    let len = username.len();
    username.resize(len.next_multiple_of(4), 0);
    let size = |len: usize| u16::try_from(len).unwrap_or_default().to_be_bytes();
    let mut datagram = vec![0, 1];
    datagram.extend(size(4 + username.len() + attributes.len() + 24));
    datagram.extend([0x21, 0x12, 0xa4, 0x42]);
    datagram.extend([7; 12]);
    datagram.extend([0, 6]);
    datagram.extend(size(len));
    datagram.extend(username);
    datagram.extend(attributes);
    let key = hmac::Key::new(
        hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        credentials.pwd.as_bytes(),
    );
    let tag = hmac::sign(&key, &datagram);
    datagram.extend([0, 8, 0, 20]);
    datagram.extend(tag.as_ref());
    datagram
}

/// Reads a fragment and answers it.
pub fn fragment(bytes: &[u8]) {
    let Some(fragment) = std::str::from_utf8(bytes).ok().and_then(IceFragment::parse) else {
        return;
    };
    let answer = fragment.answer(shared(), &credentials());
    // Nothing of the client's can add a line.
    assert_eq!(
        answer.matches(['\r', '\n']).count(),
        2 * ANSWER_LINES,
        "{answer}"
    );
    let again = IceFragment::parse(&answer).map(|fragment| fragment.ufrag);
    assert_eq!(again, Some(credentials().ufrag.as_str()));
}

/// Cuts a stream into frames, received at once or in pieces as long as the first byte says.
pub fn frames(bytes: &[u8]) {
    let Some((piece, stream)) = bytes.split_first() else {
        return;
    };
    let read = |len: usize| {
        let mut frames = Frames::default();
        let mut found = Vec::new();
        for piece in stream.chunks(len.max(1)) {
            frames.buffer().extend_from_slice(piece);
            loop {
                match frames.next_frame() {
                    Ok(Some(frame)) => found.push(frame),
                    Ok(None) => break,
                    Err(_) => return (found, true),
                }
            }
            assert!(
                frames.buffer().len() < 2 + 2048,
                "more than one frame waits"
            );
        }
        (found, false)
    };
    let (found, is_broken) = read(stream.len());
    let len: usize = found.iter().map(|frame| frame.len() + 2).sum();
    assert!(len <= stream.len() && found.iter().all(|frame| !frame.is_empty()));
    assert_eq!(read(usize::from(*piece)), (found, is_broken));
}

/// Opens packets, each behind its length, with known keys: as they are, or what was sealed with the peer's.
pub fn srtp(bytes: &[u8]) {
    let Some((&which, bytes)) = bytes.split_first() else {
        return;
    };
    let profile = match which & 1 {
        0 => Profile::AeadAes128Gcm,
        _ => Profile::Aes128CmSha1_80,
    };
    let Some((mut server, mut peer)) = srtp_pair(profile) else {
        return;
    };
    for packet in split(bytes).take(64) {
        let Some((&how, packet)) = packet.split_first() else {
            continue;
        };
        match how & 3 {
            0 => drop(open_rtp(&mut server, packet)),
            1 => drop(server.open_rtcp(packet)),
            2 => seal_and_open(&mut peer, &mut server, how >> 2, packet),
            _ => {
                if let Some(sealed) = peer.seal_rtcp(packet) {
                    let opened = server.open_rtcp(&sealed);
                    assert!(opened.is_err() || opened.as_deref() == Ok(packet));
                    assert!(server.open_rtcp(&sealed).is_err(), "opened twice");
                }
            }
        }
    }
}

/// Returns a server and a peer that knows its keys.
fn srtp_pair(profile: Profile) -> Option<(Srtp, Srtp)> {
    let make = |whose| Some(Srtp::new(&known_keys(profile, whose)?));
    Some((make([0, 1])?, make([1, 0])?))
}

/// Returns keys of two sides, the peer's first.
fn known_keys(profile: Profile, whose: [usize; 2]) -> Option<Keys> {
    let (keys, salts) = ([[1; 16], [2; 16]], [[3; 14], [4; 14]]);
    let [first, second] = whose;
    let salt_len = profile.keying_material_len() / 2 - 16;
    let mut material = [*keys.get(first)?, *keys.get(second)?].concat();
    material.extend(salts.get(first)?.get(..salt_len)?);
    material.extend(salts.get(second)?.get(..salt_len)?);
    Keys::from_dtls(profile, &material)
}

fn open_rtp(srtp: &mut Srtp, packet: &[u8]) -> Option<Vec<u8>> {
    let mut datagram = packet.to_vec();
    let header = Header::parse(&datagram)?;
    let (_, payload) = srtp
        .open_rtp(&header, &mut datagram, header.ssrc.0 & 1 == 0)
        .ok()?;
    Some(payload.to_vec())
}

/// Seals a packet with a number, a source and a payload; opens it, altered and as it is.
fn seal_and_open(peer: &mut Srtp, server: &mut Srtp, padding: u8, packet: &[u8]) {
    let Some((&[s0, s1, s2, s3, ssrc, at], payload)) = packet.split_first_chunk() else {
        return;
    };
    let header = SendHeader {
        marker: false,
        pt: Pt(96),
        // Nobody can tell how often a number has wrapped before the first packet came.
        seq: u32::from_be_bytes([0, s1 & 1, s2, s3]),
        timestamp: 9,
        ssrc: Ssrc(u32::from(ssrc)),
        padding,
    };
    let (ids, carried) = (ExtensionIds::default(), Carried::default());
    let extensions = SendExtensions::new(&ids, None, &carried);
    let len = payload.len() + usize::from(padding);
    let mut sealed = vec![0; peer.sealed_len(extensions.len(), len)];
    let sealing = peer.seal_rtp(&header, &extensions, [payload, &[]], &mut sealed);
    assert!(sealing.is_some());
    let mut altered = sealed.clone();
    let last = altered.len() - 1;
    if let Some(byte) = altered.get_mut(usize::from(at).min(last)) {
        *byte ^= s0 | 1;
        assert_eq!(open_rtp(server, &altered), None, "altered");
    }
    if let Some(opened) = open_rtp(server, &sealed) {
        assert!(opened.starts_with(payload) && opened.len() == len);
        assert_eq!(open_rtp(server, &sealed), None, "opened twice");
    }
}

/// Reads an RTP packet as if it had been decrypted.
pub fn rtp(bytes: &[u8]) {
    if let Some(rtp) = opened(bytes) {
        assert!(rtp.payload.len() <= bytes.len());
    }
}

/// Returns what [`Transport::open_rtp`] does of a packet, as if it had been decrypted.
pub(crate) fn opened(bytes: &[u8]) -> Option<Rtp<'_>> {
    let header = Header::parse(bytes)?;
    let (head, payload) = bytes.split_at_checked(header.len)?;
    Rtp::new(&header, head, payload, &IDS)
}

impl Transport {
    /// Has shaken hands, without DTLS and with keys that everybody knows.
    pub(crate) fn connect(&mut self) {
        if let Some(keys) = known_keys(Profile::AeadAes128Gcm, [0, 1]) {
            self.connected(&keys);
        }
    }
}

/// The header extensions' ids, as [`EXTENSIONS`] offers them.
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

/// The lines of an m-line that offers all header extensions.
pub(crate) const EXTENSIONS: &str = "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
    a=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
    a=extmap:3 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id\r\n\
    a=extmap:4 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
    a=extmap:5 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
    a=extmap:6 http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time\r\n\
    a=extmap:7 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay\r\n\
    a=extmap:8 https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension\r\n";

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

/// The lines of the answer to a fragment: six, one candidate, and that there are no more.
const ANSWER_LINES: usize = 8;

/// Cuts bytes into packets, each behind its length of two bytes; the last may be shorter.
pub(crate) fn split(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&[high, low], rest) = bytes.split_first_chunk::<2>()?;
        let len = usize::from(u16::from_be_bytes([high, low])).min(rest.len());
        let (packet, rest) = rest.split_at_checked(len)?;
        bytes = rest;
        Some(packet)
    })
}
