//! One encoded frame on the worker's timeline.

use std::time::Duration;

use gstreamer as gst;
use sfu::MediaKind;

use crate::fmp4::{AudioFormat, VideoFormat};

/// An H.264 access unit (length-prefixed) or an AAC frame. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: MediaKind,
    /// Of which quality it is: 0 is the program that every output gets.
    pub(crate) rendition: u8,
    pub(crate) time: Duration,
    pub(crate) keyframe: bool,
    pub(crate) buffer: gst::Buffer,
    pub(crate) caps: gst::Caps,
}

impl Frame {
    /// Takes a frame out of what a sink received. `None` for what has no time.
    pub(crate) fn from_sample(kind: MediaKind, sample: &gst::Sample) -> Option<Self> {
        let buffer = sample.buffer_owned()?;
        // An encoder may shift its times, and says so in the segment.
        let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
        let time = segment.to_running_time(buffer.pts()?)?.into();
        let delta = buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        Some(Self {
            kind,
            rendition: 0,
            time,
            keyframe: kind == MediaKind::Audio || !delta,
            buffer,
            caps: sample.caps_owned()?,
        })
    }

    pub(crate) fn data(&self) -> Vec<u8> {
        self.buffer
            .map_readable()
            .map(|map| map.to_vec())
            .unwrap_or_default()
    }

    /// Returns it as a sample whose buffer bears its time.
    pub(crate) fn to_sample(&self) -> gst::Sample {
        let mut buffer = self.buffer.copy();
        let stamped = buffer.make_mut();
        let time = super::clock::clock_time(self.time);
        stamped.set_pts(time);
        stamped.set_dts(time);
        gst::Sample::builder()
            .buffer(&buffer)
            .caps(&self.caps)
            .build()
    }

    /// Returns the H.264 format; `None` when it is not complete.
    pub(crate) fn video_format(&self) -> Option<VideoFormat> {
        let caps = self.caps.structure(0)?;
        let size = |field| u16::try_from(caps.get::<i32>(field).ok()?).ok();
        Some(VideoFormat {
            avcc: codec_data(caps)?,
            width: size("width")?,
            height: size("height")?,
        })
    }

    /// Returns the AAC format; `None` when it is not complete.
    pub(crate) fn audio_format(&self) -> Option<AudioFormat> {
        Some(AudioFormat {
            config: codec_data(self.caps.structure(0)?)?,
        })
    }
}

fn codec_data(caps: &gst::StructureRef) -> Option<Vec<u8>> {
    let buffer = caps.get::<gst::Buffer>("codec_data").ok()?;
    Some(buffer.map_readable().ok()?.to_vec())
}
