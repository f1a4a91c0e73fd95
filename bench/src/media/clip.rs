//! A clip: encoded frames and sound, to be looped.

use std::time::Duration;

use anyhow::ensure;

use super::{h264, ogg};

/// An encoded clip. Its first frame is a keyframe, so it can be looped and restarted.
#[derive(Clone, Debug)]
pub(crate) struct Clip {
    /// H.264 frames, [`Clip::FRAME`] each.
    pub(crate) video: Vec<Frame>,
    /// Opus packets, [`Clip::SOUND`] each; none for a silent clip.
    pub(crate) audio: Vec<Vec<u8>>,
    /// Average bits per second of the video.
    pub(crate) bitrate: u64,
    /// How many frames there are to one with a stamp. Keyframes always have one.
    pub(crate) stamp_gap: u32,
}

/// One video frame as NAL units.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Whether decoding can start here.
    pub(crate) is_key: bool,
    /// Parameter sets in front.
    pub(crate) sets: Vec<Vec<u8>>,
    /// Its slices.
    pub(crate) slices: Vec<Vec<u8>>,
}

impl Clip {
    /// The time of a video frame: 30 per second.
    pub(crate) const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 30);
    /// The time of an audio packet.
    pub(crate) const SOUND: Duration = Duration::from_millis(20);

    /// Makes a clip of an H.264 byte stream at 30 frames per second and an Ogg file with Opus in packets of
    /// 20 ms.
    ///
    /// # Errors
    /// When there is no video, it does not start with a keyframe, or the sound is not Ogg.
    pub(crate) fn parse(video: &[u8], audio: &[u8]) -> anyhow::Result<Self> {
        let video = h264::frames(video);
        ensure!(
            video
                .first()
                .is_some_and(|frame| frame.is_key && !frame.sets.is_empty()),
            "the video must start with parameter sets and a keyframe"
        );
        let bytes: usize = video.iter().flat_map(|f| &f.slices).map(Vec::len).sum();
        Ok(Self {
            bitrate: bytes as u64 * 8 * 30 / video.len() as u64,
            video,
            audio: ogg::opus_packets(audio)?,
            stamp_gap: STAMP_GAP,
        })
    }

    /// Returns a silent clip of frames that are ten packets of 1100 bytes each, and decode to nothing. A
    /// keyframe every two seconds, alone with a stamp: every other packet has the same length.
    pub(crate) fn synthetic() -> Self {
        let frame = |index: usize| {
            let is_key = index == 0;
            // Each fragment spends two bytes on its own header, and the slice's header byte is in those.
            let mut slice = vec![0x5a; 10 * (1100 - 2) + 1];
            slice[0] = if is_key { 0x65 } else { 0x41 };
            let sets = if is_key {
                vec![SPS.to_vec(), PPS.to_vec()]
            } else {
                vec![]
            };
            Frame {
                is_key,
                sets,
                slices: vec![slice],
            }
        };
        Self {
            video: (0..60).map(frame).collect(),
            audio: vec![],
            bitrate: 10 * 1100 * 8 * 30,
            stamp_gap: u32::MAX,
        }
    }

    /// Returns how long the video is.
    pub(crate) fn duration(&self) -> Duration {
        Self::FRAME * u32::try_from(self.video.len()).unwrap_or(u32::MAX)
    }
}

/// A stamp is a packet of its own: on every frame it would make a tenth of all packets.
const STAMP_GAP: u32 = 4;

/// Parameter sets of 720p baseline.
const SPS: [u8; 14] = [
    0x67, 0x42, 0xe0, 0x1f, 0x8c, 0x8d, 0x40, 0x50, 0x1e, 0xd0, 0x0f, 0x08, 0x84, 0x6a,
];
const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];
