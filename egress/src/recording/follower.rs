//! Makes movies of a recording's fragmented files, whether these are complete or still being written.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    movie::Movie,
    raw::{Raw, micros},
    reel::Reader,
};

/// Reads the files of one movie, from the oldest on.
#[derive(Debug)]
pub(crate) struct Follower {
    folder: PathBuf,
    movie: Option<Movie>,
    /// The file being read.
    current: Option<(Raw, Reader)>,
    /// All files read so far, this one included, and those of no use between them.
    read: Vec<Raw>,
}

/// What [`Follower::advance`] has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing more is there yet.
    Waiting,
    /// What follows belongs to another movie.
    Complete,
}

impl Follower {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            movie: None,
            current: None,
            read: Vec::new(),
        }
    }

    /// Reads all that is there.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn advance(&mut self) -> io::Result<Step> {
        loop {
            // Looked for first: once it is there, the file before does not grow any more.
            let after = self.read.last().map(|raw| raw.number);
            let mut later = Raw::list(&self.folder)?.into_iter();
            let next = later.find(|raw| after.is_none_or(|after| raw.number > after));
            self.read_current()?;
            let Some(next) = next else {
                return Ok(Step::Waiting);
            };
            match Reader::open(&self.folder.join(next.name()))? {
                Some(reader) if self.belongs(&next, &reader) => {
                    self.current = Some((next, reader));
                    self.read.push(next);
                }
                Some(_) => return Ok(Step::Complete),
                // Its writer died at once, and another one came.
                None if later.next().is_some() => self.read.push(next),
                None => return Ok(Step::Waiting),
            }
        }
    }

    /// Returns the movie so far; `None` before the first fragment.
    pub(crate) fn movie(&self) -> Option<&Movie> {
        self.movie.as_ref().filter(|movie| !movie.is_empty())
    }

    /// Returns the files that the movie consists of, and those of no use before them.
    pub(crate) fn raws(&self) -> &[Raw] {
        &self.read
    }

    fn read_current(&mut self) -> io::Result<()> {
        let Some((raw, reader)) = &mut self.current else {
            return Ok(());
        };
        while let Some(fragment) = reader.next()? {
            let movie = self
                .movie
                .get_or_insert_with(|| Movie::new(reader.formats(), raw.start_us));
            movie.push(raw.number, raw.start_us, &fragment);
        }
        Ok(())
    }

    fn belongs(&self, next: &Raw, reader: &Reader) -> bool {
        let (Some((raw, before)), Some(_)) = (&self.current, &self.movie) else {
            return true;
        };
        let end = raw.start_us + before.end_us();
        next.joins
            && next.start_us.saturating_sub(end) <= micros(LONGEST_GAP)
            && before.formats().are(reader.formats())
    }
}

/// What is missing for longer is not bridged within one movie.
const LONGEST_GAP: Duration = Duration::from_secs(30);
