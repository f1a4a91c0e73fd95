//! What is read of the offers that real peers send, and what they are answered.

use std::{fmt::Write, net::SocketAddr};

use proptest::prelude::*;
use sfu_core::{
    Codec, Ssrc,
    transport::{
        AnswerLine, CodecOffer, IceCredentials, MediaLine, MediaLineKind, Offer, SdpError,
        SendStream, Shared, write_answer,
    },
};

const CHROMIUM_PUBLISH: &str = include_str!("offers/chromium-publish.sdp");
const CHROMIUM_VIEW: &str = include_str!("offers/chromium-view.sdp");
const FIREFOX_PUBLISH: &str = include_str!("offers/firefox-publish.sdp");
const OBS_PUBLISH: &str = include_str!("offers/obs-publish.sdp");
const GSTREAMER_PUBLISH: &str = include_str!("offers/gstreamer-publish.sdp");
const WEBRTC_RS_VIEW: &str = include_str!("offers/webrtc-rs-view.sdp");
const MINIMAL_PUBLISH: &str = include_str!("offers/minimal-publish.sdp");

const ALL: [(&str, &str); 7] = [
    ("chromium publish", CHROMIUM_PUBLISH),
    ("chromium view", CHROMIUM_VIEW),
    ("firefox publish", FIREFOX_PUBLISH),
    ("obs publish", OBS_PUBLISH),
    ("gstreamer publish", GSTREAMER_PUBLISH),
    ("webrtc-rs view", WEBRTC_RS_VIEW),
    ("minimal publish", MINIMAL_PUBLISH),
];

/// One line per m-line: mid, kind, direction, codecs with their RTX, rids, SSRCs, FID pairs.
#[test]
fn offers_of_real_peers_are_read() {
    for (sdp, expected) in [
        (
            CHROMIUM_PUBLISH,
            "0 Audio > [Opus 111+63] rids [] ssrcs 1 fid 0\n\
             1 Video > [Vp8 96/97, H264 102/103, H264 108/109, Av1 45/46, Vp9 98/99] rids [l m h] ssrcs 0 fid 0\n\
             2 DataChannel <> [] rids [] ssrcs 0 fid 0\n",
        ),
        (
            CHROMIUM_VIEW,
            "0 Video < [Vp8 96/97, Vp9 98/99, H264 102/103, H264 108/109, Av1 45/46] rids [] ssrcs 0 fid 0\n\
             1 Audio < [Opus 111+63] rids [] ssrcs 0 fid 0\n\
             2 DataChannel <> [] rids [] ssrcs 0 fid 0\n",
        ),
        (
            FIREFOX_PUBLISH,
            "0 Audio > [Opus 109] rids [] ssrcs 1 fid 0\n\
             1 Video > [Vp8 120/124, Vp9 121/125, H264 126/127] rids [hi lo] ssrcs 4 fid 2\n\
             2 DataChannel <> [] rids [] ssrcs 0 fid 0\n",
        ),
        (
            OBS_PUBLISH,
            "0 Audio > [Opus 111] rids [] ssrcs 1 fid 0\n\
             1 Video > [H264 96] rids [] ssrcs 1 fid 0\n",
        ),
        (
            GSTREAMER_PUBLISH,
            "video0 Video <> [H264 96/97] rids [] ssrcs 2 fid 1\n\
             audio1 Audio <> [Opus 98] rids [] ssrcs 1 fid 0\n",
        ),
        (
            WEBRTC_RS_VIEW,
            "0 Video < [Vp8 96/97, H264 102/121, H264 125/107, Vp9 98] rids [] ssrcs 0 fid 0\n\
             1 Audio < [Opus 111] rids [] ssrcs 0 fid 0\n",
        ),
        (
            MINIMAL_PUBLISH,
            "0 Video > [H264 96] rids [] ssrcs 0 fid 0\n\
             1 Other > [] rids [] ssrcs 0 fid 0\n\
             2 Other > [] rids [] ssrcs 0 fid 0\n",
        ),
    ] {
        assert_eq!(describe(&Offer::parse(sdp).unwrap()), expected);
    }
}

#[test]
fn fingerprints_are_found_at_either_level_and_in_either_case() {
    let firefox = Offer::parse(FIREFOX_PUBLISH).unwrap().fingerprint;
    assert_eq!(&firefox[..4], [0x1f, 0x2e, 0x3d, 0x4c]);
    let gstreamer = Offer::parse(GSTREAMER_PUBLISH).unwrap().fingerprint;
    let minimal = Offer::parse(MINIMAL_PUBLISH).unwrap().fingerprint;
    assert_eq!(gstreamer, minimal);
    assert_eq!(&minimal[..3], [0x00, 0x11, 0x22]);
}

#[test]
fn extension_ids_are_read() {
    for (sdp, line, [mid, rid, repaired_rid, transport_cc]) in [
        (CHROMIUM_PUBLISH, 0, [4, 0, 0, 3]),
        (CHROMIUM_PUBLISH, 1, [4, 10, 11, 3]),
        (CHROMIUM_VIEW, 0, [9, 10, 11, 4]),
        (FIREFOX_PUBLISH, 1, [3, 8, 9, 7]),
        (OBS_PUBLISH, 1, [0, 0, 0, 0]),
        (GSTREAMER_PUBLISH, 0, [0, 0, 0, 1]),
        (WEBRTC_RS_VIEW, 0, [1, 2, 3, 4]),
    ] {
        let offer = Offer::parse(sdp).unwrap();
        let ids = offer.media[line].extensions;
        let found = [ids.mid, ids.rid, ids.repaired_rid, ids.transport_cc];
        assert_eq!(found, [mid, rid, repaired_rid, transport_cc]);
    }
}

#[test]
fn unusable_offers_say_why() {
    let many = format!(
        "{OBS_PUBLISH}{}",
        "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".repeat(31)
    );
    let long = format!("{OBS_PUBLISH}a=x:{}\r\n", "y".repeat(128 * 1024));
    let without = |prefix: &str| {
        let lines = OBS_PUBLISH.lines().filter(|line| !line.starts_with(prefix));
        lines.fold(String::new(), |sdp, line| sdp + line + "\r\n")
    };
    for (label, sdp, expected) in [
        ("empty", String::new(), SdpError::Syntax),
        ("JSON", "{\"type\":\"offer\"}".to_owned(), SdpError::Syntax),
        ("truncated", OBS_PUBLISH[..30].to_owned(), SdpError::Syntax),
        ("too large", long, SdpError::TooLarge),
        ("no hash", without("a=fingerprint"), SdpError::Fingerprint),
        (
            "short hash",
            OBS_PUBLISH.replace("sha-256 8E:", "sha-256 "),
            SdpError::Fingerprint,
        ),
        ("no ufrag", without("a=ice-ufrag"), SdpError::IceCredentials),
        ("no pwd", without("a=ice-pwd"), SdpError::IceCredentials),
        (
            "passive",
            OBS_PUBLISH.replace("setup:actpass", "setup:passive"),
            SdpError::Setup,
        ),
        ("33 m-lines", many, SdpError::MediaLines),
        (
            "one mid twice",
            OBS_PUBLISH.replace("a=mid:1", "a=mid:0"),
            SdpError::MediaLines,
        ),
        (
            "two words",
            OBS_PUBLISH.replace("a=mid:1", "a=mid:1 2"),
            SdpError::MediaLines,
        ),
    ] {
        assert_eq!(Offer::parse(&sdp).unwrap_err(), expected, "{label}");
    }
}

#[test]
fn vp9_and_av1_must_be_of_the_first_profile() {
    for (rtpmap, fmtp, expected) in [
        ("VP9/90000", "profile-id=0", Some(Codec::Vp9)),
        ("VP9/90000", "x=1", Some(Codec::Vp9)),
        ("VP9/90000", "profile-id=2", None),
        (
            "AV1/90000",
            "level-idx=5;profile=0;tier=0",
            Some(Codec::Av1),
        ),
        ("AV1/90000", "profile=1", None),
        ("AV1X/90000", "profile=0", None),
    ] {
        let sdp = MINIMAL_PUBLISH.replace("H264/90000", rtpmap);
        let sdp = sdp.replace("packetization-mode=1", fmtp);
        let offer = Offer::parse(&sdp).unwrap();
        let codecs = offer.media[0].codecs.first();
        let found = codecs.map(|offer| offer.codec.codec);
        assert_eq!(found, expected, "{rtpmap} {fmtp}");
    }
}

#[test]
fn red_must_repeat_opus() {
    for (rtpmap, fmtp, expected) in [
        ("red/48000/2", "111/111", true),
        ("red/48000/2", "111/111/111", true),
        ("red/48000/2", "111/9", false),
        ("red/90000", "111/111", false),
    ] {
        let sdp = CHROMIUM_PUBLISH.replace("red/48000/2", rtpmap);
        let sdp = sdp.replace("a=fmtp:63 111/111", &format!("a=fmtp:63 {fmtp}"));
        let offer = Offer::parse(&sdp).unwrap();
        let red = offer.media[0].codecs[0].codec.red;
        assert_eq!(red.is_some(), expected, "{rtpmap} {fmtp}");
    }
}

#[test]
fn h264_must_be_baseline_in_mode_one() {
    for (fmtp, expected) in [
        ("packetization-mode=1;profile-level-id=42e01f", true),
        ("profile-level-id=42E034; Packetization-Mode=1", true),
        ("packetization-mode=1;profile-level-id=42001f", true),
        ("packetization-mode=1", true),
        ("packetization-mode=0;profile-level-id=42e01f", false),
        ("profile-level-id=42e01f", false),
        ("packetization-mode=1;profile-level-id=4d001f", false),
        ("packetization-mode=1;profile-level-id=640032", false),
        ("packetization-mode=1;profile-level-id=42", false),
    ] {
        let sdp = MINIMAL_PUBLISH.replace("packetization-mode=1", fmtp);
        let offer = Offer::parse(&sdp).unwrap();
        assert_eq!(!offer.media[0].codecs.is_empty(), expected, "{fmtp}");
    }
}

#[test]
fn a_publisher_is_answered() {
    let answer = Answer::of(CHROMIUM_PUBLISH, Codec::H264);
    answer.session_has(&[
        "v=0",
        "a=ice-lite",
        "a=ice-options:trickle",
        "a=group:BUNDLE 0 1 2",
        "a=extmap-allow-mixed",
    ]);
    for index in 0..3 {
        answer.media_has(
            index,
            &[
                "a=setup:passive",
                "a=ice-ufrag:core",
                "a=ice-pwd:abcdefghijklmnopqrstuvwxyz",
                "a=candidate:1 1 udp 2130706431 192.0.2.1 7000 typ host",
                "a=candidate:2 1 udp 2130706175 2001:db8::1 7000 typ host",
                "a=end-of-candidates",
            ],
        );
    }
    answer.media_has(
        0,
        &[
            "m=audio 9 UDP/TLS/RTP/SAVPF 63 111",
            "a=rtpmap:63 red/48000/2",
            "a=fmtp:63 111/111",
            "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level",
            "a=mid:0",
            "a=recvonly",
            "a=rtcp-mux",
            "a=fmtp:111 minptime=10;useinbandfec=1;stereo=1",
            "a=rtcp-fb:111 transport-cc",
            "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        ],
    );
    answer.media_has(
        1,
        &[
            "m=video 9 UDP/TLS/RTP/SAVPF 102 103",
            "a=recvonly",
            "a=rtcp-rsize",
            "a=rtpmap:102 H264/90000",
            "a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f",
            "a=rtpmap:103 rtx/90000",
            "a=fmtp:103 apt=102",
            "a=rtcp-fb:102 nack",
            "a=rtcp-fb:102 nack pli",
            "a=rtcp-fb:102 ccm fir",
            "a=rtcp-fb:102 transport-cc",
            "a=rid:l recv",
            "a=rid:m recv",
            "a=rid:h recv",
            "a=simulcast:recv l;m;h",
            "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
            "a=extmap:11 urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        ],
    );
    answer.media_has(
        2,
        &[
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
            "a=sctp-port:5000",
            "a=max-message-size:65536",
        ],
    );
}

#[test]
fn a_publisher_in_layers_is_asked_for_their_dependencies() {
    const DESCRIPTOR: &str = "a=extmap:12 https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
    for (codec, expected) in [
        (Codec::Vp9, true),
        (Codec::Av1, true),
        (Codec::Vp8, false),
        (Codec::H264, false),
    ] {
        let answer = Answer::of(CHROMIUM_PUBLISH, codec);
        let has_descriptor = answer.media(1).contains(&DESCRIPTOR);
        assert_eq!(has_descriptor, expected, "{codec:?}");
    }
}

#[test]
fn rid_restrictions_are_repeated() {
    let answer = Answer::of(FIREFOX_PUBLISH, Codec::Vp8);
    answer.media_has(
        1,
        &[
            "a=rid:hi recv max-width=1280;max-height=720",
            "a=rid:lo recv max-width=640",
            "a=simulcast:recv hi;lo",
        ],
    );
}

#[test]
fn feedback_is_answered_only_where_it_is_offered() {
    let answer = Answer::of(OBS_PUBLISH, Codec::H264);
    let video = answer.media(1);
    assert!(video.contains(&"a=rtcp-fb:96 goog-remb"));
    assert!(!video.iter().any(|line| line.contains("transport-cc")));
    assert!(!video.iter().any(|line| line.contains("ccm")));
    assert!(!video.iter().any(|line| line.starts_with("a=extmap")));
}

#[test]
fn a_viewer_is_answered() {
    for sdp in [CHROMIUM_VIEW, WEBRTC_RS_VIEW] {
        let answer = Answer::of(sdp, Codec::H264);
        answer.media_has(
            0,
            &[
                "a=sendonly",
                "a=rtpmap:96 VP8/90000",
                "a=fmtp:97 apt=96",
                "a=rtcp-fb:102 nack pli",
                "a=msid:stage video",
                "a=ssrc-group:FID 10 11",
                "a=ssrc:10 cname:fanlight",
                "a=ssrc:11 cname:fanlight",
            ],
        );
        answer.media_has(1, &["a=sendonly", "a=ssrc:10 cname:fanlight"]);
        assert!(!answer.text.contains("sdes:"), "SSRCs tell streams apart");
    }
}

#[test]
fn directions_fit_the_offer() {
    for (offered, sends, receives) in [
        ("sendrecv", "recvonly", "sendonly"),
        ("sendonly", "recvonly", "inactive"),
        ("recvonly", "inactive", "sendonly"),
        ("inactive", "inactive", "inactive"),
    ] {
        let sdp = MINIMAL_PUBLISH.replace("a=sendonly", &format!("a={offered}"));
        let offer = Offer::parse(&sdp).unwrap();
        let codec = offer.media[0].codecs[0].clone();
        let receive = AnswerLine::Receive {
            codec: codec.clone(),
        };
        let send = AnswerLine::Send {
            codecs: vec![codec],
            stream: STREAM,
            msid: msid(),
        };
        for (line, expected) in [(receive, sends), (send, receives)] {
            let lines = [line, AnswerLine::Reject, AnswerLine::Reject];
            let answer = Answer::write(&offer, &lines);
            answer.media_has(0, &[&format!("a={expected}")]);
            answer.session_has(&["a=group:BUNDLE 0"]);
            answer.media_has(1, &["m=text 0 RTP/AVP 99", "a=inactive"]);
        }
    }
}

/// What the server writes, other peers have to read: as far as this reader can tell.
#[test]
fn answers_are_readable() {
    for (label, sdp) in ALL {
        for codec in [Codec::H264, Codec::Vp8] {
            let answer = Answer::of(sdp, codec).text;
            let read = rtc_sdp::description::session::SessionDescription::unmarshal(
                &mut std::io::Cursor::new(answer.as_bytes()),
            );
            assert!(read.is_ok(), "{label}: {answer}");
            let repeated = Answer::of(sdp, codec).text;
            let id = |text: &str| text.lines().nth(1).unwrap().to_owned();
            assert_eq!(id(&answer), id(&repeated), "{label}");
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC*") {
        let _ = Offer::parse(&text);
    }

    #[test]
    fn damaged_offers_never_panic(
        which in 0..ALL.len(),
        at in 0.0..1.0_f64,
        len in 0..40_usize,
        text in "[ -~\r\n]{0,12}",
    ) {
        let sdp = ALL[which].1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a position in a short text"
        )]
        let start = (at * sdp.len() as f64) as usize;
        let end = (start + len).min(sdp.len());
        let damaged = format!("{}{text}{}", &sdp[..start], &sdp[end..]);
        if let Ok(offer) = Offer::parse(&damaged) {
            let answer = Answer::write(&offer, &lines(&offer, Codec::Vp8)).text;
            prop_assert!(answer.lines().all(|line| line.chars().nth(1) == Some('=')));
        }
    }
}

struct Answer {
    text: String,
}

impl Answer {
    /// Answers an offer as a room would: receives what is sent, else sends what is asked for.
    fn of(sdp: &str, prefer: Codec) -> Self {
        let offer = Offer::parse(sdp).unwrap();
        Self::write(&offer, &lines(&offer, prefer))
    }

    fn write(offer: &Offer, lines: &[AnswerLine]) -> Self {
        let advertise: [SocketAddr; 2] = [
            "192.0.2.1:7000".parse().unwrap(),
            "[2001:db8::1]:7000".parse().unwrap(),
        ];
        let credentials = IceCredentials {
            ufrag: "core".to_owned(),
            pwd: "abcdefghijklmnopqrstuvwxyz".to_owned(),
        };
        Self {
            text: write_answer(&Shared::new(&advertise), offer, lines, &credentials),
        }
    }

    fn session_has(&self, expected: &[&str]) {
        let session = self.text.split("\r\nm=").next().unwrap();
        let lines: Vec<&str> = session.lines().collect();
        for line in expected {
            assert!(lines.contains(line), "{line} in {session}");
        }
    }

    fn media_has(&self, index: usize, expected: &[&str]) {
        let lines = self.media(index);
        for line in expected {
            let line = line.strip_prefix("m=").unwrap_or(line);
            assert!(lines.contains(&line), "{line} in {lines:#?}");
        }
    }

    fn media(&self, index: usize) -> Vec<&str> {
        let sections = self.text.split("\r\nm=").skip(1);
        sections
            .skip(index)
            .map(str::lines)
            .next()
            .unwrap()
            .collect()
    }
}

fn lines(offer: &Offer, prefer: Codec) -> Vec<AnswerLine> {
    offer
        .media
        .iter()
        .map(|line| answer_line(line, prefer))
        .collect()
}

fn answer_line(line: &MediaLine, prefer: Codec) -> AnswerLine {
    let preferred: Option<CodecOffer> = line
        .codecs
        .iter()
        .find(|offer| offer.codec.codec == prefer)
        .or(line.codecs.first())
        .cloned();
    match (line.kind, preferred) {
        (MediaLineKind::DataChannel, _) => AnswerLine::DataChannel,
        (_, Some(codec)) if line.sends => AnswerLine::Receive { codec },
        (_, Some(_)) => AnswerLine::Send {
            codecs: line.codecs.clone(),
            stream: STREAM,
            msid: msid(),
        },
        _ => AnswerLine::Reject,
    }
}

const STREAM: SendStream = SendStream {
    ssrc: Ssrc(10),
    rtx_ssrc: Ssrc(11),
    is_reported: true,
};

fn msid() -> (String, String) {
    ("stage".to_owned(), "video".to_owned())
}

fn describe(offer: &Offer) -> String {
    let mut text = String::new();
    for line in &offer.media {
        let direction = match (line.sends, line.receives) {
            (true, true) => "<>",
            (true, false) => ">",
            (false, true) => "<",
            (false, false) => "-",
        };
        let codecs: Vec<String> = line
            .codecs
            .iter()
            .map(|offer| {
                let rtx = offer.codec.rtx.map(|rtx| format!("/{rtx}"));
                let red = offer.codec.red.map(|red| format!("+{red}"));
                format!(
                    "{:?} {}{}{}",
                    offer.codec.codec,
                    offer.codec.pt,
                    rtx.unwrap_or_default(),
                    red.unwrap_or_default()
                )
            })
            .collect();
        writeln!(
            text,
            "{} {:?} {direction} [{}] rids [{}] ssrcs {} fid {}",
            line.mid.0,
            line.kind,
            codecs.join(", "),
            line.rids.join(" "),
            line.ssrcs.len(),
            line.fid.len(),
        )
        .unwrap();
    }
    text
}
