//! The pictures of all jobs.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::Album;
use crate::{journal, still::Stills};

/// Knows the pictures of every job that is not forgotten. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Albums {
    pub(super) stills: Stills,
    pub(super) min_free_bytes: u64,
    /// Has a folder for each job, and in it one for each destination.
    root: PathBuf,
    jobs: Arc<Mutex<Jobs>>,
}

/// By job and number of the destination.
type Jobs = BTreeMap<String, BTreeMap<usize, Arc<Album>>>;

impl Albums {
    /// Takes in what the last run has left in `root`, which need not be there. Blocks.
    pub(crate) fn open(root: PathBuf, min_free_bytes: u64, stills: Stills) -> Self {
        let jobs = load(&root).unwrap_or_else(|error| {
            tracing::error!(%error, "the folder of thumbnails cannot be read");
            Jobs::new()
        });
        Self {
            stills,
            min_free_bytes,
            root,
            jobs: Arc::new(Mutex::new(jobs)),
        }
    }

    /// Returns the pictures of a destination; without any if it has none.
    pub(crate) fn of(&self, job: &str, number: usize) -> Arc<Album> {
        let mut jobs = self.lock();
        let albums = jobs.entry(job.to_owned()).or_default();
        let folder = || self.root.join(job).join(journal::id(number));
        let album = albums.entry(number);
        album
            .or_insert_with(|| Arc::new(Album::new(folder())))
            .clone()
    }

    /// Returns the pictures of a destination that has taken some.
    pub(crate) fn find(&self, job: &str, number: usize) -> Option<Arc<Album>> {
        self.lock().get(job)?.get(&number).cloned()
    }

    /// Returns the jobs that have pictures.
    pub(crate) fn jobs(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Leaves the pictures of a job alone that could not be resumed: the next run may go on with it.
    pub(crate) fn leave(&self, job: &str) {
        self.lock().remove(job);
    }

    /// Removes the pictures of a job that is forgotten. Blocks.
    pub(crate) fn forget(&self, job: &str) {
        let albums = self.lock().remove(job);
        for album in albums.unwrap_or_default().values() {
            album.close();
        }
        match fs::remove_dir_all(self.root.join(job)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(job, %error, "thumbnails cannot be removed; it is tried again at the next start");
            }
            Ok(()) | Err(_) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn load(root: &Path) -> io::Result<Jobs> {
    let mut jobs = Jobs::new();
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(jobs),
        entries => entries?,
    };
    for job in entries {
        let job = job?;
        if !job.file_type()?.is_dir() {
            continue;
        }
        let mut albums = BTreeMap::new();
        for destination in fs::read_dir(job.path())? {
            let destination = destination?;
            let name = destination.file_name();
            if let Some(number) = name.to_str().and_then(journal::number) {
                albums.insert(number, Arc::new(Album::open(destination.path())));
            }
        }
        jobs.insert(job.file_name().to_string_lossy().into_owned(), albums);
    }
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_found_again_until_their_job_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("thumbnails");
        let open = || Albums::open(root.clone(), 0, Stills::start("/nowhere".into()));
        let albums = open();
        assert!(albums.jobs().is_empty() && albums.find("eg_1", 2).is_none());
        for job in ["eg_1", "eg_2"] {
            let album = albums.of(job, 2);
            album.add(b"picture", (640, 360), 10, 9).unwrap();
        }
        let albums = open();
        assert_eq!(albums.jobs(), ["eg_1", "eg_2"]);
        assert_eq!(albums.find("eg_1", 2).unwrap().list().len(), 1);
        albums.forget("eg_1");
        assert!(!root.join("eg_1").exists() && albums.find("eg_1", 2).is_none());
        albums.leave("eg_2");
        assert!(root.join("eg_2").exists() && albums.jobs().is_empty());
        albums.forget("eg_1");
    }
}
