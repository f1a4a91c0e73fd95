//! What becomes of each m-line of an offer.

use crate::{
    Codec, MediaKind, Role,
    slot::{AUDIO_SLOTS, MAX_VIDEO_SLOTS, View},
    transport::{CodecOffer, ExtensionIds, MediaLine, MediaLineKind, Offer},
};

/// What the server makes of an offer.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// One entry per m-line.
    pub(crate) lines: Vec<Line>,
    /// The header extensions of the accepted m-lines; bundled m-lines share their ids (RFC 8843 §9.1).
    pub(crate) extensions: ExtensionIds,
}

/// What the server makes of one m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It is not wanted.
    Reject,
    /// It is the data channel.
    DataChannel,
    /// The server receives.
    Receive(CodecOffer),
    /// The server sends what the room shows, in any of these codecs.
    Send(View, Vec<CodecOffer>),
}

impl Plan {
    /// Decides. A publisher may send [`SENT_VIDEO`] and [`SENT_AUDIO`] tracks, each in the codec that needs
    /// the least work further on, unless it asks for another one by offering VP9 or AV1 before all others.
    /// A viewer may receive on [`MAX_VIDEO_SLOTS`] and [`AUDIO_SLOTS`] m-lines.
    ///
    /// An m-line of a viewer that is the only one of its kind shows the program, several show slots.
    pub(crate) fn of(offer: &Offer, role: Role) -> Self {
        let mut plan = Self {
            lines: Vec::new(),
            extensions: ExtensionIds::default(),
        };
        for media in &offer.media {
            let line = plan.decide(media, role);
            match &line {
                Line::Reject | Line::DataChannel => {}
                Line::Receive(codec) => {
                    let ids = media.extensions.of_received(codec.codec.codec);
                    plan.extensions.merge(ids);
                }
                Line::Send(..) => plan.extensions.merge(media.extensions.of_sent()),
            }
            plan.lines.push(line);
        }
        if !plan.reports_on_video(offer) {
            plan.extensions.transport_cc = 0;
        }
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let views = plan.lines.iter_mut().filter_map(Line::view_mut);
            let mut views: Vec<_> = views.filter(|view| view.kind() == kind).collect();
            if let [view] = &mut views[..] {
                **view = View::Program(kind);
            }
        }
        plan
    }

    /// Returns whether nothing was accepted of what the role is for: a viewer may want the data channel alone.
    pub(crate) fn is_empty(&self, role: Role) -> bool {
        let is_for = |line: &Line| match line {
            Line::Reject => false,
            Line::DataChannel => role == Role::Viewer,
            Line::Receive(_) | Line::Send(..) => true,
        };
        !self.lines.iter().any(is_for)
    }

    /// Returns whether a viewer reports on all of its video: reports on a part of it, or on sound alone, say too little
    /// of the path.
    fn reports_on_video(&self, offer: &Offer) -> bool {
        let mut lines = offer.media.iter().zip(&self.lines);
        lines.all(|(media, line)| match line {
            Line::Send(view, _) => {
                view.kind() == MediaKind::Audio || media.extensions.transport_cc != 0
            }
            Line::Reject | Line::DataChannel | Line::Receive(_) => true,
        })
    }

    /// Returns a kind of media that a publisher offers, in codecs of which none was accepted.
    pub(crate) fn missing_kind(&self, offer: &Offer) -> Option<MediaKind> {
        let offered = |kind| {
            let mut media = offer.media.iter();
            media.any(|media| media.sends && media.media_kind() == Some(kind))
        };
        let accepted = |kind| {
            let mut lines = self.lines.iter();
            lines.any(|line| matches!(line, Line::Receive(_)) && line.kind() == Some(kind))
        };
        let mut kinds = [MediaKind::Audio, MediaKind::Video].into_iter();
        kinds.find(|kind| offered(*kind) && !accepted(*kind))
    }

    fn decide(&self, media: &MediaLine, role: Role) -> Line {
        if media.kind == MediaLineKind::DataChannel {
            return match self.lines.contains(&Line::DataChannel) {
                true => Line::Reject,
                false => Line::DataChannel,
            };
        }
        let Some(kind) = media.media_kind() else {
            return Line::Reject;
        };
        let same = self.lines.iter().filter(|line| line.kind() == Some(kind));
        let position = same.count();
        if position >= most(role, kind) {
            return Line::Reject;
        }
        let codecs = accepted(media, kind);
        match role {
            Role::Publisher if media.sends => match choose(media, codecs) {
                Some(codec) => Line::Receive(codec),
                None => Line::Reject,
            },
            Role::Viewer if media.receives && !codecs.is_empty() => {
                Line::Send(View::Slot(kind, position), codecs)
            }
            Role::Publisher | Role::Viewer => Line::Reject,
        }
    }
}

impl Line {
    fn kind(&self) -> Option<MediaKind> {
        match self {
            Self::Reject | Self::DataChannel => None,
            Self::Receive(codec) => Some(codec.codec.codec.kind()),
            Self::Send(view, _) => Some(view.kind()),
        }
    }

    fn view_mut(&mut self) -> Option<&mut View> {
        match self {
            Self::Send(view, _) => Some(view),
            Self::Reject | Self::DataChannel | Self::Receive(_) => None,
        }
    }
}

impl ExtensionIds {
    fn merge(&mut self, other: Self) {
        for (mine, theirs) in [
            (&mut self.mid, other.mid),
            (&mut self.rid, other.rid),
            (&mut self.repaired_rid, other.repaired_rid),
            (&mut self.transport_cc, other.transport_cc),
            (&mut self.audio_level, other.audio_level),
            (&mut self.abs_capture_time, other.abs_capture_time),
            (&mut self.playout_delay, other.playout_delay),
            (&mut self.dependency_descriptor, other.dependency_descriptor),
        ] {
            if *mine == 0 {
                *mine = theirs;
            }
        }
    }
}

/// Returns the codecs of an m-line that are forwarded, best first.
fn accepted(media: &MediaLine, kind: MediaKind) -> Vec<CodecOffer> {
    let codecs = PREFERENCE.into_iter().filter(|codec| codec.kind() == kind);
    let offer = |codec| media.codecs.iter().find(|offer| offer.codec.codec == codec);
    codecs.filter_map(offer).cloned().collect()
}

/// Returns the codec in which a publisher is to send: the one it insists on, else the best.
fn choose(media: &MediaLine, codecs: Vec<CodecOffer>) -> Option<CodecOffer> {
    let first = media.codecs.first().map(|offer| offer.codec.codec);
    let insisted = first.filter(|codec| matches!(codec, Codec::Vp9 | Codec::Av1));
    let is_wanted = |offer: &&CodecOffer| Some(offer.codec.codec) == insisted;
    let wanted = codecs.iter().find(is_wanted).cloned();
    wanted.or_else(|| codecs.into_iter().next())
}

/// Returns how many m-lines of a kind are accepted.
fn most(role: Role, kind: MediaKind) -> usize {
    match (role, kind) {
        (Role::Publisher, MediaKind::Video) => SENT_VIDEO,
        (Role::Publisher, MediaKind::Audio) => SENT_AUDIO,
        (Role::Viewer, MediaKind::Video) => MAX_VIDEO_SLOTS,
        (Role::Viewer, MediaKind::Audio) => AUDIO_SLOTS,
    }
}

/// H264 passes through RTMP and HLS untouched, all others have to be transcoded; VP9 and AV1 cost most there.
const PREFERENCE: [Codec; 5] = [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::Opus];

/// Camera and screen.
const SENT_VIDEO: usize = 2;

/// Microphone, and the sound of the screen.
const SENT_AUDIO: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Mid, Pt, transport::CodecPt};

    fn codec(codec: Codec, pt: u8) -> CodecOffer {
        CodecOffer {
            codec: CodecPt {
                codec,
                pt: Pt(pt),
                rtx: None,
                red: None,
            },
            rtpmap: String::new(),
            fmtp: String::new(),
            feedback: Vec::new(),
        }
    }

    fn line(kind: MediaLineKind, sends: bool, codecs: &[CodecOffer]) -> MediaLine {
        MediaLine {
            mid: Mid("0".into()),
            kind,
            sends,
            receives: !sends,
            codecs: codecs.to_vec(),
            rids: Vec::new(),
            rid_restrictions: Vec::new(),
            ssrcs: Vec::new(),
            fid: Vec::new(),
            extensions: ExtensionIds {
                mid: 3,
                ..ExtensionIds::default()
            },
            head: Default::default(),
        }
    }

    fn plan(media: Vec<MediaLine>, role: Role) -> Plan {
        let offer = Offer {
            fingerprint: [0; 32],
            media,
            mixed_extensions: false,
        };
        Plan::of(&offer, role)
    }

    #[test]
    fn a_publisher_sends_h264_if_it_can_and_two_tracks_of_each_kind() {
        let video = [
            codec(Codec::Vp8, 96),
            codec(Codec::H264, 102),
            codec(Codec::H264, 104),
        ];
        let audio = [codec(Codec::Opus, 111)];
        let plan = plan(
            vec![
                line(MediaLineKind::Audio, true, &audio),
                line(MediaLineKind::Video, true, &video),
                line(MediaLineKind::Video, true, &video[..1]),
                line(MediaLineKind::Video, true, &video),
                line(MediaLineKind::DataChannel, false, &[]),
                line(MediaLineKind::Other, true, &[]),
            ],
            Role::Publisher,
        );
        let expected = [
            Line::Receive(audio[0].clone()),
            Line::Receive(video[1].clone()),
            Line::Receive(video[0].clone()),
            Line::Reject,
            Line::DataChannel,
            Line::Reject,
        ];
        assert_eq!(plan.lines, expected);
        assert_eq!(plan.extensions.mid, 3);
    }

    #[test]
    fn vp9_and_av1_are_chosen_when_they_are_offered_first() {
        let offered = |codecs: &[Codec]| -> Vec<_> {
            (96..).zip(codecs).map(|(pt, c)| codec(*c, pt)).collect()
        };
        use Codec::{Av1, H264, Vp8, Vp9};
        for (codecs, expected) in [
            (&[Vp9, H264, Vp8][..], Vp9),
            (&[Av1, Vp9, H264], Av1),
            (&[Vp8, Vp9, H264, Av1], H264),
            (&[Vp8, Av1, Vp9], Vp8),
            (&[Av1], Av1),
        ] {
            let media = line(MediaLineKind::Video, true, &offered(codecs));
            match &plan(vec![media], Role::Publisher).lines[..] {
                [Line::Receive(offer)] => assert_eq!(offer.codec.codec, expected, "{codecs:?}"),
                lines => panic!("{codecs:?}: {lines:?}"),
            }
        }
    }

    #[test]
    fn a_viewer_receives_every_codec_it_can() {
        let video = [codec(Codec::Vp8, 96), codec(Codec::H264, 102)];
        let plan = plan(
            vec![
                line(MediaLineKind::Video, false, &video),
                line(MediaLineKind::Video, false, &video[..1]),
                line(MediaLineKind::Audio, true, &[codec(Codec::Opus, 111)]),
            ],
            Role::Viewer,
        );
        let [h264, vp8] = [video[1].clone(), video[0].clone()];
        let expected = [
            Line::Send(View::Slot(MediaKind::Video, 0), vec![h264, vp8.clone()]),
            Line::Send(View::Slot(MediaKind::Video, 1), vec![vp8]),
            Line::Reject,
        ];
        assert_eq!(plan.lines, expected);
    }

    #[test]
    fn nothing_in_common_is_empty() {
        let cases = [
            ("no m-lines", vec![], true),
            (
                "no codec",
                vec![line(MediaLineKind::Video, true, &[])],
                true,
            ),
            (
                "receives only",
                vec![line(MediaLineKind::Video, false, &[codec(Codec::Vp8, 96)])],
                true,
            ),
            (
                "data only",
                vec![line(MediaLineKind::DataChannel, false, &[])],
                true,
            ),
        ];
        for (label, media, expected) in cases {
            let plan = plan(media, Role::Publisher);
            assert_eq!(plan.is_empty(Role::Publisher), expected, "{label}");
        }
        let media = vec![line(MediaLineKind::DataChannel, false, &[])];
        let plan = plan(media, Role::Viewer);
        assert!(!plan.is_empty(Role::Viewer), "the chat alone");
    }
}
