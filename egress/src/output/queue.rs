//! Frames on their way to a destination: bounded, and in the order of their times.

use std::{collections::VecDeque, time::Duration};

use sfu::MediaKind;

use crate::pipeline::Frame;

/// Sound and picture, each in order. A number of bytes of each wait, by default [`VIDEO_LIMIT`] and
/// [`AUDIO_LIMIT`]; when there are more, picture is dropped until a keyframe finds the queue half empty, and sound is dropped.
#[derive(Debug)]
pub(super) struct Queue {
    has_video: bool,
    /// Bytes of picture and sound.
    limits: [usize; 2],
    video: VecDeque<Frame>,
    audio: VecDeque<Frame>,
    video_bytes: usize,
    audio_bytes: usize,
    dropping: bool,
    /// Where the session starts.
    start: Option<Duration>,
}

/// What became of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Queued,
    /// It is before the start, or of no use.
    Ignored,
    Dropped,
}

impl Queue {
    pub(super) fn new(has_video: bool) -> Self {
        Self::with_limits(has_video, VIDEO_LIMIT, AUDIO_LIMIT)
    }

    /// Creates a queue for other numbers of bytes.
    pub(super) fn with_limits(has_video: bool, video: usize, audio: usize) -> Self {
        Self {
            has_video,
            limits: [video, audio],
            video: VecDeque::new(),
            audio: VecDeque::new(),
            video_bytes: 0,
            audio_bytes: 0,
            dropping: false,
            start: None,
        }
    }

    pub(super) fn push(&mut self, frame: &Frame) -> Taken {
        let size = frame.buffer.size();
        let [video_limit, audio_limit] = self.limits;
        match frame.kind {
            MediaKind::Video if !self.has_video => Taken::Ignored,
            MediaKind::Video => {
                if self.start.is_none() {
                    if !frame.keyframe {
                        return Taken::Ignored;
                    }
                    self.start = Some(frame.time);
                }
                if self.dropping && frame.keyframe && self.video_bytes < video_limit / 2 {
                    self.dropping = false;
                } else if self.video_bytes > video_limit {
                    self.dropping = true;
                }
                if self.dropping {
                    return Taken::Dropped;
                }
                self.video_bytes += size;
                self.video.push_back(frame.clone());
                Taken::Queued
            }
            MediaKind::Audio => {
                if !self.has_video {
                    self.start.get_or_insert(frame.time);
                }
                let begun = self.start.is_some_and(|start| frame.time >= start);
                if !begun || self.audio_bytes > audio_limit {
                    return Taken::Ignored;
                }
                self.audio_bytes += size;
                self.audio.push_back(frame.clone());
                Taken::Queued
            }
        }
    }

    /// Returns the next frame: the earlier of both kinds, or that of one kind when the other is late.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Frame> {
        let video_first = match (self.video.front(), self.audio.front()) {
            (Some(video), Some(audio)) => video.time <= audio.time,
            (Some(video), None) => {
                if now < video.time + PATIENCE {
                    return None;
                }
                true
            }
            (None, Some(audio)) => {
                if self.has_video && now < audio.time + PATIENCE {
                    return None;
                }
                false
            }
            (None, None) => return None,
        };
        if video_first {
            let frame = self.video.pop_front()?;
            self.video_bytes -= frame.buffer.size();
            Some(frame)
        } else {
            let frame = self.audio.pop_front()?;
            self.audio_bytes -= frame.buffer.size();
            Some(frame)
        }
    }

    /// Returns where the session starts.
    pub(super) fn start(&self) -> Option<Duration> {
        self.start
    }
}

/// Above that of stand-in media, so that sound and picture leave in order.
const PATIENCE: Duration = Duration::from_millis(1000);
/// Four seconds at 4 Mbit/s.
const VIDEO_LIMIT: usize = 2 << 20;
const AUDIO_LIMIT: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use gstreamer as gst;

    use super::*;

    fn frame(kind: MediaKind, ms: u64, keyframe: bool, size: usize) -> Frame {
        gst::init().unwrap();
        Frame {
            rendition: 0,
            kind,
            time: Duration::from_millis(ms),
            keyframe,
            buffer: gst::Buffer::from_slice(vec![0; size]),
            caps: gst::Caps::new_empty(),
        }
    }

    fn times(queue: &mut Queue, now_ms: u64) -> Vec<u128> {
        let now = Duration::from_millis(now_ms);
        std::iter::from_fn(|| queue.pop(now))
            .map(|frame| frame.time.as_millis())
            .collect()
    }

    #[test]
    fn frames_leave_in_order_and_wait_for_each_other_but_not_for_ever() {
        let mut queue = Queue::new(true);
        let (video, audio) = (MediaKind::Video, MediaKind::Audio);
        assert_eq!(queue.push(&frame(audio, 5, true, 1)), Taken::Ignored);
        assert_eq!(queue.push(&frame(video, 8, false, 1)), Taken::Ignored);
        assert_eq!(queue.push(&frame(video, 10, true, 1)), Taken::Queued);
        queue.push(&frame(video, 43, false, 1));
        assert_eq!(times(&mut queue, 60), [] as [u128; 0]);
        assert_eq!(queue.push(&frame(audio, 9, true, 1)), Taken::Ignored);
        queue.push(&frame(audio, 20, true, 1));
        queue.push(&frame(audio, 41, true, 1));
        assert_eq!(times(&mut queue, 60), [10, 20, 41]);
        assert_eq!(times(&mut queue, 1043), [43]);
        assert_eq!(queue.start(), Some(Duration::from_millis(10)));
    }

    #[test]
    fn sound_alone_waits_for_nothing() {
        let mut queue = Queue::new(false);
        queue.push(&frame(MediaKind::Audio, 5, true, 1));
        assert_eq!(times(&mut queue, 5), [5]);
    }

    #[test]
    fn what_is_too_much_is_dropped_until_a_keyframe() {
        let mut queue = Queue::new(true);
        let push = |queue: &mut Queue, ms, keyframe| {
            queue.push(&frame(MediaKind::Video, ms, keyframe, VIDEO_LIMIT / 4))
        };
        for i in 0..5 {
            assert_eq!(push(&mut queue, i, i == 0), Taken::Queued);
        }
        assert_eq!(push(&mut queue, 6, false), Taken::Dropped);
        assert_eq!(push(&mut queue, 7, true), Taken::Dropped, "still full");
        times(&mut queue, 60_000);
        assert_eq!(push(&mut queue, 8, false), Taken::Dropped);
        assert_eq!(push(&mut queue, 9, true), Taken::Queued);
    }
}
