//! The pipeline that mixes and encodes. It goes on whatever comes and goes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gst::prelude::*;
use gst_video::gst_base::{self, prelude::*};
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use sfu::MediaKind;

use super::{Preset, encoder::Encoder, stagehand::Stagehand};
use crate::{
    layout::Canvas,
    pipeline::{
        Clock, Frame, Graph, GraphError, Hub, audio::aac, clock::clock_time, video::failure,
    },
};

/// A playing mixer.
#[derive(Debug)]
pub(crate) struct Mixer {
    graph: Graph,
    stagehand: Arc<Stagehand>,
    backdrop: gst_app::AppSrc,
    slate: gst_app::AppSrc,
    /// Whether the newest picture, and so every later one, has the backdrop.
    covered: Arc<AtomicBool>,
}

/// Where one lane's pictures or sound go in.
#[derive(Debug)]
pub(crate) struct Input {
    kind: MediaKind,
    pub(crate) source: gst_app::AppSrc,
    pad: gst::Pad,
}

impl Mixer {
    pub(crate) fn start(
        preset: &Preset,
        encoder: Encoder,
        audio_bitrate: u32,
        stagehand: &Arc<Stagehand>,
        hub: &Arc<Hub>,
        clock: &Clock,
    ) -> Result<Self, GraphError> {
        let graph = Graph::build(&description(preset, encoder, audio_bitrate), clock)?;
        let picture = graph.sink("picture")?;
        deliver(hub, MediaKind::Video, &picture, Duration::ZERO);
        deliver(hub, MediaKind::Audio, &graph.sink("sound")?, CODEC_DELAY);
        let mixer = Self {
            covered: direct(&graph, stagehand)?,
            stagehand: stagehand.clone(),
            backdrop: graph.source("backdrop")?,
            slate: graph.source("slate")?,
            graph,
        };
        Ok(mixer)
    }

    /// Begins at `now`; pictures are none before the backdrop has come.
    pub(crate) fn play(&self, now: Duration) -> Result<(), GraphError> {
        let now = clock_time(now);
        for kind in [MediaKind::Video, MediaKind::Audio] {
            let mixer = self.element(kind)?;
            mixer.set_property_from_str("start-time-selection", "set");
            mixer.set_property("start-time", now.nseconds());
            let covered = (kind == MediaKind::Video).then(|| self.covered.clone());
            begin_at(&mixer, now, covered);
        }
        let offset = i64::try_from(now.nseconds()).unwrap_or(i64::MAX);
        let silence = self.graph.element("silence")?;
        silence.set_property("timestamp-offset", offset);
        self.graph.play()
    }

    /// Ends it: nothing comes out any more.
    pub(crate) fn stop(&self) {
        let _ = self.graph.pipeline().set_state(gst::State::Null);
    }

    /// Adds the input of a lane.
    pub(crate) fn add(&self, kind: MediaKind, lane: u32) -> Result<Input, GraphError> {
        let broken = |e: gst::glib::BoolError| GraphError::Build(e.to_string());
        let source = gst_app::AppSrc::builder()
            .is_live(true)
            .format(gst::Format::Time)
            .max_bytes(0)
            .max_buffers(WAITING)
            .leaky_type(gst_app::AppLeakyType::Downstream)
            .build();
        let mixer = self.element(kind)?;
        let pad = mixer
            .request_pad_simple("sink_%u")
            .ok_or_else(|| GraphError::Build("the mixer takes no more".to_owned()))?;
        if kind == MediaKind::Video {
            prepare(&pad);
            self.stagehand.add_pad(lane, pad.clone());
        }
        let input = Input { kind, source, pad };
        self.graph.pipeline().add(&input.source).map_err(broken)?;
        let linked = input
            .source
            .static_pad("src")
            .map(|src| src.link(&input.pad));
        if !matches!(linked, Some(Ok(_))) {
            self.remove(&input, lane);
            return Err(GraphError::Build(
                "the mixer does not take an input".to_owned(),
            ));
        }
        input.source.sync_state_with_parent().map_err(broken)?;
        Ok(input)
    }

    /// Takes the input of a lane away.
    pub(crate) fn remove(&self, input: &Input, lane: u32) {
        if input.kind == MediaKind::Video {
            self.stagehand.remove(lane);
        }
        // First the mixer's side: it stops waiting for the input, and refuses what still comes.
        input.source.set_locked_state(true);
        if let Ok(mixer) = self.element(input.kind) {
            mixer.release_request_pad(&input.pad);
        }
        let _ = input.source.set_state(gst::State::Null);
        let _ = self.graph.pipeline().remove(&input.source);
    }

    /// Changes what is behind the pictures.
    pub(crate) fn set_backdrop(&self, picture: &gst::Sample) {
        let _ = self.backdrop.push_sample(picture);
    }

    /// Changes the image that is shown while nobody sends.
    pub(crate) fn set_slate(&self, picture: &gst::Sample) {
        let _ = self.slate.push_sample(picture);
    }

    /// Returns what went wrong, if anything did. The mixer is then of no more use.
    pub(crate) fn failure(&self) -> Option<String> {
        failure(&self.graph)
    }

    #[cfg(test)]
    pub(super) fn fail_encoder(&self) {
        let encoder = self.graph.element("encoder").unwrap();
        gst::element_error!(encoder, gst::LibraryError::Encode, ("as the test wants"));
    }

    fn element(&self, kind: MediaKind) -> Result<gst::Element, GraphError> {
        self.graph.element(match kind {
            MediaKind::Video => "pictures",
            MediaKind::Audio => "sounds",
        })
    }
}

/// Has the stagehand set up every picture before it is mixed. What it returns is set as soon as one has the backdrop.
fn direct(graph: &Graph, stagehand: &Arc<Stagehand>) -> Result<Arc<AtomicBool>, GraphError> {
    let pictures = graph.element("pictures")?;
    let pad = |name, what| {
        let pad = pictures.static_pad(name);
        pad.and_then(|pad| pad.downcast::<gst_base::AggregatorPad>().ok())
            .ok_or_else(|| GraphError::Build(format!("the mixer has no {what}")))
    };
    stagehand.set_slate_pad(pad("sink_1", "slate")?.upcast());
    let backdrop = pad("sink_0", "backdrop")?;
    let covered = Arc::new(AtomicBool::new(false));
    let (hand, noted) = (stagehand.clone(), covered.clone());
    pictures.connect("samples-selected", false, move |values| {
        if !noted.load(Ordering::Relaxed) {
            let mixer = values.first()?.get::<gst_base::Aggregator>().ok()?;
            let has = mixer.peek_next_sample(&backdrop).is_some();
            noted.store(has, Ordering::Relaxed);
        }
        // Element, segment, presentation time, …
        let time = values.get(2).and_then(|value| value.get::<u64>().ok());
        hand.handle_picture(Duration::from_nanos(time?));
        None
    });
    let hand = stagehand.clone();
    let overlay = graph.element("overlay")?;
    overlay.connect("draw", false, move |_| Some(hand.overlay().to_value()));
    Ok(covered)
}

/// Drops what comes out for a time before `start`: until it has an input, a mixer goes by a start of its own. Drops
/// pictures as well that are not `covered` by the backdrop: they would be black.
fn begin_at(mixer: &gst::Element, start: gst::ClockTime, covered: Option<Arc<AtomicBool>>) {
    let Some(pad) = mixer.static_pad("src") else {
        return;
    };
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let time = info.buffer().and_then(|buffer| buffer.pts());
        let early = time.is_some_and(|time| time < start);
        let is_covered = |covered: &Arc<AtomicBool>| covered.load(Ordering::Relaxed);
        if early || !covered.as_ref().is_none_or(is_covered) {
            gst::PadProbeReturn::Drop
        } else {
            gst::PadProbeReturn::Remove
        }
    });
}

/// Sets what is the same for every lane's pad.
fn prepare(pad: &gst::Pad) {
    pad.set_property("alpha", 0.0_f64);
    pad.set_property_from_str("sizing-policy", "keep-aspect-ratio");
    let cheap = gst::Structure::builder("GstVideoConverter")
        .field(
            "GstVideoConverter.resampler-method",
            gst_video::VideoResamplerMethod::Linear,
        )
        .field("GstVideoConverter.threads", 1_u32)
        .build();
    pad.set_property("converter-config", cheap);
}

/// Hands what reaches `sink` to the hub, `early` earlier than it says.
fn deliver(hub: &Arc<Hub>, kind: MediaKind, sink: &gst_app::AppSink, early: Duration) {
    let hub = hub.clone();
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            if let Some(mut frame) = Frame::from_sample(kind, &sample) {
                frame.time = frame.time.saturating_sub(early);
                hub.handle_packet(kind);
                hub.handle_frame(frame);
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .build();
    sink.set_callbacks(callbacks);
}

fn description(preset: &Preset, encoder: Encoder, audio_bitrate: u32) -> String {
    let caps = preset.caps();
    let wait = LATENCY.as_nanos();
    let live = format!("force-live=true ignore-inactive-pads=true min-upstream-latency={wait}");
    // The permanent inputs keep both mixers' pace; without them they come in bursts.
    let still = "imagefreeze is-live=true allow-replace=true";
    format!(
        "compositor name=pictures background=black max-threads=1 emit-signals=true {live} \
         sink_0::zorder=0 sink_1::zorder=1 sink_1::alpha=0 ! {caps} ! \
         overlaycomposition name=overlay ! \
         queue max-size-time={QUEUED} max-size-bytes=0 max-size-buffers=0 leaky=downstream ! {} ! \
         appsink name=picture sync=false async=false \
         appsrc name=backdrop format=time ! {still} ! {caps} ! pictures.sink_0 \
         appsrc name=slate format=time ! {still} ! {caps} ! pictures.sink_1 \
         audiomixer name=sounds output-buffer-duration=20000000 alignment-threshold=20000000 {live} ! {PCM} ! \
         rglimiter name=limiter ! {} ! \
         appsink name=sound sync=false async=false \
         audiotestsrc name=silence is-live=true wave=silence samplesperbuffer=960 ! {PCM} ! sounds.",
        encoder.description(preset),
        aac(audio_bitrate),
    )
}

impl Preset {
    /// Returns the caps of raw pictures.
    pub(crate) fn caps(&self) -> String {
        format!("{},framerate={}/1", self.canvas().caps(), self.frame_rate)
    }

    pub(crate) fn canvas(&self) -> Canvas {
        Canvas {
            width: self.width,
            height: self.height,
        }
    }

    /// Returns how long a picture is shown.
    pub(crate) fn frame(&self) -> Duration {
        Duration::from_secs(1) / self.frame_rate.max(1)
    }

    /// Returns how many pictures there are from one keyframe to the next.
    pub(crate) fn keyframe_frames(&self) -> u32 {
        (self.frame_rate * self.keyframe_interval_ms / 1000).max(1)
    }
}

const PCM: &str = "audio/x-raw,format=F32LE,rate=48000,channels=2,layout=interleaved";
/// How long media are waited for. More would make every output later, less would leave out what jitters.
const LATENCY: Duration = Duration::from_millis(150);
/// How many nanoseconds of pictures may wait for a slow encoder before some are left out.
const QUEUED: u64 = 800_000_000;
/// Pictures or blocks of sound of one lane that wait; the oldest go first.
const WAITING: u64 = 50;
/// Priming of the AAC encoder (1024 samples) and pre-skip of Opus (312), by which sound is late.
const CODEC_DELAY: Duration = Duration::from_nanos(27_833_333);

#[cfg(test)]
mod tests {
    use std::{f32::consts::TAU, sync::Mutex, thread, time::Instant};

    use super::*;
    use crate::pipeline::compose::{rig::SMALL, staging::Staging};

    #[test]
    fn nothing_is_shown_before_the_backdrop_has_come() {
        gst::init().unwrap();
        let clock = Clock::start();
        let hub = Hub::new(Duration::from_secs(1), false, clock);
        let stagehand = Arc::new(Stagehand::new(Staging::new(SMALL.canvas(), SMALL.frame())));
        let mixer = Mixer::start(&SMALL, Encoder::X264, 128_000, &stagehand, &hub, &clock).unwrap();
        let watched = |element: &str, pad: &str| {
            let lumas = Arc::new(Mutex::new(Vec::new()));
            let (noted, element) = (lumas.clone(), mixer.graph.element(element).unwrap());
            let pad = element.static_pad(pad).unwrap();
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let first = info.buffer().unwrap().map_readable().unwrap()[0];
                noted.lock().unwrap().push(first);
                gst::PadProbeReturn::Ok
            });
            lumas
        };
        // Probes go in the order in which they came: what the mixer makes, and what is left of it.
        let made = watched("pictures", "src");
        let shown = watched("overlay", "sink");
        let wait = |pictures: &Mutex<Vec<u8>>, count: usize| {
            let started = Instant::now();
            while pictures.lock().unwrap().len() < count {
                assert!(started.elapsed() < Duration::from_secs(20));
                thread::sleep(Duration::from_millis(10));
            }
        };
        let white = still(235);
        mixer.set_slate(&white);
        mixer.play(clock.now()).unwrap();
        wait(&made, 10);
        assert!(shown.lock().unwrap().is_empty());
        mixer.set_backdrop(&white);
        wait(&shown, 3);
        assert_eq!(*made.lock().unwrap().first().unwrap(), 16, "it was black");
        assert!(shown.lock().unwrap().iter().all(|luma| *luma > 200));
        mixer.stop();
    }

    /// A picture of one brightness.
    fn still(luma: u8) -> gst::Sample {
        let caps: gst::Caps = SMALL.caps().parse().unwrap();
        let info = gst_video::VideoInfo::from_caps(&caps).unwrap();
        let mut bytes = vec![128; info.size()];
        bytes[..info.offset()[1]].fill(luma);
        let buffer = gst::Buffer::from_slice(bytes);
        let caps = info.to_caps().unwrap();
        gst::Sample::builder().buffer(&buffer).caps(&caps).build()
    }

    #[test]
    fn loud_sounds_together_do_not_clip() {
        gst::init().unwrap();
        let clock = Clock::start();
        let hub = Hub::new(Duration::from_secs(1), false, clock);
        let staging = Staging::new(SMALL.canvas(), SMALL.frame());
        let stagehand = Arc::new(Stagehand::new(staging));
        let mixer = Mixer::start(&SMALL, Encoder::X264, 128_000, &stagehand, &hub, &clock).unwrap();
        let limiter = mixer.graph.element("limiter").unwrap();
        let [mixed, limited] =
            ["sink", "src"].map(|pad| loudest(&limiter.static_pad(pad).unwrap()));
        mixer.play(clock.now()).unwrap();
        let inputs = [1, 2].map(|lane| mixer.add(MediaKind::Audio, lane).unwrap());
        let caps: gst::Caps = PCM.parse().unwrap();
        for input in &inputs {
            input.source.set_caps(Some(&caps));
        }
        let (started, begin) = (Instant::now(), clock.now());
        for n in 0_u16.. {
            let (heard, sent) = (*mixed.lock().unwrap(), *limited.lock().unwrap());
            if heard > 1.75 && n > 100 {
                // A limiter goes nearly up to 1, and never beyond.
                assert!((0.9..=1.0).contains(&sent), "{heard} became {sent}");
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{heard}");
            let at = begin + u32::from(n) * Duration::from_millis(10);
            thread::sleep(at.saturating_sub(clock.now()));
            for (input, hertz) in inputs.iter().zip([440.0, 667.0]) {
                let block = (0..480_u16).flat_map(|i| {
                    let second = (f32::from(n % 100) * 480.0 + f32::from(i)) / 48_000.0;
                    let sample = (0.9 * (second * hertz * TAU).sin()).to_le_bytes();
                    [sample, sample].concat()
                });
                let mut buffer = gst::Buffer::from_slice(block.collect::<Vec<_>>());
                buffer.get_mut().unwrap().set_pts(clock_time(at));
                input.source.push_buffer(buffer).unwrap();
            }
        }
        mixer.stop();
    }

    /// Follows the loudest sample that passes.
    fn loudest(pad: &gst::Pad) -> Arc<Mutex<f32>> {
        let loudest = Arc::new(Mutex::new(0.0_f32));
        let found = loudest.clone();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let bytes = info.buffer().unwrap().map_readable().unwrap();
            let mut found = found.lock().unwrap();
            for sample in bytes.as_chunks::<4>().0 {
                *found = found.max(f32::from_le_bytes(*sample).abs());
            }
            gst::PadProbeReturn::Ok
        });
        loudest
    }
}
