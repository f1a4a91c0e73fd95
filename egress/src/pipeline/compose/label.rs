//! Text as pictures.

use std::time::Duration;

use gstreamer as gst;
use gstreamer_video as gst_video;

use crate::pipeline::{Clock, Graph, GraphError, clock::clock_time};

/// A small picture that is laid over the large one. Its colours are multiplied by their opacity.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    pub(crate) buffer: gst::Buffer,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// How text is set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Style {
    /// Height of the letters in pixels.
    pub(crate) size: u32,
    /// What is longer is cut off.
    pub(crate) width: u32,
    /// Whether it stands on a dark plate.
    pub(crate) plate: bool,
}

/// A pixel of a line of text.
#[derive(Debug, Clone, Copy)]
struct Ink {
    /// Multiplied by the opacity.
    white: u8,
    opacity: u8,
}

impl Label {
    /// Sets a line of text in white; `None` when nothing of it can be seen.
    pub(crate) fn of_text(
        text: &str,
        style: &Style,
        clock: &Clock,
    ) -> Result<Option<Self>, GraphError> {
        let padding = style.size / 3;
        let (width, height) = (style.width.max(16), style.size * 3 / 2);
        let graph = Graph::build(
            &format!(
                "appsrc name=in format=time caps=text/x-raw,format=pango-markup ! \
                 textrender font-desc=\"Sans {}px\" halignment=left valignment=top xpad={padding} ypad={} ! \
                 video/x-raw,format=ARGB,width={width},height={height} ! appsink name=out sync=false async=false",
                style.size,
                style.size / 6,
            ),
            clock,
        )?;
        let (source, sink) = (graph.source("in")?, graph.sink("out")?);
        graph.play()?;
        let mut buffer = gst::Buffer::from_slice(markup(text, style).into_bytes());
        let line = buffer.make_mut();
        line.set_pts(gst::ClockTime::ZERO);
        line.set_duration(gst::ClockTime::SECOND);
        let _ = source.push_buffer(buffer);
        let sample = sink.try_pull_sample(clock_time(PATIENCE));
        let ink = sample.as_ref().and_then(ink).unwrap_or_default();
        Ok(Self::of_ink(&ink, width, padding, style.plate))
    }

    /// Makes a picture of a premultiplied BGRA buffer.
    pub(crate) fn of_pixels(mut pixels: gst::Buffer, width: u32, height: u32) -> Option<Self> {
        let format = gst_video::VideoFormat::Bgra;
        let flags = gst_video::VideoFrameFlags::empty();
        gst_video::VideoMeta::add(pixels.make_mut(), flags, format, width, height).ok()?;
        Some(Self {
            buffer: pixels,
            width,
            height,
        })
    }

    fn of_ink(ink: &[Ink], stride: u32, padding: u32, plate: bool) -> Option<Self> {
        let lines = || ink.chunks_exact(stride as usize);
        let end = lines()
            .filter_map(|line| line.iter().rposition(|ink| ink.opacity > 0))
            .max()?;
        let width = (u32::try_from(end).ok()? + padding).min(stride);
        let height = u32::try_from(lines().count()).ok()?;
        let plate = if plate { PLATE } else { 0 };
        let pixels: Vec<u8> = lines()
            .flat_map(|line| line.iter().take(width as usize))
            .flat_map(|&Ink { white, opacity }| {
                let below = multiplied(255 - opacity, plate);
                [white, white, white, opacity.saturating_add(below)]
            })
            .collect();
        Self::of_pixels(gst::Buffer::from_slice(pixels), width, height)
    }
}

/// Returns what each pixel of an ARGB picture of white letters with a dark outline is like.
fn ink(sample: &gst::Sample) -> Option<Vec<Ink>> {
    let map = sample.buffer()?.map_readable().ok()?;
    let pixels = map.as_chunks::<4>().0.iter();
    let ink = pixels.map(|&[opacity, red, ..]| Ink {
        white: multiplied(red, opacity),
        opacity,
    });
    Some(ink.collect())
}

/// Returns a colour with an opacity.
fn multiplied(colour: u8, opacity: u8) -> u8 {
    u8::try_from(u16::from(colour) * u16::from(opacity) / 255).unwrap_or(u8::MAX)
}

/// Returns the text as Pango reads it, at most as much as fits by a rough estimate.
fn markup(text: &str, style: &Style) -> String {
    let fits = (style.width / (style.size * 11 / 20).max(1)) as usize;
    let mut line: String = text.chars().filter(|c| !c.is_control()).collect();
    if let Some((at, _)) = line.char_indices().nth(fits.saturating_sub(1))
        && line.chars().count() > fits
    {
        line.truncate(at);
        line.push('…');
    }
    line.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// Setting the first line of a process takes as long as reading the fonts.
const PATIENCE: Duration = Duration::from_secs(3);
/// Opacity of the plate under letters.
const PLATE: u8 = 140;

#[cfg(test)]
mod tests {
    use super::*;

    fn style(width: u32) -> Style {
        Style {
            size: 20,
            width,
            plate: true,
        }
    }

    #[test]
    fn text_is_as_wide_as_it_needs_and_no_wider_than_it_may() {
        gst::init().unwrap();
        let clock = Clock::start();
        let set = |text: &str, width| Label::of_text(text, &style(width), &clock).unwrap();
        let (short, long) = (
            set("Jo", 400).unwrap(),
            set("Johanna <&> Ann", 400).unwrap(),
        );
        assert!(
            short.width < long.width && long.width < 300,
            "{short:?} {long:?}"
        );
        assert_eq!(short.height, long.height);
        assert!(set(&"many words ".repeat(20), 100).unwrap().width <= 100);
        assert!(set("", 400).is_none());
    }

    #[test]
    fn a_long_name_is_cut_and_markup_is_shown_as_it_is() {
        assert_eq!(markup("abcdefghijklmnop", &style(110)), "abcdefghi…");
        assert_eq!(markup("<b>\n&", &style(400)), "&lt;b&gt;&amp;");
    }
}
