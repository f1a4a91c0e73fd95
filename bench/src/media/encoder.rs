//! Makes clips with ffmpeg.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::Clip;

/// What to encode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Encoding {
    /// Bits per second of the video.
    pub(crate) bitrate: u64,
    /// Seconds of video, and from one keyframe to the next when nobody asks for one.
    pub(crate) seconds: u32,
}

/// Encodes a moving, noisy test picture as a browser does: 720p30, H.264 constrained baseline with one
/// keyframe, and a tone as Opus.
///
/// # Errors
/// When ffmpeg is missing or fails.
pub(crate) fn encode(encoding: Encoding) -> anyhow::Result<Clip> {
    let seconds = encoding.seconds.to_string();
    // The small buffer keeps the keyframe at about four times the other frames, as browsers' encoders do.
    let (rate, buffer) = (
        encoding.bitrate.to_string(),
        (encoding.bitrate / 4).to_string(),
    );
    let video = ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        PICTURE,
        "-t",
        &seconds,
        "-c:v",
        "libx264",
        "-profile:v",
        "baseline",
        "-pix_fmt",
        "yuv420p",
        "-preset",
        "ultrafast",
        "-tune",
        "zerolatency",
        "-b:v",
        &rate,
        "-maxrate",
        &rate,
        "-bufsize",
        &buffer,
        "-x264-params",
        "keyint=infinite:scenecut=0:sliced-threads=0:threads=1",
        "-f",
        "h264",
        "-",
    ])?;
    let audio = ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        "sine=frequency=440,tremolo=f=3",
        "-t",
        &seconds,
        "-c:a",
        "libopus",
        "-b:a",
        "48k",
        "-ac",
        "2",
        "-frame_duration",
        "20",
        "-f",
        "ogg",
        "-",
    ])?;
    Clip::parse(&video, &audio).context("use what ffmpeg made")
}

fn ffmpeg(args: &[&str]) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .context("run ffmpeg to make the clip: install it, or give --video and --audio files")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("ffmpeg could not make the clip: {}", words.trim());
    }
    Ok(output.stdout)
}

const PICTURE: &str = "testsrc2=size=1280x720:rate=30,noise=alls=12:allf=t";
