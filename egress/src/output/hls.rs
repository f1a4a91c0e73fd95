//! HLS: muxes the programme into fragmented MP4 segments. The supervisor's process serves them.

use std::{sync::Arc, time::Duration};

use sfu::MediaKind;

use super::Meter;
use crate::{
    fmp4::{self, AUDIO_TIMESCALE, AudioFormat, Fmp4Error, Sample, VIDEO_TIMESCALE, VideoFormat},
    link::{Report, SegmentHead},
    pipeline::{Air, Clock, Frame, Output},
    playlist::{Cut, Cutter},
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
    /// What the last initialisation segment said.
    formats: Option<Formats>,
    audio_format: Option<AudioFormat>,
    fragments: u32,
    /// Whether the next segment does not continue the one before.
    discontinuity: bool,
    open: Option<Segment>,
    /// Sound that has not been written, of at most one segment.
    audio: Vec<Frame>,
    /// Where the next AAC frame starts if sound is continuous.
    next_audio: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Formats {
    video: Option<VideoFormat>,
    audio: AudioFormat,
}

/// A segment being filled.
#[derive(Debug)]
struct Segment {
    start: Duration,
    /// The newest frame of the track that decides where segments end.
    last: Duration,
    video_format: Option<VideoFormat>,
    video: Vec<Frame>,
}

impl Hls {
    pub(crate) fn new(
        index: usize,
        segment_ms: u64,
        clock: Clock,
        reporter: Reporter,
        meter: Arc<Meter>,
    ) -> Self {
        Self {
            index,
            clock,
            cutter: Cutter::new(segment_ms),
            reporter,
            meter,
            air: Air::Off,
            live: false,
            formats: None,
            audio_format: None,
            fragments: 0,
            discontinuity: false,
            open: None,
            audio: Vec::new(),
            next_audio: 0,
        }
    }

    /// Takes in a frame of the track that decides where segments end.
    fn lead(&mut self, frame: &Frame) {
        let video_format = match frame.kind {
            MediaKind::Video if frame.keyframe => frame.video_format(),
            MediaKind::Video | MediaKind::Audio => None,
        };
        if let Some(open) = &mut self.open {
            let reformatted = video_format.is_some() && video_format != open.video_format;
            match self
                .cutter
                .cut(open.start, open.last, frame.time, frame.keyframe)
            {
                Cut::Continue if !reformatted => {
                    open.last = frame.time;
                    if frame.kind == MediaKind::Video {
                        open.video.push(frame.clone());
                    }
                    return;
                }
                Cut::Continue | Cut::Here => self.close(Some(frame.time)),
                Cut::Break => {
                    self.close(None);
                    self.discontinuity = true;
                }
            }
        }
        if !frame.keyframe || (frame.kind == MediaKind::Video && video_format.is_none()) {
            self.reporter.send(&Report::KeyframeWanted, &[]);
            return;
        }
        self.open = Some(Segment {
            start: frame.time,
            last: frame.time,
            video_format,
            video: match frame.kind {
                MediaKind::Video => vec![frame.clone()],
                MediaKind::Audio => Vec::new(),
            },
        });
    }

    /// Sends the open segment, which ends at `end`, or with its last frame.
    fn close(&mut self, end: Option<Duration>) {
        let Some(segment) = self.open.take() else {
            return;
        };
        let end = end.unwrap_or(segment.last + LAST_FRAME);
        let rest = self.audio.iter().position(|frame| frame.time >= end);
        let later = self.audio.split_off(rest.unwrap_or(self.audio.len()));
        let mut audio = std::mem::replace(&mut self.audio, later);
        audio.retain(|frame| frame.time >= segment.start.saturating_sub(LATE_AUDIO));
        let Some(audio_format) = self.audio_format.clone() else {
            self.discontinuity = true;
            return;
        };
        let formats = Formats {
            video: segment.video_format.clone(),
            audio: audio_format,
        };
        if self.send(&segment, end, &audio, formats).is_err() {
            // A format that cannot be written: a later one may.
            self.discontinuity = true;
        }
    }

    fn send(
        &mut self,
        segment: &Segment,
        end: Duration,
        audio: &[Frame],
        formats: Formats,
    ) -> Result<(), Fmp4Error> {
        if self.formats.as_ref() != Some(&formats) {
            let init = fmp4::init(formats.video.as_ref(), Some(&formats.audio))?;
            self.reporter.send(&Report::HlsInit, &init);
            self.discontinuity |= self.formats.is_some();
            self.formats = Some(formats);
        }
        let mut bytes = fmp4::segment_start()?;
        self.fragments = self.fragments.wrapping_add(1);
        let (video, audio) = (
            video_samples(&segment.video, end),
            self.audio_samples(audio),
        );
        fmp4::fragment(self.fragments, &video, &audio, &mut bytes)?;
        let head = SegmentHead {
            duration_us: micros(end.saturating_sub(segment.start)),
            starts_at_ms: self.clock.unix_ms(segment.start),
            discontinuity: std::mem::take(&mut self.discontinuity),
        };
        self.meter.count_bytes(bytes.len() as u64);
        self.reporter.send(&Report::HlsSegment(head), &bytes);
        if !std::mem::replace(&mut self.live, true) {
            self.report_state(DestinationState::Live);
        }
        Ok(())
    }

    fn audio_samples(&mut self, frames: &[Frame]) -> Vec<Sample> {
        let mut samples = Vec::with_capacity(frames.len());
        for frame in frames {
            let exact = ticks(frame.time, AUDIO_TIMESCALE);
            // Rounding must not leave holes of one sample.
            let continues = exact.abs_diff(self.next_audio) < u64::from(AAC_FRAME) / 2;
            let time = if continues { self.next_audio } else { exact };
            self.next_audio = time + u64::from(AAC_FRAME);
            samples.push(Sample {
                time,
                duration: AAC_FRAME,
                keyframe: true,
                data: frame.data(),
            });
        }
        samples
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
        self.close(None);
        self.discontinuity = self.formats.is_some();
        self.audio.clear();
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
                if self.audio_format.is_none() {
                    self.audio_format = frame.audio_format();
                }
                if !video {
                    self.lead(frame);
                }
                if self.open.is_some() && self.audio.len() < AUDIO_LIMIT {
                    self.audio.push(frame.clone());
                }
            }
        }
    }
}

impl Drop for Hls {
    fn drop(&mut self) {
        self.close(None);
    }
}

/// Each frame lasts until the next one, the last until `end`.
fn video_samples(frames: &[Frame], end: Duration) -> Vec<Sample> {
    let starts = frames
        .iter()
        .map(|frame| ticks(frame.time, VIDEO_TIMESCALE));
    let ends = starts.clone().skip(1).chain([ticks(end, VIDEO_TIMESCALE)]);
    let timed = frames.iter().zip(starts.zip(ends));
    timed
        .map(|(frame, (start, end))| Sample {
            time: start,
            duration: u32::try_from(end.saturating_sub(start)).unwrap_or(u32::MAX),
            keyframe: frame.keyframe,
            data: frame.data(),
        })
        .collect()
}

fn ticks(time: Duration, timescale: u32) -> u64 {
    let rate = u64::from(timescale);
    time.as_secs() * rate + (u64::from(time.subsec_nanos()) * rate + 500_000_000) / 1_000_000_000
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// How long a frame lasts that none follows.
const LAST_FRAME: Duration = Duration::from_millis(33);
/// Sound of the segment before that came after it was sent.
const LATE_AUDIO: Duration = Duration::from_secs(1);
const AAC_FRAME: u32 = 1024;
/// AAC frames of about ten seconds; more than any segment has.
const AUDIO_LIMIT: usize = 512;
