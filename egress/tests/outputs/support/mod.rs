//! A broadcaster, an RTMP server, and the service between them.

mod av1;
pub(crate) mod broadcaster;
pub(crate) mod log;
pub(crate) mod proxy;
pub(crate) mod rtmp_server;
pub(crate) mod s3_server;
pub(crate) mod srt_receiver;
pub(crate) mod stage;
pub(crate) mod tls_front;

use std::{collections::BTreeMap, path::Path, process::Command, time::Duration};

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Runs a program and returns what it printed.
pub(crate) fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    text
}

/// What ffprobe and ffmpeg find in a recording.
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) codecs: Vec<String>,
    /// Decoding times of each stream, in file order.
    pub(crate) times: Vec<Vec<f64>>,
    /// By how much each beep is later than its flash.
    pub(crate) offsets: Vec<f64>,
    pub(crate) decode_errors: String,
}

impl Probe {
    pub(crate) fn of(file: &Path) -> Self {
        let file = file.to_str().unwrap();
        let probe = |what: &str| {
            output(
                "ffprobe",
                &["-v", "error", "-show_entries", what, "-of", "csv=p=0", file],
            )
        };
        // A stream of a transport stream is listed with its program, too.
        let streams: BTreeMap<usize, String> = probe("stream=index,codec_name")
            .lines()
            .filter_map(|line| line.split_once(','))
            .filter_map(|(index, codec)| Some((index.parse().ok()?, clean(codec))))
            .collect();
        let codecs: Vec<_> = streams.into_values().collect();
        let mut times = vec![Vec::new(); codecs.len()];
        for line in probe("packet=stream_index,dts_time").lines() {
            let mut fields = line.split(',');
            let stream = fields.next().unwrap_or_default().parse::<usize>();
            let time = fields.next().unwrap_or_default().parse();
            if let (Ok(stream), Ok(time)) = (stream, time) {
                times[stream].push(time);
            }
        }
        // In the file's own time base: rounded to a guessed frame rate, neighbours may meet.
        let decoding = Command::new("ffmpeg")
            .args(["-v", "error", "-i", file, "-fps_mode", "passthrough"])
            .args(["-enc_time_base", "-1", "-f", "null", "-"])
            .output()
            .unwrap();
        Self {
            codecs,
            times,
            offsets: Vec::new(),
            decode_errors: String::from_utf8_lossy(&decoding.stderr).into_owned(),
        }
    }

    /// Also measures how far sound is behind picture, in seconds.
    pub(crate) fn with_offsets(file: &Path) -> Self {
        let mut probe = Self::of(file);
        let name = file.to_str().unwrap();
        let movie = format!("movie={name},signalstats");
        let luma = output(
            "ffprobe",
            &[
                "-v",
                "error",
                "-f",
                "lavfi",
                "-i",
                &movie,
                "-show_entries",
                "frame=pts_time:frame_tags=lavfi.signalstats.YAVG",
                "-of",
                "csv=p=0",
            ],
        );
        let mut flashes = Vec::new();
        let mut before = 255.0;
        for line in luma.lines() {
            let mut fields = line
                .split(',')
                .map(|field| field.parse::<f64>().unwrap_or(0.0));
            let (time, luma) = (fields.next().unwrap_or(0.0), fields.next().unwrap_or(0.0));
            if luma > 120.0 && before <= 120.0 {
                flashes.push(time);
            }
            before = luma;
        }
        let silences = Command::new("ffmpeg")
            .args(["-v", "info", "-i", name, "-copyts", "-vn", "-af"])
            .args(["silencedetect=noise=-30dB:d=0.2", "-f", "null", "-"])
            .output()
            .unwrap();
        let mut beeps = Vec::new();
        for line in String::from_utf8_lossy(&silences.stderr).lines() {
            let Some((_, rest)) = line.split_once("silence_end: ") else {
                continue;
            };
            beeps.push(rest.split(' ').next().unwrap().parse::<f64>().unwrap());
        }
        // The end of the file ends a silence, too.
        beeps.pop();
        for beep in beeps {
            let nearest = flashes.iter().map(|flash| beep - flash);
            let nearest = nearest.min_by(|a, b| a.abs().total_cmp(&b.abs()));
            probe
                .offsets
                .extend(nearest.filter(|offset| offset.abs() < 0.5));
        }
        probe
    }

    /// Asserts what every recording has to be.
    pub(crate) fn assert_sound(&self, codecs: &[&str]) {
        let mut found: Vec<_> = self.codecs.iter().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, codecs);
        assert_eq!(self.decode_errors, "");
        for times in &self.times {
            assert!(times.len() > 10, "{times:?}");
            assert!(
                times.windows(2).all(|w| w[0] < w[1]),
                "not monotonic: {times:?}"
            );
        }
    }

    /// Returns the shortest stream's length in seconds.
    pub(crate) fn length(&self) -> f64 {
        let lengths = self.times.iter().map(|t| t[t.len() - 1] - t[0]);
        lengths.fold(f64::INFINITY, f64::min)
    }

    /// Returns the longest pause between two packets of a stream.
    pub(crate) fn longest_gap(&self) -> f64 {
        let gaps = self
            .times
            .iter()
            .flat_map(|t| t.windows(2).map(|w| w[1] - w[0]));
        gaps.fold(0.0, f64::max)
    }
}

fn clean(line: &str) -> String {
    line.trim_matches([',', ' ']).to_owned()
}
