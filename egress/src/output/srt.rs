//! An SRT destination: calls a listener and sends MPEG-TS by a GStreamer pipeline of its own.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use sfu::MediaKind;

use super::{
    Attempt, Limits, Policy, Turn,
    dial::resolve,
    feed::{SharedQueue, lock},
    srt_failure::{explain, failure},
};
use crate::{
    link::{Failure, SrtTarget},
    pipeline::{Air, Graph, GraphError, Said},
    status::{DestinationState, FailureCode},
};

/// One SRT destination of a worker.
pub(crate) struct Srt {
    pub(crate) attempt: Attempt,
    pub(crate) target: SrtTarget,
    pub(crate) limits: Limits,
    pub(crate) policy: Policy,
    /// Of the receiver's addresses.
    pub(crate) turn: Turn,
}

/// A connection being made or used.
struct Session {
    graph: Graph,
    sink: gst::Element,
    video: Option<gst_app::AppSrc>,
    audio: gst_app::AppSrc,
    queue: SharedQueue,
    started: Instant,
    address: SocketAddr,
    live: bool,
    /// Frames that nobody has been told of.
    uncounted: u64,
    measured: Instant,
    progress: Progress,
    confirmed: u64,
    last_acknowledged: Instant,
}

/// What the sink tells of its connection.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    bytes: u64,
    acknowledgements: u64,
}

impl Srt {
    /// Delivers until stopped or failed, and reports how that went.
    ///
    /// Nobody is called while nothing is on air: many listeners take one caller in their life.
    pub(crate) fn run(&self) {
        self.attempt.deliver(
            |_| Ok(()),
            |air, video, queue| {
                let session = self.open(video, queue)?;
                let address = session.address;
                session.run(self, air)?;
                self.turn.keep(address);
                Ok(())
            },
        );
    }

    /// Starts to call the listener, at the very address that was checked: the sink gets no name that could
    /// change its mind. It tells only after a while that nobody answers, so that each attempt calls one address.
    fn open(&self, video: bool, queue: SharedQueue) -> Result<Session, Failure> {
        let target = &self.target;
        let deadline = Instant::now() + self.limits.connect;
        let addresses = resolve(&target.host, target.port, &self.policy, deadline)
            .map_err(|code| failure(code, target, ""))?;
        let address = self.turn.take(&addresses);
        let address = address.ok_or_else(|| failure(FailureCode::HostNotFound, target, ""))?;
        self.build(video, address, queue)
            .map_err(|error| failure(FailureCode::Internal, target, &error.to_string()))
    }

    fn build(
        &self,
        video: bool,
        address: SocketAddr,
        queue: SharedQueue,
    ) -> Result<Session, GraphError> {
        let graph = Graph::build(&description(video), &self.attempt.clock)?;
        let sink = graph.element("sink")?;
        let patience = self.limits.connect.as_millis();
        sink.set_property("uri", format!("srt://{address}?conntimeo={patience}"));
        sink.set_property("auto-reconnect", false);
        if let Some(passphrase) = &self.target.passphrase {
            sink.set_property("passphrase", passphrase);
        }
        if !self.target.stream_id.is_empty() {
            sink.set_property("streamid", &self.target.stream_id);
        }
        if let Ok(latency) = i32::try_from(self.target.latency_ms) {
            sink.set_property("latency", latency);
        }
        let now = Instant::now();
        let session = Session {
            video: if video {
                Some(graph.source("video")?)
            } else {
                None
            },
            audio: graph.source("audio")?,
            sink,
            graph,
            queue,
            started: now,
            address,
            live: false,
            uncounted: 0,
            measured: now,
            progress: Progress::default(),
            confirmed: 0,
            last_acknowledged: now,
        };
        session.graph.play()?;
        Ok(session)
    }
}

impl Session {
    fn run(mut self, srt: &Srt, air: Air) -> Result<(), Failure> {
        while !srt.attempt.is_over(air) {
            self.take_frames(srt);
            self.judge(srt, Instant::now())?;
            srt.attempt.stop.wait(POLL);
        }
        self.end(srt);
        Ok(())
    }

    /// Hands over what there is room for; the rest waits where it can be dropped.
    fn take_frames(&mut self, srt: &Srt) {
        let now = srt.attempt.clock.now();
        while self.has_room() {
            let Some(frame) = lock(&self.queue).pop(now) else {
                return;
            };
            if frame.kind == MediaKind::Video {
                self.count_frame(srt);
                srt.attempt.meter.set_delay(now.saturating_sub(frame.time));
            }
            let source = match frame.kind {
                MediaKind::Video => self.video.as_ref(),
                MediaKind::Audio => Some(&self.audio),
            };
            if let Some(source) = source {
                // Refused only when the pipeline has failed, which its bus tells.
                let _ = source.push_sample(&frame.to_sample());
            }
        }
    }

    /// Counts what goes out; what waits for the connection, once that stands.
    fn count_frame(&mut self, srt: &Srt) {
        self.uncounted += 1;
        if self.live {
            for _ in 0..std::mem::take(&mut self.uncounted) {
                srt.attempt.meter.count_frame();
            }
        }
    }

    fn has_room(&self) -> bool {
        let video = self.video.as_ref();
        let waiting = video.map_or(0, gst_app::AppSrc::current_level_bytes);
        waiting + self.audio.current_level_bytes() < PIPELINE_LIMIT
    }

    /// Says when it is live, and notices when it is not any more.
    fn judge(&mut self, srt: &Srt, now: Instant) -> Result<(), Failure> {
        if let Some(said) = self.graph.wait(Duration::ZERO) {
            let silent = self.live && now >= self.last_acknowledged + SILENCE;
            return Err(match said {
                Said::Failed { message, debug } => explain(
                    &format!("{message} {debug}"),
                    &srt.target,
                    self.live,
                    silent,
                ),
                Said::Ended => failure(FailureCode::ClosedByServer, &srt.target, ""),
            });
        }
        if now < self.measured + POLL {
            return Ok(());
        }
        self.measured = now;
        self.measure(srt, now);
        let told = |code| Err(failure(code, &srt.target, ""));
        if !self.live && now >= self.started + srt.limits.connect + GRACE {
            return told(FailureCode::Timeout);
        }
        // A listener acknowledges every 10 ms, so one that is gone shows sooner than with TCP.
        if self.live && now >= self.last_acknowledged + srt.limits.stall.min(STALL) {
            return told(FailureCode::Stalled);
        }
        Ok(())
    }

    fn measure(&mut self, srt: &Srt, now: Instant) {
        let before = self.progress;
        self.progress = self.read_progress();
        let sent = self.progress.bytes.saturating_sub(before.bytes);
        srt.attempt.meter.count_bytes(sent);
        if self.progress.acknowledgements <= before.acknowledgements {
            return;
        }
        // SRT does not tell how far an acknowledgement reaches: it is taken to reach what was sent before the
        // last measurement.
        let confirmed = before.bytes.saturating_sub(self.confirmed);
        srt.attempt.meter.count_acknowledged(confirmed);
        self.confirmed += confirmed;
        self.last_acknowledged = now;
        if !std::mem::replace(&mut self.live, true) {
            srt.turn.keep(self.address);
            srt.attempt.report_state(DestinationState::Live);
        }
    }

    fn read_progress(&self) -> Progress {
        let stats = self.sink.property::<gst::Structure>("stats");
        let count = |name: &str| {
            let value = stats.value(name).ok()?;
            let signed = value
                .get::<i64>()
                .or_else(|_| value.get::<i32>().map(i64::from));
            match signed {
                Ok(signed) => u64::try_from(signed).ok(),
                Err(_) => value.get::<u64>().ok(),
            }
        };
        Progress {
            bytes: count("bytes-sent").unwrap_or(0),
            acknowledgements: count("packet-ack-received").unwrap_or(0),
        }
    }

    /// Sends what is left, and waits until it is confirmed; then closing tells the listener.
    fn end(&mut self, srt: &Srt) {
        if !self.live {
            return;
        }
        let deadline = Instant::now() + GOODBYE_LIMIT;
        self.take_frames(srt);
        if let Some(video) = &self.video {
            let _ = video.end_of_stream();
        }
        let _ = self.audio.end_of_stream();
        let mut quiet = 0;
        while quiet < 2 && Instant::now() < deadline {
            let ended = self.graph.wait(GOODBYE_POLL).is_some();
            let before = self.progress.acknowledgements;
            self.measure(srt, Instant::now());
            // Nothing is acknowledged any more: everything was.
            let still = self.progress.acknowledgements == before;
            quiet = if still && (ended || quiet > 0) {
                quiet + 1
            } else {
                0
            };
        }
    }
}

fn description(video: bool) -> String {
    let video = if video {
        "appsrc name=video is-live=true format=time max-bytes=0 ! h264parse config-interval=-1 ! \
         video/x-h264,stream-format=byte-stream,alignment=au ! mux. "
    } else {
        ""
    };
    // Without its own idea of stream headers the sink waits until the connection stands, and then tells why one
    // was refused. The latency is above that of stand-in media, so that sound and picture leave in order.
    format!(
        "{video}appsrc name=audio is-live=true format=time max-bytes=0 ! aacparse ! \
         audio/mpeg,stream-format=adts ! mux. \
         mpegtsmux name=mux alignment=7 latency=1000000000 ! \
         capssetter caps=video/mpegts,systemstream=true,packetsize=188 replace=true ! \
         srtsink name=sink sync=false async=false"
    )
}

const POLL: Duration = Duration::from_millis(100);
/// SRT's own time-out comes first, because it knows the reason.
const GRACE: Duration = Duration::from_millis(500);
/// A listener says goodbye when it can.
const SILENCE: Duration = Duration::from_secs(2);
const STALL: Duration = Duration::from_secs(3);
const GOODBYE_POLL: Duration = Duration::from_millis(20);
const GOODBYE_LIMIT: Duration = Duration::from_millis(1500);
/// What waits in the pipeline; a quarter of a second at 8 Mbit/s.
const PIPELINE_LIMIT: u64 = 256 << 10;
