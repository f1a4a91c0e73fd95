//! Which H.264 encoder is used, and how.

use std::{fmt, sync::mpsc::sync_channel, thread, time::Duration};

use gstreamer as gst;

use super::Preset;
use crate::pipeline::{Clock, Graph};

/// An encoder of H.264.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoder {
    /// NVIDIA.
    Nvenc,
    /// VA-API: Intel and AMD.
    Va,
    /// VA-API by the older plugin.
    Vaapi,
    /// The processor.
    X264,
}

impl Encoder {
    /// Returns the best one that is there and works, by encoding a few frames with it.
    pub(crate) fn choose(preset: &Preset, clock: &Clock) -> Self {
        let hardware = [Self::Nvenc, Self::Va, Self::Vaapi].into_iter();
        let there = hardware
            .filter(|encoder| gst::ElementFactory::find(encoder.element()).is_some())
            .map(|encoder| (encoder, encoder.description(preset)));
        Self::first_that_works(there.collect(), preset, clock)
    }

    /// Returns the first one whose description works, else the one that does everywhere: that as well when a driver
    /// hangs for longer than [`PATIENCE`].
    fn first_that_works(candidates: Vec<(Self, String)>, preset: &Preset, clock: &Clock) -> Self {
        if candidates.is_empty() {
            return Self::X264;
        }
        let (preset, clock) = (*preset, *clock);
        let (found, chosen) = sync_channel(1);
        thread::spawn(move || {
            let mut candidates = candidates.into_iter();
            let works = candidates.find(|(_, description)| works(description, &preset, &clock));
            let _ = found.send(works.map_or(Self::X264, |(encoder, _)| encoder));
        });
        chosen.recv_timeout(PATIENCE).unwrap_or(Self::X264)
    }

    /// Returns the part of a pipeline that makes H.264 of I420, in access units with their lengths.
    ///
    /// No picture waits for a later one: no B-frames, no look-ahead. The bitrate is constant within a second, as
    /// platforms want it.
    pub(crate) fn description(self, preset: &Preset) -> String {
        let kilobits = preset.bitrate_bps / 1000;
        let interval = preset.keyframe_frames();
        let element = self.element();
        match self {
            Self::Nvenc => format!(
                "{element} name=encoder preset=low-latency-hq rc-mode=cbr zerolatency=true bframes=0 \
                 bitrate={kilobits} gop-size={interval} ! video/x-h264,profile=high ! {PARSER} ! {FRAMES}"
            ),
            Self::Va => format!(
                "videoconvert ! video/x-raw,format=NV12 ! {element} name=encoder rate-control=cbr b-frames=0 \
                 bitrate={kilobits} key-int-max={interval} ! video/x-h264,profile=high ! {PARSER} ! {FRAMES}"
            ),
            Self::Vaapi => format!(
                "videoconvert ! video/x-raw,format=NV12 ! {element} name=encoder rate-control=cbr max-bframes=0 \
                 bitrate={kilobits} keyframe-period={interval} ! video/x-h264,profile=high ! {PARSER} ! {FRAMES}"
            ),
            Self::X264 => format!(
                "{element} name=encoder tune=zerolatency speed-preset=veryfast threads={} \
                 bitrate={kilobits} vbv-buf-capacity=1000 key-int-max={interval} \
                 option-string=scenecut=0:force-cfr=1 ! {FRAMES},profile=high",
                x264_threads(preset)
            ),
        }
    }

    fn element(self) -> &'static str {
        match self {
            Self::Nvenc => "nvh264enc",
            Self::Va => "vah264enc",
            Self::Vaapi => "vaapih264enc",
            Self::X264 => "x264enc",
        }
    }
}

impl fmt::Display for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.element())
    }
}

/// Encodes a few frames; returns whether they came out in time.
fn works(encoder: &str, preset: &Preset, clock: &Clock) -> bool {
    let description = format!(
        "videotestsrc num-buffers={SAMPLE} ! {} ! {encoder} ! appsink name=out sync=false async=false",
        preset.caps()
    );
    let Ok(graph) = Graph::build(&description, clock) else {
        return false;
    };
    let Ok(sink) = graph.sink("out") else {
        return false;
    };
    if graph.play().is_err() {
        return false;
    }
    let patience = crate::pipeline::clock::clock_time(SAMPLE_PATIENCE);
    // Some keep a frame or two back until the end.
    (0..SAMPLE - 3).all(|_| sink.try_pull_sample(patience).is_some())
}

/// A thread cuts each picture into one more slice, which costs quality: no more than are needed.
fn x264_threads(preset: &Preset) -> u32 {
    let pixels = u64::from(preset.width) * u64::from(preset.height) * u64::from(preset.frame_rate);
    match pixels {
        0..40_000_000 => 1,
        40_000_000..80_000_000 => 2,
        _ => 4,
    }
}

const FRAMES: &str = "video/x-h264,stream-format=avc,alignment=au";
/// Makes frames of bytes; x264 writes frames itself.
const PARSER: &str = "h264parse config-interval=0";
const SAMPLE: u32 = 10;
/// Below what is taken for a hang of the worker.
const PATIENCE: Duration = Duration::from_secs(3);
const SAMPLE_PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Elements that every machine has, in the place of hardware encoders: some that work and some that are there and
    /// do not.
    const WORKING: &str = "x264enc tune=zerolatency ! h264parse";
    const BROKEN: [(&str, &str); 5] = [
        ("missing", "thereisnosuchencoder"),
        // As one without its device.
        (
            "fails at start",
            "x264enc ! tee name=t t. ! fakesink state-error=ready-to-paused t. ! h264parse",
        ),
        (
            "takes no such pictures",
            "video/x-raw,format=GRAY16_LE ! x264enc",
        ),
        ("fails while it runs", "identity error-after=2 ! x264enc"),
        ("mute", "x264enc ! fakesink fakesrc num-buffers=0 ! x264enc"),
    ];

    #[test]
    fn an_encoder_that_does_not_work_is_passed_over() {
        gst::init().unwrap();
        let (preset, clock) = (crate::pipeline::compose::rig::SMALL, Clock::start());
        let choose = |nvenc: &str, va: &str| {
            let candidates = [(Encoder::Nvenc, nvenc), (Encoder::Va, va)];
            let candidates = candidates.map(|(encoder, text)| (encoder, text.to_owned()));
            Encoder::first_that_works(candidates.to_vec(), &preset, &clock)
        };
        assert_eq!(choose(WORKING, WORKING), Encoder::Nvenc);
        for (label, broken) in BROKEN {
            assert_eq!(choose(broken, WORKING), Encoder::Va, "{label}");
            assert_eq!(choose(broken, broken), Encoder::X264, "{label}");
        }
        let started = Instant::now();
        let hangs = "x264enc ! identity sleep-time=60000000";
        assert_eq!(choose(hangs, WORKING), Encoder::X264, "hangs");
        assert!(started.elapsed() < PATIENCE + Duration::from_secs(1));
        let x264 = Encoder::X264.description(&preset);
        assert!(works(&x264, &preset, &clock), "what all else ends in");
    }
}
