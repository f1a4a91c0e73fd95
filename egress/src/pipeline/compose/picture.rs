//! Still pictures: a colour, or an image file fitted to the canvas.

use std::{fs, io, time::Duration};

use gstreamer as gst;
use thiserror::Error;

use super::label::Label;
use crate::{
    layout::Canvas,
    pipeline::{Clock, Graph, GraphError, clock::clock_time},
    scene::Image,
};

/// Why there is no picture.
#[derive(Debug, Error)]
pub(crate) enum PictureError {
    #[error("read the image: {0}")]
    Read(#[from] io::Error),
    #[error("the image is neither PNG nor JPEG, or is broken")]
    Broken,
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// How an image comes to the size of the canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Its edges are cut off.
    Cover,
    /// It is shown whole, with black beside it.
    Contain,
}

/// Returns a picture of one colour, `0xRRGGBB`.
pub(crate) fn colour(rgb: u32, canvas: Canvas, clock: &Clock) -> Result<gst::Sample, PictureError> {
    let graph = Graph::build(
        &format!(
            "videotestsrc num-buffers=1 pattern=solid-color foreground-color={} ! {} ! \
             appsink name=out sync=false async=false",
            0xff00_0000 | rgb,
            canvas.caps(),
        ),
        clock,
    )?;
    pull(&graph)
}

/// Returns an image in the size of the canvas.
pub(crate) fn image(
    image: &Image,
    fit: Fit,
    canvas: Canvas,
    clock: &Clock,
) -> Result<gst::Sample, PictureError> {
    let fitted = match fit {
        Fit::Cover => format!(
            "aspectratiocrop aspect-ratio={}/{} ! videoscale add-borders=false",
            canvas.width, canvas.height
        ),
        Fit::Contain => "videoscale add-borders=true".to_owned(),
    };
    decode(
        image,
        &format!("videoconvert ! {fitted} ! videoconvert ! {}", canvas.caps()),
        clock,
    )
}

/// Returns a logo: at most an eighth of the canvas high and a third wide.
pub(crate) fn logo(file: &Image, canvas: Canvas, clock: &Clock) -> Result<Label, PictureError> {
    let conversion = format!(
        "videoconvert ! videoscale add-borders=false ! video/x-raw,format=BGRA,pixel-aspect-ratio=1/1,\
         width=[2,{}],height=[2,{}]",
        canvas.width / 3,
        canvas.height / 8,
    );
    let sample = decode(file, &conversion, clock)?;
    let size = |field| {
        let caps = sample.caps()?.structure(0)?;
        u32::try_from(caps.get::<i32>(field).ok()?).ok()
    };
    let (width, height) = size("width")
        .zip(size("height"))
        .ok_or(PictureError::Broken)?;
    let map = sample
        .buffer()
        .and_then(|buffer| buffer.map_readable().ok());
    let pixels: Vec<u8> = map
        .ok_or(PictureError::Broken)?
        .as_chunks::<4>()
        .0
        .iter()
        .flat_map(|&[b, g, r, a]| {
            let multiplied = |c: u8| u8::try_from(u16::from(c) * u16::from(a) / 255).unwrap_or(c);
            [multiplied(b), multiplied(g), multiplied(r), a]
        })
        .collect();
    Label::of_pixels(gst::Buffer::from_slice(pixels), width, height).ok_or(PictureError::Broken)
}

fn decode(file: &Image, conversion: &str, clock: &Clock) -> Result<gst::Sample, PictureError> {
    let bytes = fs::read(&file.path)?;
    let decoder = match bytes.first_chunk::<3>() {
        Some([0x89, b'P', b'N']) => "pngdec",
        Some([0xff, 0xd8, 0xff]) => "jpegdec",
        Some(_) | None => return Err(PictureError::Broken),
    };
    let graph = Graph::build(
        &format!(
            "appsrc name=in format=bytes ! {decoder} ! {conversion} ! appsink name=out sync=false async=false"
        ),
        clock,
    )?;
    let source = graph.source("in")?;
    graph.play()?;
    let _ = source.push_buffer(gst::Buffer::from_slice(bytes));
    let _ = source.end_of_stream();
    pull(&graph)
}

fn pull(graph: &Graph) -> Result<gst::Sample, PictureError> {
    graph.play()?;
    let sink = graph.sink("out")?;
    sink.try_pull_sample(clock_time(PATIENCE))
        .ok_or(PictureError::Broken)
}

impl Canvas {
    /// Returns the caps of its pictures.
    pub(crate) fn caps(self) -> String {
        format!(
            "video/x-raw,format=I420,width={},height={},pixel-aspect-ratio=1/1,colorimetry=bt709,chroma-site=mpeg2",
            self.width, self.height
        )
    }
}

const PATIENCE: Duration = Duration::from_secs(3);
