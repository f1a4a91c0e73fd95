//! When the last packet of each frame was sent, shared by publishers and viewers of this process.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::stamp::Stamp;

/// Times by frame, of the newest frames.
#[derive(Debug)]
pub(crate) struct SentFrames {
    times: Vec<AtomicI64>,
}

impl SentFrames {
    /// Creates an empty table.
    pub(crate) fn new() -> Self {
        let times = std::iter::repeat_with(AtomicI64::default).take(KEPT);
        Self {
            times: times.collect(),
        }
    }

    /// Notes that the last packet of a frame is being sent, at this time of the wall clock.
    pub(crate) fn set(&self, frame: u32, sent: i64) {
        if let Some(time) = self.times.get(place(frame)) {
            time.store(sent, Ordering::Release);
        }
    }

    /// Returns when the last packet of a frame was sent, `None` for a frame of another process.
    pub(crate) fn get(&self, stamp: Stamp) -> Option<i64> {
        let time = self.times.get(place(stamp.frame))?;
        let sent = time.load(Ordering::Acquire);
        (stamp.sent..stamp.sent + LONGEST)
            .contains(&sent)
            .then_some(sent)
    }
}

/// Returns where a frame's time is kept. The publisher is in the highest bits of its frames' numbers.
fn place(frame: u32) -> usize {
    let publisher = (frame >> PUBLISHER) as usize;
    publisher * EACH + frame as usize % EACH
}

/// The bits of a frame's number below its publisher's.
pub(crate) const PUBLISHER: u32 = 24;

/// A minute of frames of each publisher.
const EACH: usize = 2048;
const KEPT: usize = EACH << (u32::BITS - PUBLISHER);

/// Longest time that a frame takes to be sent, in nanoseconds.
const LONGEST: i64 = 2_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_frames_of_this_process_are_known() {
        let frames = SentFrames::new();
        let stamp = |sent| Stamp {
            sent,
            frame: 70_000,
            is_key: false,
        };
        assert_eq!(frames.get(stamp(1000)), None);
        frames.set(70_000, 1500);
        assert_eq!(frames.get(stamp(1000)), Some(1500));
        assert_eq!(frames.get(stamp(1501)), None, "an older frame");
    }

    #[test]
    fn publishers_do_not_disturb_each_other() {
        let frames = SentFrames::new();
        let frame = |publisher: u32| publisher << PUBLISHER | 70_000;
        for publisher in 0..256 {
            frames.set(frame(publisher), 1000 + i64::from(publisher));
        }
        for publisher in 0..256 {
            let stamp = Stamp {
                sent: 1000,
                frame: frame(publisher),
                is_key: false,
            };
            assert_eq!(frames.get(stamp), Some(1000 + i64::from(publisher)));
        }
    }
}
