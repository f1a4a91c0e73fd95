//! A multipart upload under way: the note of it beside the recording, so that a restarted server goes on with it.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use object_store::MultipartId;
use serde::{Deserialize, Serialize};

use super::entry::Finished;

/// An upload that the storage knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Upload {
    pub(super) id: MultipartId,
    pub(super) layout: Layout,
    /// What the storage has, in order; without the first one if that comes last.
    pub(super) parts: Vec<Part>,
    /// How often the storage was asked to join the parts.
    pub(super) joined: u32,
}

/// How a file is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Layout {
    /// While the file was being recorded: its first part has its head, and is known last.
    Streamed,
    /// After it was finished, into parts of one size, as some storages want them.
    Whole,
}

/// A part that the storage has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// What the storage calls it.
    pub(super) id: String,
    length: u64,
    sha256: Vec<u8>,
}

impl Part {
    /// Describes what is about to be sent.
    pub(super) fn of(data: &[u8]) -> Self {
        Self {
            id: String::new(),
            length: data.len() as u64,
            sha256: digest(&SHA256, data).as_ref().to_vec(),
        }
    }

    /// Takes in what the storage calls it.
    pub(super) fn called(self, id: String) -> Self {
        Self { id, ..self }
    }
}

impl Upload {
    pub(super) fn new(id: MultipartId, layout: Layout) -> Self {
        Self {
            id,
            layout,
            parts: Vec::new(),
            joined: 0,
        }
    }

    /// Reads the note about a file.
    pub(super) fn load(folder: &Path, name: &str) -> io::Result<Option<Self>> {
        match fs::read(note(folder, name)) {
            // A broken note is as good as none: the upload begins anew.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns the names of the files in `folder` of which uploads are under way.
    pub(super) fn list(folder: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
            names.extend(name.map(str::to_owned));
        }
        Ok(names)
    }

    /// Writes the note. A crash leaves the old or the new one.
    pub(super) fn save(&self, folder: &Path, name: &str) -> io::Result<()> {
        let path = note(folder, name);
        let unfinished = path.with_extension("new");
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_data()?;
        fs::rename(unfinished, path)
    }

    pub(super) fn forget(folder: &Path, name: &str) -> io::Result<()> {
        match fs::remove_file(note(folder, name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Returns the number of the next part, from 0 on.
    pub(super) fn next_number(&self) -> usize {
        match self.layout {
            Layout::Streamed => self.parts.len() + 1,
            Layout::Whole => self.parts.len(),
        }
    }

    /// Returns how many media bytes of a file being recorded are in the parts, the first included.
    pub(super) fn streamed(&self) -> u64 {
        FIRST + self.sent()
    }

    /// Returns where in a finished file the next part starts.
    pub(super) fn next_at(&self, file: &Finished) -> u64 {
        self.start(file) + self.sent()
    }

    /// Returns how long the next part of a finished file is; 0 when all are sent.
    pub(super) fn next_length(&self, file: &Finished) -> u64 {
        let length = match self.layout {
            Layout::Streamed => streamed_length(self.parts.len()),
            Layout::Whole => PART.max(file.bytes.div_ceil(PART_LIMIT).next_multiple_of(1 << 20)),
        };
        length.min(file.bytes.saturating_sub(self.next_at(file)))
    }

    /// Returns the length of the part that has the head and is sent last, if there is one.
    pub(super) fn first_length(&self, file: &Finished) -> Option<u64> {
        (self.layout == Layout::Streamed).then(|| self.start(file).min(file.bytes))
    }

    /// Returns whether what was sent is what is in the finished file. Reads it all.
    pub(super) fn fits(&self, path: &Path, file: &Finished) -> io::Result<bool> {
        let mut at = self.start(file);
        for part in &self.parts {
            if at + part.length > file.bytes {
                return Ok(false);
            }
            let data = read(path, at, part.length)?;
            if digest(&SHA256, &data).as_ref() != part.sha256 {
                return Ok(false);
            }
            at += part.length;
        }
        Ok(true)
    }

    fn start(&self, file: &Finished) -> u64 {
        match self.layout {
            Layout::Streamed => file.head + FIRST,
            Layout::Whole => 0,
        }
    }

    fn sent(&self) -> u64 {
        self.parts.iter().map(|part| part.length).sum()
    }
}

/// Reads a range of a file.
pub(super) fn read(path: &Path, from: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut data = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(length).read_to_end(&mut data)?;
    if data.len() as u64 == length {
        Ok(data)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Returns how long a part is that follows so many others while a file is recorded: its length is not known then.
pub(super) fn streamed_length(parts: usize) -> u64 {
    if parts < 1000 { PART } else { 4 * PART }
}

fn note(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{SUFFIX}"))
}

const SUFFIX: &str = ".upload";
/// Storages want at least 5 MiB of each but the last.
const PART: u64 = 8 << 20;
/// Media bytes that leave with the head.
pub(super) const FIRST: u64 = PART;
/// Storages take 10,000.
const PART_LIMIT: u64 = 9000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::entry::Place;

    fn file(head: u64, bytes: u64) -> Finished {
        Finished {
            name: "a.mp4".to_owned(),
            started_at_ms: 0,
            duration_ms: 0,
            bytes,
            head,
            size: None,
            sprite: false,
            made_of: 0,
            place: Place::Uploading,
            role: None,
        }
    }

    /// Sends `file` as the uploader does; returns the parts' places in the order of their numbers.
    fn send(mut upload: Upload, file: &Finished) -> Vec<(u64, u64)> {
        let mut places = Vec::new();
        while upload.next_length(file) > 0 {
            let (at, length) = (upload.next_at(file), upload.next_length(file));
            places.push((at, length));
            upload.parts.push(Part {
                id: String::new(),
                length,
                sha256: Vec::new(),
            });
        }
        if let Some(first) = upload.first_length(file) {
            places.insert(0, (0, first));
        }
        places
    }

    #[test]
    fn parts_cover_the_file_and_are_of_allowed_sizes() {
        let table = [
            ("short", 9000, 20 << 20),
            ("exact", 0, 2 * PART),
            ("an hour", 2 << 20, 3 << 30),
            ("half a day at 50 Mbit/s", 12 << 20, 270_u64 << 30),
        ];
        for (label, head, bytes) in table {
            let file = file(head, bytes);
            for layout in [Layout::Streamed, Layout::Whole] {
                let places = send(Upload::new("id".to_owned(), layout), &file);
                assert!(places.len() <= 10_000, "{label} {layout:?}");
                let mut end = 0;
                for (number, (at, length)) in places.iter().enumerate() {
                    assert_eq!(*at, end, "{label} {layout:?}");
                    end = at + length;
                    let last = number + 1 == places.len();
                    assert!(last || *length >= 5 << 20, "{label} {layout:?}");
                }
                assert_eq!(end, bytes, "{label} {layout:?}");
            }
        }
    }

    #[test]
    fn a_note_survives_and_what_was_sent_is_compared() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let data: Vec<u8> = (0..120_u8).flat_map(|n| vec![n; 1 << 18]).collect();
        let path = folder.join("a.mp4");
        fs::write(&path, &data).unwrap();
        let file = file(100, data.len() as u64);
        let mut upload = Upload::new("id".to_owned(), Layout::Streamed);
        let at = usize::try_from(upload.next_at(&file)).unwrap();
        let length = usize::try_from(upload.next_length(&file)).unwrap();
        upload.parts.push(Part::of(&data[at..at + length]));
        upload.save(folder, "a.mp4").unwrap();
        assert_eq!(Upload::list(folder).unwrap(), ["a.mp4"]);
        let loaded = Upload::load(folder, "a.mp4").unwrap().unwrap();
        assert_eq!(loaded, upload);
        assert!(loaded.fits(&path, &file).unwrap());
        upload.parts.push(Part::of(b"something else"));
        assert!(!upload.fits(&path, &file).unwrap());
        Upload::forget(folder, "a.mp4").unwrap();
        assert_eq!(Upload::load(folder, "a.mp4").unwrap(), None);
    }
}
