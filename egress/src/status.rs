//! Egress jobs as the API and the studio see them.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use ts_rs::TS;

pub use crate::platform::Platform;
pub use crate::scene::Layout;

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
    /// How a composed picture is arranged: as a grid if nothing is said.
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
    /// The first picture that they send.
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
#[serde(untagged)]
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

/// One job, as `GET /api/rooms/{room}/egress/{id}` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[ts(rename = "EgressJob")]
pub struct Job {
    /// Its id.
    pub id: String,
    /// The room's slug.
    pub room: String,
    /// What it is doing.
    pub state: JobState,
    /// What it sends.
    pub source: Source,
    /// Whether it leaves out the picture.
    pub audio_only: bool,
    /// What its picture is like.
    pub preset: Preset,
    /// How its picture is arranged, if the request said so.
    pub layout: Option<Layout>,
    /// Set while it is less than what was asked for.
    pub degraded: Option<Degraded>,
    /// When it was requested, Unix milliseconds.
    #[ts(type = "number")]
    pub created_at_ms: u64,
    /// Whether media of the broadcaster is arriving.
    pub receiving: bool,
    /// How often its worker process was restarted.
    pub restarts: u32,
    /// The worker's process id while it runs.
    pub worker_pid: Option<u32>,
    /// Processor time of the worker over the last seconds, percent of a core.
    pub cpu_percent: f32,
    /// Its destinations in the order requested.
    pub destinations: Vec<DestinationStatus>,
}

/// That a job is less than what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(rename = "EgressDegraded")]
pub struct Degraded {
    /// Why.
    pub reason: DegradedReason,
    /// What its picture is like meanwhile; `None` while the job is paused.
    pub preset: Option<CustomPreset>,
    /// Since when, Unix milliseconds.
    #[ts(type = "number")]
    pub since_ms: u64,
}

/// Why a job is less than what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(rename = "EgressDegradedReason")]
pub enum DegradedReason {
    /// Outputs use more than this server has for them. It gets back what it had as soon as there is room.
    Overload,
}

/// The answer of `GET /api/rooms/{room}/egress`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, TS)]
#[ts(rename = "EgressJobList")]
pub struct JobList {
    /// The jobs, running ones first, then the newest ended ones.
    pub jobs: Vec<Job>,
}

/// What a job is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(rename = "EgressJobState")]
pub enum JobState {
    /// The worker process is starting.
    Starting,
    /// The worker process runs.
    Running,
    /// The worker process ended unexpectedly and is about to be started again.
    Restarting,
    /// It is ending cleanly.
    Draining,
    /// It waits until this server has less to do.
    Paused,
    /// It has ended on request.
    Ended,
    /// Its worker process could not be kept running.
    Failed,
}

/// One destination's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[ts(rename = "EgressDestinationStatus")]
pub struct DestinationStatus {
    /// Its id within the job.
    pub id: String,
    /// `rtmp`, `srt` or `hls`.
    pub r#type: DestinationType,
    /// The RTMP URL without its key, or the playlist's path.
    pub url: String,
    /// What it is doing.
    pub state: DestinationState,
    /// Why it is not live, while it is not because something failed.
    pub code: Option<FailureCode>,
    /// The same in plain words, with the server's own, and what to do.
    pub last_error: Option<String>,
    /// What it recovered from last.
    pub past_failure: Option<PastFailure>,
    /// Connection attempts since it was last live.
    pub attempt: u32,
    /// When the next attempt starts, Unix milliseconds, while `retrying`.
    #[ts(type = "number | null")]
    pub next_try_at_ms: Option<u64>,
    /// When it went live, Unix milliseconds, while `live`.
    #[ts(type = "number | null")]
    pub live_since_ms: Option<u64>,
    /// Bytes that have left this server since the job started.
    #[ts(type = "number")]
    pub bytes: u64,
    /// Bytes that the far side has confirmed since the job started; 0 while it confirms nothing.
    #[ts(type = "number")]
    pub acknowledged_bytes: u64,
    /// Recent bitrate, bit/s.
    #[ts(type = "number")]
    pub bitrate_bps: u64,
    /// How old the newest frame was when it left, milliseconds.
    #[ts(type = "number")]
    pub delay_ms: u64,
    /// Video frames that have left this server since the job started.
    #[ts(type = "number")]
    pub frames: u64,
    /// Video frames dropped since the job started, because the destination was away or slow.
    #[ts(type = "number")]
    pub dropped_frames: u64,
}

/// A failure that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(rename = "EgressPastFailure")]
pub struct PastFailure {
    /// Its kind.
    pub code: FailureCode,
    /// In plain words.
    pub message: String,
    /// When it was over, Unix milliseconds.
    #[ts(type = "number")]
    pub recovered_at_ms: u64,
}

/// The body of `PATCH /api/rooms/{room}/egress/{id}`: all of it happens, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(rename = "EgressChange")]
pub struct Change {
    /// Destinations to add.
    pub add: Vec<Destination>,
    /// Ids of destinations to end and remove. When none is left, the job ends.
    pub remove: Vec<String>,
    /// Ids of destinations to try again now, even given up ones.
    pub retry: Vec<String>,
    /// Another arrangement of a composed picture; `null` for the one that the host sets.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[ts(optional = nullable, as = "Option<Layout>")]
    pub layout: Option<Option<Layout>>,
    /// Another preset of a composed picture.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub preset: Option<Preset>,
}

/// Tells `null` from what is not there.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<Layout>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// The body of `PATCH /api/rooms/{room}/egress/{id}/destinations/{destination}`. With neither, it is tried
/// again now, even a given up one. With one, it is replaced: it gets a new id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(rename = "EgressDestinationChange")]
pub struct DestinationChange {
    /// Another URL.
    #[ts(optional)]
    pub url: Option<String>,
    /// Another stream key; with SRT, another stream id.
    #[ts(optional, as = "Option<String>")]
    pub key: Option<StreamKey>,
}

impl DestinationChange {
    /// Returns what `destination` becomes; `None` when nothing about it changes.
    pub(crate) fn apply(self, destination: Destination) -> Option<Destination> {
        match destination {
            Destination::Rtmp { url, platform, key } if self != Self::default() => {
                Some(Destination::Rtmp {
                    platform: platform.filter(|_| self.url.is_none()),
                    url: self.url.unwrap_or(url),
                    key: self.key.unwrap_or(key),
                })
            }
            Destination::Srt {
                url,
                stream_id,
                passphrase,
                latency_ms,
            } if self != Self::default() => Some(Destination::Srt {
                url: self.url.unwrap_or(url),
                stream_id: self.key.or(stream_id),
                passphrase,
                latency_ms,
            }),
            Destination::Rtmp { .. }
            | Destination::Srt { .. }
            | Destination::Hls { .. }
            | Destination::Recording(_) => None,
        }
    }
}

/// The body of `POST /api/rooms/{room}/hls/tokens`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields)]
pub struct HlsTokenRequest {
    /// For how long the token opens the room's playlists, seconds; at most 31 days.
    #[ts(type = "number")]
    pub valid_for_s: u64,
}

/// The answer: an address that opens the room's private playlists and all below them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
pub struct HlsToken {
    /// The multivariant playlist, with the token.
    pub path: String,
    /// For `/hls/{room}/index.m3u8?token=…`, which leads to `path`.
    pub token: String,
    /// When it expires, Unix milliseconds.
    #[ts(type = "number")]
    pub expires_at_ms: u64,
}

/// Why a destination's last attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(rename = "EgressFailureCode")]
pub enum FailureCode {
    /// Nothing listens at that address and port.
    ConnectionRefused,
    /// The host's name cannot be resolved.
    HostNotFound,
    /// The host or network cannot be reached.
    Unreachable,
    /// The server did not answer in time.
    Timeout,
    /// The server refused the application or the stream key.
    Rejected,
    /// The receiver expects another passphrase, or none.
    PassphraseWrong,
    /// Somebody is sending with this key already.
    AlreadyPublishing,
    /// The host's name leads to a private address, which this server does not allow.
    PrivateAddress,
    /// The server closed the connection.
    ClosedByServer,
    /// The server stopped taking data.
    Stalled,
    /// The TLS handshake failed.
    TlsFailed,
    /// The broadcast is in a video codec that outputs do not take.
    CodecUnsupported,
    /// The disk has no room for the recording.
    DiskFull,
    /// No media arrived while it was recorded.
    NothingRecorded,
    /// The worker process died.
    WorkerDied,
    /// This server has too much to do, so that the job is paused.
    Overloaded,
    /// Something failed on this server's side.
    Internal,
}

/// The kind of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(rename = "EgressDestinationType")]
pub enum DestinationType {
    /// RTMP or RTMPS.
    Rtmp,
    /// SRT.
    Srt,
    /// HLS.
    Hls,
    /// A recording.
    Recording,
}

/// What a destination is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(rename = "EgressDestinationState")]
pub enum DestinationState {
    /// The first attempt is under way, or it waits for the broadcaster's first picture.
    Connecting,
    /// Media is being delivered.
    Live,
    /// The last attempt failed; another one follows.
    Retrying,
    /// It is given up until the job is started anew.
    Failed,
    /// It has ended with the job.
    Ended,
}

/// The body of every refusal, `application/problem+json` (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(rename = "EgressProblem")]
pub struct ProblemBody {
    /// `urn:fanlight:problem:` and the code.
    pub r#type: String,
    /// The HTTP status in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened and what to do, for people.
    pub detail: String,
    /// Stable code.
    pub code: ErrorCode,
    /// What is left, with `egress_capacity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub free: Option<Free>,
}

/// What is left for new jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[ts(rename = "EgressFree")]
pub struct Free {
    /// Jobs of the server.
    pub jobs: usize,
    /// Jobs of the room.
    pub jobs_in_room: usize,
    /// Processor time, percent of a core.
    pub cpu_percent: u32,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
#[ts(rename = "EgressErrorCode")]
pub enum ErrorCode {
    /// The request could not be understood.
    BadRequest,
    /// The body is larger than allowed.
    BodyTooLarge,
    /// There is no such job in the room.
    EgressUnknown,
    /// The server, or the room, has no room for the job; `free` says what is left.
    EgressCapacity,
    /// There is no such destination in the job.
    DestinationUnknown,
    /// The job sends to this address with this key already.
    DestinationDuplicate,
    /// The job is over.
    EgressOver,
    /// The idempotency key was used for another request, or is unusable.
    IdempotencyKeyReused,
    /// The body's `Content-Type` is not `application/json`.
    UnsupportedMediaType,
    /// The destination's URL is not among those that this server allows.
    DestinationNotAllowed,
    /// A recording's options cannot be used.
    RecordingOptionsInvalid,
    /// There is no such recording in the room.
    RecordingUnknown,
    /// The recording is being made: end its output first.
    RecordingActive,
    /// The disk has no room for a recording.
    DiskFull,
    /// The link is no longer valid.
    LinkInvalid,
    /// There is no picture of the room: it is not live.
    ThumbnailUnknown,
    /// The source, the preset and the layout do not go together, or the preset is out of range.
    PresetInvalid,
    /// The source cannot be used.
    SourceInvalid,
    /// A job that passes the picture through cannot become a composed one, nor the other way round.
    PresetFixed,
    /// The room has an HLS output already.
    HlsActive,
    /// The room has no HLS output, or the file has left the playlist.
    HlsUnknown,
    /// What was waited for did not come in time.
    HlsLate,
    /// The room's HLS output is private, and the address has no token.
    TokenMissing,
    /// The token in the address was made for another broadcast, or is none.
    TokenInvalid,
    /// The time for which the address was valid is over.
    TokenExpired,
    /// No destination was given.
    DestinationsEmpty,
    /// More destinations were given than allowed.
    DestinationsTooMany,
    /// A destination's URL cannot be used.
    DestinationUrlInvalid,
    /// A destination's stream key cannot be used.
    DestinationKeyInvalid,
    /// The method is not one of this resource's.
    MethodNotAllowed,
    /// The server is stopping.
    Stopping,
    /// Something failed on the server's side; its log says what.
    Internal,
}

/// One recording, as `GET /api/rooms/{room}/recordings/{id}` answers. Links in it open without a token until
/// `links_expire_at_ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Recording {
    /// Its id.
    pub id: String,
    /// The room's slug.
    pub room: String,
    /// What happens to it.
    pub state: RecordingState,
    /// Why it ended early, or failed.
    pub code: Option<FailureCode>,
    /// When it was asked for, Unix milliseconds.
    #[ts(type = "number")]
    pub started_at_ms: u64,
    /// How much was recorded, pauses left out.
    #[ts(type = "number")]
    pub duration_ms: u64,
    /// Size of its files.
    #[ts(type = "number")]
    pub bytes: u64,
    /// Width of its first picture.
    pub width: Option<u16>,
    /// Height of its first picture.
    pub height: Option<u16>,
    /// Link to a picture of it (JPEG).
    pub poster: Option<String>,
    /// Its files, the oldest first. A file is listed once it is finished.
    pub files: Vec<RecordingFile>,
    /// When the links expire, Unix milliseconds.
    #[ts(type = "number")]
    pub links_expire_at_ms: u64,
}

/// One file of a recording: MP4 with its index in front.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct RecordingFile {
    /// Its name.
    pub name: String,
    /// Link to it; answers range requests. `null` while it is being uploaded.
    pub url: Option<String>,
    /// When it starts, Unix milliseconds.
    #[ts(type = "number")]
    pub started_at_ms: u64,
    /// How long it plays.
    #[ts(type = "number")]
    pub duration_ms: u64,
    /// Its size.
    #[ts(type = "number")]
    pub bytes: u64,
    /// Width of the picture, if it has one.
    pub width: Option<u16>,
    /// Height of the picture.
    pub height: Option<u16>,
    /// Link to a list (WebVTT) of small pictures for the seek bar.
    pub sprite: Option<String>,
}

/// What happens to a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum RecordingState {
    /// It is being made.
    Recording,
    /// Its files get their index.
    Finishing,
    /// Its files are on their way to the storage.
    Uploading,
    /// It can be played.
    Ready,
    /// Nothing could be recorded, or what was cannot be finished; `code` says why.
    Failed,
}

/// The answer of `GET /api/rooms/{room}/recordings`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct RecordingList {
    /// The newest first.
    pub recordings: Vec<Recording>,
}
