//! The rules of draft-pantos-hls-rfc8216bis, checked of playlists as a player gets them.

use std::collections::BTreeMap;

/// A parsed media playlist that keeps the rules for a single one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Media {
    pub(crate) target: f64,
    pub(crate) part_target: f64,
    pub(crate) part_hold_back: f64,
    pub(crate) skip_until: f64,
    pub(crate) sequence: u64,
    pub(crate) discontinuity_sequence: u64,
    pub(crate) skipped: u64,
    pub(crate) segments: Vec<Segment>,
    /// Parts of the segment that is not whole yet.
    pub(crate) trailing: Vec<Part>,
    pub(crate) hint: Option<String>,
    /// URI, last segment and last part.
    pub(crate) reports: Vec<(String, u64, u64)>,
    pub(crate) ended: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Segment {
    pub(crate) uri: String,
    pub(crate) duration: f64,
    pub(crate) map: String,
    pub(crate) date: String,
    pub(crate) discontinuity: bool,
    pub(crate) parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) uri: String,
    pub(crate) duration: f64,
    pub(crate) independent: bool,
}

impl Media {
    /// Returns the number of the segment after the last whole one.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.sequence + self.skipped + self.segments.len() as u64
    }

    /// Returns how many seconds are listed, without what is skipped.
    pub(crate) fn duration(&self) -> f64 {
        let whole: f64 = self.segments.iter().map(|s| s.duration).sum();
        whole + self.trailing.iter().map(|part| part.duration).sum::<f64>()
    }

    /// Returns each listed segment's number and discontinuity sequence number.
    pub(crate) fn discontinuities(&self) -> BTreeMap<u64, u64> {
        let mut number = self.discontinuity_sequence;
        let numbered = self.segments.iter().zip(self.sequence + self.skipped..);
        numbered
            .map(|(segment, sequence)| {
                number += u64::from(segment.discontinuity);
                (sequence, number)
            })
            .collect()
    }
}

/// What a multivariant playlist says of one of its media playlists.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Variant {
    pub(crate) uri: String,
    pub(crate) bandwidth: u64,
    pub(crate) codecs: String,
    /// `None` for sound alone.
    pub(crate) resolution: Option<String>,
}

/// Strict like [`parse`], for a multivariant playlist (§4.4.6).
pub(crate) fn multivariant(text: &str) -> Result<Vec<Variant>, String> {
    let mut lines = text.lines();
    check(lines.next() == Some("#EXTM3U"), "the first line is #EXTM3U")?;
    let mut variants: Vec<Variant> = Vec::new();
    while let Some(line) = lines.next() {
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        if matches!(tag, "#EXT-X-VERSION" | "#EXT-X-INDEPENDENT-SEGMENTS") {
            check(variants.is_empty(), &format!("{tag} after a variant"))?;
            continue;
        }
        check(
            tag == "#EXT-X-STREAM-INF",
            &format!("{line} is out of place"),
        )?;
        let uri = lines
            .next()
            .filter(|uri| !uri.starts_with('#') && !uri.is_empty());
        let variant = Variant::read(value, uri.ok_or("a variant without its URI")?)?;
        let is_new = variants.iter().all(|other| other.uri != variant.uri);
        check(is_new, &format!("{} is listed twice", variant.uri))?;
        variants.push(variant);
    }
    check(!variants.is_empty(), "there are no variants")?;
    Ok(variants)
}

impl Variant {
    fn read(value: &str, uri: &str) -> Result<Self, String> {
        let variant = Self {
            uri: uri.to_owned(),
            bandwidth: whole(value, "BANDWIDTH")?,
            codecs: text(value, "CODECS")?,
            resolution: attribute(value, "RESOLUTION").map(str::to_owned),
        };
        let average = whole(value, "AVERAGE-BANDWIDTH")?;
        check(
            0 < average && average <= variant.bandwidth,
            &format!("BANDWIDTH is the peak: {value}"),
        )?;
        let has_picture = variant
            .codecs
            .split(',')
            .any(|codec| codec.starts_with("avc1."));
        check(
            has_picture == variant.resolution.is_some(),
            &format!("what has a picture has a RESOLUTION: {value}"),
        )?;
        if has_picture {
            let rate = attribute(value, "FRAME-RATE").ok_or("a picture without FRAME-RATE")?;
            let decimals = rate.split_once('.').map_or(0, |(_, digits)| digits.len());
            let is_rate = rate.parse().is_ok_and(|rate: f64| rate > 0.0);
            check(is_rate && decimals <= 3, &format!("FRAME-RATE={rate}"))?;
        }
        Ok(variant)
    }
}

/// Strict: an unknown tag, a tag out of place or a broken rule is an error.
pub(crate) fn parse(text: &str) -> Result<Media, String> {
    let mut parser = Parser::default();
    let mut lines = text.lines();
    check(lines.next() == Some("#EXTM3U"), "the first line is #EXTM3U")?;
    for line in lines {
        check(!parser.media.ended, &format!("{line} after the end"))?;
        let (tag, value) = line.split_once(':').unwrap_or((line, ""));
        if !parser.head(tag, value)? && !parser.body(line, tag, value)? {
            return Err(format!("{line} is unknown or out of place"));
        }
    }
    parser.finish()
}

#[derive(Default)]
struct Parser {
    media: Media,
    version: u64,
    block_reload: bool,
    duration: Option<f64>,
    map: String,
    date: Option<String>,
    discontinuity: bool,
    parts: Vec<Part>,
}

impl Parser {
    /// Takes in a tag that is about the whole playlist.
    fn head(&mut self, tag: &str, value: &str) -> Result<bool, String> {
        let media = &mut self.media;
        let number = || value.parse::<u64>().map_err(|_| format!("{tag}:{value}"));
        match tag {
            "#EXT-X-VERSION" => self.version = number()?,
            "#EXT-X-TARGETDURATION" => media.target = number()? as f64,
            "#EXT-X-MEDIA-SEQUENCE" => media.sequence = number()?,
            "#EXT-X-DISCONTINUITY-SEQUENCE" => media.discontinuity_sequence = number()?,
            "#EXT-X-INDEPENDENT-SEGMENTS" => {}
            "#EXT-X-PART-INF" => media.part_target = float(value, "PART-TARGET")?,
            "#EXT-X-SERVER-CONTROL" => {
                self.block_reload = attribute(value, "CAN-BLOCK-RELOAD") == Some("YES");
                media.part_hold_back = float(value, "PART-HOLD-BACK")?;
                media.skip_until = float(value, "CAN-SKIP-UNTIL")?;
            }
            "#EXT-X-SKIP" => {
                check(self.version >= 9, "EXT-X-SKIP needs version 9")?;
                media.skipped = whole(value, "SKIPPED-SEGMENTS")?;
            }
            _ => return Ok(false),
        }
        let early = self.media.segments.is_empty() && self.media.trailing.is_empty();
        check(early, &format!("{tag} after the first segment"))?;
        Ok(true)
    }

    /// Takes in a tag that is about a segment.
    fn body(&mut self, line: &str, tag: &str, value: &str) -> Result<bool, String> {
        let hinted = self.media.hint.is_some();
        match tag {
            "#EXT-X-DISCONTINUITY" => self.discontinuity = true,
            "#EXT-X-MAP" => self.map = text(value, "URI")?,
            "#EXT-X-PROGRAM-DATE-TIME" => self.date = Some(value.to_owned()),
            "#EXT-X-PART" => {
                check(!hinted, "a part after the hint")?;
                check(!self.map.is_empty(), "a part without EXT-X-MAP")?;
                self.parts.push(Part {
                    uri: text(value, "URI")?,
                    duration: float(value, "DURATION")?,
                    independent: attribute(value, "INDEPENDENT") == Some("YES"),
                });
            }
            "#EXTINF" => {
                let seconds = value.split(',').next().unwrap_or_default();
                self.duration = Some(seconds.parse().map_err(|_| line.to_owned())?);
            }
            "#EXT-X-PRELOAD-HINT" => {
                check(!hinted, "two hints")?;
                check(attribute(value, "TYPE") == Some("PART"), "a hint of a part")?;
                self.media.hint = Some(text(value, "URI")?);
            }
            "#EXT-X-RENDITION-REPORT" => {
                let last = whole(value, "LAST-MSN")?;
                let part = whole(value, "LAST-PART")?;
                self.media.reports.push((text(value, "URI")?, last, part));
            }
            "#EXT-X-ENDLIST" => self.media.ended = true,
            _ if !line.is_empty() && !line.starts_with('#') => self.segment(line)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn segment(&mut self, uri: &str) -> Result<(), String> {
        let duration = self.duration.take().ok_or("a segment without EXTINF")?;
        let segment = Segment {
            uri: uri.to_owned(),
            duration,
            map: self.map.clone(),
            date: self.date.take().ok_or("a segment without a date")?,
            discontinuity: std::mem::take(&mut self.discontinuity),
            parts: std::mem::take(&mut self.parts),
        };
        check(!segment.map.is_empty(), "fMP4 without EXT-X-MAP")?;
        check(
            duration.round() <= self.media.target,
            &format!("{segment:?} is longer than the target duration"),
        )?;
        if !segment.parts.is_empty() {
            let parts: f64 = segment.parts.iter().map(|part| part.duration).sum();
            check(
                (parts - duration).abs() < 0.001,
                &format!("parts of {parts} s in {segment:?}"),
            )?;
        }
        self.media.segments.push(segment);
        Ok(())
    }

    fn finish(mut self) -> Result<Media, String> {
        let mut media = std::mem::take(&mut self.media);
        media.trailing = self.parts;
        check(self.version >= 6, "fMP4 needs version 6")?;
        check(media.target > 0.0, "no EXT-X-TARGETDURATION")?;
        check(self.duration.is_none(), "EXTINF without a segment")?;
        check(self.block_reload, "CAN-BLOCK-RELOAD")?;
        check(media.part_target > 0.0, "parts without EXT-X-PART-INF")?;
        check(
            media.part_hold_back >= media.part_target * 3.0 - 1e-6,
            "PART-HOLD-BACK is at least three part targets",
        )?;
        check(
            media.skip_until >= media.target * 6.0,
            "CAN-SKIP-UNTIL is at least six target durations",
        )?;
        check(media.ended != media.hint.is_some(), "a hint until the end")?;
        let mut from_end = media.duration();
        for segment in &media.segments {
            let recent = from_end <= media.target * 3.0;
            check(
                !recent || !segment.parts.is_empty(),
                &format!("{} is recent and has no parts", segment.uri),
            )?;
            from_end -= segment.duration;
            parts(&segment.parts, media.part_target, true)?;
        }
        parts(&media.trailing, media.part_target, false)?;
        Ok(media)
    }
}

fn parts(parts: &[Part], target: f64, whole: bool) -> Result<(), String> {
    if let Some(first) = parts.first() {
        check(first.independent, &format!("{first:?} begins a segment"))?;
    }
    for (at, part) in parts.iter().enumerate() {
        check(part.duration > 0.0, &format!("{part:?} is empty"))?;
        check(
            part.duration <= target + 1e-6,
            &format!("{part:?} is longer than {target}"),
        )?;
        let last = whole && at + 1 == parts.len();
        check(
            last || part.duration >= target * 0.85 - 1e-6,
            &format!("{part:?} is shorter than 85 % of {target}"),
        )?;
    }
    Ok(())
}

/// Checks a later playlist of the same rendition: nothing that is listed changes, nothing is skipped.
pub(crate) fn follows(before: &Media, after: &Media) -> Result<(), String> {
    check(!before.ended || before == after, "a change after the end")?;
    check(after.sequence >= before.sequence, "the sequence goes back")?;
    check(
        after.sequence <= before.next_sequence(),
        "segments were never listed",
    )?;
    check(
        (after.target, after.part_target) == (before.target, before.part_target),
        "the target durations are constant",
    )?;
    check(
        after.next_sequence() >= before.next_sequence(),
        "segments were taken back",
    )?;
    let (old, new) = (before.discontinuities(), after.discontinuities());
    for (segment, sequence) in before
        .segments
        .iter()
        .zip(before.sequence + before.skipped..)
    {
        let at = sequence.checked_sub(after.sequence + after.skipped);
        let again = at.and_then(|at| after.segments.get(usize::try_from(at).ok()?));
        let Some(again) = again else { continue };
        let same = |a: &Segment, b: &Segment| {
            (&a.uri, a.duration, &a.map, &a.date, a.discontinuity)
                == (&b.uri, b.duration, &b.map, &b.date, b.discontinuity)
        };
        check(
            same(segment, again),
            &format!("{segment:?} became {again:?}"),
        )?;
        check(
            old.get(&sequence) == new.get(&sequence),
            &format!("the discontinuity sequence of {sequence} changed"),
        )?;
    }
    let at = before
        .next_sequence()
        .checked_sub(after.sequence + after.skipped);
    let grown = at.and_then(|at| after.segments.get(usize::try_from(at).ok()?));
    let grown = grown.map_or(&after.trailing, |segment| &segment.parts);
    check(
        grown.is_empty() || grown.starts_with(&before.trailing),
        &format!("parts {:?} became {grown:?}", before.trailing),
    )
}

/// Checks two renditions that were read at about the same time: the same numbers, dates and discontinuities.
pub(crate) fn in_step(one: &Media, other: &Media) -> Result<(), String> {
    let (a, b) = (one.discontinuities(), other.discontinuities());
    for (sequence, number) in &a {
        let Some(same) = b.get(sequence) else {
            continue;
        };
        check(
            number == same,
            &format!("segment {sequence}: {number}, {same}"),
        )?;
    }
    let numbered = |media: &Media| -> BTreeMap<u64, Segment> {
        let segments = media.segments.iter().cloned();
        (media.sequence + media.skipped..).zip(segments).collect()
    };
    let (a, b) = (numbered(one), numbered(other));
    for (sequence, a) in &a {
        let Some(b) = b.get(sequence) else { continue };
        let same = a.date == b.date && (a.duration - b.duration).abs() < 1e-6;
        check(same, &format!("segment {sequence}: {a:?}, {b:?}"))?;
    }
    Ok(())
}

fn attribute<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let mut is_quoted = false;
    let attributes = value.split(move |c| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    });
    let mut pairs = attributes.filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn float(value: &str, name: &str) -> Result<f64, String> {
    let text = attribute(value, name).ok_or_else(|| format!("{name} is missing in {value}"))?;
    text.parse().map_err(|_| format!("{name}={text}"))
}

fn whole(value: &str, name: &str) -> Result<u64, String> {
    let text = attribute(value, name).ok_or_else(|| format!("{name} is missing in {value}"))?;
    text.parse().map_err(|_| format!("{name}={text}"))
}

fn text(value: &str, name: &str) -> Result<String, String> {
    let text = attribute(value, name).ok_or_else(|| format!("{name} is missing in {value}"))?;
    Ok(text.trim_matches('"').to_owned())
}

fn check(holds: bool, rule: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(rule.to_owned()) }
}
