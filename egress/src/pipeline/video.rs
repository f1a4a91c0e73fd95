//! RTP video to H.264 access units.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use sfu::{Codec, MediaKind};

use super::{Clock, Frame, Graph, GraphError, Hub, graph::Said, rtp_input::RtpInput};

/// The pipeline for one video codec: H.264 passes through, everything else is transcoded.
#[derive(Debug)]
pub(crate) struct Video {
    pub(crate) codec: Codec,
    input: RtpInput,
    sink: gst_app::AppSink,
    graph: Graph,
    last_forced: Duration,
    /// Whether nothing can be made of packets until a keyframe comes.
    keyframe_wanted: Arc<AtomicBool>,
}

impl Video {
    pub(crate) fn start(
        codec: Codec,
        transcode_bitrate: u32,
        hub: &Arc<Hub>,
        clock: &Clock,
    ) -> Result<Self, GraphError> {
        let graph = Graph::build(&description(codec, transcode_bitrate), clock)?;
        deliver_to(hub, MediaKind::Video, &graph.sink("out")?, Duration::ZERO);
        Self::play(codec, graph)
    }

    /// Starts a pipeline for a lower layer in H.264, which is handed on as that rendition.
    pub(crate) fn start_layer(
        rendition: u8,
        hub: &Arc<Hub>,
        clock: &Clock,
    ) -> Result<Self, GraphError> {
        let graph = Graph::build(&description(Codec::H264, 0), clock)?;
        let hub = hub.clone();
        let callbacks = gst_app::AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                if let Some(frame) = Frame::from_sample(MediaKind::Video, &sample) {
                    hub.handle_layer(&Frame { rendition, ..frame });
                }
                Ok(gst::FlowSuccess::Ok)
            })
            .build();
        graph.sink("out")?.set_callbacks(callbacks);
        Self::play(Codec::H264, graph)
    }

    fn play(codec: Codec, graph: Graph) -> Result<Self, GraphError> {
        let keyframe_wanted = Arc::<AtomicBool>::default();
        let asking = Arc::clone(&keyframe_wanted);
        let input = RtpInput::of(&graph, codec, move || {
            asking.store(true, Ordering::Relaxed);
        })?;
        let sink = graph.sink("out")?;
        graph.play()?;
        Ok(Self {
            codec,
            input,
            sink,
            graph,
            last_forced: Duration::ZERO,
            keyframe_wanted,
        })
    }

    pub(crate) fn push(&self, rtp: &[u8], time: Duration) {
        if self.input.push(rtp, time) {
            self.keyframe_wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Returns whether the publisher is to be asked for a keyframe, once.
    pub(crate) fn take_keyframe_wanted(&self) -> bool {
        self.keyframe_wanted.swap(false, Ordering::Relaxed)
    }

    /// Returns what went wrong, if anything did. The pipeline is then of no more use.
    pub(crate) fn failure(&self) -> Option<String> {
        failure(&self.graph)
    }

    /// Has the encoder make a keyframe every `interval`, as the publisher does when nothing is encoded here.
    pub(crate) fn force_keyframes(&mut self, interval: Duration, now: Duration) {
        if self.codec == Codec::H264 || now < self.last_forced + interval {
            return;
        }
        self.last_forced = now;
        let event = gst_video::UpstreamForceKeyUnitEvent::builder()
            .all_headers(true)
            .build();
        if let Some(pad) = self.sink.static_pad("sink") {
            pad.push_event(event);
        }
    }
}

/// Hands every frame that reaches `sink` to the hub, `early` earlier than it says.
pub(crate) fn deliver_to(
    hub: &Arc<Hub>,
    kind: MediaKind,
    sink: &gst_app::AppSink,
    early: Duration,
) {
    let hub = hub.clone();
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            if let Some(mut frame) = Frame::from_sample(kind, &sample) {
                frame.time = frame.time.saturating_sub(early);
                hub.handle_frame(frame);
            }
            Ok(gst::FlowSuccess::Ok)
        })
        .build();
    sink.set_callbacks(callbacks);
}

pub(crate) fn failure(graph: &Graph) -> Option<String> {
    match graph.wait(Duration::ZERO)? {
        Said::Failed { message, debug } => Some(format!("{message} ({debug})")),
        Said::Ended => Some("ended".to_owned()),
    }
}

fn description(codec: Codec, transcode_bitrate: u32) -> String {
    let decoder = match codec {
        Codec::H264 | Codec::Opus => None,
        Codec::Vp8 => Some("vp8dec"),
        Codec::Vp9 => Some("vp9dec"),
        Codec::Av1 => Some("av1dec"),
    };
    let kilobits = transcode_bitrate / 1000;
    let to_h264 = decoder.map_or_else(String::new, |decoder| {
        format!(
            "{decoder} ! videoconvert ! videoscale add-borders=false ! \
             video/x-raw,format=I420,width=[16,4096,2],height=[16,4096,2] ! \
             x264enc tune=zerolatency speed-preset=veryfast bitrate={kilobits} \
             vbv-buf-capacity=1000 key-int-max=300 ! video/x-h264,profile=main ! "
        )
    });
    format!(
        "{} ! {to_h264} h264parse config-interval=0 ! \
         video/x-h264,stream-format=avc,alignment=au ! appsink name=out sync=false async=false",
        RtpInput::description(codec)
    )
}
