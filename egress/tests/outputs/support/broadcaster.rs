//! A broadcaster: a file with a flash and a beep every second, played in real time as the SFU's packets.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use bytes::Bytes;
use egress::{BoxFuture, Source, Sources};
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use sfu::{Codec, MediaKind, RoomId, Snapshot, TapPacket, TapVideo};
use tokio::sync::mpsc as channel;

use super::av1;

/// The room's program: what broadcasters send reaches whoever has opened it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    taps: Arc<Mutex<Vec<channel::Sender<TapPacket>>>>,
    /// By lane, of audio and video.
    sequences: Arc<Mutex<BTreeMap<u32, [u16; 2]>>>,
    /// How many layers below the top readers want of each lane.
    layers: Arc<Mutex<BTreeMap<u32, usize>>>,
    pub(crate) keyframe_requests: Arc<AtomicU64>,
    /// Of how many packets one is lost; none when 0.
    loss: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    /// Whether broadcasters have muted their sound, and their picture.
    muted: Arc<[AtomicBool; 2]>,
    /// The newest keyframe, and whether it is complete.
    keyframe: Arc<Mutex<Option<(Snapshot, bool)>>>,
}

#[derive(Debug)]
struct Tap {
    packets: channel::Receiver<TapPacket>,
    keyframe_requests: Arc<AtomicU64>,
    layers: Arc<Mutex<BTreeMap<u32, usize>>>,
}

impl Program {
    /// Loses one packet in so many; none when 0.
    pub(crate) fn lose_one_in(&self, packets: u64) {
        self.loss.store(packets, Ordering::Relaxed);
    }

    /// Has broadcasters send nothing of a kind, as those who have taken their track away, or send it again.
    pub(crate) fn mute(&self, kind: MediaKind, muted: bool) {
        self.muted[usize::from(kind == MediaKind::Video)].store(muted, Ordering::Relaxed);
    }

    fn is_muted(&self, kind: MediaKind) -> bool {
        self.muted[usize::from(kind == MediaKind::Video)].load(Ordering::Relaxed)
    }

    fn send(&self, packet: &TapPacket) {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let loss = self.loss.load(Ordering::Relaxed);
        if loss > 0 && number.is_multiple_of(loss) {
            return;
        }
        if packet.codec.kind() == MediaKind::Video {
            self.note_keyframe(packet);
        }
        let mut taps = self.taps.lock().unwrap();
        taps.retain(|tap| !tap.is_closed());
        for tap in taps.iter() {
            let _ = tap.try_send(packet.clone());
        }
    }

    fn note_keyframe(&self, packet: &TapPacket) {
        let timestamp = |rtp: &Bytes| rtp[4..8].to_owned();
        let mut newest = self.keyframe.lock().unwrap();
        let goes_on = newest
            .as_mut()
            .filter(|(keyframe, _)| timestamp(&keyframe.packets[0]) == timestamp(&packet.rtp));
        let is_last = packet.rtp[1] & 0x80 != 0;
        if let Some((keyframe, complete)) = goes_on {
            keyframe.packets.push(packet.rtp.clone());
            *complete |= is_last;
        } else if packet.keyframe {
            let keyframe = Snapshot {
                codec: packet.codec,
                packets: vec![packet.rtp.clone()],
                received: Instant::now(),
            };
            *newest = Some((keyframe, is_last));
        }
    }

    fn next_sequence(&self, lane: u32, kind: MediaKind) -> u16 {
        let mut sequences = self.sequences.lock().unwrap();
        let sequences = sequences.entry(lane).or_default();
        let sequence = &mut sequences[usize::from(kind == MediaKind::Video)];
        *sequence = sequence.wrapping_add(1);
        *sequence
    }
}

impl Sources for Program {
    fn open<'a>(
        &'a self,
        _room: RoomId,
        _source: &'a egress::status::Source,
    ) -> BoxFuture<'a, Option<Box<dyn Source>>> {
        let (sender, packets) = channel::channel(2048);
        self.taps.lock().unwrap().push(sender);
        let tap = Tap {
            packets,
            keyframe_requests: self.keyframe_requests.clone(),
            layers: self.layers.clone(),
        };
        Box::pin(async move { Some(Box::new(tap) as Box<dyn Source>) })
    }

    fn snapshot(&self, _: RoomId, _: Option<Duration>) -> BoxFuture<'_, Option<Snapshot>> {
        let newest = self.keyframe.lock().unwrap().clone();
        Box::pin(
            async move { newest.and_then(|(keyframe, complete)| complete.then_some(keyframe)) },
        )
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

    fn set_layers(&self, layers: BTreeMap<u32, usize>) {
        *self.layers.lock().unwrap() = layers;
    }
}

/// What a broadcaster sends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sends {
    /// Where a job of the stage finds it.
    pub(crate) lane: u32,
    /// H.264 if not said otherwise.
    pub(crate) codec: Option<Codec>,
    pub(crate) picture: Picture,
    pub(crate) no_video: bool,
    pub(crate) no_audio: bool,
    pub(crate) large: bool,
    /// Sends a large and a small layer, of which the reader gets the one that it asks for.
    pub(crate) simulcast: bool,
    /// Two megabytes a second, nearly.
    pub(crate) heavy: bool,
    /// Answers a request for a keyframe at once, as a browser does, by leaving out what is before the next.
    pub(crate) obeys: bool,
}

/// What is to be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(dead_code, reason = "measurements use the rest of it")]
pub(crate) enum Picture {
    /// White for a tenth of every second, in step with a beep.
    #[default]
    Flash,
    /// As hard to encode as a lively scene.
    Fractal,
    /// A moving test pattern.
    Pattern,
}

impl Sends {
    pub(crate) fn obedient() -> Self {
        Self {
            obeys: true,
            ..Self::default()
        }
    }
}

/// Sends, over and over, until dropped.
pub(crate) struct Broadcaster {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Broadcaster {
    pub(crate) fn start(program: &Program, sends: Sends) -> Self {
        let mut tracks = Vec::new();
        if !sends.no_video {
            tracks.push(Track::read(sends, "v"));
        }
        if !sends.no_audio {
            tracks.push(Track::read(sends, "a"));
        }
        if sends.simulcast {
            let small = Sends {
                large: false,
                ..sends
            };
            tracks.push(Track {
                below_top: 1,
                ..Track::read(small, "v")
            });
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (program, stopped) = (program.clone(), stop.clone());
        let thread = thread::spawn(move || play(&program, tracks, sends, &stopped));
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Broadcaster {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One track of the file, and how far it is played.
struct Track {
    codec: Codec,
    /// Which simulcast layer it is.
    below_top: usize,
    packets: Vec<Packet>,
    next: usize,
    rounds: u32,
    /// How much was left out.
    skipped: Duration,
    started: bool,
    muted: bool,
}

struct Packet {
    at: Duration,
    keyframe: bool,
    rtp: Vec<u8>,
}

impl Track {
    fn read(sends: Sends, name: &str) -> Self {
        let codec = match name {
            "a" => Codec::Opus,
            _ => sends.codec.unwrap_or(Codec::H264),
        };
        let pay = match codec {
            Codec::Opus => "opusparse ! rtpopuspay pt=111 timestamp-offset=0",
            Codec::Vp8 => "rtpvp8pay pt=96 mtu=1200 picture-id-mode=2 timestamp-offset=0",
            Codec::Vp9 => {
                "vp9parse ! rtpvp9pay pt=96 mtu=1200 picture-id-mode=2 timestamp-offset=0"
            }
            // There is no payloader: see below.
            Codec::Av1 => "av1parse ! video/x-av1,stream-format=obu-stream,alignment=tu",
            Codec::H264 => {
                "h264parse config-interval=-1 ! \
                 rtph264pay config-interval=-1 aggregate-mode=zero-latency mtu=1200 pt=96 timestamp-offset=0"
            }
        };
        gst::init().unwrap();
        let source = if name == "v" { "video_0" } else { "audio_0" };
        let pipeline = gst::parse::launch(&format!(
            "filesrc location={} ! matroskademux name=d d.{source} ! queue ! {pay} ! \
             appsink name=out sync=false",
            media_file(sends).display()
        ))
        .unwrap()
        .downcast::<gst::Pipeline>()
        .unwrap();
        let sink: gst_app::AppSink = pipeline.by_name("out").unwrap().downcast().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let mut packets = Vec::new();
        while let Ok(sample) = sink.pull_sample() {
            let buffer = sample.buffer().unwrap();
            let bytes = buffer.map_readable().unwrap().to_vec();
            let at = Duration::from(buffer.pts().unwrap());
            let payloads = match codec {
                Codec::Av1 => av1::packets(&bytes),
                Codec::H264 | Codec::Vp8 | Codec::Vp9 | Codec::Opus => vec![bytes],
            };
            for rtp in payloads.into_iter().filter(|_| at < LENGTH) {
                let keyframe = codec.kind() == MediaKind::Audio || starts_keyframe(codec, &rtp);
                packets.push(Packet { at, keyframe, rtp });
            }
        }
        pipeline.set_state(gst::State::Null).unwrap();
        if codec == Codec::Opus {
            // An encoder flushes some more in the end, by which each round would be longer than its picture.
            packets.truncate(usize::try_from(LENGTH.as_millis() / 20).unwrap());
        }
        Self {
            codec,
            below_top: 0,
            packets,
            next: 0,
            rounds: 0,
            skipped: Duration::ZERO,
            started: false,
            muted: false,
        }
    }

    /// Returns when the next packet is due, after the start.
    fn due(&self) -> Duration {
        self.packets[self.next].at + LENGTH * self.rounds - self.skipped
    }

    fn advance(&mut self) {
        self.next += 1;
        if self.next == self.packets.len() {
            self.next = 0;
            self.rounds += 1;
        }
    }

    /// Returns whether all of a picture is sent, and nothing of the next: no sender breaks off before.
    fn is_between_pictures(&self) -> bool {
        self.next == 0 || self.packets[self.next - 1].at != self.packets[self.next].at
    }

    /// Returns how far it is to the next keyframe.
    fn until_keyframe(&self) -> Duration {
        let mut later = self.packets[self.next..].iter();
        let next = later.find(|packet| packet.keyframe);
        next.map_or(LENGTH, |packet| packet.at) - self.packets[self.next].at
    }

    /// Leaves out so much; the times of what follows go on.
    fn skip(&mut self, part: Duration) {
        let end = self.due() + part;
        while self.due() < end {
            self.advance();
        }
        self.skipped += part;
    }

    /// `layer` is the one that the reader gets.
    fn send(&mut self, program: &Program, lane: u32, layer: &mut usize, presentation: Instant) {
        let due = self.due();
        let packet = &self.packets[self.next];
        let is_video = self.codec.kind() == MediaKind::Video;
        if is_video && packet.keyframe {
            let wanted = program.layers.lock().unwrap().get(&lane).copied();
            if wanted.unwrap_or(0) == self.below_top {
                *layer = self.below_top;
            }
        }
        // The SFU starts every stream at a keyframe.
        self.started |= packet.keyframe;
        if self.is_between_pictures() {
            self.muted = program.is_muted(self.codec.kind());
        }
        if self.muted {
            self.advance();
            return;
        }
        if self.started && (!is_video || *layer == self.below_top) {
            let kind = self.codec.kind();
            let rate = if kind == MediaKind::Video { 90 } else { 48 };
            let time = u32::try_from(due.as_micros() * rate / 1000 % (1 << 32)).unwrap();
            let mut rtp = packet.rtp.clone();
            rtp[2..4].copy_from_slice(&program.next_sequence(lane, kind).to_be_bytes());
            rtp[4..8].copy_from_slice(&time.to_be_bytes());
            program.send(&TapPacket {
                lane,
                codec: self.codec,
                presentation,
                keyframe: packet.keyframe,
                rtp: Bytes::from(rtp),
            });
        }
        self.advance();
    }
}

fn play(program: &Program, mut tracks: Vec<Track>, sends: Sends, stop: &AtomicBool) {
    let mut layer = 0;
    let started = Instant::now();
    let mut requests = program.keyframe_requests.load(Ordering::Relaxed);
    while !stop.load(Ordering::Relaxed) {
        let asked = program.keyframe_requests.load(Ordering::Relaxed);
        let may_skip = sends.obeys && tracks.iter().all(Track::is_between_pictures);
        if may_skip && std::mem::replace(&mut requests, asked) != asked {
            let until_keyframe = tracks.iter().map(Track::until_keyframe).max();
            // One that is about to come anyway answers as well.
            if let Some(part) = until_keyframe.filter(|part| *part > Duration::from_millis(300)) {
                for track in &mut tracks {
                    track.skip(part);
                }
            }
        }
        let Some(track) = tracks.iter_mut().min_by_key(|track| track.due()) else {
            return;
        };
        let due = started + track.due();
        match due.checked_duration_since(Instant::now()) {
            // In short steps, to hear requests and the end.
            Some(early) if !early.is_zero() => thread::sleep(early.min(Duration::from_millis(20))),
            _ => track.send(program, sends.lane, &mut layer, due),
        }
    }
}

fn starts_keyframe(codec: Codec, rtp: &[u8]) -> bool {
    let payload = &rtp[12..];
    match codec {
        // Two-byte picture id (RFC 7741 §4.2), then P of the first payload octet.
        Codec::Vp8 => return payload[0] & 0x10 != 0 && payload[4] & 1 == 0,
        // B, and not P (RFC 9628 §4.2).
        Codec::Vp9 => return payload[0] & 0x48 == 0x08,
        // N.
        Codec::Av1 => return payload[0] & 0x08 != 0,
        Codec::H264 | Codec::Opus => {}
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
    let files = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (size, rate, noise) = match (sends.heavy, sends.large) {
        (true, _) => ("640x360", "14M", 60),
        (false, true) => ("1280x720", "2500k", 12),
        (false, false) => ("640x360", "800k", 12),
    };
    let codec = sends.codec.unwrap_or(Codec::H264);
    let name = format!("{codec:?}").to_lowercase();
    let picture = match sends.picture {
        Picture::Flash => "flash-and-beep",
        Picture::Fractal => "fractal",
        Picture::Pattern => "pattern",
    };
    let file = files.join(format!("{picture}-{name}-{size}-{rate}.mkv"));
    let unfinished = files.join(format!("{}.mkv", std::process::id()));
    // Who has a file does not wait for those who make others.
    let _making = (!file.exists()).then(|| MAKING.lock().unwrap_or_else(PoisonError::into_inner));
    if file.exists() {
        return file;
    }
    let video = match sends.picture {
        Picture::Flash => format!(
            "color=c=black:s={size}:r=30,noise=alls={noise}:allf=t,\
             drawbox=t=fill:color=white:enable='lt(mod(t\\,1)\\,0.1)'"
        ),
        Picture::Fractal => format!(
            "mandelbrot=s={size}:r=30:maxiter=300:start_scale=0.5:end_scale=0.02:end_pts=900,\
             noise=alls=6:allf=t,format=yuv420p"
        ),
        Picture::Pattern => {
            format!("testsrc2=s={size}:r=30,noise=alls=6:allf=t,format=yuv420p")
        }
    };
    let sound = "aevalsrc=if(lt(mod(t\\,1)\\,0.1)\\,0.8*sin(6283*t)\\,0):s=48000";
    let encoder = match codec {
        Codec::Vp8 => "-c:v libvpx -deadline realtime -cpu-used 8",
        Codec::Vp9 => {
            "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -lag-in-frames 0 -auto-alt-ref 0"
        }
        Codec::Av1 => "-c:v libaom-av1 -usage realtime -cpu-used 8 -lag-in-frames 0",
        Codec::H264 | Codec::Opus => {
            "-c:v libx264 -preset ultrafast -tune zerolatency -profile:v baseline"
        }
    };
    let length = LENGTH.as_secs().to_string();
    let status = Command::new("ffmpeg")
        .args([
            "-v", "error", "-y", "-f", "lavfi", "-i", &video, "-f", "lavfi", "-i", sound,
        ])
        .args(encoder.split(' '))
        .args([
            "-b:v", rate, "-g", "60", "-c:a", "libopus", "-ac", "2", "-t", &length,
        ])
        .arg(&unfinished)
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::rename(&unfinished, &file).unwrap();
    file
}

const LENGTH: Duration = Duration::from_secs(30);
