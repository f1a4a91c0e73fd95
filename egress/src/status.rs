//! Egress jobs as the API and the studio see them.

use std::fmt;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// The body of `POST /api/rooms/{room}/egress`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(deny_unknown_fields)]
#[ts(rename = "EgressRequest")]
pub struct Request {
    /// Where to send, 1 to 16.
    pub destinations: Vec<Destination>,
}

/// One requested destination.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, TS)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
#[ts(rename = "EgressDestination")]
pub enum Destination {
    /// An RTMP server.
    Rtmp {
        /// `rtmp://` or `rtmps://` URL of the server and application.
        url: String,
        /// The stream key. Never returned, never logged.
        #[ts(as = "String")]
        key: StreamKey,
    },
    /// This server's own playlist, `/hls/{room}/index.m3u8`.
    Hls {},
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
    /// When it was requested, Unix milliseconds.
    #[ts(type = "number")]
    pub created_at_ms: u64,
    /// Whether media of the broadcaster is arriving.
    pub receiving: bool,
    /// How often its worker process was restarted.
    pub restarts: u32,
    /// The worker's process id while it runs.
    pub worker_pid: Option<u32>,
    /// Its destinations in the order requested.
    pub destinations: Vec<DestinationStatus>,
}

/// The answer of `GET /api/rooms/{room}/egress`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
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
    /// It has ended on request.
    Ended,
    /// Its worker process could not be kept running.
    Failed,
}

/// One destination's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[ts(rename = "EgressDestinationStatus")]
pub struct DestinationStatus {
    /// `rtmp` or `hls`.
    pub r#type: DestinationType,
    /// The RTMP URL without its key, or the playlist's path.
    pub url: String,
    /// What it is doing.
    pub state: DestinationState,
    /// The kind of the last failure.
    pub code: Option<FailureCode>,
    /// The last failure in plain words, with the server's own, and what to do.
    pub last_error: Option<String>,
    /// Connection attempts since it was last live.
    pub attempt: u32,
    /// When the next attempt starts, Unix milliseconds, while `retrying`.
    #[ts(type = "number | null")]
    pub next_try_at_ms: Option<u64>,
    /// When it went live, Unix milliseconds, while `live`.
    #[ts(type = "number | null")]
    pub live_since_ms: Option<u64>,
    /// Bytes sent since the job started.
    #[ts(type = "number")]
    pub bytes: u64,
    /// Recent bitrate, bit/s.
    #[ts(type = "number")]
    pub bitrate_bps: u64,
    /// Video frames sent since the job started.
    #[ts(type = "number")]
    pub frames: u64,
    /// Video frames dropped since the job started, because the destination was away or slow.
    #[ts(type = "number")]
    pub dropped_frames: u64,
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
    /// The server closed the connection.
    ClosedByServer,
    /// The server stopped taking data.
    Stalled,
    /// The TLS handshake failed.
    TlsFailed,
    /// The broadcast is in a video codec that outputs do not take.
    CodecUnsupported,
    /// The worker process died.
    WorkerDied,
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
    /// HLS.
    Hls,
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
    /// The server runs as many jobs as it may.
    EgressCapacity,
    /// The room has an HLS output already.
    HlsActive,
    /// The room has no HLS output, or the file has left the playlist.
    HlsUnknown,
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
}
