//! The streams that are measured: when which packets leave the publisher.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A kind of stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Profile {
    /// 720p30 at 2.5 Mb/s and Opus, paced as a browser paces: a packet every 1.4 ms within a frame.
    Paced,
    /// 300 packets/s of 1100 bytes, the ten of each frame at once.
    Bursts,
}

/// Which stream a packet belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// Opus, a packet every 20 ms.
    Audio,
    /// H264, 30 frames per second.
    Video,
}

/// One packet of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// When it leaves, since the start of the stream.
    pub(crate) at: Duration,
    /// What it is.
    pub(crate) medium: Medium,
    /// Length of its payload in bytes.
    pub(crate) len: usize,
    /// Number of its video frame, or of its audio packet.
    pub(crate) frame: u32,
    /// Place within the frame.
    pub(crate) index: u32,
    /// Whether it ends the frame.
    pub(crate) last: bool,
}

impl Profile {
    /// Returns the packets of a frame's time span, the `slot`-th thirtieth of a second, in order of time.
    pub(crate) fn slot(self, slot: u32) -> Vec<Packet> {
        let start = SLOT * slot;
        let (packets, len, gap) = match self {
            Self::Paced => (9, 1157, Duration::from_micros(1400)),
            Self::Bursts => (10, 1100, Duration::ZERO),
        };
        let video = (0..packets).map(|index| Packet {
            at: start + gap * index,
            medium: Medium::Video,
            len,
            frame: slot,
            index,
            last: index + 1 == packets,
        });
        let audio = self.audio(start, start + SLOT);
        let mut packets: Vec<Packet> = video.chain(audio).collect();
        packets.sort_by_key(|packet| packet.at);
        packets
    }

    fn audio(self, from: Duration, to: Duration) -> impl Iterator<Item = Packet> {
        let before = |at: Duration| u32::try_from(at.as_nanos().div_ceil(AUDIO_GAP.as_nanos()));
        let first = before(from).unwrap_or(u32::MAX);
        let end = before(to).unwrap_or(u32::MAX);
        let frames = match self {
            Self::Paced => first..end,
            Self::Bursts => first..first,
        };
        frames.map(|frame| Packet {
            at: AUDIO_GAP * frame,
            medium: Medium::Audio,
            len: 80,
            frame,
            index: 0,
            last: true,
        })
    }
}

/// The time of one video frame.
pub(crate) const SLOT: Duration = Duration::from_nanos(1_000_000_000 / 30);

const AUDIO_GAP: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_the_promised_packets() {
        for (profile, video, audio) in [(Profile::Paced, 270, 50), (Profile::Bursts, 300, 0)] {
            let packets: Vec<Packet> = (0..30).flat_map(|slot| profile.slot(slot)).collect();
            let count = |medium| packets.iter().filter(|p| p.medium == medium).count();
            assert_eq!(count(Medium::Video), video, "{profile:?}");
            assert_eq!(count(Medium::Audio), audio, "{profile:?}");
            assert!(packets.is_sorted_by_key(|p| p.at), "{profile:?}");
        }
    }
}
