//! One lane's RTP to raw pictures or sound, in a pipeline of its own.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use sfu::{Codec, MediaKind};

use super::av1::{Depacketizer, Outcome};
use crate::pipeline::{
    Clock, Graph, GraphError,
    clock::clock_time,
    video::{failure, push_rtp},
};

/// What a lane's decoder tells.
pub(crate) trait Listener: Send + Sync + 'static {
    /// A picture or a block of sound has been decoded, to be presented at `time`.
    fn handle_raw(&self, buffer: gst::Buffer, caps: &gst::Caps, time: Duration);
    /// Nothing can be decoded until a keyframe comes.
    fn handle_keyframe_wanted(&self);
}

/// A playing decoder.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub(crate) codec: Codec,
    source: gst_app::AppSrc,
    /// For the codec that GStreamer does not take out of RTP.
    depacketizer: Option<Mutex<Depacketizer>>,
    graph: Graph,
}

impl Decoder {
    pub(crate) fn start<L: Listener + Clone>(
        codec: Codec,
        clock: &Clock,
        listener: L,
    ) -> Result<Self, GraphError> {
        let graph = Graph::build(&description(codec), clock)?;
        let source = graph.source("in")?;
        let sink = graph.sink("out")?;
        watch_requests(&source, listener.clone());
        if codec.kind() == MediaKind::Video {
            offer_strides(&sink);
        }
        let parser = graph.element("parser").ok();
        listen(&sink, parser, listener);
        graph.play()?;
        Ok(Self {
            codec,
            source,
            depacketizer: (codec == Codec::Av1).then(Mutex::default),
            graph,
        })
    }

    /// Takes in a packet; returns whether a keyframe is wanted.
    pub(crate) fn push(&self, rtp: &[u8], time: Duration) -> bool {
        let Some(depacketizer) = &self.depacketizer else {
            push_rtp(&self.source, rtp, time);
            return false;
        };
        let mut depacketizer = depacketizer.lock().unwrap_or_else(PoisonError::into_inner);
        match depacketizer.push(rtp) {
            Outcome::Pending => false,
            Outcome::Lost => true,
            Outcome::Complete(unit) => {
                let mut buffer = gst::Buffer::from_slice(unit.data);
                buffer.make_mut().set_pts(clock_time(time));
                if !unit.keyframe {
                    buffer.make_mut().set_flags(gst::BufferFlags::DELTA_UNIT);
                }
                // Refused only when the pipeline has failed, which its bus tells.
                let _ = self.source.push_buffer(buffer);
                false
            }
        }
    }

    /// Returns what went wrong, if anything did. The decoder is then of no more use.
    pub(crate) fn failure(&self) -> Option<String> {
        failure(&self.graph)
    }
}

/// Passes on that the depayloader asks for a keyframe.
fn watch_requests(source: &gst_app::AppSrc, listener: impl Listener) {
    let Some(pad) = source.static_pad("src") else {
        return;
    };
    pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
        if let Some(gst::PadProbeData::Event(event)) = &info.data
            && gst_video::UpstreamForceKeyUnitEvent::parse(event).is_ok()
        {
            listener.handle_keyframe_wanted();
        }
        gst::PadProbeReturn::Ok
    });
}

/// Says that lines of any length are fine, so that the decoder does not have to copy its pictures.
fn offer_strides(sink: &gst_app::AppSink) {
    let Some(pad) = sink.static_pad("sink") else {
        return;
    };
    pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
        if let Some(query) = info.query_mut()
            && let gst::QueryViewMut::Allocation(allocation) = query.view_mut()
        {
            allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
            return gst::PadProbeReturn::Handled;
        }
        gst::PadProbeReturn::Ok
    });
}

fn listen(sink: &gst_app::AppSink, parser: Option<gst::Element>, listener: impl Listener) {
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let mut caps = sample.caps_owned().ok_or(gst::FlowError::Error)?;
            let buffer = sample.buffer_owned().ok_or(gst::FlowError::Error)?;
            drop(sample);
            let time = buffer.pts().ok_or(gst::FlowError::Error)?;
            if caps.structure(0).is_some_and(|s| s.name() == "video/x-raw") {
                plain(&mut caps, parser.as_ref());
            }
            listener.handle_raw(buffer, &caps, time.into());
            Ok(gst::FlowSuccess::Ok)
        })
        .build();
    sink.set_callbacks(callbacks);
}

/// Takes for the usual colours what does not say which it has, as players do: a guess by the size of the picture
/// would change them with the simulcast layer. Leaves out the frame rate, which says nothing here.
fn plain(caps: &mut gst::Caps, parser: Option<&gst::Element>) {
    let parsed = parser.and_then(|parser| parser.static_pad("src")?.current_caps());
    let told = parsed.is_some_and(|caps| {
        let structure = caps.structure(0);
        structure.is_some_and(|structure| structure.has_field("colorimetry"))
    });
    let caps = caps.make_mut();
    caps.set("framerate", gst::Fraction::new(0, 1));
    caps.set("chroma-site", "mpeg2");
    if !told {
        caps.set("colorimetry", "bt709");
    }
}

fn description(codec: Codec) -> String {
    let rtp = |name: &str, more: &str| {
        let media = if codec.kind() == MediaKind::Video {
            "video"
        } else {
            "audio"
        };
        format!("application/x-rtp,media={media},encoding-name={name},payload=96,{more}")
    };
    let video = "clock-rate=90000";
    let (caps, decode) = match codec {
        Codec::H264 => (
            rtp("H264", video),
            "rtph264depay wait-for-keyframe=true request-keyframe=true ! h264parse name=parser ! \
             avdec_h264 max-threads=1 output-corrupt=false",
        ),
        Codec::Vp8 => (
            rtp("VP8", video),
            "rtpvp8depay wait-for-keyframe=true request-keyframe=true ! vp8dec threads=1",
        ),
        Codec::Vp9 => (
            rtp("VP9", video),
            "rtpvp9depay wait-for-keyframe=true request-keyframe=true ! vp9dec threads=1",
        ),
        Codec::Av1 => (
            "video/x-av1,stream-format=obu-stream,alignment=tu".to_owned(),
            "av1parse name=parser ! av1dec",
        ),
        Codec::Opus => (
            rtp("OPUS", "clock-rate=48000,encoding-params=(string)2"),
            "rtpopusdepay ! opusdec plc=true use-inband-fec=true ! audioconvert ! audioresample ! \
             audio/x-raw,format=F32LE,rate=48000,channels=2,layout=interleaved",
        ),
    };
    format!(
        "appsrc name=in is-live=true format=time max-bytes=8388608 leaky-type=upstream caps=\"{caps}\" ! \
         {decode} ! appsink name=out sync=false async=false"
    )
}
