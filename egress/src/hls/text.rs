//! Playlists as text.

use std::{collections::VecDeque, fmt::Write as _, time::Duration};

use super::{Rendition, Segment};

/// What a media playlist lists.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Listing<'a> {
    pub(crate) target_seconds: u64,
    pub(crate) part_ms: u64,
    /// All segments; the first `unlisted` of them have left the playlist.
    pub(crate) segments: &'a VecDeque<Segment>,
    pub(crate) unlisted: usize,
    pub(crate) ended: bool,
}

/// A segment's number, and that of a part in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: u64,
    pub(crate) part: usize,
}

impl<'a> Listing<'a> {
    /// Returns the listed segments that have this rendition.
    fn of(&self, rendition: Rendition) -> impl Iterator<Item = &'a Segment> + Clone {
        let listed = self.segments.iter().skip(self.unlisted);
        listed.filter(move |segment| segment.tracks.contains_key(&rendition))
    }

    /// Returns the place of the newest part.
    pub(crate) fn newest(&self) -> Option<Place> {
        let last = self.segments.iter().rev().find(|s| !s.parts.is_empty())?;
        Some(Place {
            segment: last.sequence,
            part: last.parts.len() - 1,
        })
    }

    /// Returns where the next part will be.
    pub(crate) fn next(&self) -> Option<Place> {
        let last = self.segments.back()?;
        Some(if last.complete {
            Place {
                segment: last.sequence + 1,
                part: 0,
            }
        } else {
            Place {
                segment: last.sequence,
                part: last.parts.len(),
            }
        })
    }
}

/// Returns the media playlist of a rendition. With `skip`, segments that the player knows are left out
/// (`EXT-X-SKIP`), if there are old enough ones.
pub(crate) fn media(listing: Listing<'_>, rendition: Rendition, skip: bool) -> String {
    let mut text = String::with_capacity(2048);
    let part = Duration::from_millis(listing.part_ms);
    let target = Duration::from_secs(listing.target_seconds);
    let skip_until = target * SKIP_TARGETS;
    let first = listing.of(rendition).next();
    let sequence = first.map_or(0, |segment| segment.sequence);
    let base = first.map_or(0, |s| s.discontinuities - u64::from(s.discontinuity));
    let _ = write!(
        text,
        "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:{}\n\
         #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={},CAN-SKIP-UNTIL={}\n\
         #EXT-X-PART-INF:PART-TARGET={}\n#EXT-X-MEDIA-SEQUENCE:{sequence}\n\
         #EXT-X-DISCONTINUITY-SEQUENCE:{base}\n#EXT-X-INDEPENDENT-SEGMENTS\n",
        listing.target_seconds,
        seconds(part * HOLD_BACK_PARTS),
        seconds(skip_until),
        seconds(part),
    );
    let whole: Duration = listing.of(rendition).map(Segment::duration).sum();
    let mut from_end = whole;
    let mut skipped = 0;
    if skip {
        let old = listing.of(rendition).take_while(|segment| {
            let old = segment.complete && from_end > skip_until + segment.duration();
            if old {
                from_end -= segment.duration();
            }
            old
        });
        skipped = old.count();
    }
    if skipped > 0 {
        let _ = writeln!(text, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}");
    }
    let mut init = None;
    for segment in listing.of(rendition).skip(skipped) {
        write_segment(
            &mut text,
            segment,
            rendition,
            &mut init,
            from_end <= target * PART_TARGETS,
        );
        from_end = from_end.saturating_sub(segment.duration());
    }
    if listing.ended {
        text.push_str("#EXT-X-ENDLIST\n");
        return text;
    }
    write_outlook(&mut text, listing, rendition);
    text
}

fn write_segment(
    text: &mut String,
    segment: &Segment,
    rendition: Rendition,
    init: &mut Option<u64>,
    with_parts: bool,
) {
    let Some(track) = segment.tracks.get(&rendition) else {
        return;
    };
    if segment.discontinuity {
        text.push_str("#EXT-X-DISCONTINUITY\n");
    }
    if *init != Some(track.init) {
        let _ = writeln!(text, "#EXT-X-MAP:URI=\"init-{}.mp4\"", track.init);
        *init = Some(track.init);
    }
    let _ = writeln!(
        text,
        "#EXT-X-PROGRAM-DATE-TIME:{}",
        date_time(segment.starts_at_ms)
    );
    if with_parts {
        for (at, (part, duration)) in track.parts.iter().zip(&segment.parts).enumerate() {
            let independent = if part.independent {
                ",INDEPENDENT=YES"
            } else {
                ""
            };
            let _ = writeln!(
                text,
                "#EXT-X-PART:DURATION={},URI=\"part-{}.{at}.m4s\"{independent}",
                seconds(*duration),
                segment.sequence,
            );
        }
    }
    if segment.complete {
        let _ = write!(
            text,
            "#EXTINF:{},\nseg-{}.m4s\n",
            seconds(segment.duration()),
            segment.sequence
        );
    }
}

/// What comes next, here and in the other renditions.
fn write_outlook(text: &mut String, listing: Listing<'_>, rendition: Rendition) {
    let (Some(next), Some(newest), Some(last)) =
        (listing.next(), listing.newest(), listing.segments.back())
    else {
        return;
    };
    let _ = writeln!(
        text,
        "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"part-{}.{}.m4s\"",
        next.segment, next.part
    );
    for other in last.tracks.keys().filter(|other| **other != rendition) {
        let _ = writeln!(
            text,
            "#EXT-X-RENDITION-REPORT:URI=\"../{other}/index.m3u8\",LAST-MSN={},LAST-PART={}",
            newest.segment, newest.part
        );
    }
}

/// A rendition as the multivariant playlist announces it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MasterEntry {
    pub(crate) rendition: Rendition,
    /// Bits per second of its largest segment, and of all.
    pub(crate) peak: u64,
    pub(crate) average: u64,
    pub(crate) codecs: String,
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) frames_per_second: f64,
}

/// Returns the multivariant playlist.
pub(crate) fn master(entries: &[MasterEntry]) -> String {
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    for entry in entries {
        let _ = write!(
            text,
            "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={},CODECS=\"{}\"",
            entry.peak, entry.average, entry.codecs
        );
        if entry.width > 0 {
            let _ = write!(
                text,
                ",RESOLUTION={}x{},FRAME-RATE={:.3}",
                entry.width, entry.height, entry.frames_per_second
            );
        }
        let _ = write!(text, "\n{}/index.m3u8\n", entry.rendition);
    }
    text
}

/// Writes seconds with as many decimals as they have, to the microsecond.
fn seconds(duration: Duration) -> String {
    let text = format!("{}.{:06}", duration.as_secs(), duration.subsec_micros());
    let short = text.trim_end_matches('0');
    let digits = short.len() + usize::from(short.ends_with('.'));
    text[..digits].to_owned()
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

/// `PART-HOLD-BACK` in parts: the draft wants at least two, and recommends three.
const HOLD_BACK_PARTS: u32 = 3;
/// `CAN-SKIP-UNTIL` in target durations: the least that the draft allows.
const SKIP_TARGETS: u32 = 6;
/// Parts are listed for this many target durations: the draft wants at least three.
const PART_TARGETS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(date_time(unix_ms), text);
        }
    }

    #[test]
    fn seconds_are_short_and_exact() {
        for (micros, text) in [
            (0, "0.0"),
            (300_000, "0.3"),
            (2_000_000, "2.0"),
            (266_667, "0.266667"),
            (10_000_010, "10.00001"),
        ] {
            assert_eq!(seconds(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn the_multivariant_playlist_announces_every_rendition() {
        let entry = |rendition| MasterEntry {
            rendition,
            peak: 3_000_000,
            average: 2_500_000,
            codecs: "avc1.42c01f,mp4a.40.2".into(),
            width: 1280,
            height: 720,
            frames_per_second: 30.0,
        };
        let video = entry(Rendition::Video(0));
        let audio = MasterEntry {
            codecs: "mp4a.40.2".into(),
            width: 0,
            height: 0,
            ..entry(Rendition::Audio)
        };
        let text = master(&[video, audio]);
        let variants = crate::hls::rules::multivariant(&text).unwrap();
        assert!(variants.iter().all(|v| v.bandwidth == 3_000_000));
        let pictures: Vec<_> = variants.iter().map(|v| v.resolution.is_some()).collect();
        assert_eq!(pictures, [true, false], "{:?}", variants[0].codecs);
        assert_eq!(
            text,
            "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-STREAM-INF:BANDWIDTH=3000000,AVERAGE-BANDWIDTH=2500000,\
             CODECS=\"avc1.42c01f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=30.000\nv0/index.m3u8\n\
             #EXT-X-STREAM-INF:BANDWIDTH=3000000,AVERAGE-BANDWIDTH=2500000,CODECS=\"mp4a.40.2\"\n\
             audio/index.m3u8\n"
        );
    }
}
