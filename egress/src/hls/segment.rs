//! A segment of all renditions, growing part by part.

use std::{collections::BTreeMap, time::Duration};

use bytes::{Bytes, BytesMut};

use super::{Rendition, SegmentStart, StepHead};

/// The media between two keyframes, in every rendition.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) sequence: u64,
    pub(crate) starts_at_ms: u64,
    pub(crate) discontinuity: bool,
    /// Whether every quality that comes in is in it.
    pub(crate) settled: bool,
    /// Its discontinuity sequence number.
    pub(crate) discontinuities: u64,
    /// Durations of its parts.
    pub(crate) parts: Vec<Duration>,
    pub(crate) complete: bool,
    pub(crate) tracks: BTreeMap<Rendition, Track>,
}

/// A segment of one rendition.
#[derive(Debug)]
pub(crate) struct Track {
    /// The rendition whose bytes these are.
    pub(crate) source: Rendition,
    /// The number of its initialisation segment.
    pub(crate) init: u64,
    pub(crate) parts: Vec<Part>,
    pub(crate) whole: Whole,
    pub(crate) frames: u32,
    pub(crate) length: usize,
}

/// A part of one rendition.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) bytes: Bytes,
    pub(crate) independent: bool,
}

/// The segment as one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whole {
    /// Its parts are still being made.
    Open,
    Memory(Bytes),
    /// In the file of its source.
    Disk,
}

impl Segment {
    /// Begins a segment after `before`. `init` tells the newest initialisation segment of a rendition.
    ///
    /// The first one has `first` as its discontinuity sequence number; 0: no other playlist came before.
    ///
    /// A rendition that `before` has and `head` has not is made of another one: what was announced goes on.
    pub(crate) fn begin(
        sequence: u64,
        start: SegmentStart,
        head: &StepHead,
        before: Option<&Self>,
        first: u64,
        init: impl Fn(Rendition) -> Option<u64>,
    ) -> Option<Self> {
        let mut sources: BTreeMap<_, _> = head
            .pieces
            .iter()
            .map(|piece| (piece.rendition, piece.source))
            .collect();
        let best = *sources.keys().next()?;
        for rendition in before.into_iter().flat_map(|before| before.tracks.keys()) {
            sources.entry(*rendition).or_insert(best);
        }
        let mut tracks = BTreeMap::new();
        for (rendition, source) in sources {
            tracks.insert(rendition, Track::new(source, init(source)?));
        }
        let changed = before.is_some_and(|before| {
            let mut kept = before.tracks.iter();
            kept.any(|(rendition, old)| tracks.get(rendition).is_none_or(|t| t.init != old.init))
        });
        // The same in all renditions, so that their numbers stay in step.
        let discontinuity = match before {
            Some(_) => start.discontinuity || changed,
            None => first > 0,
        };
        let discontinuities = before.map_or(first, |before| {
            before.discontinuities + u64::from(discontinuity)
        });
        Some(Self {
            sequence,
            starts_at_ms: start.starts_at_ms,
            discontinuity,
            settled: false,
            discontinuities,
            parts: Vec::new(),
            complete: false,
            tracks,
        })
    }

    /// Adds the next part of every rendition.
    pub(crate) fn push(&mut self, head: &StepHead, mut body: Bytes) {
        let mut own = BTreeMap::new();
        for piece in &head.pieces {
            let length = piece.length.min(body.len());
            let bytes = body.split_to(length);
            if piece.source == piece.rendition {
                own.insert(piece.rendition, (bytes, piece));
            }
        }
        for track in self.tracks.values_mut() {
            let part = match own.get(&track.source) {
                Some((bytes, piece)) => {
                    track.frames += piece.frames;
                    track.length += bytes.len();
                    Part {
                        bytes: bytes.clone(),
                        independent: piece.independent,
                    }
                }
                None => Part {
                    bytes: Bytes::new(),
                    independent: false,
                },
            };
            track.parts.push(part);
        }
        self.settled = head.settled;
        self.parts.push(Duration::from_micros(head.duration_us));
    }

    /// Says that no part will follow: makes one file of the parts, whose bytes they become.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
        let mut wholes: BTreeMap<Rendition, Bytes> = BTreeMap::new();
        for track in self.tracks.values_mut() {
            let whole = wholes.entry(track.source).or_insert_with(|| {
                let mut whole = BytesMut::with_capacity(track.length);
                for part in &track.parts {
                    whole.extend_from_slice(&part.bytes);
                }
                whole.freeze()
            });
            let mut at = 0;
            for part in &mut track.parts {
                let end = at + part.bytes.len();
                part.bytes = whole.slice(at..end);
                at = end;
            }
            track.whole = Whole::Memory(whole.clone());
        }
    }

    pub(crate) fn duration(&self) -> Duration {
        self.parts.iter().sum()
    }

    /// Returns the bytes of all renditions, each counted once.
    pub(crate) fn length(&self) -> u64 {
        let own = self.own().map(|(_, track)| track.length as u64);
        own.sum()
    }

    /// Returns the renditions whose bytes are their own.
    pub(crate) fn own(&self) -> impl Iterator<Item = (Rendition, &Track)> {
        let tracks = self
            .tracks
            .iter()
            .map(|(rendition, track)| (*rendition, track));
        tracks.filter(|(rendition, track)| *rendition == track.source)
    }

    /// Forgets the bytes, which are on disk.
    pub(crate) fn leave_memory(&mut self) {
        for track in self.tracks.values_mut() {
            track.whole = Whole::Disk;
            track.parts.clear();
        }
    }
}

impl Track {
    pub(crate) fn bits(&self) -> u64 {
        self.length as u64 * 8
    }

    fn new(source: Rendition, init: u64) -> Self {
        Self {
            source,
            init,
            parts: Vec::new(),
            whole: Whole::Open,
            frames: 0,
            length: 0,
        }
    }
}
