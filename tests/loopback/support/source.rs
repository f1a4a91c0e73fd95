//! Real encoded media in real time: a flash and a beep at each full second.

use std::{
    net::{Ipv4Addr, UdpSocket},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rtc::{rtp::Packet, shared::marshal::Unmarshal};
use tokio::{sync::broadcast, task::JoinSet};

use super::{stream::Stream, wait};

/// Which codecs a source makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Video {
    H264,
    Vp8,
}

/// When each packet came.
type Times = Arc<Mutex<Vec<Instant>>>;

/// A running ffmpeg whose RTP packets anybody may take.
pub(crate) struct Source {
    ffmpeg: Child,
    pub(crate) video: Option<(Video, broadcast::Sender<Packet>)>,
    pub(crate) audio: Option<broadcast::Sender<Packet>>,
    video_times: Times,
    audio_times: Times,
    _readers: JoinSet<()>,
}

impl Source {
    pub(crate) fn h264() -> Self {
        Self::start(Some(Video::H264), true)
    }

    pub(crate) fn vp8() -> Self {
        Self::start(Some(Video::Vp8), true)
    }

    /// One that cannot be mistaken for the others: a smaller picture without flashes, and a sound that goes on.
    pub(crate) fn steady() -> Self {
        Self::play_out(STEADY_PICTURE, STEADY_SOUND, Some(Video::H264), true)
    }

    /// Starts the encoder. It runs until dropped, whether anybody takes its packets or not.
    pub(crate) fn start(video: Option<Video>, audio: bool) -> Self {
        Self::play_out(PICTURE, SOUND, video, audio)
    }

    fn play_out(picture: &str, sound: &str, video: Option<Video>, audio: bool) -> Self {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error"]);
        command.args([
            "-re", "-f", "lavfi", "-i", picture, "-re", "-f", "lavfi", "-i", sound,
        ]);
        let mut readers = JoinSet::new();
        let (video_times, audio_times) = (Times::default(), Times::default());
        let video = video.map(|codec| {
            let (port, packets) = receive(&mut readers, &video_times);
            command.args([
                "-map", "0:v", "-pix_fmt", "yuv420p", "-g", "30", "-b:v", "600k",
            ]);
            command.args(match codec {
                Video::H264 => [
                    "-c:v",
                    "libx264",
                    "-preset",
                    "ultrafast",
                    "-tune",
                    "zerolatency",
                    "-profile:v",
                    "baseline",
                ],
                Video::Vp8 => [
                    "-c:v",
                    "libvpx",
                    "-deadline",
                    "realtime",
                    "-cpu-used",
                    "8",
                    "-lag-in-frames",
                    "0",
                ],
            });
            command.args(["-f", "rtp", &target(port)]);
            (codec, packets)
        });
        let audio = audio.then(|| {
            let (port, packets) = receive(&mut readers, &audio_times);
            command.args(["-map", "1:a", "-c:a", "libopus", "-frame_duration", "20"]);
            command.args(["-b:a", "64k", "-f", "rtp", &target(port)]);
            packets
        });
        let ffmpeg = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            ffmpeg,
            video,
            audio,
            video_times,
            audio_times,
            _readers: readers,
        }
    }

    /// Waits until so many more packets of the video have come.
    pub(crate) async fn play(&self, packets: usize) {
        let count = || self.video_times.lock().unwrap().len();
        let wanted = count() + packets;
        wait::until("the source plays on", async || {
            wait::check(count() >= wanted, count())
        })
        .await;
    }

    /// Panics if a viewer's stream stood still after `since` for half a second longer than this source itself,
    /// which does on a busy machine.
    pub(crate) fn assert_reached(&self, stream: &Stream, since: Instant) {
        let is_video = stream.codec.starts_with("video");
        let times = if is_video {
            &self.video_times
        } else {
            &self.audio_times
        };
        let times = times.lock().unwrap();
        let first = times.partition_point(|at| *at < since).saturating_sub(1);
        let own = times[first..]
            .windows(2)
            .map(|pair| pair[1] - pair[0])
            .max();
        let (own, gap) = (own.unwrap_or_default(), stream.longest_gap(since));
        assert!(
            gap < own + Duration::from_millis(500),
            "{} stood still for {gap:?}, its source for {own:?}",
            stream.codec
        );
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Gone already when it failed.
        let _ = self.ffmpeg.kill();
        let _ = self.ffmpeg.wait();
    }
}

/// Reads RTP from a new local port. A slow taker misses packets, as on a network.
fn receive(readers: &mut JoinSet<()>, times: &Times) -> (u16, broadcast::Sender<Packet>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = socket.local_addr().unwrap().port();
    socket.set_nonblocking(true).unwrap();
    let socket = tokio::net::UdpSocket::from_std(socket).unwrap();
    let (packets, _) = broadcast::channel(512);
    readers.spawn({
        let (packets, times) = (packets.clone(), Arc::clone(times));
        async move {
            let mut buffer = [0; 2048];
            loop {
                let size = socket.recv(&mut buffer).await.unwrap();
                let is_rtcp = buffer.get(1).is_some_and(|kind| (192..=223).contains(kind));
                if !is_rtcp {
                    times.lock().unwrap().push(Instant::now());
                    let mut datagram = Bytes::copy_from_slice(&buffer[..size]);
                    let packet = Packet::unmarshal(&mut datagram).unwrap();
                    // Err: nobody takes packets at the moment.
                    let _ = packets.send(packet);
                }
            }
        }
    });
    (port, packets)
}

/// Plain UDP: ffmpeg's own `rtp://` also takes the port after its own for RTCP, which may be somebody else's.
fn target(port: u16) -> String {
    format!("udp://127.0.0.1:{port}?pkt_size=1200")
}

const PICTURE: &str = "testsrc2=s=320x180:r=30,drawbox=t=fill:c=white:enable='lt(mod(t,1),0.1)'";
const SOUND: &str = "aevalsrc='0.5*sin(2*PI*1000*t)*lt(mod(t,1),0.1)':s=48000:c=stereo";
const STEADY_PICTURE: &str = "testsrc2=s=240x180:r=30";
const STEADY_SOUND: &str = "sine=f=440:r=48000,volume=4,aformat=channel_layouts=stereo";
