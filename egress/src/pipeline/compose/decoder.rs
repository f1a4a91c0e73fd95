//! One lane's RTP to raw pictures or sound, in a pipeline of its own.

use std::time::Duration;

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use sfu::{Codec, MediaKind};

use crate::pipeline::{Clock, Graph, GraphError, rtp_input::RtpInput, video::failure};

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
    input: RtpInput,
    graph: Graph,
}

impl Decoder {
    pub(crate) fn start<L: Listener + Clone>(
        codec: Codec,
        clock: &Clock,
        listener: L,
    ) -> Result<Self, GraphError> {
        let graph = Graph::build(&description(codec), clock)?;
        let sink = graph.sink("out")?;
        let asking = listener.clone();
        let input = RtpInput::of(&graph, codec, move || asking.handle_keyframe_wanted())?;
        if codec.kind() == MediaKind::Video {
            offer_strides(&sink);
        }
        let parser = graph.element("parser").ok();
        listen(&sink, parser, listener);
        graph.play()?;
        Ok(Self {
            codec,
            input,
            graph,
        })
    }

    /// Takes in a packet; returns whether a keyframe is wanted.
    pub(crate) fn push(&self, rtp: &[u8], time: Duration) -> bool {
        self.input.push(rtp, time)
    }

    /// Returns what went wrong, if anything did. The decoder is then of no more use.
    pub(crate) fn failure(&self) -> Option<String> {
        failure(&self.graph)
    }
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
            // What cannot be placed is left out; the next one can be.
            let Some(time) = buffer.pts() else {
                return Ok(gst::FlowSuccess::Ok);
            };
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
    let decode = match codec {
        Codec::H264 => "h264parse name=parser ! avdec_h264 max-threads=1 output-corrupt=false",
        Codec::Vp8 => "vp8dec threads=1",
        Codec::Vp9 => "vp9dec threads=1",
        Codec::Av1 => "av1dec",
        Codec::Opus => {
            "opusdec plc=true use-inband-fec=true ! audioconvert ! audioresample ! \
             audio/x-raw,format=F32LE,rate=48000,channels=2,layout=interleaved"
        }
    };
    format!(
        "{} ! {decode} ! appsink name=out sync=false async=false",
        RtpInput::description(codec)
    )
}
