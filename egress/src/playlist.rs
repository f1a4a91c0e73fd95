//! Where segments end, and the playlist that lists them (RFC 8216).

use std::{collections::VecDeque, fmt::Write as _, time::Duration};

use crate::link::SegmentHead;

/// Decides where segments end. Times are on the output's timeline.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cutter {
    wanted: Duration,
    longest: Duration,
}

/// What the frame that has just arrived means for the open segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It belongs to the open segment.
    Continue,
    /// The segment ends where it starts.
    Here,
    /// The segment ends with the frame before, and what follows does not continue it.
    Break,
}

impl Cutter {
    /// `wanted_ms` is the wanted duration of a segment.
    pub(crate) fn new(wanted_ms: u64) -> Self {
        Self {
            wanted: Duration::from_millis(wanted_ms),
            longest: Duration::from_millis(target_seconds(wanted_ms) * 1000 + 499),
        }
    }

    /// `started` is where the open segment starts, `last` its last frame, `next` the new one.
    pub(crate) fn cut(
        self,
        started: Duration,
        last: Duration,
        next: Duration,
        keyframe: bool,
    ) -> Cut {
        if next < last || next - last > GAP || next.saturating_sub(started) > self.longest {
            return Cut::Break;
        }
        // A keyframe comes a little early or late; the one after it would be far too late.
        if keyframe && next - started >= self.wanted * 3 / 4 {
            return Cut::Here;
        }
        Cut::Continue
    }
}

/// Returns the `EXT-X-TARGETDURATION`: no segment's duration rounds to more. Above the wanted duration,
/// because a broadcaster may be late with the keyframe it was asked for.
pub(crate) fn target_seconds(wanted_ms: u64) -> u64 {
    wanted_ms.div_ceil(1000) + 1
}

/// The segments that a playlist lists.
#[derive(Debug)]
pub(crate) struct Window {
    target_seconds: u64,
    limit: usize,
    segments: VecDeque<Entry>,
    next_sequence: u64,
    /// `EXT-X-DISCONTINUITY-SEQUENCE`: discontinuities that have left the playlist.
    discontinuities: u64,
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    sequence: u64,
    head: SegmentHead,
    init: u64,
}

impl Window {
    /// `limit` is the number of segments listed, `first_sequence` the number of the first one.
    pub(crate) fn new(wanted_ms: u64, limit: usize, first_sequence: u64) -> Self {
        Self {
            target_seconds: target_seconds(wanted_ms),
            limit,
            segments: VecDeque::new(),
            next_sequence: first_sequence,
            discontinuities: 0,
            ended: false,
        }
    }

    /// Lists one more segment, to be decoded with initialisation segment `init`, and returns its number.
    pub(crate) fn push(&mut self, head: SegmentHead, init: u64) -> u64 {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.segments.push_back(Entry {
            sequence,
            head,
            init,
        });
        while self.segments.len() > self.limit {
            if let Some(gone) = self.segments.pop_front() {
                self.discontinuities += u64::from(gone.head.discontinuity);
            }
        }
        sequence
    }

    /// Says that no segment will follow.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Returns the playlist.
    pub(crate) fn text(&self) -> String {
        let mut text = String::with_capacity(512);
        let first = self
            .segments
            .front()
            .map_or(self.next_sequence, |entry| entry.sequence);
        let _ = write!(
            text,
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{first}\n",
            self.target_seconds
        );
        if self.discontinuities > 0 {
            let _ = writeln!(
                text,
                "#EXT-X-DISCONTINUITY-SEQUENCE:{}",
                self.discontinuities
            );
        }
        text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
        let mut init = None;
        for entry in &self.segments {
            if entry.head.discontinuity {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            if init != Some(entry.init) {
                let _ = writeln!(text, "#EXT-X-MAP:URI=\"init-{}.mp4\"", entry.init);
                init = Some(entry.init);
            }
            let _ = write!(
                text,
                "#EXT-X-PROGRAM-DATE-TIME:{}\n#EXTINF:{}.{:06},\nseg-{}.m4s\n",
                date_time(entry.head.starts_at_ms),
                entry.head.duration_us / 1_000_000,
                entry.head.duration_us % 1_000_000,
                entry.sequence
            );
        }
        if self.ended {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        text
    }
}

/// Formats Unix milliseconds as ISO 8601 in UTC, after Hinnant's `civil_from_days`.
fn date_time(unix_ms: u64) -> String {
    let (days, ms_of_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (seconds, millis) = (ms_of_day / 1000, ms_of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Without a frame for this long, the timeline is taken to be broken.
const GAP: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn head(duration_us: u64, discontinuity: bool) -> SegmentHead {
        SegmentHead {
            duration_us,
            starts_at_ms: 1_700_000_000_123,
            discontinuity,
        }
    }

    #[test]
    fn segments_end_at_the_first_keyframe_that_is_late_enough() {
        let cutter = Cutter::new(2000);
        let table = [
            ("delta frame", 2000, false, Cut::Continue),
            ("early keyframe", 1000, true, Cut::Continue),
            ("keyframe in time", 2000, true, Cut::Here),
            ("slightly early keyframe", 1960, true, Cut::Here),
            ("late keyframe", 3400, true, Cut::Here),
            ("no keyframe for too long", 3510, false, Cut::Break),
        ];
        for (label, next, keyframe, expected) in table {
            let cut = cutter.cut(ms(0), ms(next - 33), ms(next), keyframe);
            assert_eq!(cut, expected, "{label}");
        }
        let gap = cutter.cut(ms(0), ms(1000), ms(3100), true);
        assert_eq!(gap, Cut::Break, "a gap");
        let back = cutter.cut(ms(1000), ms(2000), ms(1000), true);
        assert_eq!(back, Cut::Break, "a step back");
    }

    #[test]
    fn no_segment_rounds_to_more_than_the_target() {
        for wanted_ms in [1000, 1500, 2000, 4000, 6000] {
            let longest = Cutter::new(wanted_ms).longest;
            assert!((longest + ms(500)).as_secs() <= target_seconds(wanted_ms));
        }
    }

    #[test]
    fn playlist_slides_and_counts_what_left_it() {
        let mut window = Window::new(2000, 3, 0);
        assert!(window.is_empty());
        for (number, discontinuity) in [false, true, false, false, true].into_iter().enumerate() {
            let init = if number < 4 { 0 } else { 1 };
            assert_eq!(
                window.push(head(2_033_333, discontinuity), init),
                number as u64
            );
        }
        window.end();
        let date = "#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.123Z\n#EXTINF:2.033333,\n";
        let expected = format!(
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:2\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:1\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-MAP:URI=\"init-0.mp4\"\n{date}seg-2.m4s\n{date}seg-3.m4s\n\
             #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"init-1.mp4\"\n{date}seg-4.m4s\n#EXT-X-ENDLIST\n"
        );
        assert_eq!(window.text(), expected);
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (1_772_323_200_000, "2026-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(date_time(unix_ms), text);
        }
    }
}
