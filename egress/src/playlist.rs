//! Where segments and parts end.

use std::time::Duration;

/// Decides where segments and parts end, from the frames of the track that leads: picture, or sound where there
/// is none. Times are on the output's timeline.
#[derive(Debug)]
pub(crate) struct Cutter {
    wanted: Duration,
    longest: Duration,
    part: Duration,
    open: Option<Open>,
    /// Whether the next segment does not continue the one before.
    broken: bool,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    started: Duration,
    part_started: Duration,
    last: Duration,
    parts: u32,
}

/// A part, now that its end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: Duration,
    pub(crate) end: Duration,
    /// `Some` for the first part of a segment: whether that does not continue the segment before.
    pub(crate) begins: Option<Discontinuity>,
    /// Whether it is the last part of its segment.
    pub(crate) ends: bool,
    /// Whether what follows does not continue it.
    pub(crate) breaks: bool,
}

/// Whether timestamps or formats do not continue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Discontinuity(pub(crate) bool);

impl Cutter {
    /// `segment_ms` and `part_ms` are the wanted duration of a segment and the most of a part.
    pub(crate) fn new(segment_ms: u64, part_ms: u64) -> Self {
        Self {
            wanted: Duration::from_millis(segment_ms),
            longest: Duration::from_millis(target_seconds(segment_ms) * 1000 + 450),
            part: Duration::from_millis(part_ms),
            open: None,
            broken: false,
        }
    }

    /// Takes in the leading track's next frame. Adds the parts that end before it to `ended`, and returns whether
    /// the frame is part of a segment: not before the first keyframe.
    pub(crate) fn push(
        &mut self,
        time: Duration,
        keyframe: bool,
        reformatted: bool,
        ended: &mut Vec<Span>,
    ) -> bool {
        if let Some(mut open) = self.open {
            // A keyframe comes a little early or late; the one after it would be far too late.
            let due = time.saturating_sub(open.started) >= self.wanted * 3 / 4;
            let broken = time < open.last
                || time - open.last > GAP
                || time.saturating_sub(open.started) > self.longest;
            if broken {
                self.interrupt(ended);
            } else if keyframe && (due || reformatted) {
                self.close(time, false, ended);
            } else {
                self.cut_parts(&mut open, time, ended);
                open.last = time;
                self.open = Some(open);
                return true;
            }
        }
        if keyframe {
            self.open = Some(Open {
                started: time,
                part_started: time,
                last: time,
                parts: 0,
            });
        }
        keyframe
    }

    /// Ends the open segment with its last frame; the next one does not continue it.
    pub(crate) fn interrupt(&mut self, ended: &mut Vec<Span>) {
        if let Some(open) = self.open {
            self.close(open.last + LAST_FRAME, true, ended);
            self.broken = true;
        }
    }

    /// Says that the next segment does not continue what was sent before.
    pub(crate) fn break_off(&mut self) {
        self.open = None;
        self.broken = true;
    }

    fn close(&mut self, end: Duration, breaks: bool, ended: &mut Vec<Span>) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        while end - open.part_started > self.part {
            let at = open.part_started + self.usual_part();
            ended.push(self.span(&mut open, at));
        }
        let last = self.span(&mut open, end);
        ended.push(Span {
            ends: true,
            breaks,
            ..last
        });
    }

    /// A part ends with a frame where that makes a part of a fair length, else wherever it is due: where few
    /// frames come.
    fn cut_parts(&mut self, open: &mut Open, time: Duration, ended: &mut Vec<Span>) {
        while time - open.part_started > self.part {
            let at = open.part_started + self.usual_part();
            ended.push(self.span(open, at));
        }
        if time - open.part_started >= self.shortest_part() {
            ended.push(self.span(open, time));
        }
    }

    fn span(&mut self, open: &mut Open, end: Duration) -> Span {
        let first = open.parts == 0;
        let begins = first.then(|| Discontinuity(std::mem::take(&mut self.broken)));
        let start = std::mem::replace(&mut open.part_started, end);
        open.parts += 1;
        Span {
            start,
            end,
            begins,
            ends: false,
            breaks: false,
        }
    }

    /// Leaves a little for the last part, which may be shorter but never empty.
    fn usual_part(&self) -> Duration {
        self.part * 9 / 10
    }

    /// Parts other than the last of a segment last at least 85 % of what is announced.
    fn shortest_part(&self) -> Duration {
        self.part * 86 / 100
    }
}

/// Returns the `EXT-X-TARGETDURATION`: no segment's duration rounds to more. Above the wanted duration,
/// because a broadcaster may be late with the keyframe it was asked for.
pub(crate) fn target_seconds(segment_ms: u64) -> u64 {
    segment_ms.div_ceil(1000) + 1
}

/// Without a frame for this long, the timeline is taken to be broken.
const GAP: Duration = Duration::from_secs(2);
/// How long a frame lasts that none follows.
const LAST_FRAME: Duration = Duration::from_millis(33);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Pushes frames `(time, keyframe)` and returns the parts that ended.
    fn cut(cutter: &mut Cutter, frames: impl IntoIterator<Item = (u64, bool)>) -> Vec<Span> {
        let mut ended = Vec::new();
        for (time, keyframe) in frames {
            cutter.push(ms(time), keyframe, false, &mut ended);
        }
        ended
    }

    #[test]
    fn parts_end_with_frames_and_segments_at_keyframes() {
        let mut cutter = Cutter::new(2000, 300);
        let frames = (0..=60).map(|n| (1000 + n * 100 / 3, n % 60 == 0));
        let spans = cut(&mut cutter, frames);
        assert_eq!(spans.len(), 8, "{spans:?}");
        assert_eq!(spans[0].begins, Some(Discontinuity(false)));
        assert!(spans[1..].iter().all(|span| span.begins.is_none()));
        assert!(spans[..7].iter().all(|span| !span.ends));
        assert!(spans[7].ends && !spans[7].breaks);
        assert_eq!(spans[7].end, ms(3000));
        assert_eq!(spans[0].end, ms(1266), "eight frames");
    }

    #[test]
    fn few_frames_do_not_make_long_parts() {
        let mut cutter = Cutter::new(2000, 300);
        let spans = cut(&mut cutter, [(0, true), (1000, false), (2000, true)]);
        assert!(spans.iter().all(|span| span.end - span.start <= ms(300)));
        assert_eq!(spans.last().map(|span| span.end), Some(ms(2000)));
        assert!(spans.last().unwrap().ends);
    }

    #[test]
    fn an_early_keyframe_ends_nothing_unless_the_format_changed() {
        for (reformatted, parts) in [(false, 0), (true, 1)] {
            let mut cutter = Cutter::new(2000, 300);
            let mut ended = Vec::new();
            cutter.push(ms(0), true, false, &mut ended);
            assert!(cutter.push(ms(200), true, reformatted, &mut ended));
            assert_eq!(ended.len(), parts);
        }
    }

    #[test]
    fn a_broken_timeline_is_a_discontinuity() {
        for (what, next) in [("back", 3000), ("gap", 7200)] {
            let mut cutter = Cutter::new(2000, 300);
            let mut spans = cut(&mut cutter, [(5000, true), (5100, false), (next, false)]);
            let last = spans.pop().unwrap();
            assert!(last.ends && last.breaks, "{what}");
            assert_eq!(last.end, ms(5133), "{what}");
            let spans = cut(
                &mut cutter,
                [(next, false), (next, true), (next + 280, false)],
            );
            assert_eq!(spans[0].begins, Some(Discontinuity(true)), "{what}");
        }
    }

    #[test]
    fn a_segment_without_a_keyframe_is_bounded() {
        let mut cutter = Cutter::new(2000, 300);
        let spans = cut(&mut cutter, (0..200).map(|n| (n * 40, n == 0)));
        let last = spans.last().unwrap();
        assert!(last.ends && last.breaks);
        assert!((last.end.as_secs_f64()).round() <= 3.0, "{last:?}");
        assert!(!cutter.push(ms(8000), false, false, &mut Vec::new()));
    }

    proptest! {
        /// The rules for EXT-X-PART's duration, whatever comes.
        #[test]
        fn parts_keep_the_rules(
            frames in proptest::collection::vec((1u64..700, proptest::bool::weighted(0.05)), 1..300),
            part_ms in 200u64..500,
        ) {
            let mut cutter = Cutter::new(2000, part_ms);
            let mut spans = Vec::new();
            let mut time = 0;
            for (step, keyframe) in frames {
                time += step;
                cutter.push(ms(time), keyframe, false, &mut spans);
            }
            let mut segment = Duration::ZERO;
            let mut last_end = None;
            for span in spans {
                let duration = span.end - span.start;
                prop_assert!(duration <= ms(part_ms) && duration > Duration::ZERO, "{span:?}");
                prop_assert!(span.ends || duration >= ms(part_ms) * 85 / 100, "{span:?}");
                if span.begins.is_some() {
                    segment = Duration::ZERO;
                } else {
                    prop_assert_eq!(last_end, Some(span.start));
                }
                segment += duration;
                prop_assert!(segment.as_secs_f64().round() <= 3.0, "{span:?}");
                last_end = Some(span.end);
            }
        }
    }
}
