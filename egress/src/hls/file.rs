//! What players ask for, and what they get.

use aws_lc_rs::digest;
use bytes::Bytes;

use super::{Place, Rendition};

/// A file by its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The multivariant playlist.
    Master,
    Playlist(Rendition, Reload),
    Init(u64),
    Segment(Rendition, u64),
    Part(Rendition, Place),
}

/// How a playlist is asked for: the delivery directives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reload {
    /// `_HLS_msn` and `_HLS_part`: the answer waits until this is listed.
    pub(crate) from: Option<From>,
    /// `_HLS_skip`.
    pub(crate) skip: bool,
}

/// What a playlist must list: a segment, or a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct From {
    pub(crate) segment: u64,
    pub(crate) part: Option<usize>,
}

impl From {
    /// Returns whether it is so far ahead of the `next` part that the player must be wrong.
    pub(crate) fn is_too_far(self, next: Place, part_ms: u64) -> bool {
        // The newest whole segment, plus two.
        if self.segment < next.segment || self.segment > next.segment + 1 {
            return self.segment > next.segment;
        }
        let there = if self.segment == next.segment {
            next.part
        } else {
            0
        };
        let ahead = usize::try_from(3000_u64.div_ceil(part_ms.min(1000))).unwrap_or(3);
        self.part.is_some_and(|part| part >= there + ahead)
    }

    /// Returns whether it is there when the next part will be at `next`. A part beyond its segment's last one
    /// stands for the first of the segment after.
    pub(crate) fn is_there(self, next: Place, parts: impl Fn(u64) -> Option<usize>) -> bool {
        let Some(part) = self.part else {
            return self.segment < next.segment;
        };
        let beyond =
            self.segment < next.segment && parts(self.segment).is_some_and(|parts| part >= parts);
        let place = if beyond {
            Place {
                segment: self.segment + 1,
                part: 0,
            }
        } else {
            Place {
                segment: self.segment,
                part,
            }
        };
        place < next
    }
}

/// A file of the origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum File {
    /// A playlist as it is now.
    Playlist(Text),
    /// A playlist as it was waited for: the same for all who ask like this.
    Reload(Text),
    Init(Bytes),
    /// A segment or a part.
    Media(Bytes),
}

/// A playlist and its tag. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) body: Bytes,
    pub(crate) tag: String,
}

impl Text {
    pub(crate) fn new(text: String) -> Self {
        let digest = digest::digest(&digest::SHA256, text.as_bytes());
        let head = digest.as_ref().iter().take(8);
        let tag = head.map(|byte| format!("{byte:02x}")).collect();
        Self {
            body: text.into(),
            tag,
        }
    }
}

/// Why there is no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It does not exist, or no longer.
    Unknown,
    /// It is too far ahead to be waited for.
    TooFar,
    /// It did not come in time.
    Late,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(segment: u64, part: usize) -> Place {
        Place { segment, part }
    }

    #[test]
    fn what_is_listed_is_there_and_what_is_far_ahead_refused() {
        // Segment 9 is whole and has seven parts; 10 has three.
        let parts = |segment| (segment <= 9).then_some(7);
        let next = place(10, 3);
        for (segment, part, there, too_far) in [
            (9, None, true, false),
            (10, None, false, false),
            (11, None, false, false),
            (12, None, false, true),
            (10, Some(2), true, false),
            (10, Some(3), false, false),
            (10, Some(12), false, false),
            (10, Some(13), false, true),
            (11, Some(0), false, false),
            (11, Some(9), false, false),
            (11, Some(10), false, true),
            (11, Some(50), false, true),
            (12, Some(0), false, true),
            (9, Some(6), true, false),
            (9, Some(7), true, false),
            (9, Some(700), true, false),
        ] {
            let from = From { segment, part };
            assert_eq!(from.is_there(next, parts), there, "{from:?}");
            assert_eq!(from.is_too_far(next, 300), too_far, "{from:?}");
        }
        // Segment 10 has just ended, and 11 not begun.
        for (segment, part, too_far) in [(10, 700, false), (11, 9, false), (11, 10, true)] {
            let part = Some(part);
            let from = From { segment, part };
            assert_eq!(from.is_too_far(place(11, 0), 300), too_far, "{from:?}");
        }
        // The segment has just ended: a part beyond its last is the first of the next.
        let beyond = From {
            segment: 9,
            part: Some(7),
        };
        assert!(!beyond.is_there(place(10, 0), parts));
        assert!(beyond.is_there(place(10, 1), parts));
    }
}
