//! Text as pictures.

use std::time::Duration;

use gstreamer as gst;
use gstreamer_app as gst_app;
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

/// A pixel, premultiplied: blue, green, red, opacity.
type Pixel = [u8; 4];

/// A line of text as it was set.
#[derive(Debug, Default)]
struct Ink {
    pixels: Vec<Pixel>,
    /// How many pixels a line of it has.
    stride: usize,
    /// How many of them there are letters in.
    width: u32,
}

/// Sets one line of text after the other.
struct Press {
    _graph: Graph,
    source: gst_app::AppSrc,
    sink: gst_app::AppSink,
    /// Of a line, whatever is in it.
    height: u32,
}

impl Label {
    /// Sets a line of text in white, pictographs in their colours; `None` when nothing of it can be seen.
    pub(crate) fn of_text(
        text: &str,
        style: &Style,
        clock: &Clock,
    ) -> Result<Option<Self>, GraphError> {
        let padding = style.size / 3;
        let room = style.width.max(16).saturating_sub(2 * padding).max(1);
        let press = Press::new(style.size, clock)?;
        let text: Vec<char> = text.chars().filter(|c| is_of_a_line(*c)).collect();
        // More does not fit, however narrow the letters are.
        let most = (room / (style.size / 8).max(1)) as usize;
        let mut kept = text.len().min(most);
        loop {
            let ink = press.set(&shortened(&text, kept));
            if ink.width <= room || kept == 0 {
                return Ok(Self::of_ink(&ink, room, padding, style.plate));
            }
            kept = narrower(kept, ink.width, room);
        }
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

    fn of_ink(ink: &Ink, room: u32, padding: u32, plate: bool) -> Option<Self> {
        if ink.width == 0 {
            return None;
        }
        let inside = ink.width.min(room);
        let plate = if plate { PLATE } else { 0 };
        let on_plate = |&[blue, green, red, opacity]: &Pixel| {
            let below = multiplied(255 - opacity, plate);
            [blue, green, red, opacity.saturating_add(below)]
        };
        let beside = || std::iter::repeat_n([0, 0, 0, plate], padding as usize);
        let lines = ink.pixels.chunks_exact(ink.stride);
        let height = u32::try_from(lines.len()).ok()?;
        let pixels = lines.flat_map(|line| {
            let letters = line.iter().take(inside as usize).map(on_plate);
            beside().chain(letters).chain(beside())
        });
        let pixels: Vec<u8> = pixels.flatten().collect();
        let buffer = gst::Buffer::from_slice(pixels);
        Self::of_pixels(buffer, inside + 2 * padding, height)
    }
}

impl Press {
    fn new(size: u32, clock: &Clock) -> Result<Self, GraphError> {
        // The picture is as large as the text wants: one of another size than its caps say comes out where it is
        // given less.
        let graph = Graph::build(
            &format!(
                "appsrc name=in format=time caps=text/x-raw,format=pango-markup ! \
                 textrender font-desc=\"Sans {size}px\" halignment=left valignment=top xpad=0 ypad=0 ! \
                 video/x-raw,format=ARGB ! appsink name=out sync=false async=false",
            ),
            clock,
        )?;
        let (source, sink) = (graph.source("in")?, graph.sink("out")?);
        graph.play()?;
        Ok(Self {
            _graph: graph,
            source,
            sink,
            height: size * 3 / 2,
        })
    }

    /// Sets a line. Of one that is far too wide only the width is told, and of one that cannot be set nothing.
    fn set(&self, text: &str) -> Ink {
        let mut buffer = gst::Buffer::from_slice(self.markup(text).into_bytes());
        let line = buffer.make_mut();
        line.set_pts(gst::ClockTime::ZERO);
        line.set_duration(gst::ClockTime::SECOND);
        if self.source.push_buffer(buffer).is_err() {
            return Ink::default();
        }
        let sample = self.sink.try_pull_sample(clock_time(PATIENCE));
        let ink = sample.and_then(|sample| self.ink(&sample));
        ink.unwrap_or_default()
    }

    /// Returns a line as Pango reads it. Fonts differ in how much room they want above and below, and only the
    /// letters of the first one are sure to fit: each run is given the same, with its letters in the middle.
    fn markup(&self, text: &str) -> String {
        let height = self.height * PANGO_UNITS;
        let text = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        format!("<span line_height=\"{height}\">{text}</span>")
    }

    /// Returns what there is of an ARGB picture of white letters with a dark outline.
    fn ink(&self, sample: &gst::Sample) -> Option<Ink> {
        let picture = gst_video::VideoInfo::from_caps(sample.caps()?).ok()?;
        if picture.width() > WIDEST {
            return Some(Ink {
                width: picture.width(),
                ..Ink::default()
            });
        }
        let map = sample.buffer()?.map_readable().ok()?;
        let stride = picture.width() as usize;
        let rows = map.as_chunks::<4>().0.chunks_exact(stride);
        let rows: Vec<&[[u8; 4]]> = rows.take(self.height as usize).collect();
        let last = |row: &&[[u8; 4]]| row.iter().rposition(|[opacity, ..]| *opacity > 0);
        let width = rows
            .iter()
            .filter_map(last)
            .max()
            .map_or(0, |last| last + 1);
        let pixels = rows
            .into_iter()
            .flatten()
            .map(|&[opacity, red, green, blue]| {
                let [blue, green, red] = [blue, green, red].map(|c| multiplied(c, opacity));
                [blue, green, red, opacity]
            });
        Some(Ink {
            pixels: pixels.collect(),
            stride,
            width: u32::try_from(width).ok()?,
        })
    }
}

/// Returns a colour with an opacity.
fn multiplied(colour: u8, opacity: u8) -> u8 {
    u8::try_from(u16::from(colour) * u16::from(opacity) / 255).unwrap_or(u8::MAX)
}

/// Returns whether a character neither ends a line nor controls anything.
fn is_of_a_line(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}')
}

/// Returns the first characters of a text, and that there are more.
fn shortened(text: &[char], kept: usize) -> String {
    let all: String = text.iter().take(kept).collect();
    if kept >= text.len() {
        return all;
    }
    // What would join two pictographs joins nothing.
    let end = |c: char| c.is_whitespace() || c == '\u{200d}';
    format!("{}…", all.trim_end_matches(end))
}

/// Returns how many of `kept` characters may fit, which are `width` wide: at least one less.
fn narrower(kept: usize, width: u32, room: u32) -> usize {
    let share = kept as u64 * u64::from(room) / u64::from(width.max(1));
    let share = usize::try_from(share).unwrap_or(kept);
    share.min(kept.saturating_sub(1))
}

/// Setting the first line of a process takes as long as reading the fonts.
const PATIENCE: Duration = Duration::from_secs(3);
/// Opacity of the plate under letters.
const PLATE: u8 = 140;
/// Cairo draws nothing that is wider than 32767 pixels.
const WIDEST: u32 = 16_384;
/// A pixel has so many of Pango's units.
const PANGO_UNITS: u32 = 1024;

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
    fn whatever_is_written_the_line_is_one_line_high_and_letters_stay_where_they_are() {
        gst::init().unwrap();
        let clock = Clock::start();
        for size in [12, 20, 67] {
            let style = Style {
                size,
                width: 600,
                plate: true,
            };
            let set = |text: &str| Label::of_text(text, &style, &clock).unwrap().unwrap();
            let plain = set("H");
            // The last two have no font, in all likelihood: a box with their number stands for them.
            for text in [
                "H 日本",
                "H 한국",
                "H 🎉",
                "H กี่",
                "H عربي",
                "H \u{10ffff}",
                "H \u{12000}",
            ] {
                let label = set(text);
                assert_eq!(label.height, size * 3 / 2, "{text} of {size}");
                assert!(label.width > plain.width, "{text} of {size}");
                // Fonts differ a little in where the middle of their letters is.
                let (top, bottom) = rows_of_the_first(&label, &plain);
                let (plain_top, plain_bottom) = rows_of_the_first(&plain, &plain);
                assert_eq!(bottom - top, plain_bottom - plain_top, "{text} of {size}");
                let moved = top.abs_diff(plain_top);
                assert!(moved <= size as usize / 8, "{text} of {size}: {moved}");
            }
        }
    }

    /// Returns the first and the last row in which the first letter is white.
    fn rows_of_the_first(label: &Label, first: &Label) -> (usize, usize) {
        let map = label.buffer.map_readable().unwrap();
        let rows = map.as_chunks::<4>().0.chunks_exact(label.width as usize);
        let columns = first.width as usize * 3 / 4;
        let is_white = |pixel: &[u8; 4]| pixel.iter().all(|part| *part > 200);
        let rows = rows.map(|row| row[..columns].iter().any(is_white));
        let rows: Vec<bool> = rows.collect();
        let end = rows.iter().rposition(|row| *row).unwrap();
        (rows.iter().position(|row| *row).unwrap(), end)
    }

    #[test]
    fn what_is_too_long_is_cut_where_it_must_be() {
        gst::init().unwrap();
        let clock = Clock::start();
        let set = |text: &str, width| Label::of_text(text, &style(width), &clock).unwrap();
        for text in [
            "W".repeat(60),
            "i".repeat(60),
            "日".repeat(60),
            "﷽".repeat(60),
        ] {
            let label = set(&text, 200).unwrap();
            assert!(
                (120..=200).contains(&label.width),
                "{text}: {}",
                label.width
            );
        }
        // As many of the narrow ones as there is room for.
        let narrow = set(&"i".repeat(30), 200).unwrap();
        assert!(narrow.width < 200, "{}", narrow.width);
        assert!(set("Ann", 16).unwrap().width <= 16 + 2);
    }

    #[test]
    fn pictographs_have_colours_where_there_is_a_font() {
        gst::init().unwrap();
        let label = Label::of_text("🟥", &style(200), &Clock::start())
            .unwrap()
            .unwrap();
        let map = label.buffer.map_readable().unwrap();
        let is_red = |pixel: &&[u8; 4]| pixel[2] > 150 && pixel[0] < 100 && pixel[1] < 100;
        let red = map.as_chunks::<4>().0.iter().filter(is_red).count();
        assert!(
            red > 100,
            "{red} pixels: is fonts-noto-color-emoji installed?"
        );
    }

    #[test]
    fn a_text_is_shortened_and_markup_is_shown_as_it_is() {
        let text: Vec<char> = "Ann \u{1f469}\u{200d}\u{1f4bb}".chars().collect();
        assert_eq!(
            shortened(&text, text.len()),
            text.iter().collect::<String>()
        );
        assert_eq!(shortened(&text, 6), "Ann \u{1f469}…");
        assert_eq!(shortened(&text, 4), "Ann…");
        assert_eq!(shortened(&text, 0), "…");
        gst::init().unwrap();
        let press = Press::new(20, &Clock::start()).unwrap();
        let markup = press.markup("<b>&");
        assert!(markup.contains(">&lt;b&gt;&amp;<"), "{markup}");
        assert!(press.set("<b>&").width > press.set("b").width);
    }
}
