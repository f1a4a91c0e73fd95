//! Reads an offer (RFC 8866, RFC 9429, RFC 8843, RFC 8851) and keeps what the server can use of it.

use std::io::Cursor;

use rtc_sdp::description::{media::MediaDescription, session::SessionDescription};
use thiserror::Error;

use crate::{Codec, MediaKind, Mid, Pt, Ssrc};

/// Why an offer is not usable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SdpError {
    /// Not an SDP (RFC 8866).
    #[error("it cannot be parsed")]
    Syntax,
    /// Larger than 128 KiB.
    #[error("it is larger than 128 KiB")]
    TooLarge,
    /// No sha-256 fingerprint (RFC 8122).
    #[error("it has no sha-256 certificate fingerprint")]
    Fingerprint,
    /// No ICE credentials (RFC 8839).
    #[error("it has no ICE credentials")]
    IceCredentials,
    /// The offerer insists on being the DTLS server.
    #[error("its setup attribute must be actpass or active")]
    Setup,
    /// More than 32 m-lines, or an m-line without a mid of its own.
    #[error("its m-lines cannot be bundled")]
    MediaLines,
}

/// A readable offer.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The certificate's sha-256 fingerprint, 32 bytes.
    pub fingerprint: [u8; 32],
    /// The m-lines in order.
    pub media: Vec<MediaLine>,
    /// Whether header extensions of both forms may be mixed (`extmap-allow-mixed`, RFC 8285 §6), without
    /// which no extension is longer than 16 bytes.
    pub mixed_extensions: bool,
}

/// What an m-line carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaLineKind {
    /// Audio over SRTP.
    Audio,
    /// Video over SRTP.
    Video,
    /// SCTP over DTLS (RFC 8841).
    DataChannel,
    /// Anything else; always rejected.
    Other,
}

/// One m-line of an offer.
#[derive(Clone, Debug)]
pub struct MediaLine {
    /// Its id; its index if the offerer gave no ids.
    pub mid: Mid,
    /// What it carries.
    pub kind: MediaLineKind,
    /// Whether the offerer wants to send on it (sendrecv or sendonly).
    pub sends: bool,
    /// Whether the offerer wants to receive on it (sendrecv or recvonly).
    pub receives: bool,
    /// The payload types of codecs that are forwarded, in the order of the offer. H264 only as
    /// constrained baseline (or baseline) with packetization mode 1, VP9 and AV1 only in profile 0.
    pub codecs: Vec<CodecOffer>,
    /// Simulcast streams that the offerer sends (RFC 8853), at most 4.
    pub rids: Vec<String>,
    /// The restrictions of each of [`MediaLine::rids`], payload types excepted; empty for none.
    pub rid_restrictions: Vec<String>,
    /// SSRCs announced for sending, primary first (RFC 5576).
    pub ssrcs: Vec<Ssrc>,
    /// Retransmission SSRC of a primary SSRC (`ssrc-group:FID`).
    pub fid: Vec<(Ssrc, Ssrc)>,
    /// The header extensions it offers.
    pub extensions: ExtensionIds,
    /// Media type, protocol and formats of the m-line as written, for a rejection.
    pub head: (String, String, String),
}

/// The codec of an offered payload type, if it is one that is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodecPt {
    /// The codec.
    pub codec: Codec,
    /// Its payload type in this session.
    pub pt: Pt,
    /// The payload type of its retransmissions (RFC 4588), if offered.
    pub rtx: Option<Pt>,
    /// The payload type of audio that repeats itself (RED, RFC 2198), if offered.
    pub red: Option<Pt>,
}

/// One offered codec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecOffer {
    /// What it is, and its payload types.
    pub codec: CodecPt,
    /// Its `rtpmap` value, as written.
    pub rtpmap: String,
    /// Its `fmtp` value, as written; empty when absent.
    pub fmtp: String,
    /// Its `rtcp-fb` values (RFC 4585 §4.2), as written.
    pub feedback: Vec<String>,
}

/// Header extension ids of one m-line (RFC 8285), 0 when not offered. Only ids 1 to 14 are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    pub mid: u8,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    pub rid: u8,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`
    pub repaired_rid: u8,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`
    pub transport_cc: u8,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level`
    pub audio_level: u8,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`
    pub abs_capture_time: u8,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`
    pub playout_delay: u8,
    /// `https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension`
    pub dependency_descriptor: u8,
}

impl ExtensionIds {
    /// Returns each extension's URI and id, those not offered too.
    pub(super) fn uris(&mut self) -> [(&'static str, &mut u8); 8] {
        [
            ("urn:ietf:params:rtp-hdrext:sdes:mid", &mut self.mid),
            (
                "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
                &mut self.rid,
            ),
            (
                "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
                &mut self.repaired_rid,
            ),
            (
                "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
                &mut self.transport_cc,
            ),
            (
                "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
                &mut self.audio_level,
            ),
            (
                "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
                &mut self.abs_capture_time,
            ),
            (
                "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
                &mut self.playout_delay,
            ),
            (
                "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
                &mut self.dependency_descriptor,
            ),
        ]
    }
}

impl ExtensionIds {
    /// Keeps those that tell the server something about what it receives in `codec`. The dependency
    /// descriptor is for what has layers within a stream.
    pub(crate) fn of_received(self, codec: Codec) -> Self {
        match codec {
            Codec::Vp9 | Codec::Av1 => self,
            Codec::H264 | Codec::Vp8 | Codec::Opus => Self {
                dependency_descriptor: 0,
                ..self
            },
        }
    }

    /// Keeps those that the server writes into what it sends: streams are told apart by the SSRCs that the
    /// answer names.
    pub(crate) fn of_sent(self) -> Self {
        Self {
            mid: 0,
            rid: 0,
            repaired_rid: 0,
            ..self
        }
    }
}

impl Offer {
    /// Reads an offer.
    ///
    /// # Errors
    /// [`SdpError`] says what is missing.
    pub fn parse(sdp: &str) -> Result<Self, SdpError> {
        if sdp.len() > MAX_LEN {
            return Err(SdpError::TooLarge);
        }
        let session = SessionDescription::unmarshal(&mut Cursor::new(sdp.as_bytes()))
            .map_err(|_| SdpError::Syntax)?;
        let fingerprint = every(&session, "fingerprint")
            .find_map(parse_fingerprint)
            .ok_or(SdpError::Fingerprint)?;
        if every(&session, "ice-ufrag").next().is_none()
            || every(&session, "ice-pwd").next().is_none()
        {
            return Err(SdpError::IceCredentials);
        }
        if every(&session, "setup").any(|setup| !matches!(setup, "actpass" | "active")) {
            return Err(SdpError::Setup);
        }
        if session.media_descriptions.len() > MAX_MEDIA_LINES {
            return Err(SdpError::MediaLines);
        }
        let default_direction = DIRECTIONS
            .iter()
            .find(|(name, _)| session.has_attribute(name))
            .map_or((true, true), |&(_, direction)| direction);
        let media: Vec<MediaLine> = session
            .media_descriptions
            .iter()
            .enumerate()
            .map(|(index, media)| MediaLine::read(media, index, default_direction))
            .collect();
        let are_mids_usable = media.iter().enumerate().all(|(index, line)| {
            is_token(&line.mid.0) && !media.iter().take(index).any(|other| other.is(&line.mid))
        });
        if !are_mids_usable {
            return Err(SdpError::MediaLines);
        }
        let mut media_level = session.media_descriptions.iter();
        let mixed_extensions = session.has_attribute(MIXED)
            || !media.is_empty() && media_level.all(|media| media.has_attribute(MIXED));
        Ok(Self {
            fingerprint,
            media,
            mixed_extensions,
        })
    }
}

impl MediaLine {
    /// Returns whether this is the m-line with that `mid`.
    pub fn is(&self, mid: &Mid) -> bool {
        self.mid == *mid
    }

    /// Returns the kind of media, if it is media.
    pub fn media_kind(&self) -> Option<MediaKind> {
        match self.kind {
            MediaLineKind::Audio => Some(MediaKind::Audio),
            MediaLineKind::Video => Some(MediaKind::Video),
            MediaLineKind::DataChannel | MediaLineKind::Other => None,
        }
    }

    fn read(media: &MediaDescription, index: usize, default_direction: (bool, bool)) -> Self {
        let name = &media.media_name;
        let proto = name.protos.join("/");
        let is_disabled = name.port.value == 0 && !media.has_attribute("bundle-only");
        let kind = match name.media.as_str() {
            _ if is_disabled => MediaLineKind::Other,
            "audio" if proto.ends_with("RTP/SAVPF") => MediaLineKind::Audio,
            "video" if proto.ends_with("RTP/SAVPF") => MediaLineKind::Video,
            "application"
                if proto.ends_with("DTLS/SCTP")
                    && name
                        .formats
                        .iter()
                        .any(|format| format == "webrtc-datachannel") =>
            {
                MediaLineKind::DataChannel
            }
            _ => MediaLineKind::Other,
        };
        let (sends, receives) = DIRECTIONS
            .iter()
            .find(|(direction, _)| media.has_attribute(direction))
            .map_or(default_direction, |&(_, direction)| direction);
        let (rids, rid_restrictions) = read_rids(media);
        let codecs = read_codecs(media, kind);
        let mut extensions = read_extensions(media);
        // Who does not offer to report has no use for the numbers.
        let mut feedback = codecs.iter().flat_map(|codec| &codec.feedback);
        if !feedback.any(|feedback| feedback == TRANSPORT_CC) {
            extensions.transport_cc = 0;
        }
        Self {
            mid: Mid(first(media, "mid").map_or_else(|| index.to_string(), str::to_owned)),
            kind,
            sends,
            receives,
            codecs,
            rids,
            rid_restrictions,
            ssrcs: read_ssrcs(media),
            fid: values(media, "ssrc-group")
                .filter_map(parse_fid)
                .take(MAX_SSRCS)
                .collect(),
            extensions,
            head: (name.media.clone(), proto, name.formats.join(" ")),
        }
    }
}

/// Returns an attribute's values at session level and in every m-line.
fn every<'a>(session: &'a SessionDescription, key: &'a str) -> impl Iterator<Item = &'a str> {
    let media = session
        .media_descriptions
        .iter()
        .flat_map(move |media| values(media, key));
    session
        .attributes
        .iter()
        .filter(move |attribute| attribute.key == key)
        .filter_map(|attribute| attribute.value.as_deref())
        .chain(media)
        .map(str::trim)
}

fn values<'a>(media: &'a MediaDescription, key: &'a str) -> impl Iterator<Item = &'a str> {
    media
        .attributes
        .iter()
        .filter(move |attribute| attribute.key == key)
        .filter_map(|attribute| attribute.value.as_deref())
        .map(str::trim)
}

fn first<'a>(media: &'a MediaDescription, key: &'a str) -> Option<&'a str> {
    values(media, key).next()
}

/// Returns an attribute's values for one payload type, which is their first word.
fn values_of<'a>(
    media: &'a MediaDescription,
    key: &'a str,
    pt: &'a str,
) -> impl Iterator<Item = &'a str> {
    values(media, key)
        .filter_map(|value| value.split_once(' '))
        .filter(move |(of, _)| *of == pt)
        .map(|(_, value)| value.trim())
}

fn parse_fingerprint(value: &str) -> Option<[u8; 32]> {
    let (algorithm, hex) = value.split_once(' ')?;
    if !algorithm.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut fingerprint = [0; 32];
    let mut octets = hex.trim().split(':');
    for byte in &mut fingerprint {
        let octet = octets.next().filter(|octet| octet.len() == 2)?;
        *byte = u8::from_str_radix(octet, 16).ok()?;
    }
    octets.next().is_none().then_some(fingerprint)
}

/// A payload type and what is said about it.
struct Format<'a> {
    pt: Pt,
    name: &'a str,
    rtpmap: &'a str,
    fmtp: &'a str,
}

fn read_codecs(media: &MediaDescription, kind: MediaLineKind) -> Vec<CodecOffer> {
    let names = media.media_name.formats.iter().take(MAX_FORMATS);
    let formats: Vec<_> = names
        .filter_map(|name| {
            Some(Format {
                pt: parse_pt(name)?,
                name,
                rtpmap: values_of(media, "rtpmap", name).next()?,
                fmtp: values_of(media, "fmtp", name).next().unwrap_or_default(),
            })
        })
        .collect();
    formats
        .iter()
        .filter_map(|format| {
            let codec = parse_codec(format.rtpmap, format.fmtp)?;
            let is_of_kind = match kind {
                MediaLineKind::Audio => codec.kind() == MediaKind::Audio,
                MediaLineKind::Video => codec.kind() == MediaKind::Video,
                MediaLineKind::DataChannel | MediaLineKind::Other => false,
            };
            let repeats = |other: &&Format<'_>| other.is_rtx_of(format);
            let is_red = |other: &&Format<'_>| codec == Codec::Opus && other.is_red_of(format);
            is_of_kind.then(|| CodecOffer {
                codec: CodecPt {
                    codec,
                    pt: format.pt,
                    rtx: formats.iter().find(repeats).map(|rtx| rtx.pt),
                    red: formats.iter().find(is_red).map(|red| red.pt),
                },
                rtpmap: format.rtpmap.to_owned(),
                fmtp: format.fmtp.to_owned(),
                feedback: values_of(media, "rtcp-fb", format.name)
                    .chain(values_of(media, "rtcp-fb", "*"))
                    .map(str::to_owned)
                    .collect(),
            })
        })
        .collect()
}

impl Format<'_> {
    fn is_rtx_of(&self, other: &Self) -> bool {
        let head = self.rtpmap.get(..4);
        head.is_some_and(|head| head.eq_ignore_ascii_case("rtx/"))
            && parameter(self.fmtp, "apt") == Some(other.name)
    }

    fn is_red_of(&self, other: &Self) -> bool {
        self.rtpmap.eq_ignore_ascii_case("red/48000/2")
            && self.fmtp.split('/').all(|pt| pt.trim() == other.name)
    }
}

fn parse_pt(format: &str) -> Option<Pt> {
    let pt = format.parse().ok().filter(|&pt: &u8| pt < 128)?;
    Some(Pt(pt))
}

fn parse_codec(rtpmap: &str, fmtp: &str) -> Option<Codec> {
    match rtpmap.to_ascii_lowercase().as_str() {
        "opus/48000/2" => Some(Codec::Opus),
        "vp8/90000" => Some(Codec::Vp8),
        "h264/90000" if is_baseline(fmtp) => Some(Codec::H264),
        "vp9/90000" if is_first_profile(fmtp, "profile-id") => Some(Codec::Vp9),
        "av1/90000" if is_first_profile(fmtp, "profile") => Some(Codec::Av1),
        _ => None,
    }
}

/// Baseline is what RFC 6184 §8.1 means when no profile is given. The level may differ.
fn is_baseline(fmtp: &str) -> bool {
    let is_baseline = parameter(fmtp, "profile-level-id")
        .is_none_or(|profile| profile.len() == 6 && profile.starts_with("42"));
    is_baseline && parameter(fmtp, "packetization-mode") == Some("1")
}

/// VP9 and AV1: profile 0 is meant when none is given (RFC 9628 §6, AV1 RTP specification §7.2.3).
fn is_first_profile(fmtp: &str, name: &str) -> bool {
    parameter(fmtp, name).is_none_or(|profile| profile == "0")
}

/// Returns a parameter's value in a list such as `a=1;b=2`.
fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

/// Reads the streams of `a=simulcast` in the order of their `a=rid` lines.
fn read_rids(media: &MediaDescription) -> (Vec<String>, Vec<String>) {
    let is_simulcast = first(media, "simulcast")
        .is_some_and(|value| value.split_whitespace().any(|word| word == "send"));
    if !is_simulcast {
        return (Vec::new(), Vec::new());
    }
    values(media, "rid")
        .filter_map(|value| {
            let mut words = value.split_whitespace();
            let (rid, direction) = (words.next()?, words.next()?);
            let restrictions = words.next().unwrap_or_default();
            let restrictions: Vec<&str> = restrictions
                .split(';')
                .filter(|restriction| !restriction.starts_with("pt=") && !restriction.is_empty())
                .collect();
            let is_rid = direction == "send"
                && rid.len() <= MAX_RID_LEN
                && rid
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
            is_rid.then(|| (rid.to_owned(), restrictions.join(";")))
        })
        .take(MAX_RIDS)
        .unzip()
}

fn read_ssrcs(media: &MediaDescription) -> Vec<Ssrc> {
    let mut ssrcs = Vec::new();
    for value in values(media, "ssrc") {
        let ssrc = value.split(' ').next().and_then(parse_ssrc);
        if let Some(ssrc) = ssrc
            && !ssrcs.contains(&ssrc)
            && ssrcs.len() < MAX_SSRCS
        {
            ssrcs.push(ssrc);
        }
    }
    ssrcs
}

fn parse_ssrc(value: &str) -> Option<Ssrc> {
    value.parse().ok().map(Ssrc)
}

fn parse_fid(group: &str) -> Option<(Ssrc, Ssrc)> {
    let mut words = group.strip_prefix("FID ")?.split_whitespace();
    Some((parse_ssrc(words.next()?)?, parse_ssrc(words.next()?)?))
}

fn read_extensions(media: &MediaDescription) -> ExtensionIds {
    let mut ids = ExtensionIds::default();
    for value in values(media, "extmap") {
        let mut words = value.split_whitespace();
        let (Some(id), Some(offered)) = (words.next(), words.next()) else {
            continue;
        };
        let id = id.split('/').next().unwrap_or_default().parse().ok();
        let Some(number) = id.filter(|id| (1..=14).contains(id)) else {
            continue;
        };
        for (uri, id) in ids.uris() {
            if uri == offered && *id == 0 {
                *id = number;
            }
        }
    }
    ids
}

/// A mid is repeated in lists (RFC 5888 §4), so it must be one word, and a short one in RTP.
fn is_token(mid: &str) -> bool {
    (1..=MAX_MID_LEN).contains(&mid.len()) && mid.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Names of directions, and whether the offerer sends and receives.
const DIRECTIONS: [(&str, (bool, bool)); 4] = [
    ("sendrecv", (true, true)),
    ("sendonly", (true, false)),
    ("recvonly", (false, true)),
    ("inactive", (false, false)),
];

const MIXED: &str = "extmap-allow-mixed";

/// Browsers write about 5 KiB for each video m-line.
const MAX_LEN: usize = 128 * 1024;
const MAX_MEDIA_LINES: usize = 32;
const MAX_FORMATS: usize = 128;
const MAX_RIDS: usize = 4;
const MAX_RID_LEN: usize = 16;
const MAX_MID_LEN: usize = 32;
/// Feedback about all packets of a transport (draft-holmer-rmcat-transport-wide-cc-extensions-01).
pub(super) const TRANSPORT_CC: &str = "transport-cc";

const MAX_SSRCS: usize = 16;
