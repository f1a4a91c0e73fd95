//! The pictures of one destination, and the folder that has them.

use std::{
    collections::VecDeque,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::fs::statvfs;

/// The newest pictures of a destination. A file's name says all that its bytes do not.
#[derive(Debug)]
pub(crate) struct Album {
    folder: PathBuf,
    /// Locked while files are written: only by threads that may wait.
    desk: Mutex<Desk>,
    /// The oldest first. Locked for a moment only.
    shots: Mutex<VecDeque<Shot>>,
}

#[derive(Debug, Default)]
struct Desk {
    /// Whether the files of earlier runs are known: what they are called is not used again.
    read: bool,
    /// The number of the newest picture; 0 before the first.
    last: u64,
    /// Whether its job was forgotten: nothing may be written any more.
    gone: bool,
}

/// One picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shot {
    /// From 1 on.
    pub(crate) number: u64,
    /// Unix time.
    pub(crate) taken_at_ms: u64,
    pub(crate) width: u16,
    pub(crate) height: u16,
    pub(crate) bytes: u64,
}

impl Shot {
    fn name(&self) -> String {
        let Self {
            number,
            taken_at_ms,
            width,
            height,
            ..
        } = self;
        format!("{number:010}-{taken_at_ms}-{width}x{height}.jpg")
    }

    /// Reads what [`Self::name`] made.
    fn parse(name: &str, bytes: u64) -> Option<Self> {
        let mut fields = name.strip_suffix(".jpg")?.split('-');
        let number = fields.next()?.parse().ok()?;
        let taken_at_ms = fields.next()?.parse().ok()?;
        let (width, height) = fields.next()?.split_once('x')?;
        let shot = Self {
            number,
            taken_at_ms,
            width: width.parse().ok()?,
            height: height.parse().ok()?,
            bytes,
        };
        (shot.name() == name).then_some(shot)
    }

    /// Returns what tells its bytes from those of any other picture of the destination.
    pub(crate) fn tag(&self) -> String {
        format!("\"{:x}-{:x}\"", self.number, self.taken_at_ms)
    }
}

impl Album {
    /// Returns one that looks into `folder` when there is something to write.
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            desk: Mutex::default(),
            shots: Mutex::default(),
        }
    }

    /// Takes in what is in `folder`. Blocks.
    pub(super) fn open(folder: PathBuf) -> Self {
        let album = Self::new(folder);
        // What cannot be read is told when there is something to write.
        let _ = album.read(&mut album.lock_desk());
        album
    }

    /// Returns the pictures, the newest first.
    pub(crate) fn list(&self) -> Vec<Shot> {
        self.lock().iter().rev().copied().collect()
    }

    pub(crate) fn latest(&self) -> Option<Shot> {
        self.lock().back().copied()
    }

    pub(crate) fn find(&self, number: u64) -> Option<Shot> {
        let shots = self.lock();
        let at = shots.binary_search_by_key(&number, |shot| shot.number);
        at.ok().and_then(|at| shots.get(at).copied())
    }

    /// Returns where a picture is.
    pub(crate) fn path(&self, shot: &Shot) -> PathBuf {
        self.folder.join(shot.name())
    }

    /// Fails when no picture could be kept. Blocks.
    pub(super) fn check(&self, min_free_bytes: u64) -> io::Result<()> {
        self.prepare(&mut self.lock_desk())?;
        let disk = statvfs(&self.folder)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < min_free_bytes {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    /// Keeps a picture, and removes the oldest ones when there are more than `keep`. A crash leaves all of it or
    /// nothing. Blocks.
    pub(super) fn add(
        &self,
        jpeg: &[u8],
        (width, height): (u16, u16),
        taken_at_ms: u64,
        keep: usize,
    ) -> io::Result<()> {
        let mut desk = self.lock_desk();
        self.prepare(&mut desk)?;
        let shot = Shot {
            number: desk.last + 1,
            taken_at_ms,
            width,
            height,
            bytes: jpeg.len() as u64,
        };
        let unfinished = self.folder.join(UNFINISHED);
        let written = write(&unfinished, jpeg)
            .and_then(|()| fs::rename(&unfinished, self.folder.join(shot.name())));
        if let Err(error) = written {
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        desk.last = shot.number;
        let surplus: Vec<Shot> = {
            let mut shots = self.lock();
            shots.push_back(shot);
            let surplus = shots.len().saturating_sub(keep);
            shots.drain(..surplus).collect()
        };
        for old in surplus {
            remove(&self.folder.join(old.name()))?;
        }
        Ok(())
    }

    /// Takes in that nothing may be written any more. Blocks.
    pub(super) fn close(&self) {
        self.lock_desk().gone = true;
    }

    fn prepare(&self, desk: &mut Desk) -> io::Result<()> {
        if desk.gone {
            return Err(io::ErrorKind::NotFound.into());
        }
        // Also when somebody has removed it.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)?;
        if !desk.read {
            self.read(desk)?;
        }
        Ok(())
    }

    fn read(&self, desk: &mut Desk) -> io::Result<()> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let bytes = entry.metadata()?.len();
            // A machine that lost its power may leave empty files.
            if let Some(shot) = Shot::parse(&entry.file_name().to_string_lossy(), bytes) {
                desk.last = desk.last.max(shot.number);
                if bytes == 0 {
                    remove(&entry.path())?;
                } else {
                    found.push(shot);
                }
            }
        }
        found.sort_by_key(|shot| shot.number);
        *self.lock() = found.into();
        desk.read = true;
        Ok(())
    }

    fn lock_desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Shot>> {
        self.shots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

const UNFINISHED: &str = "unfinished";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const SIZE: (u16, u16) = (640, 360);

    fn numbers(album: &Album) -> Vec<u64> {
        album.list().iter().map(|shot| shot.number).collect()
    }

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn the_newest_are_kept_and_the_rest_goes() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("job/d1");
        let album = Album::open(folder.clone());
        assert_eq!(album.latest(), None);
        for number in 1..=5 {
            album.add(b"picture", SIZE, number * 1000, 3).unwrap();
        }
        assert_eq!(numbers(&album), [5, 4, 3]);
        assert_eq!(files(&folder), 3);
        assert_eq!(album.find(2), None);
        let found = album.find(4).unwrap();
        assert_eq!((found.taken_at_ms, found.bytes), (4000, 7));
        assert_eq!(fs::read(album.path(&found)).unwrap(), b"picture");
        let mode = fs::metadata(album.path(&found)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        album.add(b"picture", SIZE, 6000, 1).unwrap();
        assert_eq!((numbers(&album), files(&folder)), (vec![6], 1));
    }

    #[test]
    fn another_run_goes_on_with_the_numbers() {
        let root = tempfile::tempdir().unwrap();
        let album = Album::open(root.path().to_owned());
        for time in [10, 20, 30] {
            album.add(b"picture", SIZE, time, 9).unwrap();
        }
        let listed = album.list();
        fs::write(root.path().join("0000000007-40-640x360.jpg"), b"").unwrap();
        fs::write(root.path().join(UNFINISHED), b"half").unwrap();
        fs::write(root.path().join("notes-of-somebody.jpg"), b"text").unwrap();
        let again = Album::open(root.path().to_owned());
        assert_eq!(again.list(), listed, "what is empty is none");
        again.add(b"picture", SIZE, 50, 9).unwrap();
        assert_eq!(numbers(&again), [8, 3, 2, 1]);
        assert!(!root.path().join(UNFINISHED).exists());
    }

    #[test]
    fn what_cannot_be_written_fails_and_uses_no_number() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("d1");
        fs::write(&folder, "in the way").unwrap();
        let album = Album::open(folder.clone());
        assert!(album.check(0).is_err());
        assert!(album.add(b"picture", SIZE, 10, 9).is_err());
        fs::remove_file(&folder).unwrap();
        let full = album.check(u64::MAX).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        album.check(0).unwrap();
        album.add(b"picture", SIZE, 10, 9).unwrap();
        assert_eq!(numbers(&album), [1]);
        album.close();
        fs::remove_dir_all(&folder).unwrap();
        assert!(album.add(b"picture", SIZE, 20, 9).is_err());
        assert!(!folder.exists(), "it does not come back");
    }
}
