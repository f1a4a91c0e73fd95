//! What an operator may set about outputs.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::pattern;

/// The `egress` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most jobs at once; each is a process of about 60 MB.
    pub max_jobs: usize,
    /// Most jobs of one room at once.
    pub max_jobs_per_room: usize,
    /// Processor time that all jobs together may be expected to use, percent of a core; 0 means 80 % of all cores.
    pub max_cpu_percent: u32,
    /// Most destinations of one job, at most 16.
    pub max_destinations: usize,
    /// Whether everybody who may start outputs may send to loopback and private addresses; the server's owner may
    /// in any case. What names resolve to is checked, too, at each connection.
    pub allow_private_targets: bool,
    /// URLs that may be targets, such as `rtmps://*.example.com/live`; `*` stands for anything within the host or
    /// the path. Empty allows all.
    pub allow: Vec<String>,
    /// A file of certificates (PEM) that are trusted besides the system's, for `rtmps://` servers of your own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca_file: Option<PathBuf>,
    /// How often the broadcaster is asked for a keyframe while an output needs them.
    pub keyframe_interval_ms: u64,
    /// How long a destination may take to accept the stream.
    pub connect_timeout_ms: u64,
    /// How long a destination may take no data before it is connected anew.
    pub stall_timeout_ms: u64,
    /// How long sessions at destinations are held open with the last picture and silence while nothing arrives
    /// from the broadcaster.
    pub hold_ms: u64,
    /// Bitrate of the AAC audio, bit/s.
    pub audio_bitrate: u32,
    /// Bitrate of the H.264 video when the broadcaster's codec has to be transcoded, bit/s.
    pub transcode_bitrate: u32,
    /// The HLS output.
    pub hls: HlsConfig,
    /// Recordings.
    pub recording: RecordingConfig,
    /// How old a live room's thumbnail may be; 0 for no thumbnails.
    pub thumbnail_seconds: u64,
}

/// The `egress.hls` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HlsConfig {
    /// Wanted duration of a segment. Segments end at keyframes, so it is also bound by `keyframe_interval_ms`.
    pub segment_ms: u64,
    /// Most duration of a part: players that can are three parts behind. A part is a request of every player.
    pub part_ms: u64,
    /// Segments listed in the playlist.
    pub window_segments: usize,
    /// How far players may rewind; what the playlist lists anyway if 0. Kept on disk, in the data folder.
    pub dvr_seconds: u64,
    /// Most disk space of one output's rewind window.
    pub dvr_max_mb: u64,
}

/// The `egress.recording` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordingConfig {
    /// Where recordings are kept; by default `recordings` in the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// Recordings are refused, and end, when the disk has less free space than this.
    pub min_free_mb: u64,
    /// Recordings are refused, and end, when all of them together are larger; 0 for no limit.
    pub max_gb: u64,
    /// How long links to recordings are valid.
    pub link_hours: u64,
    /// An S3-compatible storage that files go to; the folder then only keeps what is on its way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub s3: Option<S3Config>,
}

/// The `egress.recording.s3` section of the configuration. The keys are taken from `credentials_file`, else from
/// `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, else from the machine's role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// URL of the storage; by default Amazon's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// What names in the bucket start with.
    pub prefix: String,
    /// A file with `aws_access_key_id = …` and `aws_secret_access_key = …`. It is read again for each request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// Whether files stay in the folder, too.
    pub keep_local: bool,
    /// Whether links lead to the storage itself (presigned URLs), which browsers must then reach. Otherwise files
    /// are passed on by this server.
    pub redirect_links: bool,
    /// How long one request, with up to 8 MB, may take.
    pub timeout_seconds: u64,
}

/// Why a configuration cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("egress.{field} must be {allowed}")]
pub struct ConfigError {
    field: &'static str,
    allowed: &'static str,
}

/// Whether a value is in its range, its name, and what it must be.
type Rule = (bool, &'static str, &'static str);

impl Config {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (own, hls, recording) = (self.rules(), self.hls.rules(), self.recording.rules());
        for (holds, field, allowed) in own.into_iter().chain(hls).chain(recording) {
            if !holds {
                return Err(ConfigError { field, allowed });
            }
        }
        Ok(())
    }

    fn rules(&self) -> [Rule; 12] {
        [
            ((1..=1000).contains(&self.max_jobs), "max_jobs", "1 to 1000"),
            (
                (1..=1000).contains(&self.max_jobs_per_room),
                "max_jobs_per_room",
                "1 to 1000",
            ),
            (
                self.max_cpu_percent <= 100_000,
                "max_cpu_percent",
                "0 to 100000",
            ),
            (
                self.allow.iter().all(|text| pattern::is_valid(text)),
                "allow",
                "a list of patterns like rtmps://*.example.com/live",
            ),
            (
                (1..=16).contains(&self.max_destinations),
                "max_destinations",
                "1 to 16",
            ),
            (
                (500..=10_000).contains(&self.keyframe_interval_ms),
                "keyframe_interval_ms",
                "500 to 10000",
            ),
            (
                (1000..=8000).contains(&self.connect_timeout_ms),
                "connect_timeout_ms",
                "1000 to 8000",
            ),
            (
                (1000..=60_000).contains(&self.stall_timeout_ms),
                "stall_timeout_ms",
                "1000 to 60000",
            ),
            (
                (2000..=86_400_000).contains(&self.hold_ms),
                "hold_ms",
                "2000 to 86400000",
            ),
            (
                (32_000..=320_000).contains(&self.audio_bitrate),
                "audio_bitrate",
                "32000 to 320000",
            ),
            (
                (100_000..=20_000_000).contains(&self.transcode_bitrate),
                "transcode_bitrate",
                "100000 to 20000000",
            ),
            (
                self.thumbnail_seconds <= 3600,
                "thumbnail_seconds",
                "0 to 3600",
            ),
        ]
    }

    pub(crate) fn keyframe_interval(&self) -> Duration {
        Duration::from_millis(self.keyframe_interval_ms)
    }
}

impl HlsConfig {
    fn rules(&self) -> [Rule; 5] {
        [
            (
                (1000..=10_000).contains(&self.segment_ms),
                "hls.segment_ms",
                "1000 to 10000",
            ),
            (
                (200..=500).contains(&self.part_ms),
                "hls.part_ms",
                "200 to 500",
            ),
            (self.dvr_seconds <= 86_400, "hls.dvr_seconds", "0 to 86400"),
            (
                (100..=1_000_000).contains(&self.dvr_max_mb),
                "hls.dvr_max_mb",
                "100 to 1000000",
            ),
            (
                (4..=60).contains(&self.window_segments),
                "hls.window_segments",
                "4 to 60",
            ),
        ]
    }
}

impl RecordingConfig {
    fn rules(&self) -> [Rule; 6] {
        let s3 = self.s3.as_ref();
        let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        [
            (
                s3.is_none_or(|s3| !s3.bucket.is_empty()),
                "recording.s3.bucket",
                "the name of a bucket",
            ),
            (
                s3.is_none_or(|s3| s3.endpoint.as_ref().is_none_or(is_url)),
                "recording.s3.endpoint",
                "a URL such as https://s3.example.com",
            ),
            (
                s3.is_none_or(|s3| (2..=3600).contains(&s3.timeout_seconds)),
                "recording.s3.timeout_seconds",
                "2 to 3600",
            ),
            (
                self.min_free_mb <= 1 << 30,
                "recording.min_free_mb",
                "0 to 1073741824",
            ),
            (
                self.max_gb <= 1 << 30,
                "recording.max_gb",
                "0 to 1073741824",
            ),
            (
                (1..=8760).contains(&self.link_hours),
                "recording.link_hours",
                "1 to 8760",
            ),
        ]
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_jobs: 8,
            max_jobs_per_room: 4,
            max_cpu_percent: 0,
            max_destinations: 16,
            allow_private_targets: false,
            allow: Vec::new(),
            tls_ca_file: None,
            keyframe_interval_ms: 2000,
            connect_timeout_ms: 6000,
            stall_timeout_ms: 5000,
            hold_ms: 60_000,
            audio_bitrate: 128_000,
            transcode_bitrate: 2_500_000,
            hls: HlsConfig::default(),
            recording: RecordingConfig::default(),
            thumbnail_seconds: 5,
        }
    }
}

impl Default for HlsConfig {
    fn default() -> Self {
        Self {
            segment_ms: 2000,
            part_ms: 300,
            window_segments: 8,
            dvr_seconds: 0,
            dvr_max_mb: 4096,
        }
    }
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            endpoint: None,
            region: "us-east-1".to_owned(),
            prefix: String::new(),
            credentials_file: None,
            keep_local: false,
            redirect_links: false,
            timeout_seconds: 120,
        }
    }
}

impl Default for RecordingConfig {
    fn default() -> Self {
        Self {
            folder: None,
            min_free_mb: 1024,
            max_gb: 0,
            link_hours: 24,
            s3: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let config = Config {
            hold_ms: 1,
            ..Config::default()
        };
        assert_eq!(
            config.validate().unwrap_err().to_string(),
            "egress.hold_ms must be 2000 to 86400000"
        );
    }

    #[test]
    fn unknown_keys_are_errors() {
        assert!(serde_json::from_str::<Config>(r#"{"max_job":1}"#).is_err());
    }
}
