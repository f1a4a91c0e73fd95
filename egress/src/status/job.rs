//! What a job and its destinations do.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{CustomPreset, Layout, Preset, Source};

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
    /// For how long its sessions are held open while nothing arrives, milliseconds; `None` when it shows a slate
    /// instead, for as long as it runs.
    #[ts(type = "number | null")]
    pub hold_ms: Option<u64>,
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
    /// All its destinations were given up.
    Failed,
}

/// One destination's state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, TS)]
#[ts(rename = "EgressDestinationStatus")]
pub struct DestinationStatus {
    /// Its id within the job.
    pub id: String,
    /// Its kind.
    pub r#type: DestinationType,
    /// The URL without its key, or the path of what is made here.
    pub url: String,
    /// Of HLS: whether players need a token.
    #[serde(default)]
    pub private: bool,
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
    /// Video frames dropped since the job started, because the destination was away or slow; of HLS, those of the
    /// best quality that no segment got.
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
    /// The broadcast is in a video codec that this server cannot decode: live again with one that it can.
    CodecUnsupported,
    /// The disk has no room for the recording or the pictures.
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
    /// Thumbnails.
    Thumbnails,
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
    /// It is given up until it is asked to try again.
    Failed,
    /// It has ended with the job.
    Ended,
}
