//! Turns the fragmented files of a movie into one fast-start file. The media bytes stay as they are.

use std::{
    fs::{self, File},
    io::{self, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

use io::Read as _;

use super::{
    follower::Follower,
    movie::{Movie, Piece, SILENCE},
    raw::Raw,
};

/// Writes the movie that `follower` has read to `to`, whole or not at all; returns the length of its head.
///
/// # Errors
/// When it cannot be written, above all because the disk is full; nothing is left behind then.
pub(crate) fn finish(follower: &Follower, folder: &Path, to: &Path) -> io::Result<u64> {
    let movie = follower.movie().ok_or(io::ErrorKind::UnexpectedEof)?;
    let unfinished = to.with_extension("part");
    let written = write(movie, follower.raws(), folder, &unfinished);
    let published = written.and_then(|head| {
        fs::rename(&unfinished, to)?;
        File::open(to.parent().unwrap_or(folder))?.sync_all()?;
        Ok(head)
    });
    if published.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    published
}

fn write(movie: &Movie, raws: &[Raw], folder: &Path, to: &Path) -> io::Result<u64> {
    let head = movie.head().map_err(io::Error::other)?;
    let mut file = File::create(to)?;
    file.write_all(&head)?;
    let mut media = Media::new(movie.pieces(), raws, folder);
    let mut unsynced = 0;
    while let Some(copied) = media.copy_piece(&mut file)? {
        unsynced += copied;
        if unsynced >= SYNC_EVERY {
            // Recordings that run must not wait for gigabytes of this one to be written back.
            file.sync_data()?;
            unsynced = 0;
        }
    }
    file.sync_all()?;
    Ok(head.len() as u64)
}

/// Reads a movie's media bytes piece by piece.
#[derive(Debug)]
pub(crate) struct Media<'a> {
    pieces: std::slice::Iter<'a, Piece>,
    raws: &'a [Raw],
    folder: &'a Path,
    open: Option<(u32, File)>,
}

impl<'a> Media<'a> {
    pub(crate) fn new(pieces: &'a [Piece], raws: &'a [Raw], folder: &'a Path) -> Self {
        Self {
            pieces: pieces.iter(),
            raws,
            folder,
            open: None,
        }
    }

    /// Leaves out the pieces that end before `from`; returns how far into the next one that is.
    pub(crate) fn skip(&mut self, from: u64) -> u64 {
        let mut left = from;
        while let Some(piece) = self.pieces.as_slice().first() {
            if piece.length() > left {
                break;
            }
            left -= piece.length();
            self.pieces.next();
        }
        left
    }

    /// Copies the next piece and returns its length; `None` when there are no more.
    pub(crate) fn copy_piece(&mut self, to: &mut impl Write) -> io::Result<Option<u64>> {
        match self.pieces.next() {
            None => Ok(None),
            Some(silence @ Piece::Silence { frames }) => {
                for _ in 0..*frames {
                    to.write_all(&SILENCE)?;
                }
                Ok(Some(silence.length()))
            }
            Some(Piece::Media {
                raw,
                offset,
                length,
            }) => {
                let file = self.file(*raw)?;
                file.seek(SeekFrom::Start(*offset))?;
                let copied = io::copy(&mut file.take(*length), to)?;
                if copied == *length {
                    Ok(Some(copied))
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
            }
        }
    }

    fn file(&mut self, number: u32) -> io::Result<&mut File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            let raw = self.raws.iter().find(|raw| raw.number == number);
            let path: PathBuf = self.folder.join(raw.ok_or(io::ErrorKind::NotFound)?.name());
            self.open = Some((number, File::open(path)?));
        }
        match &mut self.open {
            Some((_, file)) => Ok(file),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

const SYNC_EVERY: u64 = 64 << 20;
