//! The kinds of media that are forwarded, and a packet as a tap receives it.

use std::time::Instant;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaKind {
    /// An audio track.
    Audio,
    /// A video track.
    Video,
}

/// A codec that the SFU forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// H.264 constrained baseline, packetization mode 1 (RFC 6184), 90 kHz.
    H264,
    /// VP8 (RFC 7741), 90 kHz.
    Vp8,
    /// VP9 (RFC 9628), profile 0, 90 kHz.
    Vp9,
    /// AV1 (AV1 RTP specification), main profile, 90 kHz.
    Av1,
    /// Opus (RFC 7587), 48 kHz, two channels.
    Opus,
}

impl Codec {
    /// Returns the RTP clock rate in Hz.
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::H264 | Self::Vp8 | Self::Vp9 | Self::Av1 => 90_000,
            Self::Opus => 48_000,
        }
    }

    /// Returns what it encodes.
    pub fn kind(self) -> MediaKind {
        match self {
            Self::H264 | Self::Vp8 | Self::Vp9 | Self::Av1 => MediaKind::Video,
            Self::Opus => MediaKind::Audio,
        }
    }
}

/// One decrypted RTP packet of a room's media, for a reader that does not speak WebRTC.
///
/// Sequence numbers and timestamps are continuous per kind and lane over every change of the publisher;
/// `codec` may change between packets, and then the first packet is the start of a keyframe. Of a stream with
/// spatial layers (SVC) all come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapPacket {
    /// Which of the streams that the tap yields it belongs to; see [`TapSource`](crate::TapSource).
    pub lane: u32,
    /// The packet's codec.
    pub codec: Codec,
    /// When the media is to be presented: the capture time on the server's clock, audio and video in step.
    pub presentation: Instant,
    /// Whether it starts a keyframe. Always true for audio.
    pub keyframe: bool,
    /// A whole RTP packet (RFC 3550 §5.1) without header extensions.
    pub rtp: Bytes,
}
