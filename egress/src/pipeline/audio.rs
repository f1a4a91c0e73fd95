//! RTP Opus to continuous AAC.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use gstreamer as gst;
use gstreamer_app as gst_app;
use sfu::{Codec, MediaKind};

use super::{
    Clock, Graph, GraphError, Hub,
    clock::clock_time,
    rtp_input::RtpInput,
    timeline::Timeline,
    video::{deliver_to, failure},
};

/// The sound pipeline. Makes silence when there is no sound.
pub(crate) struct Audio {
    input: RtpInput,
    writer: Arc<Mutex<Writer>>,
    graph: Graph,
}

/// Feeds the encoder.
struct Writer {
    timeline: Timeline,
    encoder: gst_app::AppSrc,
}

impl Audio {
    pub(crate) fn start(bitrate: u32, hub: &Arc<Hub>, clock: &Clock) -> Result<Self, GraphError> {
        let graph = Graph::build(&description(bitrate), clock)?;
        let writer = Arc::new(Mutex::new(Writer {
            timeline: Timeline::default(),
            encoder: graph.source("pcm")?,
        }));
        write_decoded(&graph.sink("decoded")?, writer.clone());
        deliver_to(hub, MediaKind::Audio, &graph.sink("out")?, CODEC_DELAY);
        graph.play()?;
        Ok(Self {
            input: RtpInput::of(&graph, Codec::Opus, || {})?,
            writer,
            graph,
        })
    }

    pub(crate) fn push(&self, rtp: &[u8], time: Duration) {
        self.input.push(rtp, time);
    }

    /// Fills with silence up to `until`; from `since` if there was no sound.
    pub(crate) fn fill(&self, since: Duration, until: Duration) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.timeline.start_at(since);
        let end = writer.timeline.end();
        let silence = writer.timeline.fill(until);
        writer.write_silence(silence, end);
    }

    /// Returns what went wrong, if anything did. The pipeline is then of no more use.
    pub(crate) fn failure(&self) -> Option<String> {
        failure(&self.graph)
    }
}

impl Writer {
    fn write(&mut self, pcm: &[u8], time: Duration) {
        let end = self.timeline.end();
        let samples = (pcm.len() / SAMPLE_BYTES) as u64;
        let placement = self.timeline.place(time, samples);
        let start = end.unwrap_or(time);
        self.write_silence(placement.silence, Some(start));
        let skipped = usize::try_from(placement.skip).unwrap_or(usize::MAX) * SAMPLE_BYTES;
        if let Some(rest) = pcm.get(skipped..).filter(|rest| !rest.is_empty()) {
            let at = start + super::timeline::samples_to_time(placement.silence);
            self.encode(rest.to_vec(), at);
        }
    }

    fn write_silence(&mut self, samples: u64, from: Option<Duration>) {
        let Some(from) = from else { return };
        let mut written = 0;
        while written < samples {
            let block = (samples - written).min(SILENCE_BLOCK);
            let bytes = usize::try_from(block).unwrap_or(0) * SAMPLE_BYTES;
            self.encode(
                vec![0; bytes],
                from + super::timeline::samples_to_time(written),
            );
            written += block;
        }
    }

    fn encode(&mut self, pcm: Vec<u8>, time: Duration) {
        let mut buffer = gst::Buffer::from_slice(pcm);
        buffer.make_mut().set_pts(clock_time(time));
        let _ = self.encoder.push_buffer(buffer);
    }
}

fn write_decoded(sink: &gst_app::AppSink, writer: Arc<Mutex<Writer>>) {
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let buffer = sample.buffer().ok_or(gst::FlowError::Error)?;
            let pcm = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
            if let Some(time) = buffer.pts() {
                let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
                writer.write(&pcm, time.into());
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .build();
    sink.set_callbacks(callbacks);
}

fn description(bitrate: u32) -> String {
    format!(
        "{} ! opusdec plc=true use-inband-fec=true ! audioconvert ! audioresample ! \
         {PCM} ! appsink name=decoded sync=false async=false \
         appsrc name=pcm is-live=true format=time max-bytes=4194304 leaky-type=upstream caps={PCM} ! \
         {} ! \
         appsink name=out sync=false async=false",
        RtpInput::description(Codec::Opus),
        aac(bitrate)
    )
}

/// Returns the part of a pipeline that makes AAC. FFmpeg recommends this coder above 64 kbit/s; it takes half as long
/// as the other one.
pub(crate) fn aac(bitrate: u32) -> String {
    let coder = if bitrate > 64_000 { "fast" } else { "twoloop" };
    format!("avenc_aac aac-coder={coder} bitrate={bitrate} ! audio/mpeg,stream-format=raw")
}

const PCM: &str = "audio/x-raw,format=F32LE,rate=48000,channels=2,layout=interleaved";
/// Two channels of four bytes.
const SAMPLE_BYTES: usize = 8;
/// 100 ms.
const SILENCE_BLOCK: u64 = 4800;
/// Priming of the AAC encoder (1024 samples) and pre-skip of Opus (312), by which sound is late (measured).
const CODEC_DELAY: Duration = Duration::from_nanos(27_833_333);
