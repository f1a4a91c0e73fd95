//! What the server asks of the decoding process, and how that does it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use gst::prelude::*;
use gstreamer as gst;
use gstreamer_app as gst_app;
use serde::{Deserialize, Serialize};
use sfu::Codec;
use thiserror::Error;

use crate::pipeline::{Depacketizer, Outcome};

/// A keyframe.
#[derive(Debug, Clone)]
pub(crate) enum Picture {
    /// Of H.264, as MP4 has it.
    AccessUnit { avcc: Vec<u8>, data: Vec<u8> },
    /// The RTP packets of one, in order.
    Rtp { codec: Codec, packets: Vec<Bytes> },
}

/// A request on the wire.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
}

/// What is to be done with the body, whose parts have these lengths.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    task: Task,
    width: u16,
    height: Option<u16>,
    parts: Vec<usize>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Task {
    /// The parts are an `AVCDecoderConfigurationRecord` and an access unit.
    AccessUnit,
    /// The parts are RTP packets.
    H264Rtp,
    Vp8Rtp,
    Vp9Rtp,
    Av1Rtp,
    /// The parts are JPEG pictures of one size.
    Sheet {
        columns: usize,
    },
    /// It cannot be decoded here.
    Unsupported,
}

/// An answer on the wire.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The body is a JPEG picture, or empty: the process is ready.
    Picture,
    Failed {
        reason: String,
    },
}

/// Why there is no picture.
#[derive(Debug, Error)]
pub(super) enum DecodeError {
    #[error("build the pipeline: {0}")]
    Build(#[from] gst::glib::Error),
    #[error("run the pipeline: {0}")]
    Run(#[from] gst::glib::BoolError),
    #[error("start the pipeline: {0}")]
    Start(#[from] gst::StateChangeError),
    #[error("feed the pipeline: {0}")]
    Feed(#[from] gst::FlowError),
    #[error("no picture came out")]
    Nothing,
    #[error("the request makes no sense")]
    Request,
}

impl Request {
    pub(super) fn decode(picture: Picture, width: u16, height: Option<u16>) -> Self {
        let (task, parts): (Task, Vec<Bytes>) = match picture {
            Picture::AccessUnit { avcc, data } => {
                (Task::AccessUnit, vec![avcc.into(), data.into()])
            }
            Picture::Rtp { codec, packets } => {
                let task = match codec {
                    Codec::H264 => Task::H264Rtp,
                    Codec::Vp8 => Task::Vp8Rtp,
                    Codec::Vp9 => Task::Vp9Rtp,
                    Codec::Av1 => Task::Av1Rtp,
                    Codec::Opus => Task::Unsupported,
                };
                (task, packets)
            }
        };
        Self {
            head: Head {
                task,
                width,
                height,
                parts: parts.iter().map(Bytes::len).collect(),
            },
            body: parts.concat(),
        }
    }

    pub(super) fn sheet(tiles: &[Vec<u8>], size: (u16, u16), columns: usize) -> Self {
        Self {
            head: Head {
                task: Task::Sheet { columns },
                width: size.0,
                height: Some(size.1),
                parts: tiles.iter().map(Vec::len).collect(),
            },
            body: tiles.concat(),
        }
    }
}

/// Does what was asked.
pub(super) fn run(head: &Head, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut rest = body;
    let mut parts = Vec::with_capacity(head.parts.len());
    for length in &head.parts {
        let (part, behind) = rest.split_at_checked(*length).ok_or(DecodeError::Request)?;
        parts.push(part);
        rest = behind;
    }
    let source = match head.task {
        Task::AccessUnit => {
            let [avcc, data] = parts.as_slice() else {
                return Err(DecodeError::Request);
            };
            let configuration: String = avcc.iter().map(|byte| format!("{byte:02x}")).collect();
            let source = format!(
                "caps=video/x-h264,stream-format=avc,alignment=au,codec_data=(buffer){configuration} ! \
                 h264parse ! avdec_h264 max-threads=1"
            );
            return picture(&source, &[data], head);
        }
        Task::H264Rtp => rtp(
            "H264",
            "rtph264depay ! h264parse ! avdec_h264 max-threads=1",
        ),
        Task::Vp8Rtp => rtp("VP8", "rtpvp8depay ! vp8dec threads=1"),
        Task::Vp9Rtp => rtp("VP9", "rtpvp9depay ! vp9dec threads=1"),
        Task::Av1Rtp => {
            let unit = temporal_unit(&parts).ok_or(DecodeError::Request)?;
            let source =
                "caps=video/x-av1,stream-format=obu-stream,alignment=tu ! av1parse ! av1dec";
            return picture(source, &[&unit], head);
        }
        Task::Sheet { columns } => return sheet(&parts, head, columns),
        Task::Unsupported => return Err(DecodeError::Request),
    };
    picture(&source, &parts, head)
}

fn temporal_unit(packets: &[&[u8]]) -> Option<Vec<u8>> {
    let mut depacketizer = Depacketizer::default();
    packets.iter().find_map(|rtp| match depacketizer.push(rtp) {
        Outcome::Complete(unit) => Some(unit.data),
        Outcome::Pending | Outcome::Lost => None,
    })
}

fn rtp(name: &str, decoder: &str) -> String {
    format!(
        "caps=application/x-rtp,media=video,encoding-name={name},payload=96,clock-rate=90000 ! {decoder}"
    )
}

fn picture(source: &str, parts: &[&[u8]], head: &Head) -> Result<Vec<u8>, DecodeError> {
    let size = match head.height {
        Some(height) => format!("width={},height={height}", head.width),
        None => format!("width={}", head.width),
    };
    let description = format!(
        "appsrc name=in format=time {source} ! videoconvert ! videoscale add-borders=true ! \
         video/x-raw,{size},pixel-aspect-ratio=1/1 ! jpegenc quality={QUALITY} ! {SINK}"
    );
    first(&description, parts)
}

/// Decodes each tile to raw pixels, puts them in their places, and encodes the whole.
fn sheet(tiles: &[&[u8]], head: &Head, columns: usize) -> Result<Vec<u8>, DecodeError> {
    let (width, height) = (
        usize::from(head.width),
        usize::from(head.height.unwrap_or(0)),
    );
    let columns = columns.clamp(1, COLUMN_LIMIT);
    let rows = tiles.len().div_ceil(columns);
    if width == 0 || height == 0 || rows == 0 || rows > COLUMN_LIMIT {
        return Err(DecodeError::Request);
    }
    let columns = columns.min(tiles.len());
    let stride = width * columns * BYTES_PER_PIXEL;
    let mut pixels = vec![0; stride * height * rows];
    let description = format!(
        "appsrc name=in format=time caps=image/jpeg,width={width},height={height},framerate=0/1 ! jpegdec ! \
         videoconvert ! video/x-raw,format=RGBx,width={width},height={height} ! {SINK}"
    );
    // A picture that is missing leaves its place black.
    let places = (0..).zip(tiles).filter(|(_, tile)| !tile.is_empty());
    let (places, tiles): (Vec<usize>, Vec<&[u8]>) = places.unzip();
    let decoded = run_all(&description, &tiles, tiles.len())?;
    for (tile, number) in decoded.iter().zip(places) {
        let at = number / columns * height * stride + number % columns * width * BYTES_PER_PIXEL;
        for (row, line) in tile.chunks_exact(width * BYTES_PER_PIXEL).enumerate() {
            let start = at + row * stride;
            if let Some(place) = pixels.get_mut(start..start + line.len()) {
                place.copy_from_slice(line);
            }
        }
    }
    let description = format!(
        "appsrc name=in format=time caps=video/x-raw,format=RGBx,width={},height={},framerate=1/1,\
         pixel-aspect-ratio=1/1 ! videoconvert ! jpegenc quality={QUALITY} ! {SINK}",
        width * columns,
        height * rows
    );
    first(&description, &[&pixels])
}

/// Runs a pipeline and returns the first thing that comes out of it.
fn first(description: &str, parts: &[&[u8]]) -> Result<Vec<u8>, DecodeError> {
    let mut all = run_all(description, parts, 1)?;
    all.pop().ok_or(DecodeError::Nothing)
}

/// Runs a pipeline and returns what comes out of it, `count` times.
fn run_all(description: &str, parts: &[&[u8]], count: usize) -> Result<Vec<Vec<u8>>, DecodeError> {
    let pipeline = gst::parse::launch(description)?
        .downcast::<gst::Pipeline>()
        .map_err(|_| DecodeError::Nothing)?;
    let named = |name| pipeline.by_name(name).ok_or(DecodeError::Nothing);
    let source = named("in")?
        .downcast::<gst_app::AppSrc>()
        .map_err(|_| DecodeError::Nothing)?;
    let sink = named("out")?
        .downcast::<gst_app::AppSink>()
        .map_err(|_| DecodeError::Nothing)?;
    source.set_max_bytes(u64::MAX);
    pipeline.set_state(gst::State::Playing)?;
    for (part, number) in parts.iter().zip(0..) {
        let mut buffer = gst::Buffer::from_slice(part.to_vec());
        // The packets of a picture share its time; pictures of a sheet follow each other.
        let time = if count > 1 { number } else { 0 };
        buffer
            .make_mut()
            .set_pts(gst::ClockTime::from_seconds(time));
        source.push_buffer(buffer)?;
    }
    source.end_of_stream()?;
    let deadline = Instant::now() + PATIENCE;
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = gst::ClockTime::try_from(left).unwrap_or(gst::ClockTime::ZERO);
        let Some(sample) = sink.try_pull_sample(left) else {
            break;
        };
        let buffer = sample.buffer().ok_or(DecodeError::Nothing)?;
        all.push(buffer.map_readable()?.to_vec());
    }
    pipeline.set_state(gst::State::Null)?;
    if all.len() < count {
        return Err(DecodeError::Nothing);
    }
    Ok(all)
}

const SINK: &str = "appsink name=out sync=false async=false";
const QUALITY: u8 = 82;
const BYTES_PER_PIXEL: usize = 4;
const COLUMN_LIMIT: usize = 20;
/// Below the server's own.
const PATIENCE: Duration = Duration::from_millis(1500);
