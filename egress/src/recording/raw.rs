//! The fragmented files of a recording that is being made: their names.
//!
//! A name says everything about a file that its bytes do not, so that nothing else has to survive a crash.

use std::{fs, io, path::Path, time::Duration};

/// One fragmented file, named `raw-{number}-{start}-{j|s}.mp4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Raw {
    /// Grows over all files of a recording, those included that are gone.
    pub(crate) number: u32,
    /// When its first frame is presented, Unix microseconds.
    pub(crate) start_us: u64,
    /// Whether it goes on with the movie of the file before: only a death of the process was between them.
    pub(crate) joins: bool,
}

impl Raw {
    pub(crate) fn name(&self) -> String {
        let joins = if self.joins { 'j' } else { 's' };
        format!("raw-{:06}-{}-{joins}.mp4", self.number, self.start_us)
    }

    /// Returns the file that follows those in `folder`. A recording that goes on after it was finished has none left
    /// there, and must use no number again: Unix seconds are beyond all that were used.
    pub(crate) fn next(folder: &Path, start_us: u64, joins: bool) -> io::Result<Self> {
        let last = Self::list(folder)?.last().map_or(0, |raw| raw.number);
        let seconds = u32::try_from(start_us / 1_000_000).unwrap_or(0);
        Ok(Self {
            number: seconds.max(last + 1),
            start_us,
            joins,
        })
    }

    /// Reads a name; `None` for that of another file.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let mut fields = name.strip_prefix("raw-")?.strip_suffix(".mp4")?.split('-');
        let number = fields.next()?.parse().ok()?;
        let start_us = fields.next()?.parse().ok()?;
        let joins = match fields.next()? {
            "j" => true,
            "s" => false,
            _ => return None,
        };
        fields.next().is_none().then_some(Self {
            number,
            start_us,
            joins,
        })
    }

    /// Returns the files in `folder`, the oldest first.
    pub(crate) fn list(folder: &Path) -> io::Result<Vec<Self>> {
        let mut raws = Vec::new();
        for entry in fs::read_dir(folder)? {
            if let Some(raw) = entry?.file_name().to_str().and_then(Self::parse) {
                raws.push(raw);
            }
        }
        raws.sort_unstable();
        Ok(raws)
    }
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(number: u32, start_s: u64, joins: bool) -> Raw {
        Raw {
            number,
            start_us: start_s * 1_000_000,
            joins,
        }
    }

    #[test]
    fn names_survive_the_trip_and_others_are_ignored() {
        for raw in [raw(0, 0, true), raw(7, 1_800_000_000, false)] {
            assert_eq!(Raw::parse(&raw.name()), Some(raw));
        }
        for name in [
            "",
            "raw-1-2.mp4",
            "raw-1-2-x.mp4",
            "raw-1-2-j-3.mp4",
            "raw-x-2-j.mp4",
            "raw-1-2-j.mp4.part",
        ] {
            assert_eq!(Raw::parse(name), None, "{name}");
        }
    }

    #[test]
    fn numbers_grow_whatever_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let next = |start_us| Raw::next(folder.path(), start_us, true).unwrap();
        let first = next(1_800_000_000_500_000);
        assert_eq!(first.number, 1_800_000_000);
        fs::write(folder.path().join(first.name()), []).unwrap();
        // Within a second, and where the clock was set back.
        assert_eq!(next(1_800_000_000_900_000).number, 1_800_000_001);
        assert_eq!(next(1_700_000_000_000_000).number, 1_800_000_001);
        fs::remove_file(folder.path().join(first.name())).unwrap();
        assert!(next(1_800_000_002_000_000).number > first.number);
    }

    #[test]
    fn files_are_listed_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let raws = [raw(1, 5, false), raw(2, 6, true), raw(10, 7, true)];
        for raw in raws.iter().rev() {
            fs::write(folder.path().join(raw.name()), []).unwrap();
        }
        fs::write(folder.path().join("recording.json"), []).unwrap();
        assert_eq!(Raw::list(folder.path()).unwrap(), raws);
    }
}
