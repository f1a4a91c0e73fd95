//! Where RTP packets enter a pipeline, and what takes the media out of them.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use sfu::{Codec, MediaKind};

use super::{
    Graph, GraphError,
    av1::{Depacketizer, Outcome},
    clock::clock_time,
};

/// The input of a pipeline that begins as [`RtpInput::description`] says.
#[derive(Debug)]
pub(crate) struct RtpInput {
    source: gst_app::AppSrc,
    /// For the codec that GStreamer does not take out of RTP.
    depacketizer: Option<Mutex<Depacketizer>>,
}

impl RtpInput {
    /// Returns the beginning of a pipeline, up to encoded media.
    pub(crate) fn description(codec: Codec) -> String {
        let rtp = |name: &str, rate: &str| {
            let media = match codec.kind() {
                MediaKind::Video => "video",
                MediaKind::Audio => "audio",
            };
            format!(
                "application/x-rtp,media={media},encoding-name={name},payload=96,clock-rate={rate}"
            )
        };
        let (caps, depacketize) = match codec {
            Codec::H264 => (rtp("H264", "90000"), format!("rtph264depay {RESUME}")),
            Codec::Vp8 => (rtp("VP8", "90000"), format!("rtpvp8depay {RESUME}")),
            Codec::Vp9 => (rtp("VP9", "90000"), format!("rtpvp9depay {RESUME}")),
            Codec::Av1 => (
                "video/x-av1,stream-format=obu-stream,alignment=tu".to_owned(),
                "av1parse".to_owned(),
            ),
            Codec::Opus => (
                rtp("OPUS", "48000,encoding-params=(string)2"),
                "rtpopusdepay".to_owned(),
            ),
        };
        let bytes = match codec.kind() {
            MediaKind::Video => 8 << 20,
            MediaKind::Audio => 1 << 20,
        };
        format!(
            "appsrc name=in is-live=true format=time max-bytes={bytes} leaky-type=upstream caps=\"{caps}\" ! \
             {depacketize}"
        )
    }

    /// Returns the input of a pipeline for that codec. `on_keyframe_wanted` is called when nothing can be made of
    /// packets until a keyframe comes.
    pub(crate) fn of(
        graph: &Graph,
        codec: Codec,
        on_keyframe_wanted: impl Fn() + Send + Sync + 'static,
    ) -> Result<Self, GraphError> {
        let source = graph.source("in")?;
        if let Some(pad) = source.static_pad("src") {
            pad.add_probe(gst::PadProbeType::EVENT_UPSTREAM, move |_, info| {
                if let Some(gst::PadProbeData::Event(event)) = &info.data
                    && gst_video::UpstreamForceKeyUnitEvent::parse(event).is_ok()
                {
                    on_keyframe_wanted();
                }
                gst::PadProbeReturn::Ok
            });
        }
        Ok(Self {
            source,
            depacketizer: (codec == Codec::Av1).then(Mutex::default),
        })
    }

    /// Takes in a packet; returns whether a keyframe is wanted.
    pub(crate) fn push(&self, rtp: &[u8], time: Duration) -> bool {
        let Some(depacketizer) = &self.depacketizer else {
            self.push_buffer(gst::Buffer::from_slice(rtp.to_vec()), time);
            return false;
        };
        let mut depacketizer = depacketizer.lock().unwrap_or_else(PoisonError::into_inner);
        match depacketizer.push(rtp) {
            Outcome::Pending => false,
            Outcome::Lost => true,
            Outcome::Complete(unit) => {
                let mut buffer = gst::Buffer::from_slice(unit.data);
                if !unit.keyframe {
                    buffer.make_mut().set_flags(gst::BufferFlags::DELTA_UNIT);
                }
                self.push_buffer(buffer, time);
                false
            }
        }
    }

    fn push_buffer(&self, mut buffer: gst::Buffer, time: Duration) {
        buffer.make_mut().set_pts(clock_time(time));
        // Refused only when the pipeline has failed, which its bus tells.
        let _ = self.source.push_buffer(buffer);
    }
}

/// After a loss nothing is passed on that cannot be decoded.
const RESUME: &str = "wait-for-keyframe=true request-keyframe=true";
