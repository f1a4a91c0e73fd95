//! An RTMP destination: one thread, which connects, publishes, and says how that goes.

use std::time::{Duration, Instant};

use aws_lc_rs::rand;
use gstreamer as gst;
use sfu::MediaKind;

use super::{
    Attempt, Policy,
    connection::Connection,
    dial::dial,
    feed::{SharedQueue, lock},
    rtmp_failure::{broken, failure, refused},
    tls,
};
use crate::{
    fmp4::{AUDIO_TIMESCALE, VideoFormat},
    link::{Failure, RtmpTarget},
    pipeline::{Air, Frame},
    rtmp::{ACK_WINDOW, Client, Metadata, Progress, RANDOM, Refusal},
    status::{DestinationState, FailureCode},
};

/// One RTMP destination of a worker.
pub(crate) struct Rtmp {
    pub(crate) attempt: Attempt,
    pub(crate) target: RtmpTarget,
    pub(crate) limits: Limits,
    pub(crate) policy: Policy,
}

/// What is waited for, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) stall: Duration,
}

/// A connection being made or used.
struct Session {
    connection: Connection,
    client: Client,
    queue: SharedQueue,
    formats: Formats,
    started: Instant,
    /// When the server accepted the stream.
    accepted: Option<Instant>,
    live: bool,
    sent: u64,
    acknowledged: u64,
    /// When something was last sent, or nothing was to be sent.
    moved: Instant,
    last_acknowledged: Instant,
}

/// What the server was told of the media.
#[derive(Default)]
struct Formats {
    announced: bool,
    video: Option<VideoFormat>,
    audio: Option<gst::Caps>,
}

impl Rtmp {
    /// Delivers until stopped or failed, and reports how that went.
    pub(crate) fn run(&self) {
        let mut probed: Option<Instant> = None;
        let idle = |first| {
            if first || probed.is_none_or(|at| at.elapsed() > PROBE_EVERY) {
                self.probe()?;
                probed = Some(Instant::now());
            }
            Ok(())
        };
        self.attempt
            .deliver(idle, |air, _, queue| self.open(queue)?.run(self, air));
    }

    fn open(&self, queue: SharedQueue) -> Result<Session, Failure> {
        let now = Instant::now();
        Ok(Session {
            connection: self.connect()?,
            client: self.greet()?,
            queue,
            formats: Formats::default(),
            started: now,
            accepted: None,
            live: false,
            sent: 0,
            acknowledged: 0,
            moved: now,
            last_acknowledged: now,
        })
    }

    fn connect(&self) -> Result<Connection, Failure> {
        let (target, policy, limits) = (self.target.clone(), self.policy.clone(), self.limits);
        let connecting = move || connect(&target, &policy, limits);
        let connected = self.attempt.stop.unless_stopped(connecting);
        connected.unwrap_or_else(|| Err(failure(FailureCode::Internal, &self.target, "ended")))
    }

    fn greet(&self) -> Result<Client, Failure> {
        let target = &self.target;
        let mut random = [0; RANDOM];
        rand::fill(&mut random)
            .map_err(|_| failure(FailureCode::Internal, target, "no random numbers"))?;
        Ok(Client::new(
            &target.application,
            &target.url(),
            &target.key,
            &random,
        ))
    }

    /// Looks for the server while there is nothing to send, so that a wrong address is told at once: shakes
    /// hands and connects to the application, without publishing.
    fn probe(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + self.limits.connect;
        let mut connection = self.connect()?;
        let mut client = self.greet()?;
        let mut buffer = [0; 4096];
        while client.progress() == Progress::Nothing {
            let patience = deadline.saturating_duration_since(Instant::now());
            if patience.is_zero() {
                return Err(failure(FailureCode::Timeout, &self.target, ""));
            }
            if self.attempt.stop.is_stopped() {
                return Ok(());
            }
            let moved = connection
                .send(client.output())
                .and_then(|_| connection.receive(&mut buffer));
            let received =
                moved.map_err(|_| refused(&Refusal::NotRtmp, &self.target, Progress::Nothing))?;
            client
                .handle_input(buffer.get(..received).unwrap_or_default())
                .map_err(|refusal| refused(&refusal, &self.target, client.progress()))?;
            if received == 0 {
                connection.wait(
                    !client.output().is_empty(),
                    Some(&self.attempt.stop),
                    patience,
                );
            }
        }
        Ok(())
    }
}

fn connect(target: &RtmpTarget, policy: &Policy, limits: Limits) -> Result<Connection, Failure> {
    let deadline = Instant::now() + limits.connect;
    let mut tcp = dial(&target.host, target.port, policy, deadline)
        .map_err(|code| failure(code, target, ""))?;
    let tls = if target.tls {
        let ca_file = policy.tls_ca_file.as_deref();
        let tls = tls::connect(&mut tcp, &target.host, ca_file, deadline);
        Some(tls.map_err(|error| {
            use std::io::ErrorKind as Kind;
            if matches!(error.kind(), Kind::WouldBlock | Kind::TimedOut) {
                failure(FailureCode::Timeout, target, "")
            } else {
                failure(FailureCode::TlsFailed, target, &error.to_string())
            }
        })?)
    } else {
        None
    };
    Connection::new(tcp, tls, limits.stall)
        .map_err(|error| broken(&error, target, Progress::Nothing))
}

impl Session {
    fn run(mut self, rtmp: &Rtmp, air: Air) -> Result<(), Failure> {
        let mut buffer = vec![0; 8192];
        while !rtmp.attempt.is_over(air) {
            self.step(rtmp, &mut buffer)?;
            let sending = !self.client.output().is_empty();
            self.connection
                .wait(sending, Some(&rtmp.attempt.stop), POLL);
        }
        if self.accepted.is_none() {
            return Ok(());
        }
        self.client.end();
        let output = std::mem::take(self.client.output());
        self.end(output, rtmp);
        Ok(())
    }

    /// Sends and receives what is possible now.
    fn step(&mut self, rtmp: &Rtmp, buffer: &mut [u8]) -> Result<(), Failure> {
        let now = Instant::now();
        let target = &rtmp.target;
        loop {
            let received = self.connection.receive(buffer);
            let received = received.map_err(|e| broken(&e, target, self.progress()))?;
            if received == 0 {
                break;
            }
            let received = buffer.get(..received).unwrap_or_default();
            self.client
                .handle_input(received)
                .map_err(|refusal| refused(&refusal, target, self.progress()))?;
        }
        if self.client.is_publishing() {
            self.accepted.get_or_insert(now);
            self.take_frames(rtmp);
        }
        let sent = self.connection.send(self.client.output());
        let sent = sent.map_err(|e| broken(&e, target, self.progress()))? as u64;
        self.sent += sent;
        rtmp.attempt.meter.count_bytes(sent);
        if sent > 0 || self.client.output().is_empty() {
            self.moved = now;
        }
        let acknowledged = self.client.acknowledged().min(self.sent);
        if acknowledged > self.acknowledged {
            rtmp.attempt
                .meter
                .count_acknowledged(acknowledged - self.acknowledged);
            self.acknowledged = acknowledged;
            self.last_acknowledged = now;
        }
        self.judge(rtmp, now)
    }

    /// Returns how far the server went along: one that refuses late has not taken the stream.
    fn progress(&self) -> Progress {
        let progress = self.client.progress();
        if progress == Progress::Published && !self.live {
            Progress::Connected
        } else {
            progress
        }
    }

    /// Says when it is live, and notices when nothing moves.
    fn judge(&mut self, rtmp: &Rtmp, now: Instant) -> Result<(), Failure> {
        let told = |code| Err(failure(code, &rtmp.target, ""));
        let Some(accepted) = self.accepted else {
            if now >= self.started + rtmp.limits.connect {
                return told(FailureCode::Timeout);
            }
            return Ok(());
        };
        if !self.live && self.formats.announced && now >= accepted + PROOF {
            self.live = true;
            rtmp.attempt.report_state(DestinationState::Live);
        }
        let stalled = now >= self.moved + rtmp.limits.stall;
        // Buffers on the way hide a stall for seconds, but a server that acknowledges does not go silent.
        let unconfirmed = self.sent - self.acknowledged;
        let silent = self.acknowledged > 0
            && unconfirmed > 3 * u64::from(ACK_WINDOW)
            && now >= self.last_acknowledged + rtmp.limits.stall;
        if stalled || silent {
            return told(FailureCode::Stalled);
        }
        Ok(())
    }

    fn take_frames(&mut self, rtmp: &Rtmp) {
        let now = rtmp.attempt.clock.now();
        while self.client.output().len() < OUTPUT_LIMIT {
            let (frame, start) = {
                let mut queue = lock(&self.queue);
                (queue.pop(now), queue.start())
            };
            let (Some(frame), Some(start)) = (frame, start) else {
                return;
            };
            let time = milliseconds(frame.time.saturating_sub(start));
            let Ok(data) = frame.buffer.map_readable() else {
                continue;
            };
            match frame.kind {
                MediaKind::Video => {
                    self.announce_video(&frame, time);
                    self.client.send_video(frame.keyframe, &data, time);
                    rtmp.attempt.meter.count_frame();
                    rtmp.attempt.meter.set_delay(now.saturating_sub(frame.time));
                }
                MediaKind::Audio => {
                    self.announce_audio(&frame, time);
                    self.client.send_audio(&data, time);
                }
            }
        }
    }

    fn announce_video(&mut self, frame: &Frame, time: u32) {
        if !frame.keyframe {
            return;
        }
        let format = frame.video_format();
        if format.is_none() || format == self.formats.video {
            return;
        }
        if let Some(format) = &format {
            self.formats.announced = true;
            self.client.send_metadata(Metadata {
                video: Some((format.width, format.height)),
                audio_rate: AUDIO_TIMESCALE,
            });
            self.client.send_video_config(&format.avcc, time);
        }
        self.formats.video = format;
    }

    fn announce_audio(&mut self, frame: &Frame, time: u32) {
        let known = self.formats.audio.as_ref();
        if known.is_some_and(|caps| caps.as_ptr() == frame.caps.as_ptr()) {
            return;
        }
        if let Some(format) = frame.audio_format() {
            if !std::mem::replace(&mut self.formats.announced, true) {
                self.client.send_metadata(Metadata {
                    video: None,
                    audio_rate: AUDIO_TIMESCALE,
                });
            }
            self.client.send_audio_config(&format.config, time);
        }
        self.formats.audio = Some(frame.caps.clone());
    }

    /// Says goodbye to the server.
    fn end(self, mut output: Vec<u8>, rtmp: &Rtmp) {
        rtmp.attempt.meter.count_bytes(output.len() as u64);
        self.connection
            .close(&mut output, Instant::now() + GOODBYE_LIMIT);
    }
}

/// RTMP's time wraps after 49 days.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the protocol counts modulo 2^32"
)]
fn milliseconds(time: Duration) -> u32 {
    time.as_millis() as u32
}

/// How often a server is looked for while there is nothing to send.
const PROBE_EVERY: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);
/// A server that refuses late closes the connection within this time.
const PROOF: Duration = Duration::from_millis(400);
const GOODBYE_LIMIT: Duration = Duration::from_millis(1500);
/// What is encoded ahead of the connection; the rest waits where it can be dropped.
const OUTPUT_LIMIT: usize = 128 << 10;
