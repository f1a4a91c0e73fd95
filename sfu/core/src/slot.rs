//! Which publication each of a viewer's slots shows.

use crate::{MediaKind, PublicationId, publication::Publication};

/// What slot 0 of every viewer shows: the room's featured video and audio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    audio: Option<PublicationId>,
    video: Option<PublicationId>,
}

impl Program {
    /// Chooses the newest publication of each kind with which a newcomer could start, so that a publisher
    /// who takes over replaces the one before at its first keyframe and not earlier.
    pub(crate) fn of(publications: &[Publication]) -> Self {
        let newest = |kind| {
            let ready = publications
                .iter()
                .filter(|p| p.kind() == kind && p.is_ready());
            ready.map(|p| p.id).max()
        };
        Self {
            audio: newest(MediaKind::Audio),
            video: newest(MediaKind::Video),
        }
    }

    /// Returns the publication of this kind.
    pub(crate) fn get(&self, kind: MediaKind) -> Option<PublicationId> {
        match kind {
            MediaKind::Audio => self.audio,
            MediaKind::Video => self.video,
        }
    }
}

/// The publications that slot 0 shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    /// The featured audio.
    pub(crate) audio: Option<&'a Publication>,
    /// The featured video.
    pub(crate) video: Option<&'a Publication>,
}

impl<'a> Shown<'a> {
    /// Looks up a program.
    pub(crate) fn new(program: Program, publications: &'a [Publication]) -> Self {
        let find = |kind| {
            let id = program.get(kind)?;
            publications.iter().find(|p| p.id == id)
        };
        Self {
            audio: find(MediaKind::Audio),
            video: find(MediaKind::Video),
        }
    }

    /// Returns the publication of this kind.
    pub(crate) fn get(&self, kind: MediaKind) -> Option<&'a Publication> {
        match kind {
            MediaKind::Audio => self.audio,
            MediaKind::Video => self.video,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{
        Codec, PeerId,
        clock::{RemoteClock, ServerClock},
        layer::Arrival,
    };

    fn publication(id: u64, codec: Codec, payload: Option<&[u8]>) -> Publication {
        let now = Instant::now();
        let server = ServerClock::new(Duration::ZERO, now);
        let mut publication = Publication::new(PublicationId(id), PeerId(id), codec, 1, 16);
        if let Some(payload) = payload {
            let packet = Arrival {
                seq: 1,
                timestamp: 1,
                marker: true,
                payload,
                ..Arrival::default()
            };
            publication.published = true;
            publication.layers[0]
                .receive(&packet, server, &mut RemoteClock::default(), now)
                .unwrap();
        }
        publication
    }

    #[test]
    fn a_newcomer_takes_over_when_it_can_be_started_with() {
        let old_video = || publication(1, Codec::H264, Some(&[0x65]));
        let old_audio = || publication(2, Codec::Opus, Some(&[1]));
        let cases = [
            ("nobody", vec![], None, None),
            ("one", vec![old_video(), old_audio()], Some(1), Some(2)),
            (
                "the new one has sent nothing",
                vec![old_video(), old_audio(), publication(3, Codec::H264, None)],
                Some(1),
                Some(2),
            ),
            (
                "the new one has sent no keyframe",
                vec![old_video(), publication(3, Codec::H264, Some(&[0x41]))],
                Some(1),
                None,
            ),
            (
                "the new one has a keyframe and audio",
                vec![
                    old_video(),
                    old_audio(),
                    publication(3, Codec::Vp8, Some(&[0x10, 0])),
                    publication(4, Codec::Opus, Some(&[1])),
                ],
                Some(3),
                Some(4),
            ),
        ];
        for (label, publications, video, audio) in cases {
            let program = Program::of(&publications);
            let video = video.map(PublicationId);
            let audio = audio.map(PublicationId);
            assert_eq!(program.get(MediaKind::Video), video, "{label}");
            assert_eq!(program.get(MediaKind::Audio), audio, "{label}");
        }
    }
}
