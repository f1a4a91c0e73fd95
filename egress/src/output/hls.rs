//! HLS: cuts the programme, in every rendition, into parts of fragmented MP4. The supervisor's process serves them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use sfu::MediaKind;

use super::{Meter, hls_audio::Audio, hls_layer::Layer};
use crate::{
    fmp4::{self, AudioFormat, Fmp4Error, Sample, VideoFormat},
    hls::{InitHead, Piece, Rendition, SegmentStart, StepHead},
    link::{HlsTarget, Report},
    pipeline::{Air, Clock, Frame, Output},
    playlist::{Cutter, Span},
    status::DestinationState,
    worker::Reporter,
};

/// The HLS destination of a worker. The open segment is finished when it is dropped.
pub(crate) struct Hls {
    index: usize,
    clock: Clock,
    cutter: Cutter,
    reporter: Reporter,
    meter: Arc<Meter>,
    air: Air,
    live: bool,
    /// By rendition number; 0 leads.
    layers: BTreeMap<u8, Layer>,
    audio: Audio,
    /// What the last initialisation segment of each rendition said.
    formats: BTreeMap<Rendition, Formats>,
    /// Which layer's picture each rendition shows, for the open segment.
    sources: Vec<(u8, u8)>,
    lead_format: Option<VideoFormat>,
    fragments: u32,
    /// Parts whose end is known but not yet whether everything in them has come, with when that was known. At most
    /// those of [`AUDIO_PATIENCE`].
    due: VecDeque<(Span, Duration)>,
    /// Whether the open segment could not be begun.
    spoilt: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Formats {
    video: Option<VideoFormat>,
    audio: AudioFormat,
}

impl Hls {
    pub(crate) fn new(
        index: usize,
        target: &HlsTarget,
        clock: Clock,
        reporter: Reporter,
        meter: Arc<Meter>,
    ) -> Self {
        Self {
            index,
            clock,
            cutter: Cutter::new(target.segment_ms, target.part_ms),
            reporter,
            meter,
            air: Air::Off,
            live: false,
            layers: BTreeMap::new(),
            audio: Audio::default(),
            formats: BTreeMap::new(),
            sources: Vec::new(),
            lead_format: None,
            fragments: 0,
            due: VecDeque::new(),
            spoilt: false,
        }
    }

    /// Takes in a frame of the track that decides where parts end.
    fn lead(&mut self, frame: &Frame) {
        let is_video = frame.kind == MediaKind::Video;
        let format = (is_video && frame.keyframe).then(|| frame.video_format());
        let reformatted = match &format {
            Some(None) => {
                self.count_dropped(1);
                return self.ask();
            }
            Some(format) => self.lead_format != *format,
            None => false,
        };
        let mut ended = Vec::new();
        let taken = self
            .cutter
            .push(frame.time, frame.keyframe, reformatted, &mut ended);
        let now = self.clock.now();
        self.due.extend(ended.into_iter().map(|span| (span, now)));
        if let Some(format) = format {
            self.lead_format = format;
        }
        if !taken {
            self.count_dropped(u64::from(is_video));
            self.ask();
        } else if is_video {
            self.layers
                .entry(0)
                .or_insert_with(Layer::new)
                .push(frame.clone());
        }
    }

    fn ask(&self) {
        self.reporter.send(&Report::KeyframeWanted, &[]);
    }

    /// Sends the parts in which everything has come, or should have.
    fn flush(&mut self, all: bool) {
        let now = self.clock.now();
        while let Some((span, since)) = self.due.front().copied() {
            if !all && !self.is_ready(span, now.saturating_sub(since)) {
                return;
            }
            self.due.pop_front();
            let sent = self.send(span);
            // A format that cannot be written: a later one may. Nothing is sent of the rest of the segment.
            if sent.is_err() {
                self.spoilt = true;
            }
            let dropped = self.layers.get_mut(&0).map_or(0, Layer::take_dropped);
            self.count_dropped(dropped);
        }
    }

    /// Counts frames of the programme that no part got. What comes before the first segment is ignored.
    fn count_dropped(&self, frames: u64) {
        if self.live {
            self.meter.count_dropped(frames);
        }
    }

    fn is_ready(&self, span: Span, waited: Duration) -> bool {
        if self.audio.format().is_none() {
            return waited >= AUDIO_PATIENCE;
        }
        let Air::On { video: true, .. } = self.air else {
            return true;
        };
        if waited >= PATIENCE {
            return true;
        }
        // What is far behind will be so for the next part, too.
        let behind = span.end.saturating_sub(self.audio.end());
        let sound_is_there = behind.is_zero() || behind > FAR_BEHIND;
        let mut others = self
            .layers
            .values()
            .filter(|layer| layer.format().is_some());
        sound_is_there
            && others.all(|layer| layer.newest().is_some_and(|t| t + FRAME_TIME >= span.end))
    }

    fn send(&mut self, span: Span) -> Result<(), Fmp4Error> {
        let Some(audio_format) = self.audio.format().cloned() else {
            self.cutter.break_off();
            return Ok(());
        };
        if let Some(discontinuity) = span.begins {
            self.spoilt = false;
            self.begin(span.start, discontinuity.0, &audio_format)?;
        }
        if self.spoilt {
            return Ok(());
        }
        let audio = self.audio.take(span.end);
        // Players count the fragments of a rendition.
        self.fragments = self.fragments.wrapping_add(1);
        let mut pieces = Vec::with_capacity(self.sources.len() + 1);
        let mut body = Vec::new();
        let sources = std::mem::take(&mut self.sources);
        for (number, source) in &sources {
            let rendition = Rendition::Video(*number);
            let mut piece = Piece {
                rendition,
                source: Rendition::Video(*source),
                length: 0,
                frames: 0,
                independent: false,
            };
            if let Some(layer) = self.layers.get_mut(number) {
                if number == source {
                    let video = layer.take(span);
                    piece.frames = u32::try_from(video.len()).unwrap_or(u32::MAX);
                    piece.independent = video.first().is_some_and(|sample| sample.keyframe);
                    piece.length = self.write(span, &video, &audio, &mut body)?;
                } else {
                    layer.skip(span.end);
                }
            }
            pieces.push(piece);
        }
        self.sources = sources;
        pieces.push(Piece {
            rendition: Rendition::Audio,
            source: Rendition::Audio,
            length: self.write(span, &[], &audio, &mut body)?,
            frames: 0,
            // A player can start at any frame of sound.
            independent: true,
        });
        self.report(span, pieces, &body);
        Ok(())
    }

    fn report(&mut self, span: Span, pieces: Vec<Piece>, body: &[u8]) {
        let head = StepHead {
            duration_us: micros(span.end.saturating_sub(span.start)),
            begins: span.begins.map(|discontinuity| SegmentStart {
                starts_at_ms: self.clock.unix_ms(span.start),
                discontinuity: discontinuity.0,
            }),
            ends: span.ends,
            settled: self.is_settled(),
            pieces,
        };
        self.meter.count_bytes(body.len() as u64);
        self.meter
            .set_delay(self.clock.now().saturating_sub(span.end));
        self.reporter.send(&Report::HlsStep(head), body);
        if span.ends && !std::mem::replace(&mut self.live, true) {
            self.report_state(DestinationState::Live);
        }
    }

    /// Begins a segment in every rendition: which layer is shown where, and with what format.
    fn begin(
        &mut self,
        start: Duration,
        discontinuity: bool,
        audio: &AudioFormat,
    ) -> Result<(), Fmp4Error> {
        if discontinuity || self.formats.is_empty() {
            self.audio.forget_before(start);
        }
        let there: Vec<u8> = self
            .layers
            .iter_mut()
            .filter_map(|(number, layer)| layer.begin(start, *number == 0).then_some(*number))
            .collect();
        let announced = |number: u8| self.formats.contains_key(&Rendition::Video(number));
        let shown = self.layers.keys().copied();
        let shown = shown.filter(|number| there.contains(number) || announced(*number));
        let sources = shown.filter_map(|number| Some((number, nearest(&there, number)?)));
        self.sources = sources.collect();
        for number in there {
            let video = self
                .layers
                .get(&number)
                .and_then(|layer| layer.format().cloned());
            self.announce(Rendition::Video(number), video, audio)?;
        }
        self.announce(Rendition::Audio, None, audio)
    }

    /// Returns whether every layer that has come in is in the open segment. While the best is not flowing, the first
    /// rendition shows what a lower one does.
    fn is_settled(&self) -> bool {
        let height = |layer: &Layer| layer.format().map(|format| format.height);
        let heights: Option<Vec<_>> = self.layers.values().map(height).collect();
        heights.is_some_and(|heights| match heights.split_first() {
            Some((best, lower)) => !lower.contains(best),
            None => true,
        })
    }

    /// Sends the rendition's initialisation segment if it differs from the last one.
    fn announce(
        &mut self,
        rendition: Rendition,
        video: Option<VideoFormat>,
        audio: &AudioFormat,
    ) -> Result<(), Fmp4Error> {
        let formats = Formats {
            video,
            audio: audio.clone(),
        };
        if self.formats.get(&rendition) == Some(&formats) {
            return Ok(());
        }
        let init = fmp4::init(formats.video.as_ref(), Some(&formats.audio))?;
        let mut head = InitHead {
            rendition,
            codecs: AAC.to_owned(),
            width: 0,
            height: 0,
        };
        if let Some(video) = &formats.video {
            head.codecs = format!("{},{AAC}", avc(video));
            (head.width, head.height) = (video.width, video.height);
        }
        self.reporter.send(&Report::HlsInit(head), &init);
        self.formats.insert(rendition, formats);
        Ok(())
    }

    /// Appends a part to `to`, and returns how long it is.
    fn write(
        &self,
        span: Span,
        video: &[Sample],
        audio: &[Sample],
        to: &mut Vec<u8>,
    ) -> Result<usize, Fmp4Error> {
        let before = to.len();
        if span.begins.is_some() {
            to.extend(fmp4::segment_start()?);
        }
        fmp4::fragment(self.fragments, video, audio, to)?;
        Ok(to.len() - before)
    }

    fn close(&mut self) {
        let mut ended = Vec::new();
        self.cutter.interrupt(&mut ended);
        let now = self.clock.now();
        self.due.extend(ended.into_iter().map(|span| (span, now)));
        self.flush(true);
    }

    fn report_state(&self, state: DestinationState) {
        let report = Report::State {
            destination: self.index,
            state,
        };
        self.reporter.send(&report, &[]);
    }
}

impl Output for Hls {
    fn switch(&mut self, air: Air) {
        self.close();
        self.cutter.break_off();
        self.layers.values_mut().for_each(Layer::clear);
        self.audio.clear();
        self.lead_format = None;
        self.air = air;
        if air == Air::Off && std::mem::take(&mut self.live) {
            self.report_state(DestinationState::Connecting);
        }
    }

    fn push(&mut self, frame: &Frame) {
        let Air::On { video, .. } = self.air else {
            return;
        };
        match frame.kind {
            MediaKind::Video => {
                self.meter.count_frame();
                self.lead(frame);
            }
            MediaKind::Audio => {
                self.audio.push(frame);
                if !video {
                    self.lead(frame);
                }
            }
        }
        self.flush(false);
    }

    fn push_layer(&mut self, frame: &Frame) {
        self.layers
            .entry(frame.rendition)
            .or_insert_with(Layer::new)
            .push(frame.clone());
        self.flush(false);
    }
}

impl Drop for Hls {
    fn drop(&mut self) {
        self.close();
    }
}

/// Returns the layer that is shown for another one: the nearest, and of two the smaller.
fn nearest(there: &[u8], number: u8) -> Option<u8> {
    let far = |other: &u8| (other.abs_diff(number), std::cmp::Reverse(*other));
    there.iter().copied().min_by_key(far)
}

/// RFC 6381: profile, constraints and level, as the decoder configuration has them.
fn avc(video: &VideoFormat) -> String {
    let hex = video.avcc.iter().skip(1).take(3);
    hex.fold("avc1.".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How long a part waits for sound and for the other layers, which come a little after the leading frames.
const PATIENCE: Duration = Duration::from_millis(80);
/// How long the first part waits for the first sound.
const AUDIO_PATIENCE: Duration = Duration::from_millis(1500);
/// Silence that stands in for missing sound is this late, and more.
const FAR_BEHIND: Duration = Duration::from_millis(200);
/// Most of the frame intervals that layers are apart.
const FRAME_TIME: Duration = Duration::from_millis(34);
const AAC: &str = "mp4a.40.2";

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use gstreamer as gst;

    use super::*;
    use crate::link::{self, Counters};

    /// A layer in one second: its number and height, and what it begins with.
    type Second = (u8, i32, First);

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum First {
        Keyframe,
        Other,
        /// A keyframe in a format that cannot be written.
        Broken,
    }

    fn caps(media: &str, codec_data: &'static [u8], height: i32) -> gst::Caps {
        gst::Caps::builder(media)
            .field("codec_data", gst::Buffer::from_slice(codec_data))
            .field("width", height * 16 / 9)
            .field("height", height)
            .build()
    }

    fn frame(kind: MediaKind, rendition: u8, ms: u64, keyframe: bool, caps: &gst::Caps) -> Frame {
        Frame {
            kind,
            rendition,
            time: Duration::from_millis(ms),
            keyframe,
            buffer: gst::Buffer::from_slice([0, 0, 0, 1, 9]),
            caps: caps.clone(),
        }
    }

    /// Plays these layers, second by second, and returns what the parts of each segment say of being settled, and what
    /// was counted. An empty second is a gap.
    fn play(seconds: &[&[Second]]) -> (Vec<Vec<bool>>, Counters) {
        gst::init().unwrap();
        let (here, mut there) = UnixStream::pair().unwrap();
        let (reporter, writer) = Reporter::start(here);
        let target = HlsTarget {
            segment_ms: 1000,
            part_ms: 300,
        };
        let meter = Arc::<Meter>::default();
        let mut hls = Hls::new(0, &target, Clock::start(), reporter.clone(), meter.clone());
        hls.switch(Air::On {
            epoch: 1,
            video: true,
        });
        let sound = caps("audio/mpeg", &[0x11, 0x90], 0);
        for (second, layers) in (1..).zip(seconds) {
            for ms in (second * 1000..second * 1000 + 1000).step_by(20) {
                hls.push(&frame(MediaKind::Audio, 0, ms, true, &sound));
                // The lower ones first: the programme's frame is what ends a part.
                for (number, height, first) in layers.iter().rev() {
                    let keyframe = *first != First::Other && ms % 1000 == 0;
                    let broken = *first == First::Broken;
                    let avcc = if broken { &AVCC[..3] } else { AVCC };
                    let caps = caps("video/x-h264", avcc, *height);
                    let frame = frame(MediaKind::Video, *number, ms, keyframe, &caps);
                    if *number == 0 {
                        hls.push(&frame);
                    } else {
                        hls.push_layer(&frame);
                    }
                }
            }
        }
        drop(hls);
        reporter.finish();
        writer.join().unwrap();
        drop(reporter);
        let mut said: Vec<Vec<bool>> = Vec::new();
        while let Ok((report, _)) = link::read_frame::<Report>(&mut there) {
            let Report::HlsStep(step) = report else {
                continue;
            };
            if step.begins.is_some() {
                said.push(Vec::new());
            }
            said.last_mut().unwrap().push(step.settled);
        }
        (said, meter.counters())
    }

    #[test]
    fn a_segment_is_settled_when_every_layer_that_comes_in_is_in_it() {
        // The lower one comes in, but the keyframe that it begins with does not yet.
        let late: &[Second] = &[(0, 720, First::Keyframe), (1, 360, First::Other)];
        // The best one does not flow yet: what leads is a lower one.
        let low: &[Second] = &[(0, 360, First::Keyframe), (1, 360, First::Keyframe)];
        let alone: &[Second] = &[(0, 720, First::Keyframe)];
        let whole: &[Second] = &[(0, 720, First::Keyframe), (1, 360, First::Keyframe)];
        let table = [
            ("all at once", [whole; 3], [true; 3]),
            ("one layer", [alone; 3], [true; 3]),
            ("a late keyframe", [late, late, whole], [false, false, true]),
            ("the best last", [low, low, whole], [false, false, true]),
        ];
        for (label, seconds, expected) in table {
            let (said, _) = play(&seconds);
            assert_eq!(said.len(), 3, "{label}: {said:?}");
            for (parts, expected) in said.iter().zip(expected) {
                assert!(parts.len() >= 3, "{label}: {said:?}");
                assert!(
                    parts.iter().all(|said| *said == expected),
                    "{label}: {said:?}"
                );
            }
        }
    }

    #[test]
    fn frames_that_no_part_gets_are_counted_once_it_is_live() {
        let whole: &[Second] = &[(0, 720, First::Keyframe)];
        let headless: &[Second] = &[(0, 720, First::Other)];
        let broken: &[Second] = &[(0, 720, First::Broken)];
        let table = [
            ("all is well", vec![whole; 4], 0),
            ("before it begins", vec![headless, whole, whole], 0),
            (
                "no keyframe behind a gap",
                vec![whole, whole, &[], &[], &[], headless, whole],
                50,
            ),
            ("no format", vec![whole, whole, broken, whole], 50),
        ];
        for (label, seconds, expected) in table {
            let (_, counters) = play(&seconds);
            let came = seconds.iter().filter(|second| !second.is_empty()).count();
            assert_eq!(counters.frames, 50 * came as u64, "{label}");
            assert_eq!(counters.dropped_frames, expected, "{label}");
        }
    }

    const AVCC: &[u8] = &[
        1, 0x42, 0xc0, 0x1f, 0xff, 0xe1, 0, 4, 0x67, 0x42, 0xc0, 0x1f, 1, 0, 4, 0x68, 0xce, 0x3c,
        0x80,
    ];
}
