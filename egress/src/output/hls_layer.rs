//! The picture of one rendition on its way into parts.

use std::{collections::VecDeque, time::Duration};

use crate::{
    fmp4::{Sample, VIDEO_TIMESCALE, VideoFormat},
    pipeline::Frame,
    playlist::Span,
};

/// The frames of one layer that are not in a part yet, at most [`FRAME_LIMIT`]: the oldest go first, and then the
/// layer is missing until its next keyframe.
#[derive(Debug)]
pub(super) struct Layer {
    frames: VecDeque<Frame>,
    /// What the open segment is made with; `None` while another layer stands in for this one.
    format: Option<VideoFormat>,
    /// Segments for which it has been there again, after it was missing.
    back_for: u32,
    /// Whether it was shown before, and then missing.
    was_missing: bool,
    /// Where the last frame that was taken out ends.
    until: Option<Duration>,
    /// Frames that no part got.
    dropped: u64,
}

impl Layer {
    pub(super) fn new() -> Self {
        Self {
            frames: VecDeque::new(),
            format: None,
            back_for: 0,
            was_missing: false,
            until: None,
            dropped: 0,
        }
    }

    pub(super) fn push(&mut self, frame: Frame) {
        if self.frames.len() >= FRAME_LIMIT {
            self.frames.pop_front();
            self.dropped += 1;
        }
        self.frames.push_back(frame);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Returns how many frames no part got since the last call.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// Returns the time of the newest frame that waits.
    pub(super) fn newest(&self) -> Option<Duration> {
        self.frames.back().map(|frame| frame.time)
    }

    /// Returns what the open segment is made with, if it is made of this layer.
    pub(super) fn format(&self) -> Option<&VideoFormat> {
        self.format.as_ref()
    }

    /// Begins a segment at `start` if there is a keyframe close to it, and returns whether it did.
    pub(super) fn begin(&mut self, start: Duration, leads: bool) -> bool {
        let close = |frame: &Frame| frame.keyframe && frame.time.abs_diff(start) <= CLOSE;
        let found = self.frames.iter().position(close);
        let format = found.and_then(|at| self.frames.get(at)?.video_format());
        let (Some(at), Some(format)) = (found, format) else {
            self.was_missing |= self.format.is_some();
            (self.format, self.back_for) = (None, 0);
            // What comes before the next keyframe is of no use.
            self.skip(start);
            return false;
        };
        self.back_for += 1;
        // A layer that comes and goes would make every segment a discontinuity.
        if self.was_missing && self.back_for < STEADY && !leads {
            self.format = None;
            return false;
        }
        self.was_missing = false;
        self.format = Some(format);
        self.until = None;
        self.drop_first(at);
        if let Some(first) = self.frames.front_mut() {
            first.time = start;
        }
        true
    }

    /// Takes out the frames of a part; they last until the next one.
    pub(super) fn take(&mut self, span: Span) -> Vec<Sample> {
        // What begins the next segment may be a little early.
        let is_next = |frame: &Frame| {
            let early = if span.ends && frame.keyframe {
                CLOSE
            } else {
                Duration::ZERO
            };
            frame.time + early >= span.end
        };
        let first = usize::from(span.begins.is_some()).min(self.frames.len());
        let rest = self.frames.iter().skip(first);
        let count = first + rest.take_while(|frame| !is_next(frame)).count();
        let taken: Vec<_> = self.frames.drain(..count).collect();
        let after = self.frames.front().map(|frame| frame.time);
        let after = after.filter(|after| !span.ends && *after < span.end + CLOSE);
        let mut starts = Vec::with_capacity(taken.len() + 1);
        for frame in &taken {
            starts.push(match (starts.last(), self.until) {
                (Some(before), _) => frame.time.max(*before + LEAST),
                // Neither holes nor overlaps of a fraction of a frame.
                (None, Some(until)) if frame.time < until + JITTER => until,
                (None, _) => frame.time,
            });
        }
        if let Some(last) = starts.last().copied() {
            let until = after.unwrap_or(span.end).max(last + LEAST);
            starts.push(until);
            self.until = Some(until);
        }
        let spans = starts.iter().zip(starts.iter().skip(1));
        let timed = taken.iter().zip(spans);
        timed
            .map(|(frame, (start, next))| {
                let time = ticks(*start, VIDEO_TIMESCALE);
                let until = ticks(*next, VIDEO_TIMESCALE);
                Sample {
                    time,
                    duration: u32::try_from(until.saturating_sub(time)).unwrap_or(u32::MAX),
                    keyframe: frame.keyframe,
                    data: frame.data(),
                }
            })
            .collect()
    }

    /// Forgets what no segment will need: this layer is not shown, and the open part ends at `end`.
    pub(super) fn skip(&mut self, end: Duration) {
        let old = end.saturating_sub(CLOSE);
        self.drop_first(self.frames.partition_point(|frame| frame.time < old));
    }

    fn drop_first(&mut self, count: usize) {
        self.frames.drain(..count);
        self.dropped += u64::try_from(count).unwrap_or(u64::MAX);
    }
}

/// Returns a time in units of a track's timescale.
pub(super) fn ticks(time: Duration, timescale: u32) -> u64 {
    let rate = u64::from(timescale);
    time.as_secs() * rate + (u64::from(time.subsec_nanos()) * rate + 500_000_000) / 1_000_000_000
}

/// A broadcaster that is asked for a keyframe makes one of every layer, at almost the same time.
const CLOSE: Duration = Duration::from_millis(150);
/// Frames that are this close follow one another.
const JITTER: Duration = Duration::from_millis(50);
/// The least time between two frames.
const LEAST: Duration = Duration::from_millis(1);
/// Segments for which a layer that was missing must be there before it is shown again.
const STEADY: u32 = 3;
/// Eight seconds of 60 frames each.
const FRAME_LIMIT: usize = 512;
