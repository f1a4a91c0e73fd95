//! Which thumbnails may be asked for, what they cost, and where they are.

use std::ops::RangeInclusive;

use crate::{
    destination::Accepted,
    journal,
    link::ThumbnailTarget,
    status::{DestinationType, ThumbnailOptions},
};

impl ThumbnailTarget {
    /// Returns what is to be done; `None` when an option is out of range.
    pub(crate) fn of(options: &ThumbnailOptions) -> Option<Self> {
        let within = |value: Option<u32>, usual: u32, range: RangeInclusive<u32>| {
            let value = value.unwrap_or(usual);
            range.contains(&value).then_some(value)
        };
        let seconds = within(options.interval_seconds, 10, 1..=3600)?;
        let width = within(options.width, DEFAULT_WIDTH, 160..=1920)?;
        let keep = within(options.keep, 360, 1..=10_000)?;
        Some(Self {
            interval_ms: u64::from(seconds) * 1000,
            width: u16::try_from(width).ok()?,
            keep: usize::try_from(keep).ok()?,
        })
    }

    /// Returns what making the pictures costs beside the worker, percent of a core.
    pub(crate) fn percent(&self) -> u32 {
        let percent = PICTURE_MS * 100 / self.interval_ms.max(1);
        u32::try_from(percent).unwrap_or(u32::MAX)
    }
}

/// Returns the address of a destination as the API shows it.
pub(crate) fn shown_url(accepted: &Accepted, job: &str, number: usize) -> String {
    let url = &accepted.shown_url;
    match accepted.kind {
        DestinationType::Thumbnails => format!("{url}/{job}/thumbnails/{}", journal::id(number)),
        DestinationType::Rtmp
        | DestinationType::Srt
        | DestinationType::Hls
        | DestinationType::Recording => url.clone(),
    }
}

/// How wide pictures are if nothing is said.
const DEFAULT_WIDTH: u32 = 640;
/// To decode a keyframe of 1280x720, and to encode a picture 640 wide, was measured to take 22 ms; others take more.
const PICTURE_MS: u64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn options(interval: u32, width: u32, keep: u32) -> ThumbnailOptions {
        ThumbnailOptions {
            interval_seconds: Some(interval),
            width: Some(width),
            keep: Some(keep),
        }
    }

    #[test]
    fn options_have_defaults_and_ranges() {
        let usual = ThumbnailTarget::of(&ThumbnailOptions::default()).unwrap();
        assert_eq!(
            (usual.interval_ms, usual.width, usual.keep),
            (10_000, 640, 360)
        );
        for (interval, width, keep, usable) in [
            (1, 160, 1, true),
            (3600, 1920, 10_000, true),
            (0, 640, 360, false),
            (3601, 640, 360, false),
            (10, 159, 360, false),
            (10, 1921, 360, false),
            (10, 65_536 + 640, 360, false),
            (10, 640, 0, false),
            (10, 640, 10_001, false),
        ] {
            let target = ThumbnailTarget::of(&options(interval, width, keep));
            assert_eq!(target.is_some(), usable, "{interval} {width} {keep}");
        }
    }

    #[test]
    fn many_pictures_cost_more() {
        let percent = |interval| {
            let target = ThumbnailTarget::of(&options(interval, 640, 1));
            target.unwrap().percent()
        };
        assert_eq!((percent(1), percent(3), percent(10)), (3, 1, 0));
    }
}
