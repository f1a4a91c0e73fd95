//! The recordings of all rooms.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use rustix::fs::statvfs;
use sfu::RoomId;
use tokio::sync::{Notify, broadcast};

use super::{
    cast::{Cast, track_folder},
    entry::{Entry, Finished, Growing, Phase, Place},
    upload::Upload,
    workshop::Workshop,
};
use crate::{
    config::RecordingConfig,
    service::Room,
    status::{FailureCode, RecordingState, StorageTrouble},
    still::Stills,
    wall_clock::unix_ms_now,
};

/// Knows every recording, and has them finished. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Library {
    shelves: Arc<Shelves>,
    /// Wakes the thread that works on recordings.
    wake: SyncSender<()>,
}

/// The recordings and their folders.
#[derive(Debug)]
pub(super) struct Shelves {
    root: PathBuf,
    min_free_bytes: u64,
    /// All recordings may have so many bytes together.
    quota_bytes: Option<u64>,
    /// Nobody waits for the disk with it in hand: those who answer requests take it.
    entries: Mutex<BTreeMap<String, Entry>>,
    /// Held while records are written and folders moved, so that the last one written is the newest. Locked before the
    /// entries.
    filing: Mutex<()>,
    /// Recordings that became ready and nobody was told of.
    ready: Mutex<Vec<String>>,
    changed: Notify,
    /// The same for those who follow what happens. Who is [`FOLLOWED`] behind misses the oldest.
    followed: broadcast::Sender<Entry>,
    /// Whether the server stops: what ends then goes on at the next start.
    stopping: AtomicBool,
    /// Differs from run to run of the server.
    run: String,
    /// Jobs whose workers may write to their folders.
    jobs: Mutex<BTreeSet<String>>,
}

/// Why a recording was not deleted.
#[derive(Debug)]
pub(crate) enum DeleteError {
    Unknown,
    Active,
    Io(io::Error),
}

impl Library {
    /// Opens the library in `root` and starts to work on what the last run has left.
    pub(crate) fn open(
        root: PathBuf,
        config: &RecordingConfig,
        stills: Stills,
    ) -> io::Result<Self> {
        fs::create_dir_all(&root)?;
        let uploads = config.s3.is_some();
        let shelves = Arc::new(Shelves {
            entries: Mutex::new(load(&root, uploads)?),
            filing: Mutex::default(),
            root,
            min_free_bytes: config.min_free_mb << 20,
            quota_bytes: (config.max_gb > 0).then_some(config.max_gb << 30),
            ready: Mutex::default(),
            changed: Notify::new(),
            followed: broadcast::Sender::new(FOLLOWED),
            stopping: AtomicBool::new(false),
            run: format!("{:x}", unix_ms_now()),
            jobs: Mutex::default(),
        });
        let (wake, woken) = sync_channel(1);
        let workshop = Workshop::new(shelves.clone(), stills, uploads);
        thread::spawn(move || workshop.run(&woken));
        Ok(Self { shelves, wake })
    }

    /// Returns the id of the recording that this destination of a job makes.
    pub(crate) fn id(job: &str, destination: usize) -> String {
        let job = job.strip_prefix("eg_").unwrap_or(job);
        format!("rec_{job}_{destination}")
    }

    /// Returns what names this run of the server, in which lanes are unique.
    pub(crate) fn run(&self) -> String {
        self.shelves.run.clone()
    }

    /// Takes in whose tracks are recorded apart. Blocks.
    pub(crate) fn note_cast(&self, id: &str, cast: Vec<Cast>) -> io::Result<()> {
        let run = &self.shelves.run;
        self.shelves.change(id, |entry| {
            for cast in cast {
                let folder = track_folder(run, cast.lane);
                match entry.cast.iter_mut().find(|(known, _)| *known == folder) {
                    Some((_, known)) => *known = cast,
                    None => entry.cast.push((folder, cast)),
                }
            }
        })
    }

    /// Makes the folder of a job's recordings, the only one that its worker may write to. Blocks.
    pub(crate) fn open_folder(&self, job: &str) -> io::Result<PathBuf> {
        let job = job.trim_start_matches("eg_");
        self.shelves.lock_jobs().insert(job.to_owned());
        let folder = self.shelves.root.join(job);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Takes in that a job is over. Its folder stays only if a recording is in it. Blocks.
    pub(crate) fn close_folder(&self, job: &str) {
        let job = job.trim_start_matches("eg_");
        let mut jobs = self.shelves.lock_jobs();
        jobs.remove(job);
        // Only an empty one goes.
        let _ = fs::remove_dir(self.shelves.root.join(job));
    }

    pub(crate) fn folder(&self, id: &str) -> PathBuf {
        self.shelves.folder(id)
    }

    /// Returns whether a recording can be begun.
    pub(crate) fn has_room(&self) -> bool {
        self.shelves.has_room()
    }

    /// Returns whether recordings have to end because they take more room than they may.
    pub(crate) fn is_over_quota(&self) -> bool {
        let quota = self.shelves.quota_bytes;
        quota.is_some_and(|quota| self.shelves.used_bytes() >= quota)
    }

    /// Takes in that a job writes, or is about to write, into the folder of this recording. Blocks.
    pub(crate) fn begin(&self, id: &str, room: &Room, now_ms: u64) -> io::Result<()> {
        self.shelves.begin(id, room, now_ms)?;
        let _ = self.wake.try_send(());
        Ok(())
    }

    /// Takes in that nobody writes a recording any more. Blocks.
    pub(crate) fn end(&self, id: &str, code: Option<FailureCode>) {
        if self.shelves.stopping.load(Ordering::Acquire) {
            return;
        }
        self.shelves.end(id, code);
        let _ = self.wake.try_send(());
    }

    /// Ends what the last run has left open and no job of this run goes on with.
    pub(crate) fn end_all_but(&self, ids: &[String]) {
        let open: Vec<String> = {
            let entries = self.shelves.lock();
            let open = entries.values().filter(|e| e.phase == Phase::Open);
            open.map(|entry| entry.id.clone()).collect()
        };
        for id in open.iter().filter(|id| !ids.contains(id)) {
            self.end(id, None);
        }
    }

    /// Says that the server stops: recordings that end from here on go on at the next start.
    pub(crate) fn stop(&self) {
        self.shelves.stopping.store(true, Ordering::Release);
    }

    /// Returns a room's recordings, the newest first.
    pub(crate) fn list(&self, room: RoomId) -> Vec<Entry> {
        let entries = self.shelves.lock();
        let mut found: Vec<Entry> = entries
            .values()
            .filter(|entry| entry.room == room.0)
            .cloned()
            .collect();
        found.sort_by_key(|entry| std::cmp::Reverse(entry.started_at_ms));
        found
    }

    pub(crate) fn get(&self, room: RoomId, id: &str) -> Option<Entry> {
        let entry = self.shelves.get(id)?;
        (entry.room == room.0).then_some(entry)
    }

    /// Returns one whatever its room.
    pub(crate) fn find(&self, id: &str) -> Option<Entry> {
        self.shelves.get(id)
    }

    /// Deletes a recording and its files. Blocks.
    pub(crate) fn delete(&self, room: RoomId, id: &str) -> Result<(), DeleteError> {
        self.shelves.delete(room, id)?;
        let _ = self.wake.try_send(());
        Ok(())
    }

    /// Waits for recordings to become ready, and returns them.
    pub(crate) async fn ready(&self) -> Vec<Entry> {
        loop {
            let ids = std::mem::take(
                &mut *self
                    .shelves
                    .ready
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner),
            );
            if !ids.is_empty() {
                let entries = self.shelves.lock();
                return ids
                    .iter()
                    .filter_map(|id| entries.get(id).cloned())
                    .collect();
            }
            self.shelves.changed.notified().await;
        }
    }

    /// Returns the recordings that become ready from here on, of all rooms.
    pub(crate) fn follow(&self) -> broadcast::Receiver<Entry> {
        self.shelves.followed.subscribe()
    }

    /// Returns the recordings on which there is work left.
    pub(super) fn unfinished(&self) -> Vec<Entry> {
        let entries = self.shelves.lock();
        let open = entries.values().filter(|e| e.phase != Phase::Done);
        open.cloned().collect()
    }

    /// Returns the folders of what was deleted.
    pub(super) fn trash(&self) -> Vec<PathBuf> {
        self.shelves.trash()
    }

    /// Takes in that the storage has a file as a whole. Blocks.
    pub(super) fn note_uploaded(&self, id: &str, name: &str, place: Place) -> io::Result<()> {
        self.shelves.change(id, |entry| {
            entry.trouble = None;
            for file in entry.files.iter_mut().filter(|file| file.name == name) {
                file.place = place;
            }
        })?;
        let _ = self.wake.try_send(());
        Ok(())
    }

    /// Takes in why the storage does not take a recording's files, or that it does.
    pub(super) fn note_trouble(&self, id: &str, trouble: Option<StorageTrouble>) {
        if let Some(entry) = self.shelves.lock().get_mut(id) {
            entry.trouble = trouble;
        }
    }

    /// Counts recordings by state, all of them, and their bytes.
    pub(crate) fn totals(&self) -> ([(RecordingState, u64); 5], u64) {
        let entries = self.shelves.lock();
        let counts = [
            RecordingState::Recording,
            RecordingState::Finishing,
            RecordingState::Uploading,
            RecordingState::Ready,
            RecordingState::Failed,
        ];
        let counts = counts.map(|state| {
            let those = entries.values().filter(|entry| entry.state() == state);
            (state, those.count() as u64)
        });
        (counts, entries.values().map(Entry::bytes).sum())
    }
}

impl Shelves {
    pub(super) fn folder(&self, id: &str) -> PathBuf {
        let job = id.trim_start_matches("rec_").rsplit_once('_');
        self.root.join(job.map_or(id, |(job, _)| job)).join(id)
    }

    pub(super) fn get(&self, id: &str) -> Option<Entry> {
        self.lock().get(id).cloned()
    }

    pub(super) fn phase(&self, id: &str) -> Option<Phase> {
        self.lock().get(id).map(|entry| entry.phase)
    }

    /// Returns what there is to work on.
    pub(super) fn unfinished(&self) -> Vec<String> {
        let entries = self.lock();
        let open = entries.values().filter(|e| e.phase != Phase::Done);
        open.map(|entry| entry.id.clone()).collect()
    }

    /// Returns the folders of what was deleted.
    pub(super) fn trash(&self) -> Vec<PathBuf> {
        let Ok(folders) = fs::read_dir(&self.root) else {
            return Vec::new();
        };
        let paths = folders.flatten().map(|entry| entry.path());
        let is_trash = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with(TRASH))
        };
        paths.filter(is_trash).collect()
    }

    fn begin(&self, id: &str, room: &Room, now_ms: u64) -> io::Result<()> {
        let folder = self.folder(id);
        let _filing = self.lock_filing();
        fs::create_dir_all(&folder)?;
        let mut entries = self.lock();
        let entry = entries.entry(id.to_owned()).or_insert_with(|| Entry {
            id: id.to_owned(),
            room: room.id.0,
            slug: room.slug.clone(),
            started_at_ms: now_ms,
            phase: Phase::Open,
            code: None,
            poster: false,
            files: Vec::new(),
            cast: Vec::new(),
            growing: Growing::default(),
            trouble: None,
        });
        entry.phase = Phase::Open;
        entry.code = None;
        let entry = entry.clone();
        drop(entries);
        entry.save(&folder)
    }

    fn end(&self, id: &str, code: Option<FailureCode>) {
        let changed = self.change(id, |entry| {
            if entry.phase == Phase::Open {
                entry.phase = Phase::Ended;
                entry.code = code;
            }
        });
        if let Err(error) = changed {
            tracing::error!(recording = id, %error, "the record of a recording cannot be written");
        }
    }

    pub(super) fn note_growing(&self, id: &str, growing: Growing) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.growing = growing;
        }
    }

    pub(super) fn note_poster(&self, id: &str) {
        if let Some(entry) = self.lock().get_mut(id) {
            entry.poster = true;
        }
    }

    pub(super) fn note_finished(&self, id: &str, file: Finished) -> io::Result<()> {
        tracing::info!(
            recording = id,
            file = file.name,
            bytes = file.bytes,
            "recorded file finished"
        );
        self.change(id, |entry| {
            entry.growing = Growing::default();
            entry.files.push(file);
        })
    }

    /// Takes in that there is nothing left to finish.
    pub(super) fn note_done(&self, id: &str) -> io::Result<()> {
        let mut done = false;
        self.change(id, |entry| {
            let uploading = |file: &Finished| file.place == Place::Uploading;
            // One that goes on after all is not done.
            if entry.phase == Phase::Ended && !entry.files.iter().any(uploading) {
                entry.phase = Phase::Done;
                if entry.files.is_empty() {
                    entry.code.get_or_insert(FailureCode::NothingRecorded);
                }
                done = !entry.files.is_empty();
            }
        })?;
        if done {
            tracing::info!(recording = id, "recording is ready");
            let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
            ready.push(id.to_owned());
            self.changed.notify_one();
            if let Some(entry) = self.get(id) {
                let _ = self.followed.send(entry);
            }
        }
        Ok(())
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Entry)) -> io::Result<()> {
        let _filing = self.lock_filing();
        let changed = self.lock().get_mut(id).map(|entry| {
            change(entry);
            entry.clone()
        });
        changed.map_or(Ok(()), |entry| entry.save(&self.folder(id)))
    }

    /// Does something with a recording that nobody writes, and that nobody begins to write meanwhile. Returns whether
    /// that was so.
    pub(super) fn unless_open(
        &self,
        id: &str,
        action: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<bool> {
        let _filing = self.lock_filing();
        if self.phase(id) == Some(Phase::Open) {
            return Ok(false);
        }
        action()?;
        Ok(true)
    }

    fn delete(&self, room: RoomId, id: &str) -> Result<(), DeleteError> {
        let _filing = self.lock_filing();
        let entry = self.get(id).filter(|entry| entry.room == room.0);
        if entry.ok_or(DeleteError::Unknown)?.phase == Phase::Open {
            return Err(DeleteError::Active);
        }
        // Gone at once, and for good, whatever happens while the files are removed.
        let trash = self.root.join(format!("{TRASH}{id}"));
        match fs::rename(self.folder(id), trash) {
            // Somebody else has deleted it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            moved => moved.map_err(DeleteError::Io)?,
        }
        self.lock().remove(id);
        let folder = self.folder(id);
        if let Some((folder, job)) = folder.parent().and_then(|f| Some((f, f.file_name()?))) {
            // The worker of a job that runs may be told to record into it again.
            let jobs = self.lock_jobs();
            if !job.to_str().is_some_and(|job| jobs.contains(job)) {
                let _ = fs::remove_dir(folder);
            }
        }
        Ok(())
    }

    /// Forgets a recording that is over and whose folder somebody has removed. Returns whether it was one.
    pub(super) fn forget_lost(&self, id: &str) -> bool {
        let _filing = self.lock_filing();
        let over = self.phase(id).is_some_and(|phase| phase != Phase::Open);
        let lost = over && !self.folder(id).exists();
        if lost {
            self.lock().remove(id);
        }
        lost
    }

    fn used_bytes(&self) -> u64 {
        self.lock().values().map(Entry::bytes_here).sum()
    }

    fn has_room(&self) -> bool {
        let used = self.used_bytes();
        let disk = statvfs(&self.root);
        let free = disk.map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        free >= self.min_free_bytes && self.quota_bytes.is_none_or(|quota| used < quota)
    }

    fn lock_filing(&self) -> MutexGuard<'_, ()> {
        self.filing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_jobs(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the records; `uploads` says whether there is a storage.
fn load(root: &Path, uploads: bool) -> io::Result<BTreeMap<String, Entry>> {
    let mut entries = BTreeMap::new();
    for job in fs::read_dir(root)? {
        let job = job?;
        let is_trash = job.file_name().to_string_lossy().starts_with(TRASH);
        if is_trash || !job.file_type()?.is_dir() {
            continue;
        }
        for folder in fs::read_dir(job.path())? {
            let folder = folder?.path();
            let name = folder.file_name().and_then(|name| name.to_str());
            let name = name.unwrap_or_default();
            match Entry::load(&folder) {
                Ok(mut entry) if entry.id == name => {
                    settle(&mut entry, &folder, uploads)?;
                    entries.insert(entry.id.clone(), entry);
                }
                Ok(_) | Err(_) => {
                    tracing::error!(name, "recording cannot be read; its files are left alone");
                }
            }
        }
        // Only an empty one goes.
        let _ = fs::remove_dir(job.path());
    }
    Ok(entries)
}

/// Brings files in step with their record, which a crash may have prevented.
fn settle(entry: &mut Entry, folder: &Path, uploads: bool) -> io::Result<()> {
    for file in entry.files.iter().filter(|f| f.place == Place::Remote) {
        match fs::remove_file(folder.join(&file.name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => Upload::forget(folder, &file.name)?,
        }
    }
    let mut waiting = entry.files.iter_mut();
    let mut waiting = waiting.by_ref().filter(|f| f.place == Place::Uploading);
    if !uploads && let Some(first) = waiting.next() {
        // The storage was taken out of the configuration.
        first.place = Place::Local;
        waiting.for_each(|file| file.place = Place::Local);
        entry.save(folder)?;
    }
    Ok(())
}

const TRASH: &str = ".deleted-";
const FOLLOWED: usize = 32;
