//! What ffmpeg finds in what came out.

use std::{ffi::OsStr, process::Output};

use serde_json::Value;

/// One stream of a file or playlist.
#[derive(Debug)]
pub(crate) struct Track {
    pub(crate) codec: String,
    pub(crate) info: Value,
    pub(crate) packets: Vec<Packet>,
}

/// One packet, times in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) pts: f64,
    pub(crate) dts: f64,
    pub(crate) key: bool,
}

impl Track {
    /// Returns the time from the first packet to the last.
    pub(crate) fn duration(&self) -> f64 {
        self.end() - self.start()
    }

    pub(crate) fn start(&self) -> f64 {
        self.packets.first().unwrap().pts
    }

    pub(crate) fn end(&self) -> f64 {
        self.packets.last().unwrap().pts
    }

    /// Returns the longest time between two packets.
    pub(crate) fn longest_gap(&self) -> f64 {
        self.packets
            .windows(2)
            .map(|w| w[1].dts - w[0].dts)
            .fold(0.0, f64::max)
    }

    /// Panics unless decoding times increase and no picture is shown before it is decoded.
    pub(crate) fn assert_monotonic(&self) {
        for pair in self.packets.windows(2) {
            assert!(
                pair[1].dts > pair[0].dts,
                "{}: time does not advance: {pair:?}",
                self.codec
            );
        }
        for packet in &self.packets {
            assert!(packet.pts >= packet.dts, "{}: {packet:?}", self.codec);
        }
    }
}

/// Reads all streams and packets.
pub(crate) async fn probe(input: impl AsRef<OsStr>) -> Vec<Track> {
    let args = [
        "-v",
        "error",
        "-show_streams",
        "-show_packets",
        "-of",
        "json",
    ];
    let output = run("ffprobe", &args, input.as_ref(), &[]).await;
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let streams = found["streams"].as_array().cloned().unwrap_or_default();
    let packets = found["packets"].as_array().cloned().unwrap_or_default();
    streams
        .into_iter()
        .map(|info| Track {
            codec: info["codec_name"].as_str().unwrap_or_default().to_owned(),
            packets: packets
                .iter()
                .filter(|p| p["stream_index"] == info["index"])
                .filter_map(|p| {
                    let flags = p["flags"].as_str().unwrap_or_default();
                    Some(Packet {
                        pts: seconds(&p["pts_time"])?,
                        dts: seconds(&p["dts_time"])?,
                        key: flags.contains('K'),
                    })
                })
                .collect(),
            info,
        })
        .collect()
}

/// Returns the track of a codec.
pub(crate) fn track<'a>(tracks: &'a [Track], codec: &str) -> &'a Track {
    let track = tracks
        .iter()
        .find(|t| t.codec == codec && !t.packets.is_empty());
    track.unwrap_or_else(|| {
        let found: Vec<_> = tracks.iter().map(|t| (&t.codec, t.packets.len())).collect();
        panic!("no {codec}; found {found:?}")
    })
}

/// Decodes everything and returns when each flash and each beep begins, in seconds.
///
/// Panics when anything cannot be decoded.
pub(crate) async fn flashes_and_beeps(input: impl AsRef<OsStr>) -> (Vec<f64>, Vec<f64>) {
    flashes_and_beeps_of(input, true, true).await
}

/// Likewise, of a file that may have only one of them.
pub(crate) async fn flashes_and_beeps_of(
    input: impl AsRef<OsStr>,
    has_picture: bool,
    has_sound: bool,
) -> (Vec<f64>, Vec<f64>) {
    let (picture, sound) = (
        "signalstats,metadata=mode=print:key=lavfi.signalstats.YAVG:file=-",
        "silencedetect=noise=-30dB:d=0.2",
    );
    let before = ["-nostdin", "-v", "info", "-copyts"];
    let mut after = Vec::new();
    after.extend(
        has_picture
            .then_some(["-vf", picture])
            .into_iter()
            .flatten(),
    );
    after.extend(has_sound.then_some(["-af", sound]).into_iter().flatten());
    after.extend(["-f", "null", "-"]);
    let output = run("ffmpeg", &before, input.as_ref(), &after).await;
    let log = String::from_utf8_lossy(&output.stderr);
    for sign in [
        "error while decoding",
        "Invalid data",
        "corrupt",
        "concealing",
        "non-existing",
    ] {
        assert!(!log.contains(sign), "it cannot be decoded cleanly:\n{log}");
    }
    let (mut flashes, mut at, mut bright) = (Vec::new(), 0.0, true);
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some((_, time)) = line.split_once("pts_time:") {
            at = time.trim().parse().unwrap();
        } else if let Some((_, luma)) = line.split_once("YAVG=") {
            let is_bright = luma.trim().parse::<f64>().unwrap() > FLASH_LUMA;
            if is_bright && !bright {
                flashes.push(at);
            }
            bright = is_bright;
        }
    }
    let beeps = log.lines().filter_map(beep).collect();
    (flashes, beeps)
}

/// Returns how loud the loudest sample of the sound is, in decibels of what there can be.
pub(crate) async fn loudest(input: impl AsRef<OsStr>) -> f64 {
    let after = ["-vn", "-af", "volumedetect", "-f", "null", "-"];
    let before = ["-nostdin", "-v", "info"];
    let output = run("ffmpeg", &before, input.as_ref(), &after).await;
    let log = String::from_utf8_lossy(&output.stderr);
    let found = log.lines().find_map(|line| line.split_once("max_volume: "));
    let (_, loudness) = found.unwrap_or_else(|| panic!("no sound:\n{log}"));
    loudness.trim_end_matches(" dB").parse().unwrap()
}

/// Returns how much later the beeps come than their flashes, in seconds: the median, so that a machine too
/// busy to make one of them in time does not count.
pub(crate) fn offset(flashes: &[f64], beeps: &[f64]) -> f64 {
    let mut offsets: Vec<f64> = beeps
        .iter()
        .filter_map(|beep| {
            let offset = |flash: &f64| beep - flash;
            flashes
                .iter()
                .map(offset)
                .min_by(|a, b| a.abs().total_cmp(&b.abs()))
        })
        .collect();
    assert!(offsets.len() >= 2, "flashes {flashes:?}, beeps {beeps:?}");
    offsets.sort_by(f64::total_cmp);
    offsets[offsets.len() / 2]
}

/// Reads the end of a silence that was long enough to be between two beeps.
fn beep(line: &str) -> Option<f64> {
    let (end, duration) = line
        .split_once("silence_end: ")?
        .1
        .split_once(" | silence_duration: ")?;
    let duration: f64 = duration.trim().parse().ok()?;
    (duration > 0.6).then(|| end.parse().ok())?
}

async fn run(program: &str, before: &[&str], input: &OsStr, after: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(program);
    command
        .args(before)
        .arg("-i")
        .arg(input)
        .args(after)
        .kill_on_drop(true);
    let output = command.output().await.unwrap();
    assert!(
        output.status.success(),
        "{program} {input:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn seconds(value: &Value) -> Option<f64> {
    value.as_str()?.parse().ok()
}

/// Between the test picture's mean (about 110) and white (235).
const FLASH_LUMA: f64 = 190.0;
