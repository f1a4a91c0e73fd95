//! A broadcaster: a file with a flash and a beep every second, played in real time as the SFU's packets.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use egress::{BoxFuture, Source, Sources};
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use sfu::{Codec, MediaKind, RoomId, TapPacket, TapVideo};
use tokio::sync::mpsc;

/// The room's program: what broadcasters send reaches whoever has opened it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    taps: Arc<Mutex<Vec<mpsc::Sender<TapPacket>>>>,
    sequences: Arc<Mutex<[u16; 2]>>,
    pub(crate) keyframe_requests: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Tap {
    packets: mpsc::Receiver<TapPacket>,
    keyframe_requests: Arc<AtomicU64>,
}

impl Program {
    /// Says, as a tap does every second, that the video is in a codec that taps do not yield.
    pub(crate) fn refuse(&self, codec: Codec) {
        let packet = TapPacket {
            lane: 0,
            codec,
            presentation: Instant::now(),
            keyframe: false,
            rtp: Bytes::new(),
        };
        for tap in self.taps.lock().unwrap().iter() {
            let _ = tap.try_send(packet.clone());
        }
    }
}

impl Sources for Program {
    fn open<'a>(
        &'a self,
        _room: RoomId,
        _source: &'a egress::status::Source,
    ) -> BoxFuture<'a, Option<Box<dyn Source>>> {
        let (sender, packets) = mpsc::channel(2048);
        self.taps.lock().unwrap().push(sender);
        let tap = Tap {
            packets,
            keyframe_requests: self.keyframe_requests.clone(),
        };
        Box::pin(async move { Some(Box::new(tap) as Box<dyn Source>) })
    }
}

impl Source for Tap {
    fn recv(&mut self) -> BoxFuture<'_, Option<TapPacket>> {
        Box::pin(self.packets.recv())
    }

    fn request_keyframe(&self) {
        self.keyframe_requests.fetch_add(1, Ordering::Relaxed);
    }

    fn set_video(&self, _video: TapVideo) {}
}

/// Sends until dropped.
pub(crate) struct Broadcaster {
    pipeline: gst::Pipeline,
}

/// What a broadcaster sends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sends {
    pub vp8: bool,
    pub(crate) no_video: bool,
    pub(crate) no_audio: bool,
    pub(crate) large: bool,
}

impl Broadcaster {
    pub(crate) fn start(program: &Program, sends: Sends) -> Self {
        gst::init().unwrap();
        let file = media_file(sends);
        let (video, pay) = if sends.vp8 {
            (Codec::Vp8, "rtpvp8pay pt=96 mtu=1200 picture-id-mode=2")
        } else {
            (
                Codec::H264,
                "h264parse config-interval=-1 ! \
                 rtph264pay config-interval=-1 aggregate-mode=zero-latency mtu=1200 pt=96",
            )
        };
        let pipeline = gst::parse::launch(&format!(
            "filesrc location={} ! matroskademux name=d \
             d.video_0 ! queue ! {pay} ! appsink name=v sync=true max-buffers=4000 \
             d.audio_0 ! queue ! opusparse ! rtpopuspay pt=111 ! appsink name=a sync=true max-buffers=4000",
            file.display()
        ))
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        pipeline.use_clock(Some(&gst::SystemClock::obtain()));
        if sends.no_video {
            discard(&pipeline, "v");
        } else {
            forward(&pipeline, "v", video, program);
        }
        if sends.no_audio {
            discard(&pipeline, "a");
        } else {
            forward(&pipeline, "a", Codec::Opus, program);
        }
        pipeline.set_state(gst::State::Playing).unwrap();
        Self { pipeline }
    }
}

impl Drop for Broadcaster {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn sink(pipeline: &gst::Pipeline, name: &str) -> gst_app::AppSink {
    pipeline.by_name(name).unwrap().downcast().unwrap()
}

fn discard(pipeline: &gst::Pipeline, name: &str) {
    let sink = sink(pipeline, name);
    sink.set_drop(true);
    sink.set_max_buffers(1);
}

fn forward(pipeline: &gst::Pipeline, name: &str, codec: Codec, program: &Program) {
    let program = program.clone();
    let target = sink(pipeline, name);
    let pipeline = pipeline.downgrade();
    let started = AtomicBool::new(false);
    let callbacks = gst_app::AppSinkCallbacks::builder().new_sample(move |sink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let buffer = sample.buffer().unwrap();
        let mut rtp = buffer.map_readable().unwrap().to_vec();
        let (Some(pts), Some(pipeline)) = (buffer.pts(), pipeline.upgrade()) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        let clock = gst::SystemClock::obtain();
        let due = pipeline.base_time().unwrap() + pts;
        let presentation = match due.checked_sub(clock.time()) {
            Some(later) => Instant::now() + Duration::from_nanos(later.nseconds()),
            None => Instant::now() - Duration::from_nanos((clock.time() - due).nseconds()),
        };
        let keyframe = codec.kind() == MediaKind::Audio || starts_keyframe(codec, &rtp);
        // The SFU starts every stream at a keyframe.
        if !keyframe && !started.load(Ordering::Relaxed) {
            return Ok(gst::FlowSuccess::Ok);
        }
        started.store(true, Ordering::Relaxed);
        let mut sequences = program.sequences.lock().unwrap();
        let sequence = &mut sequences[usize::from(codec.kind() == MediaKind::Video)];
        *sequence = sequence.wrapping_add(1);
        rtp[2..4].copy_from_slice(&sequence.to_be_bytes());
        let packet = TapPacket {
            lane: 0,
            codec,
            presentation,
            keyframe,
            rtp: Bytes::from(rtp),
        };
        let mut taps = program.taps.lock().unwrap();
        taps.retain(|tap| !tap.is_closed());
        for tap in taps.iter() {
            let _ = tap.try_send(packet.clone());
        }
        Ok(gst::FlowSuccess::Ok)
    });
    target.set_callbacks(callbacks.build());
}

fn starts_keyframe(codec: Codec, rtp: &[u8]) -> bool {
    let payload = &rtp[12..];
    if codec == Codec::Vp8 {
        // Two-byte picture id (RFC 7741 §4.2), then P of the first payload octet.
        return payload[0] & 0x10 != 0 && payload[4] & 1 == 0;
    }
    match payload[0] & 0x1f {
        24 => matches!(payload[3] & 0x1f, 5 | 7),
        28 => payload[1] & 0x80 != 0 && payload[1] & 0x1f == 5,
        nal => matches!(nal, 5 | 7),
    }
}

/// Makes the file that is played, unless it was made before. That takes seconds.
pub(crate) fn media_file(sends: Sends) -> PathBuf {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap();
    let files = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (size, rate) = if sends.large {
        ("1280x720", "2500k")
    } else {
        ("640x360", "800k")
    };
    let codec = if sends.vp8 { "vp8" } else { "h264" };
    let file = files.join(format!("flash-and-beep-{codec}-{size}.mkv"));
    let unfinished = files.join(format!("{}.mkv", std::process::id()));
    if file.exists() {
        return file;
    }
    let video = format!(
        "color=c=black:s={size}:r=30,noise=alls=12:allf=t,\
         drawbox=t=fill:color=white:enable='lt(mod(t\\,1)\\,0.1)'"
    );
    let sound = "aevalsrc=if(lt(mod(t\\,1)\\,0.1)\\,0.8*sin(6283*t)\\,0):s=48000";
    let encoder: &[&str] = if sends.vp8 {
        &["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8"]
    } else {
        &[
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-tune",
            "zerolatency",
            "-profile:v",
            "baseline",
        ]
    };
    let status = Command::new("ffmpeg")
        .args([
            "-v", "error", "-y", "-f", "lavfi", "-i", &video, "-f", "lavfi", "-i", sound,
        ])
        .args(encoder)
        .args([
            "-b:v", rate, "-g", "60", "-c:a", "libopus", "-ac", "2", "-t", "30",
        ])
        .arg(&unfinished)
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::rename(&unfinished, &file).unwrap();
    file
}
