//! What is asked for when a job is started.

use std::fmt;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{Layout, Platform};

/// The body of `POST /api/rooms/{room}/egress`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields)]
#[ts(rename = "EgressRequest")]
pub struct Request {
    /// What to send: the program if nothing is said.
    #[serde(default)]
    #[ts(optional, as = "Option<Source>")]
    pub source: Source,
    /// Whether to leave out the picture.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[ts(optional, as = "Option<bool>")]
    pub audio_only: bool,
    /// What the picture is like: `720p30` for the stage if nothing is said, else the publisher's own, untouched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub preset: Option<Preset>,
    /// How a composed picture is arranged: as the host sets it for the room if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional = nullable)]
    pub layout: Option<Layout>,
    /// Where to send, 1 to 16.
    pub destinations: Vec<Destination>,
}

/// What a job sends.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[ts(rename = "EgressSource")]
pub enum Source {
    /// Whoever is featured or speaks.
    Program {},
    /// Everybody on stage, composed into one picture.
    Stage {},
    /// One participant, whether they are shown or not: their screen while they share one, else their camera, and
    /// their voice. They may leave and come back.
    Participant {
        /// Whom.
        identity: String,
    },
    /// One track of a participant.
    Track {
        /// Whose.
        identity: String,
        /// Which.
        track: Track,
    },
}

impl Default for Source {
    fn default() -> Self {
        Self::Program {}
    }
}

/// A track of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(rename = "EgressTrack")]
pub enum Track {
    /// The first picture that they send, also while it is a screen in the place of the camera.
    Camera,
    /// The second picture that they send.
    Screen,
    /// The first sound that they send.
    Microphone,
    /// The second sound that they send.
    ScreenAudio,
}

/// What the picture of a job is like.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(
    untagged,
    expecting = "preset: `pass_through`, `480p30`, `720p30`, `720p60`, `1080p30`, `1080p60`, or an object \
                 with `width`, `height`, `frame_rate`, `bitrate_bps` and perhaps `keyframe_interval_ms`"
)]
#[ts(rename = "EgressPreset")]
pub enum Preset {
    /// One that has a name.
    Named(PresetName),
    /// Another one.
    Custom(CustomPreset),
}

/// A preset that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
#[ts(rename = "EgressPresetName")]
pub enum PresetName {
    /// The publisher's own picture, untouched.
    #[serde(rename = "pass_through")]
    PassThrough,
    /// 854x480, 30 frames/s, 1.5 Mbit/s.
    #[serde(rename = "480p30")]
    P480p30,
    /// 1280x720, 30 frames/s, 3 Mbit/s.
    #[serde(rename = "720p30")]
    P720p30,
    /// 1280x720, 60 frames/s, 4.5 Mbit/s.
    #[serde(rename = "720p60")]
    P720p60,
    /// 1920x1080, 30 frames/s, 4.5 Mbit/s.
    #[serde(rename = "1080p30")]
    P1080p30,
    /// 1920x1080, 60 frames/s, 6 Mbit/s.
    #[serde(rename = "1080p60")]
    P1080p60,
}

impl PresetName {
    /// Returns it as JSON has it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::PassThrough => "pass_through",
            Self::P480p30 => "480p30",
            Self::P720p30 => "720p30",
            Self::P720p60 => "720p60",
            Self::P1080p30 => "1080p30",
            Self::P1080p60 => "1080p60",
        }
    }
}

/// A preset of one's own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields)]
#[ts(rename = "EgressCustomPreset")]
pub struct CustomPreset {
    /// Pixels, even, 64 to 3840.
    pub width: u32,
    /// Pixels, even, 64 to 3840.
    pub height: u32,
    /// Frames a second, 1 to 60.
    pub frame_rate: u32,
    /// Bit/s, 100000 to 20000000.
    pub bitrate_bps: u32,
    /// Time between keyframes, 500 to 10000; 2000 if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub keyframe_interval_ms: Option<u32>,
}

/// One requested destination.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[ts(rename = "EgressDestination")]
pub enum Destination {
    /// An RTMP server.
    Rtmp {
        /// `rtmp://` or `rtmps://` URL of the server and application. Not with a platform.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        #[ts(as = "Option<String>", optional)]
        url: String,
        /// Instead of a URL, a platform whose URL is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        platform: Option<Platform>,
        /// The stream key. Never returned, never logged.
        #[ts(as = "String")]
        key: StreamKey,
    },
    /// An SRT receiver in listener mode, which gets MPEG-TS.
    Srt {
        /// `srt://host:port`.
        url: String,
        /// The stream id, which many receivers use as a key: never returned, never logged.
        #[serde(default)]
        #[ts(as = "Option<String>", optional)]
        stream_id: Option<StreamKey>,
        /// Encrypts the stream, 10 to 79 characters. Never returned, never logged.
        #[serde(default)]
        #[ts(as = "Option<String>", optional)]
        passphrase: Option<StreamKey>,
        /// How long the receiver may wait for repeated packets, up to 8000 ms; 120 when not given.
        #[serde(default)]
        #[ts(optional)]
        latency_ms: Option<u32>,
    },
    /// This server's own playlist, `/hls/{room}/index.m3u8`.
    Hls {
        /// Whether players need a token (`POST /api/rooms/{room}/hls/tokens`).
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        #[ts(optional, as = "Option<bool>")]
        private: bool,
    },
    /// A recording, `/api/rooms/{room}/recordings/{id}`.
    Recording(RecordingOptions),
    /// Pictures of what the job shows, `/api/rooms/{room}/egress/{id}/thumbnails/{destination}`.
    Thumbnails(ThumbnailOptions),
}

/// How a recording is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(rename = "RecordingOptions", optional_fields)]
pub struct RecordingOptions {
    /// A new file about every so many seconds, 10 to 43200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_seconds: Option<u32>,
    /// A new file about every so many megabytes, 1 to 100000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segment_mb: Option<u32>,
    /// Whether every track of the stage is recorded into files of its own, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[ts(as = "Option<bool>")]
    pub tracks: bool,
}

/// Which pictures are made, and how many are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(rename = "ThumbnailOptions", optional_fields)]
pub struct ThumbnailOptions {
    /// A picture every so many seconds, 1 to 3600; 10 if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<u32>,
    /// Their width in pixels, 160 to 1920; 640 if nothing is said. The height follows from the picture's shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// How many are kept, the newest, 1 to 10000; 360 if nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
}

/// A stream key: a secret that does not print.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct StreamKey(String);

impl StreamKey {
    /// Returns the key itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for StreamKey {
    fn from(key: String) -> Self {
        Self(key)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamKey(…)")
    }
}
