//! The sound of an HLS output, until it is in a part.

use std::{collections::VecDeque, time::Duration};

use super::hls_layer::ticks;
use crate::{
    fmp4::{AUDIO_TIMESCALE, AudioFormat, Sample},
    pipeline::Frame,
};

/// Sound that is in no part yet, at most [`LIMIT`] frames.
#[derive(Debug, Default)]
pub(super) struct Audio {
    frames: VecDeque<Frame>,
    format: Option<AudioFormat>,
    /// When the newest frame ends.
    end: Duration,
    /// What was before the last break is not wanted any more.
    floor: Duration,
    /// Where the next AAC frame starts if sound is continuous.
    next: u64,
}

impl Audio {
    pub(super) fn push(&mut self, frame: &Frame) {
        if self.format.is_none() {
            self.format = frame.audio_format();
        }
        self.end = frame.time + AAC_TIME;
        if frame.time < self.floor {
            return;
        }
        if self.frames.len() >= LIMIT {
            self.frames.pop_front();
        }
        self.frames.push_back(frame.clone());
    }

    /// Returns what the frames are like, `None` before the first.
    pub(super) fn format(&self) -> Option<&AudioFormat> {
        self.format.as_ref()
    }

    /// Returns until when there is sound.
    pub(super) fn end(&self) -> Duration {
        self.end
    }

    /// Begins anew at `start`: sound from before that, which may still come, would put the players' clocks wrong.
    pub(super) fn forget_before(&mut self, start: Duration) {
        self.floor = start.saturating_sub(AAC_TIME);
        self.frames.retain(|frame| frame.time >= self.floor);
    }

    pub(super) fn clear(&mut self) {
        self.frames.clear();
    }

    /// Takes out what starts before `end`.
    pub(super) fn take(&mut self, end: Duration) -> Vec<Sample> {
        let count = self
            .frames
            .iter()
            .take_while(|frame| frame.time < end)
            .count();
        let frames = self.frames.drain(..count);
        let mut samples = Vec::with_capacity(count);
        for frame in frames {
            let exact = ticks(frame.time, AUDIO_TIMESCALE);
            // Rounding must not leave holes of one sample.
            let continues = exact.abs_diff(self.next) < u64::from(AAC_FRAME) / 2;
            let time = if continues { self.next } else { exact };
            self.next = time + u64::from(AAC_FRAME);
            samples.push(Sample {
                time,
                duration: AAC_FRAME,
                keyframe: true,
                data: frame.data(),
            });
        }
        samples
    }
}

const AAC_FRAME: u32 = 1024;
const AAC_TIME: Duration = Duration::from_micros(21_334);
/// AAC frames of about ten seconds; more than any segment has.
const LIMIT: usize = 512;

#[cfg(test)]
mod tests {
    use gstreamer as gst;
    use sfu::MediaKind;

    use super::*;

    fn frame(ms: u64) -> Frame {
        gst::init().unwrap();
        Frame {
            rendition: 0,
            kind: MediaKind::Audio,
            time: Duration::from_millis(ms),
            keyframe: true,
            buffer: gst::Buffer::from_slice(vec![0; 8]),
            caps: gst::Caps::new_empty(),
        }
    }

    fn times(samples: &[Sample]) -> Vec<u64> {
        samples.iter().map(|sample| sample.time / 48).collect()
    }

    #[test]
    fn sound_from_before_a_break_is_left_out_even_if_it_comes_late() {
        let mut audio = Audio::default();
        for ms in [900, 921, 943] {
            audio.push(&frame(ms));
        }
        let end = Duration::from_millis;
        assert_eq!(times(&audio.take(end(930))), [900, 921]);
        audio.forget_before(end(1500));
        for ms in [1457, 1478, 1500, 1521] {
            audio.push(&frame(ms));
        }
        assert_eq!(times(&audio.take(end(1490))), [] as [u64; 0]);
        assert_eq!(times(&audio.take(end(1600))), [1500, 1521]);
        assert_eq!(audio.end(), end(1521) + AAC_TIME);
    }

    #[test]
    fn frames_follow_each_other_to_the_sample() {
        let mut audio = Audio::default();
        for ms in [21, 43, 64] {
            audio.push(&frame(ms));
        }
        let samples = audio.take(Duration::from_secs(1));
        let steps: Vec<u64> = samples.windows(2).map(|w| w[1].time - w[0].time).collect();
        assert_eq!(steps, [1024, 1024]);
    }
}
