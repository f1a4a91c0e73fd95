//! The finished file of one or more fragmented ones: tables first (fast start), then the same media bytes.
//!
//! Where a file of the recording is missing some seconds, the last picture stays and silence stands in for sound.

use mp4_atom::{
    Atom, Avc1, Co64, Codec, Edts, Elst, ElstEntry, Encode, Ftyp, Moov, Mvhd, Stco, Stsc,
    StscEntry, Stss, Stsz, StszSamples, Stts, SttsEntry, Trak,
};

use super::reel::{Formats, Fragment, Kind, Run};
use crate::fmp4::Fmp4Error;

/// Collects samples. Takes some 15 bytes of memory a sample.
#[derive(Debug)]
pub(crate) struct Movie {
    /// Where its time starts, Unix microseconds.
    start_us: u64,
    video: Option<Track>,
    audio: Option<Track>,
    pieces: Vec<Piece>,
    /// Bytes of all pieces.
    length: u64,
}

/// Bytes of media, in the order in which they follow the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A range of the fragmented file with this number.
    Media { raw: u32, offset: u64, length: u64 },
    /// So many times [`SILENCE`].
    Silence { frames: u32 },
}

/// A picture that can be decoded alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Keyframe {
    pub(crate) time_ms: u64,
    pub(crate) at: u64,
    pub(crate) size: u32,
}

impl Piece {
    /// Returns how many bytes it has.
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Media { length, .. } => *length,
            Self::Silence { frames } => u64::from(*frames) * SILENCE.len() as u64,
        }
    }
}

#[derive(Debug)]
struct Track {
    /// Format and names.
    trak: Trak,
    timescale: u64,
    /// When its first sample is presented, in its timescale from the movie's start.
    first: Option<u64>,
    /// Where its last sample starts and ends.
    last: u64,
    end: u64,
    durations: Vec<SttsEntry>,
    sizes: Vec<u32>,
    keyframes: Vec<u32>,
    /// Where each chunk starts among the media bytes, and how many samples it has.
    chunks: Vec<(u64, u32)>,
}

impl Movie {
    /// Starts a movie in these formats.
    pub(crate) fn new(formats: &Formats, start_us: u64) -> Self {
        Self {
            start_us,
            video: formats.video.clone().map(Track::new),
            audio: formats.audio.clone().map(Track::new),
            pieces: Vec::new(),
            length: 0,
        }
    }

    /// Adds a fragment of the file with this number, whose time starts at `start_us`.
    pub(crate) fn push(&mut self, raw: u32, start_us: u64, fragment: &Fragment) {
        let shift_us = start_us.saturating_sub(self.start_us);
        for run in &fragment.runs {
            self.bridge(run, shift_us);
        }
        let mut at = self.length;
        for run in &fragment.runs {
            if let Some(track) = self.track(run.kind) {
                track.push(run, shift_us, at);
            }
            let sizes = run.samples.iter().map(|entry| u64::from(entry.size));
            at += sizes.sum::<u64>();
        }
        self.length += fragment.length;
        match self.pieces.last_mut() {
            // Fragments are apart by their heads, so pieces seldom meet.
            Some(Piece::Media {
                raw: last,
                offset,
                length,
            }) if *last == raw && *offset + *length == fragment.offset => {
                *length += fragment.length;
            }
            Some(_) | None => self.pieces.push(Piece::Media {
                raw,
                offset: fragment.offset,
                length: fragment.length,
            }),
        }
    }

    /// Puts silence where sound is missing before `run`.
    fn bridge(&mut self, run: &Run, shift_us: u64) {
        let at = self.length;
        let Some(track) = self.audio.as_mut().filter(|_| run.kind == Kind::Audio) else {
            return;
        };
        let missing = track
            .shifted(run.time, shift_us)
            .saturating_sub(track.end)
            .checked_div(AAC_FRAME.into());
        let frames = missing.and_then(|frames| u32::try_from(frames).ok());
        let frames = frames.unwrap_or(0).min(SILENCE_LIMIT);
        if track.first.is_none() || frames == 0 {
            return;
        }
        let size = u32::try_from(SILENCE.len()).unwrap_or(0);
        for _ in 0..frames {
            track.add(AAC_FRAME, size, true);
        }
        track.chunks.push((at, frames));
        self.pieces.push(Piece::Silence { frames });
        self.length += u64::from(frames) * u64::from(size);
    }

    fn track(&mut self, kind: Kind) -> Option<&mut Track> {
        match kind {
            Kind::Video => self.video.as_mut(),
            Kind::Audio => self.audio.as_mut(),
        }
    }

    /// Returns what the file consists of behind its head.
    pub(crate) fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Returns how many bytes follow the head.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Returns the end of the last sample, in milliseconds.
    pub(crate) fn duration_ms(&self) -> u64 {
        let tracks = [&self.video, &self.audio].into_iter().flatten();
        let ends = tracks.map(|track| track.end * 1000 / track.timescale);
        ends.max().unwrap_or(0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(crate) fn start_us(&self) -> u64 {
        self.start_us
    }

    /// Returns the decoder's configuration record.
    pub(crate) fn avcc(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        self.video()?.avcc.encode_body(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Returns where the keyframes are: their times, and their places in the media bytes.
    pub(crate) fn keyframes(&self) -> Vec<Keyframe> {
        self.video
            .as_ref()
            .map(Track::keyframes)
            .unwrap_or_default()
    }

    /// Returns the format of the picture.
    pub(crate) fn video(&self) -> Option<&Avc1> {
        let codecs = &self.video.as_ref()?.trak.mdia.minf.stbl.stsd.codecs;
        let Codec::Avc1(codec) = codecs.first()? else {
            return None;
        };
        Some(codec)
    }

    /// Returns everything before the media: `ftyp`, `moov` and the head of `mdat`.
    pub(crate) fn head(&self) -> Result<Vec<u8>, Fmp4Error> {
        let mut head = Vec::with_capacity(4096);
        Ftyp {
            major_brand: b"isom".into(),
            minor_version: 0x200,
            compatible_brands: [b"isom", b"iso2", b"avc1", b"mp41"].map(Into::into).into(),
        }
        .encode(&mut head)?;
        // Offsets are those of the whole file; the tables' size does not depend on their values.
        let wide = self.length + WIDE_RESERVE > u64::from(u32::MAX);
        let mdat_head = if wide { 16 } else { 8 };
        let mut measured = Vec::new();
        self.moov(0, wide).encode(&mut measured)?;
        let media_at = head.len() + measured.len() + mdat_head;
        drop(measured);
        self.moov(media_at as u64, wide).encode(&mut head)?;
        match u32::try_from(self.length + 8).ok().filter(|_| !wide) {
            Some(size) => {
                head.extend_from_slice(&size.to_be_bytes());
                head.extend_from_slice(b"mdat");
            }
            None => {
                head.extend_from_slice(&1_u32.to_be_bytes());
                head.extend_from_slice(b"mdat");
                head.extend_from_slice(&(self.length + 16).to_be_bytes());
            }
        }
        Ok(head)
    }

    fn moov(&self, media_at: u64, wide: bool) -> Moov {
        let created = self.start_us / 1_000_000 + UNIX_EPOCH_1904;
        let tracks = [&self.video, &self.audio].into_iter().flatten();
        let tracks = tracks.filter(|track| !track.sizes.is_empty());
        Moov {
            mvhd: Mvhd {
                creation_time: created,
                modification_time: created,
                timescale: MOVIE_TIMESCALE,
                duration: self.duration_ms(),
                rate: 1.into(),
                volume: 1.into(),
                next_track_id: 3,
                ..Mvhd::default()
            },
            trak: tracks
                .map(|track| track.trak(media_at, wide, created))
                .collect(),
            ..Moov::default()
        }
    }
}

impl Track {
    fn new(trak: Trak) -> Self {
        Self {
            timescale: u64::from(trak.mdia.mdhd.timescale.max(1)),
            trak,
            first: None,
            last: 0,
            end: 0,
            durations: Vec::new(),
            sizes: Vec::new(),
            keyframes: Vec::new(),
            chunks: Vec::new(),
        }
    }

    /// Returns a time of a file whose time starts `shift_us` after the movie's.
    fn shifted(&self, time: u64, shift_us: u64) -> u64 {
        let shift = u128::from(shift_us) * u128::from(self.timescale) + 500_000;
        time + u64::try_from(shift / 1_000_000).unwrap_or(u64::MAX / 2)
    }

    fn push(&mut self, run: &Run, shift_us: u64, at: u64) {
        if run.samples.is_empty() {
            return;
        }
        let time = self.shifted(run.time, shift_us);
        match self.first {
            None => {
                self.first = Some(time);
                self.end = time;
            }
            Some(_) => self.stretch(time),
        }
        for entry in &run.samples {
            self.add(entry.duration, entry.size, entry.keyframe);
        }
        let count = u32::try_from(run.samples.len()).unwrap_or(0);
        self.chunks.push((at, count));
    }

    /// Lets the last sample last until `time`.
    fn stretch(&mut self, time: u64) {
        let wanted = time.saturating_sub(self.last).max(1);
        let (Ok(wanted), Some(entry)) = (u32::try_from(wanted), self.durations.last_mut()) else {
            return;
        };
        if entry.sample_delta == wanted {
            return;
        }
        entry.sample_count -= 1;
        if entry.sample_count == 0 {
            self.durations.pop();
        }
        self.end = self.last;
        self.last_for(wanted);
    }

    fn add(&mut self, duration: u32, size: u32, keyframe: bool) {
        self.sizes.push(size);
        if keyframe {
            self.keyframes
                .push(u32::try_from(self.sizes.len()).unwrap_or(u32::MAX));
        }
        self.last_for(duration);
    }

    fn last_for(&mut self, duration: u32) {
        self.last = self.end;
        self.end += u64::from(duration);
        match self.durations.last_mut() {
            Some(entry) if entry.sample_delta == duration => entry.sample_count += 1,
            Some(_) | None => self.durations.push(SttsEntry {
                sample_count: 1,
                sample_delta: duration,
            }),
        }
    }

    fn trak(&self, media_at: u64, wide: bool, created: u64) -> Trak {
        let first = self.first.unwrap_or(0);
        let movie_time = |ticks: u64| ticks * u64::from(MOVIE_TIMESCALE) / self.timescale;
        let mut trak = self.trak.clone();
        trak.tkhd.creation_time = created;
        trak.tkhd.modification_time = created;
        trak.tkhd.duration = movie_time(self.end);
        trak.mdia.mdhd.creation_time = created;
        trak.mdia.mdhd.modification_time = created;
        trak.mdia.mdhd.duration = self.end - first;
        trak.edts = (movie_time(first) > 0).then(|| Edts {
            elst: Some(Elst {
                entries: vec![
                    edit(movie_time(first), None),
                    edit(movie_time(self.end - first), Some(0)),
                ],
            }),
        });
        let stbl = &mut trak.mdia.minf.stbl;
        stbl.stts = Stts {
            entries: self.durations.clone(),
        };
        stbl.stss = (self.keyframes.len() < self.sizes.len()).then(|| Stss {
            entries: self.keyframes.clone(),
        });
        stbl.stsz = Stsz {
            samples: StszSamples::Different {
                sizes: self.sizes.clone(),
            },
        };
        stbl.stsc = Stsc {
            entries: self.chunk_lengths(),
        };
        let offsets = self.chunks.iter().map(|(at, _)| media_at + at);
        stbl.stco = None;
        stbl.co64 = None;
        if wide {
            stbl.co64 = Some(Co64 {
                entries: offsets.collect(),
            });
        } else {
            stbl.stco = Some(Stco {
                entries: offsets
                    .map(|at| u32::try_from(at).unwrap_or(u32::MAX))
                    .collect(),
            });
        }
        trak
    }

    fn keyframes(&self) -> Vec<Keyframe> {
        let mut durations = self.durations.iter().flat_map(|entry| {
            std::iter::repeat_n(u64::from(entry.sample_delta), entry.sample_count as usize)
        });
        let mut keyframes = self.keyframes.iter().peekable();
        let mut found = Vec::with_capacity(self.keyframes.len());
        let mut sizes = self.sizes.iter();
        let (mut number, mut time) = (0, self.first.unwrap_or(0));
        for (chunk, samples) in &self.chunks {
            let mut at = *chunk;
            for size in sizes.by_ref().take(*samples as usize) {
                number += 1;
                if keyframes.next_if(|keyframe| **keyframe == number).is_some() {
                    found.push(Keyframe {
                        time_ms: time * 1000 / self.timescale,
                        at,
                        size: *size,
                    });
                }
                at += u64::from(*size);
                time += durations.next().unwrap_or(0);
            }
        }
        found
    }

    fn chunk_lengths(&self) -> Vec<StscEntry> {
        let mut entries: Vec<StscEntry> = Vec::new();
        for ((_, samples), number) in self.chunks.iter().zip(1..) {
            if entries.last().map(|entry| entry.samples_per_chunk) != Some(*samples) {
                entries.push(StscEntry {
                    first_chunk: number,
                    samples_per_chunk: *samples,
                    sample_description_index: 1,
                });
            }
        }
        entries
    }
}

fn edit(segment_duration: u64, media_time: Option<u64>) -> ElstEntry {
    ElstEntry {
        segment_duration,
        media_time,
        media_rate: 1.into(),
    }
}

/// An AAC-LC frame of two silent channels.
pub(crate) const SILENCE: [u8; 9] = [0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80];
const AAC_FRAME: u32 = 1024;
/// Of an hour; longer gaps are not joined.
const SILENCE_LIMIT: u32 = 170_000;
const MOVIE_TIMESCALE: u32 = 1000;
/// Above the size of any head.
const WIDE_RESERVE: u64 = 1 << 30;
/// Seconds from 1904, where MP4 counts from, to 1970.
const UNIX_EPOCH_1904: u64 = 2_082_844_800;
