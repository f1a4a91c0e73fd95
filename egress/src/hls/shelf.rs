//! Old segments on disk, for players that rewind.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use bytes::Bytes;

use super::{Rendition, Segment, Whole};

/// A folder of segments, which a thread of its own writes, so that a slow disk holds up nobody. At most
/// [`QUEUE_LIMIT`] changes wait; when full, a segment is not kept. The folder goes with the shelf.
#[derive(Debug)]
pub(crate) struct Shelf {
    folder: PathBuf,
    limit: u64,
    changes: SyncSender<Change>,
    written: Arc<Mutex<BTreeMap<u64, bool>>>,
}

#[derive(Debug)]
enum Change {
    Put(u64, Vec<(Rendition, Bytes)>),
    Remove(u64, Vec<Rendition>),
}

impl Shelf {
    /// Has `folder` made, for at most `limit` bytes. Where that fails, nothing is kept.
    pub(crate) fn open(folder: PathBuf, limit: u64) -> Self {
        let (changes, waiting) = sync_channel(QUEUE_LIMIT);
        let written = Arc::new(Mutex::new(BTreeMap::new()));
        let (place, noted) = (folder.clone(), written.clone());
        let thread = thread::Builder::new().name("hls-shelf".into());
        if let Err(e) = thread.spawn(move || work(&place, &waiting, &noted)) {
            tracing::error!(error = %e, "the rewind window cannot be kept on disk");
        }
        Self {
            folder,
            limit,
            changes,
            written,
        }
    }

    /// Returns how many bytes it may hold.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Has a segment written.
    pub(crate) fn put(&mut self, segment: &Segment) {
        let files = segment
            .own()
            .filter_map(|(rendition, track)| match &track.whole {
                Whole::Memory(bytes) => Some((rendition, bytes.clone())),
                Whole::Open | Whole::Disk => None,
            });
        let change = Change::Put(segment.sequence, files.collect());
        // Full: the disk is too slow, and the segment is not kept.
        let _ = self.changes.try_send(change);
    }

    /// Returns whether a segment is written.
    pub(crate) fn has(&self, sequence: u64) -> bool {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.get(&sequence) == Some(&true)
    }

    /// Has a segment's files removed.
    pub(crate) fn remove(&mut self, segment: &Segment) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.remove(&segment.sequence).is_some() {
            let renditions = segment.own().map(|(rendition, _)| rendition).collect();
            // Full: they go with the folder.
            let _ = self
                .changes
                .try_send(Change::Remove(segment.sequence, renditions));
        }
    }

    /// Returns the file of a segment.
    pub(crate) fn path(&self, rendition: Rendition, sequence: u64) -> PathBuf {
        path(&self.folder, rendition, sequence)
    }
}

fn work(folder: &Path, changes: &Receiver<Change>, written: &Mutex<BTreeMap<u64, bool>>) {
    if let Err(e) = fs::create_dir_all(folder) {
        tracing::error!(error = %e, "the rewind window cannot be kept on disk");
        return;
    }
    let mut failing = false;
    for change in changes {
        match change {
            Change::Put(sequence, files) => {
                let write = |(rendition, bytes): &(Rendition, Bytes)| {
                    fs::write(path(folder, *rendition, sequence), bytes)
                };
                let result = files.iter().try_for_each(write);
                let failed = result.is_err();
                match result {
                    Err(e) if !failing => {
                        tracing::warn!(error = %e, "HLS segment cannot be kept for rewinding");
                    }
                    Err(_) | Ok(()) => {}
                }
                failing = failed;
                let mut written = written.lock().unwrap_or_else(PoisonError::into_inner);
                written.insert(sequence, !failed);
            }
            Change::Remove(sequence, renditions) => {
                for rendition in renditions {
                    let _ = fs::remove_file(path(folder, rendition, sequence));
                }
            }
        }
    }
    if let Err(e) = fs::remove_dir_all(folder) {
        tracing::warn!(error = %e, "folder of old HLS segments cannot be removed");
    }
}

fn path(folder: &Path, rendition: Rendition, sequence: u64) -> PathBuf {
    folder.join(format!("{rendition}-{sequence}.m4s"))
}

/// Segments of a minute.
const QUEUE_LIMIT: usize = 32;
