//! What the tests of the composer have around it: cameras, and a screen that looks at what goes out.

use std::{
    fs,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use gstreamer as gst;
use sfu::{Codec, MediaKind};

use super::{Composer, Preset};
use crate::{
    layout::{Canvas, Place, Rect},
    pipeline::{Air, Attached, Clock, Frame, Graph, Hub, Output, clock::clock_time},
    scene::{Layout, Look, Scene, Tile},
};

/// A composer that runs, with a sink for what it makes.
pub(super) struct Rig {
    pub(super) composer: Arc<Mutex<Composer>>,
    pub(super) clock: Clock,
    frames: Arc<Mutex<Vec<Frame>>>,
    _attached: Attached,
    /// They go by the clock, so that they would hold up each other.
    _alone: MutexGuard<'static, ()>,
}

/// Sends one solid colour, or sound, until dropped.
pub(super) struct Camera {
    graph: Graph,
}

/// Sends a flash and a beep at every full second, until dropped.
pub(super) struct FlashAndBeep {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for FlashAndBeep {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A picture that went out.
#[derive(Clone)]
pub(super) struct Seen {
    pub(super) time: Duration,
    pixels: Vec<u8>,
    canvas: Canvas,
}

struct Collector(Arc<Mutex<Vec<Frame>>>);

impl Output for Collector {
    fn switch(&mut self, _air: Air) {}
    fn push(&mut self, frame: &Frame) {
        self.0.lock().unwrap().push(frame.clone());
    }
}

pub(super) const SMALL: Preset = Preset {
    width: 640,
    height: 360,
    frame_rate: 30,
    bitrate_bps: 1_500_000,
    keyframe_interval_ms: 1000,
};

impl Rig {
    pub(super) fn start(preset: Preset, scene: Scene) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        gst::init().unwrap();
        let clock = Clock::start();
        let hub = Hub::new(Duration::from_secs(10), false, clock);
        let frames = Arc::default();
        let attached = hub.attach(Box::new(Collector(Arc::clone(&frames))));
        let composer = Composer::start(preset, 128_000, scene, hub, clock).unwrap();
        let composer = Arc::new(Mutex::new(composer));
        Self {
            _alone: alone,
            composer,
            clock,
            frames,
            _attached: attached,
        }
    }

    pub(super) fn set_scene(&self, scene: Scene) {
        self.composer.lock().unwrap().set_scene(scene);
    }

    /// Ticks as the worker does; returns what went wrong meanwhile.
    pub(super) fn run(&self, time: Duration) -> Vec<String> {
        let until = Instant::now() + time;
        let mut troubles = Vec::new();
        while Instant::now() < until {
            troubles.extend(self.composer.lock().unwrap().handle_timeout().unwrap());
            thread::sleep(Duration::from_millis(20));
        }
        troubles
    }

    /// Ticks until everybody is in their place.
    pub(super) fn run_until_shown(&self, places: &[Place]) -> Vec<String> {
        let patience = Instant::now() + Duration::from_secs(20);
        let mut troubles = Vec::new();
        while self.composer.lock().unwrap().shown() != places {
            assert!(Instant::now() < patience, "{places:?} is not shown");
            troubles.extend(self.run(Duration::from_millis(20)));
        }
        troubles
    }

    /// Starts a sender in a lane: `make` is the part of a pipeline that ends in raw media.
    pub(super) fn send(&self, lane: u32, codec: Codec, make: &str) -> Camera {
        let encode = match codec {
            Codec::H264 => {
                "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 bitrate=1000 ! \
                 rtph264pay mtu=1200 aggregate-mode=zero-latency config-interval=-1"
            }
            Codec::Vp8 => "vp8enc deadline=1 cpu-used=16 keyframe-max-dist=15 ! rtpvp8pay mtu=1200",
            Codec::Vp9 => "vp9enc deadline=1 cpu-used=9 keyframe-max-dist=15 ! rtpvp9pay mtu=1200",
            Codec::Opus => "opusenc ! rtpopuspay",
            Codec::Av1 => panic!("there is no payloader"),
        };
        let description = format!("{make} ! {encode} ! appsink name=out sync=false");
        let graph = Graph::build(&description, &self.clock).unwrap();
        let composer = Arc::clone(&self.composer);
        let callbacks = gstreamer_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let buffer = sample.buffer().unwrap();
                let segment = sample
                    .segment()
                    .unwrap()
                    .downcast_ref::<gst::ClockTime>()
                    .unwrap();
                let time = segment.to_running_time(buffer.pts().unwrap()).unwrap();
                let rtp = buffer.map_readable().unwrap();
                composer
                    .lock()
                    .unwrap()
                    .push(lane, codec, &rtp, time.into());
                Ok(gst::FlowSuccess::Ok)
            })
            .build();
        graph.sink("out").unwrap().set_callbacks(callbacks);
        graph.play().unwrap();
        Camera { graph }
    }

    /// Starts a camera that shows one colour, `0xRRGGBB`.
    pub(super) fn camera(&self, lane: u32, codec: Codec, colour: u32, size: (u32, u32)) -> Camera {
        let (width, height) = size;
        let offset = clock_time(self.clock.now()).nseconds();
        let make = format!(
            "videotestsrc is-live=true pattern=solid-color foreground-color={} timestamp-offset={offset} ! \
             video/x-raw,format=I420,width={width},height={height},framerate=30/1",
            0xff00_0000 | colour
        );
        self.send(lane, codec, &make)
    }

    /// Starts a sender whose flashes and beeps begin together.
    pub(super) fn flash_and_beep(&self, video: u32, audio: u32) -> FlashAndBeep {
        let picture = "appsrc name=raw is-live=true format=time \
                       caps=video/x-raw,format=GRAY8,width=640,height=360,framerate=30/1 ! videoconvert";
        let sound = "appsrc name=raw is-live=true format=time \
                     caps=audio/x-raw,format=F32LE,rate=48000,channels=1,layout=interleaved ! audioconvert";
        let picture = self.send(video, Codec::H264, picture);
        let sound = self.send(audio, Codec::Opus, sound);
        let stop = Arc::new(AtomicBool::new(false));
        let (clock, stopped) = (self.clock, Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let push = |camera: &Camera, bytes: Vec<u8>, time: Duration| {
                let mut buffer = gst::Buffer::from_slice(bytes);
                buffer.get_mut().unwrap().set_pts(clock_time(time));
                camera
                    .graph
                    .source("raw")
                    .unwrap()
                    .push_buffer(buffer)
                    .unwrap();
            };
            let is_on = |time: Duration| time.subsec_millis() < 100;
            let start = clock.now();
            for n in 0_u64.. {
                let at = start + Duration::from_millis(n * 10);
                while clock.now() < at {
                    thread::sleep(Duration::from_millis(1));
                }
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let samples = (0..480).flat_map(|i| {
                    let time = at + Duration::from_nanos(i * 1_000_000_000 / 48_000);
                    let wave = (time.as_secs_f64() * 1000.0 * std::f64::consts::TAU).sin() * 0.8;
                    #[expect(
                        clippy::cast_possible_truncation,
                        reason = "a sample is a small number"
                    )]
                    let sample = if is_on(time) { wave as f32 } else { 0.0 };
                    sample.to_le_bytes()
                });
                push(&sound, samples.collect(), at);
                if n % 3 == 0 {
                    // One of three hundredths: 33 pictures a second are as good as 30.
                    let grey = if is_on(at) { 255 } else { 16 };
                    push(&picture, vec![grey; 640 * 360], at);
                }
            }
        });
        FlashAndBeep {
            stop,
            thread: Some(thread),
        }
    }

    pub(super) fn frames(&self, kind: MediaKind) -> Vec<Frame> {
        let frames = self.frames.lock().unwrap();
        frames
            .iter()
            .filter(|frame| frame.kind == kind)
            .cloned()
            .collect()
    }

    /// Decodes every picture that went out so far.
    pub(super) fn look(&self, preset: Preset) -> Vec<Seen> {
        let frames = self.frames(MediaKind::Video);
        let decoded = decode(
            &frames,
            "h264parse ! avdec_h264 ! videoconvert ! video/x-raw,format=RGB,colorimetry=sRGB",
        );
        assert_eq!(decoded.len(), frames.len());
        let times = frames.iter().map(|frame| frame.time);
        let seen = times.zip(decoded).map(|(time, (_, pixels))| Seen {
            time,
            pixels,
            canvas: preset.canvas(),
        });
        seen.collect()
    }

    /// Decodes the sound; returns the time of its first sample, and the left channel.
    pub(super) fn listen(&self) -> (Duration, Vec<f32>) {
        let frames = self.frames(MediaKind::Audio);
        let start = frames[0].time;
        for pair in frames.windows(2) {
            let step = pair[1].time - pair[0].time;
            assert!(
                step < Duration::from_millis(23),
                "sound has a gap of {step:?}"
            );
        }
        let raw = "avdec_aac ! audioconvert ! audio/x-raw,format=F32LE,channels=2,rate=48000,layout=interleaved";
        let samples = decode(&frames, raw).into_iter().flat_map(|(_, bytes)| {
            let left = bytes.as_chunks::<8>().0.iter();
            left.map(|s| f32::from_le_bytes([s[0], s[1], s[2], s[3]]))
                .collect::<Vec<_>>()
        });
        (start, samples.collect())
    }
}

fn decode(frames: &[Frame], decoder: &str) -> Vec<(Duration, Vec<u8>)> {
    let clock = Clock::start();
    let description =
        format!("appsrc name=in format=time ! {decoder} ! appsink name=out sync=false");
    let graph = Graph::build(&description, &clock).unwrap();
    let (source, sink) = (graph.source("in").unwrap(), graph.sink("out").unwrap());
    graph.play().unwrap();
    source.set_max_bytes(u64::MAX);
    for frame in frames {
        source.set_caps(Some(&frame.caps));
        let mut buffer = frame.buffer.copy();
        let head = buffer.make_mut();
        head.set_pts(clock_time(frame.time));
        head.set_dts(clock_time(frame.time));
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let mut all = Vec::new();
    while let Ok(sample) = sink.pull_sample() {
        let buffer = sample.buffer().unwrap();
        let pixels = buffer.map_readable().unwrap().to_vec();
        all.push((buffer.pts().unwrap().into(), pixels));
    }
    all
}

impl Seen {
    /// Returns the mean colour in the middle of a rectangle, `0xRRGGBB`.
    pub(super) fn colour(&self, rect: Rect) -> u32 {
        let stride = (self.canvas.width as usize * 3).next_multiple_of(4);
        let (mut sum, mut count) = ([0_u64; 3], 0_u64);
        let range = |from: u32, length: u32| from + length * 2 / 5..from + length * 3 / 5;
        for y in range(rect.y, rect.height) {
            for x in range(rect.x, rect.width) {
                let at = y as usize * stride + x as usize * 3;
                for (sum, value) in sum.iter_mut().zip(&self.pixels[at..at + 3]) {
                    *sum += u64::from(*value);
                }
                count += 1;
            }
        }
        sum.iter()
            .fold(0, |all, sum| all << 8 | u32::try_from(sum / count).unwrap())
    }

    /// Returns how much of it has a colour.
    pub(super) fn share(&self, colour: u32) -> f64 {
        let pixels = self.pixels.as_chunks::<3>().0.iter().step_by(7);
        let count = u32::try_from(pixels.len()).unwrap();
        let alike = pixels.filter(|&&[r, g, b]| near(u32::from_be_bytes([0, r, g, b]), colour));
        f64::from(u32::try_from(alike.count()).unwrap()) / f64::from(count)
    }

    pub(super) fn shows(&self, rect: Rect, colour: u32) -> bool {
        near(self.colour(rect), colour)
    }

    /// Writes it as a PPM file, to be looked at.
    pub(super) fn save(&self, path: &str) {
        let Canvas { width, height } = self.canvas;
        let mut file = format!("P6 {width} {height} 255\n").into_bytes();
        let width = width as usize * 3;
        for line in self.pixels.chunks(width.next_multiple_of(4)) {
            file.extend(&line[..width]);
        }
        fs::write(path, file).unwrap();
    }
}

pub(super) fn near(a: u32, b: u32) -> bool {
    let parts = |c: u32| [c >> 16 & 255, c >> 8 & 255, c & 255];
    parts(a)
        .into_iter()
        .zip(parts(b))
        .all(|(a, b)| a.abs_diff(b) < 30)
}

pub(super) fn scene(layout: Layout, lanes: &[u32]) -> Scene {
    let tile = |lane: &u32| Tile {
        video: Some(*lane),
        audio: vec![*lane + 100],
        identity: String::new(),
        name: format!("Person {lane}"),
        screen: false,
    };
    Scene {
        layout,
        tiles: lanes.iter().map(tile).collect(),
        main: None,
        look: Look {
            title: "A title".to_owned(),
            background: BACKGROUND,
            ..Look::default()
        },
    }
}

pub(super) const BACKGROUND: u32 = 0x0020_4060;
