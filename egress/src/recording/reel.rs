//! Reads what a fragmented file says of its samples: the opposite of [`fmp4`](crate::fmp4). Media stays on disk.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use mp4_atom::{Atom, FourCC, Moof, Moov, Trak};

/// What the samples of a file are in.
#[derive(Debug, Clone)]
pub(crate) struct Formats {
    pub(crate) video: Option<Trak>,
    pub(crate) audio: Option<Trak>,
}

/// One fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// Where its media starts in the file.
    pub(crate) offset: u64,
    /// Bytes of media: that of the runs, in this order.
    pub(crate) length: u64,
    pub(crate) runs: Vec<Run>,
}

/// Consecutive samples of one track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) kind: Kind,
    /// Of the first sample, in the track's timescale.
    pub(crate) time: u64,
    pub(crate) samples: Vec<Entry>,
}

/// Which track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Video,
    Audio,
}

/// One sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) duration: u32,
    pub(crate) size: u32,
    pub(crate) keyframe: bool,
}

/// Reads a growing or broken file fragment by fragment; what a crash left of its last one is left out.
#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    /// Where the next box starts.
    at: u64,
    formats: Formats,
    end_us: u64,
}

impl Formats {
    fn of(moov: &Moov) -> Self {
        let find = |kind| {
            let mut traks = moov.trak.iter();
            traks.find(|trak| kind_of(trak) == Some(kind)).cloned()
        };
        Self {
            video: find(Kind::Video),
            audio: find(Kind::Audio),
        }
    }

    fn trak(&self, kind: Kind) -> Option<&Trak> {
        match kind {
            Kind::Video => self.video.as_ref(),
            Kind::Audio => self.audio.as_ref(),
        }
    }

    /// Returns whether what is in `other` can be decoded as if it were in these.
    pub(crate) fn are(&self, other: &Self) -> bool {
        [Kind::Video, Kind::Audio].into_iter().all(|kind| {
            let format = |formats: &Self| {
                let trak = formats.trak(kind)?;
                let timescale = trak.mdia.mdhd.timescale;
                Some((timescale, trak.mdia.minf.stbl.stsd.clone()))
            };
            format(self) == format(other)
        })
    }
}

impl Reader {
    /// Opens a file and reads its head; `None` while that is not complete.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn open(path: &Path) -> io::Result<Option<Self>> {
        let mut file = File::open(path)?;
        let mut at = 0;
        while let Some(head) = box_at(&mut file, at)? {
            if head.kind == Moov::KIND {
                let moov = decode::<Moov>(&mut file, &head)?;
                return Ok(moov.map(|moov| Self {
                    formats: Formats::of(&moov),
                    at: head.end,
                    file,
                    end_us: 0,
                }));
            }
            at = head.end;
        }
        Ok(None)
    }

    pub(crate) fn formats(&self) -> &Formats {
        &self.formats
    }

    /// Returns where the samples read so far end, in microseconds from the file's start.
    pub(crate) fn end_us(&self) -> u64 {
        self.end_us
    }

    /// Returns the next fragment that is there as a whole.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn next(&mut self) -> io::Result<Option<Fragment>> {
        let mut at = self.at;
        let mut moof: Option<(u64, Moof)> = None;
        while let Some(head) = box_at(&mut self.file, at)? {
            if head.kind == Moof::KIND {
                match decode::<Moof>(&mut self.file, &head)? {
                    Some(decoded) => moof = Some((at, decoded)),
                    None => return Ok(None),
                }
            } else if head.kind == FourCC::new(b"mdat")
                && let Some((moof_at, moof)) = &moof
            {
                let Some(fragment) = self.fragment(moof, *moof_at, &head) else {
                    return Ok(None);
                };
                self.at = head.end;
                self.end_us = self.end_us.max(self.end_of(&fragment));
                return Ok(Some(fragment));
            }
            at = head.end;
        }
        Ok(None)
    }

    /// `None` when its tables contradict its media.
    fn fragment(&self, moof: &Moof, moof_at: u64, data: &BoxHead) -> Option<Fragment> {
        let mut runs = Vec::new();
        let mut length = 0;
        for traf in &moof.traf {
            let mut kinds = [Kind::Video, Kind::Audio].into_iter();
            let kind = kinds.find(|kind| {
                let trak = self.formats.trak(*kind);
                trak.is_some_and(|trak| trak.tkhd.track_id == traf.tfhd.track_id)
            })?;
            let [run] = traf.trun.as_slice() else {
                return None;
            };
            let starts = moof_at.checked_add_signed(run.data_offset?.into())?;
            if starts != data.body + length {
                return None;
            }
            let mut samples = Vec::with_capacity(run.samples.len());
            for entry in run.samples.iter() {
                let entry = Entry {
                    duration: entry.duration?,
                    size: entry.size?,
                    keyframe: entry.flags? & NON_SYNC == 0,
                };
                length += u64::from(entry.size);
                samples.push(entry);
            }
            runs.push(Run {
                kind,
                time: traf.tfdt.as_ref()?.base_media_decode_time,
                samples,
            });
        }
        (data.body + length == data.end).then_some(Fragment {
            offset: data.body,
            length,
            runs,
        })
    }

    fn end_of(&self, fragment: &Fragment) -> u64 {
        let ends = fragment.runs.iter().filter_map(|run| {
            let timescale = u64::from(self.formats.trak(run.kind)?.mdia.mdhd.timescale.max(1));
            let durations = run.samples.iter().map(|entry| u64::from(entry.duration));
            Some((run.time + durations.sum::<u64>()) * 1_000_000 / timescale)
        });
        ends.max().unwrap_or(0)
    }
}

/// A box that is in the file as a whole.
struct BoxHead {
    kind: FourCC,
    body: u64,
    end: u64,
}

fn box_at(file: &mut File, at: u64) -> io::Result<Option<BoxHead>> {
    let length = file.metadata()?.len();
    if at + 8 > length {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(at))?;
    let mut head = [0; 16];
    file.read_exact(&mut head[..8])?;
    let [a, b, c, d, k0, k1, k2, k3, ..] = head;
    let (size, body) = match u32::from_be_bytes([a, b, c, d]) {
        1 if at + 16 <= length => {
            file.read_exact(&mut head[8..])?;
            let [.., s0, s1, s2, s3, s4, s5, s6, s7] = head;
            (u64::from_be_bytes([s0, s1, s2, s3, s4, s5, s6, s7]), 16)
        }
        size => (u64::from(size), 8),
    };
    let end = at.checked_add(size).filter(|end| *end <= length);
    Ok(end.filter(|_| size >= body).map(|end| BoxHead {
        kind: FourCC::new(&[k0, k1, k2, k3]),
        body: at + body,
        end,
    }))
}

/// `None` for what is not such a box.
fn decode<T: Atom>(file: &mut File, head: &BoxHead) -> io::Result<Option<T>> {
    let length = usize::try_from(head.end - head.body).unwrap_or(usize::MAX);
    if length > TABLE_LIMIT {
        return Ok(None);
    }
    let mut body = vec![0; length];
    file.seek(SeekFrom::Start(head.body))?;
    file.read_exact(&mut body)?;
    Ok(T::decode_body(&mut body.as_slice()).ok())
}

fn kind_of(trak: &Trak) -> Option<Kind> {
    match &<[u8; 4]>::from(trak.mdia.hdlr.handler) {
        b"vide" => Some(Kind::Video),
        b"soun" => Some(Kind::Audio),
        _ => None,
    }
}

/// `sample_is_non_sync_sample` (ISO/IEC 14496-12 §8.8.3.1).
const NON_SYNC: u32 = 0x0001_0000;
/// More than the tables of a second can have.
const TABLE_LIMIT: usize = 1 << 20;
