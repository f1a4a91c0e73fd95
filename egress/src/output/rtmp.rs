//! RTMP: each attempt is a pipeline of its own, so that its errors stay its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use sfu::MediaKind;

use super::{
    Meter,
    rtmp_failure::{explain, failure},
    rtmp_probe::probe,
    send_buffer,
};
use crate::{
    link::{Failure, Report, RtmpTarget},
    pipeline::{Air, Clock, Frame, Graph, GraphError, Hub, Output, Said},
    status::{DestinationState, FailureCode},
    worker::Reporter,
};

/// One RTMP destination of a worker.
pub(crate) struct Rtmp {
    pub(crate) index: usize,
    pub(crate) target: RtmpTarget,
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) hub: Arc<Hub>,
    pub(crate) reporter: Reporter,
    pub(crate) meter: Arc<Meter>,
    pub(crate) stop: Arc<AtomicBool>,
}

/// What is waited for, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) connect: Duration,
    pub(crate) stall: Duration,
}

/// How a session ended.
enum Outcome {
    Stopped,
    /// Something else is on air, or nothing.
    Switched,
    Failed(Failure),
}

/// A connection being made or used.
struct Session {
    graph: Graph,
    video: Option<gst_app::AppSrc>,
    audio: gst_app::AppSrc,
    /// Buffers that the sink took. It takes one before it is connected.
    passed: Arc<AtomicU64>,
}

impl Rtmp {
    /// Delivers until stopped or failed, and reports how that went.
    pub(crate) fn run(&self) {
        let mut probed: Option<Instant> = None;
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return self.report_state(DestinationState::Ended);
            }
            let air = self.hub.wait_on_air(POLL);
            let Air::On { video, .. } = air else {
                if probed.is_none_or(|at| at.elapsed() > PROBE_EVERY) {
                    if let Err(failure) = probe(&self.target, self.limits.connect) {
                        return self.report_failure(failure);
                    }
                    if probed.replace(Instant::now()).is_none() {
                        self.report_state(DestinationState::Connecting);
                    }
                }
                continue;
            };
            probed = None;
            let outcome = match self.open(video) {
                Ok(session) => self.deliver(&session, air),
                Err(e) => {
                    Outcome::Failed(failure(FailureCode::Internal, &self.target, &e.to_string()))
                }
            };
            if let Outcome::Failed(failure) = outcome {
                return self.report_failure(failure);
            }
        }
    }

    fn open(&self, video: bool) -> Result<Session, GraphError> {
        let graph = Graph::build(&description(video), &self.clock)?;
        let sink = graph.element("sink")?;
        sink.set_property_from_str("scheme", if self.target.tls { "rtmps" } else { "rtmp" });
        sink.set_property("host", &self.target.host);
        sink.set_property("port", i32::from(self.target.port));
        sink.set_property("application", &self.target.application);
        sink.set_property("stream", &self.target.key);
        let timeout = u32::try_from(self.limits.connect.as_secs()).unwrap_or(u32::MAX);
        sink.set_property("timeout", timeout.max(1));
        let passed = Arc::new(AtomicU64::new(0));
        let (count, meter) = (passed.clone(), self.meter.clone());
        if let Some(pad) = sink.static_pad("sink") {
            pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                if let Some(buffer) = info.buffer() {
                    count.fetch_add(1, Ordering::Relaxed);
                    meter.count_bytes(buffer.size() as u64);
                }
                gst::PadProbeReturn::Ok
            });
        }
        let session = Session {
            video: if video {
                Some(graph.source("video")?)
            } else {
                None
            },
            audio: graph.source("audio")?,
            graph,
            passed,
        };
        session.graph.play()?;
        Ok(session)
    }

    fn deliver(&self, session: &Session, air: Air) -> Outcome {
        let _attached = self.hub.attach(Box::new(Feed {
            air,
            video: session.video.clone(),
            audio: session.audio.clone(),
            start: None,
            dropping: false,
            meter: self.meter.clone(),
        }));
        if session.video.is_some() {
            self.reporter.send(&Report::KeyframeWanted, &[]);
        }
        let started = Instant::now();
        let mut progress = (0, started);
        let mut accepted = None;
        let mut live = false;
        loop {
            match session.graph.wait(POLL) {
                Some(Said::Failed { message, debug }) => {
                    return Outcome::Failed(explain(&message, &debug, &self.target, live));
                }
                Some(Said::Ended) => {
                    return Outcome::Failed(failure(FailureCode::ClosedByServer, &self.target, ""));
                }
                None => {}
            }
            if self.stop.load(Ordering::Relaxed) {
                session.end();
                return Outcome::Stopped;
            }
            if self.hub.air() != air {
                session.end();
                return Outcome::Switched;
            }
            let now = Instant::now();
            let passed = session.passed.load(Ordering::Relaxed);
            if passed > progress.0 {
                progress = (passed, now);
            }
            if passed >= ACCEPTED_AT && accepted.is_none() {
                accepted = Some(now);
                send_buffer::bound(self.target.port);
            }
            match accepted {
                Some(at) if !live && now >= at + PROOF => {
                    live = true;
                    self.report_state(DestinationState::Live);
                }
                None if now >= started + self.limits.connect => {
                    return Outcome::Failed(failure(FailureCode::Timeout, &self.target, ""));
                }
                Some(_) if now >= progress.1 + self.limits.stall => {
                    return Outcome::Failed(failure(FailureCode::Stalled, &self.target, ""));
                }
                Some(_) | None => {}
            }
        }
    }

    fn report_failure(&self, failure: Failure) {
        let report = Report::Failed {
            destination: self.index,
            failure,
        };
        self.reporter.send(&report, &[]);
    }

    fn report_state(&self, state: DestinationState) {
        let report = Report::State {
            destination: self.index,
            state,
        };
        self.reporter.send(&report, &[]);
    }
}

impl Session {
    /// Says goodbye to the server.
    fn end(&self) {
        if let Some(video) = &self.video {
            let _ = video.end_of_stream();
        }
        let _ = self.audio.end_of_stream();
        let deadline = Instant::now() + GOODBYE_LIMIT;
        while Instant::now() < deadline {
            if self.graph.wait(POLL).is_some() {
                return;
            }
        }
    }
}

/// Puts frames into a session, from a keyframe on. At most [`VIDEO_LIMIT`] bytes wait; then frames are dropped
/// until a keyframe finds the queue half empty.
struct Feed {
    air: Air,
    video: Option<gst_app::AppSrc>,
    audio: gst_app::AppSrc,
    /// Where the session starts.
    start: Option<Duration>,
    dropping: bool,
    meter: Arc<Meter>,
}

impl Output for Feed {
    fn switch(&mut self, air: Air) {
        if air != self.air {
            // The session notices by itself, and ends.
            self.air = Air::Off;
        }
    }

    fn push(&mut self, frame: &Frame) {
        if self.air == Air::Off {
            return;
        }
        match (frame.kind, &self.video) {
            (MediaKind::Video, Some(video)) => {
                let waiting = video.current_level_bytes();
                if self.start.is_none() {
                    if !frame.keyframe {
                        return;
                    }
                    self.start = Some(frame.time);
                }
                if self.dropping && frame.keyframe && waiting < VIDEO_LIMIT / 2 {
                    self.dropping = false;
                } else if waiting > VIDEO_LIMIT {
                    self.dropping = true;
                }
                if self.dropping {
                    self.meter.count_dropped();
                    return;
                }
                self.meter.count_frame();
                let _ = video.push_sample(&frame.to_sample());
            }
            (MediaKind::Video, None) => {}
            (MediaKind::Audio, video) => {
                if video.is_none() {
                    self.start.get_or_insert(frame.time);
                }
                let begun = self.start.is_some_and(|start| frame.time >= start);
                if begun && self.audio.current_level_bytes() < AUDIO_LIMIT {
                    let _ = self.audio.push_sample(&frame.to_sample());
                }
            }
        }
    }
}

fn description(video: bool) -> String {
    let video = if video {
        "appsrc name=video is-live=true format=time max-bytes=0 ! queue max-size-buffers=1 max-size-bytes=0 \
         max-size-time=0 ! mux.video "
    } else {
        ""
    };
    // The latency is above that of stand-in media, so that sound and picture leave in order.
    format!(
        "{video}appsrc name=audio is-live=true format=time max-bytes=0 ! queue max-size-buffers=1 \
         max-size-bytes=0 max-size-time=0 ! mux.audio \
         flvmux name=mux streamable=true latency=1000000000 ! \
         rtmp2sink name=sink async-connect=true sync=false async=false chunk-size=8192"
    )
}

/// How often a server is looked for while there is nothing to send.
const PROBE_EVERY: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(50);
/// The sink blocks with the first message until it is connected; before it come headers.
const ACCEPTED_AT: u64 = 8;
/// A server that refuses late closes the connection within this time.
const PROOF: Duration = Duration::from_millis(500);
const GOODBYE_LIMIT: Duration = Duration::from_millis(1500);
/// Four seconds at 4 Mbit/s.
const VIDEO_LIMIT: u64 = 2 << 20;
const AUDIO_LIMIT: u64 = 128 << 10;
