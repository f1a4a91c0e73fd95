//! Brings recordings to the storage while they are made.
//!
//! A finished file is its head, which is known last, and media bytes, which are known as they are recorded. So the
//! parts of a multipart upload behind the first one leave while the recording goes on; the first one, with the head
//! and the media bytes before the second, leaves when the file is finished. The local file goes when the storage has
//! said that it has the whole.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use object_store::path::Path as Key;
use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    entry::{Entry, Finished, Phase, Place},
    finish::Media,
    follower::Follower,
    library::Library,
    remote::Remote,
    trouble::{UploadError, advice},
    upload::{FIRST, Layout, Part, Upload, read, streamed_length},
};
use crate::{backoff::Backoff, status::StorageTrouble, wall_clock::unix_ms_now};

/// Uploads everything, one part of each recording in turn, until cancelled.
pub(crate) struct Uploader {
    library: Library,
    remote: Remote,
    keep_local: bool,
    /// How each recording fares.
    courses: HashMap<String, Course>,
    /// The same for what was deleted.
    trash: HashMap<PathBuf, Course>,
}

/// How the uploads of a recording fare.
struct Course {
    follower: Option<Follower>,
    backoff: Backoff,
    not_before: Instant,
    failures: u32,
}

impl Uploader {
    /// `keep_local` says whether files stay here, too.
    pub(crate) fn new(library: Library, remote: Remote, keep_local: bool) -> Self {
        Self {
            library,
            remote,
            keep_local,
            courses: HashMap::new(),
            trash: HashMap::new(),
        }
    }

    /// Runs until cancelled. What it is cancelled in is done again at the next start.
    pub(crate) async fn run(mut self, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            let moved = tokio::select! {
                moved = self.turn() => moved,
                () = cancel.cancelled() => return,
            };
            if !moved {
                tokio::select! {
                    () = sleep(TICK) => {}
                    () = cancel.cancelled() => return,
                }
            }
        }
    }

    /// Takes each recording one step on; returns whether any went.
    async fn turn(&mut self) -> bool {
        let mut moved = false;
        let entries = self.library.unfinished();
        self.courses
            .retain(|id, _| entries.iter().any(|entry| entry.id == *id));
        for entry in entries {
            let course = self.courses.remove(&entry.id);
            let mut course = course.unwrap_or_else(|| Course::new(&entry.id));
            if Instant::now() >= course.not_before {
                match self.step(&entry, &mut course).await {
                    Ok(went) => {
                        moved |= went;
                        if went && course.recover() {
                            tracing::info!(recording = %entry.id, "upload goes on");
                            self.library.note_trouble(&entry.id, None);
                        }
                    }
                    Err(error) => {
                        let trouble = course.fail(&error);
                        if trouble.attempt.is_power_of_two() {
                            tracing::warn!(recording = %entry.id, code = ?trouble.code, reason = error.reason(),
                                attempt = trouble.attempt, "upload failed; it is tried again");
                        }
                        self.library.note_trouble(&entry.id, Some(trouble));
                    }
                }
            }
            self.courses.insert(entry.id, course);
        }
        self.clear_trash().await;
        moved
    }

    /// Uploads one part if one is there; returns whether it was.
    async fn step(&self, entry: &Entry, course: &mut Course) -> Result<bool, UploadError> {
        let folder = self.library.folder(&entry.id);
        let mut files = entry.files.iter();
        if let Some(file) = files.find(|file| file.place == Place::Uploading) {
            course.follower = None;
            self.finish(entry, file, &folder).await?;
            return Ok(true);
        }
        if entry.phase != Phase::Open {
            return Ok(false);
        }
        let name = entry.next_name();
        let upload = Upload::load(&folder, &name)?;
        let from = upload.as_ref().map_or(FIRST, Upload::streamed);
        let length = streamed_length(upload.as_ref().map_or(0, |upload| upload.parts.len()));
        let follower = course.follower.take();
        let at = folder.clone();
        let follower = follower.unwrap_or_else(|| Follower::new(&folder));
        let media = match blocking(move || next_media(follower, &at, from, length)).await {
            // What was recorded is just becoming a finished file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            media => media?,
        };
        course.follower = Some(media.0);
        let Some(data) = media.1 else {
            return Ok(false);
        };
        let key = self.remote.key(entry, &name);
        let upload = match upload {
            Some(upload) => upload,
            None => self.begin(&folder, &name, &key, Layout::Streamed).await?,
        };
        self.put_part(&folder, &name, &key, upload, data).await?;
        Ok(true)
    }

    async fn begin(
        &self,
        folder: &Path,
        name: &str,
        key: &Key,
        layout: Layout,
    ) -> Result<Upload, UploadError> {
        let begun = Upload::new(self.remote.begin(key).await?, layout);
        begun.save(folder, name)?;
        Ok(begun)
    }

    /// Uploads the next part, and notes it.
    async fn put_part(
        &self,
        folder: &Path,
        name: &str,
        key: &Key,
        mut upload: Upload,
        data: Vec<u8>,
    ) -> Result<Upload, UploadError> {
        let number = upload.next_number();
        let part = Part::of(&data);
        let put = self.remote.put_part(key, &upload.id, number, data).await;
        let id = match put.map_err(UploadError::from) {
            Ok(id) => id,
            Err(error) if error.is_refusal() => {
                // If another upload may begin, it is this one that the storage has forgotten.
                self.begin(folder, name, key, upload.layout).await?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        upload.parts.push(part.called(id));
        upload.save(folder, name)?;
        Ok(upload)
    }

    /// Uploads what is missing of a finished file, and takes its place once the storage has it whole.
    async fn finish(
        &self,
        entry: &Entry,
        file: &Finished,
        folder: &Path,
    ) -> Result<(), UploadError> {
        let key = self.remote.key(entry, &file.name);
        let path = folder.join(&file.name);
        let mut upload = self.resume(file, folder, &key).await?;
        if let Some(upload) = &upload
            && upload.joined > 0
        {
            // Perhaps it was joined, and only the answer was lost. Whoever may not list the bucket is not told that
            // there is no such object.
            if let Ok(Some(has)) = self.remote.size(&key).await
                && has == file.bytes
            {
                return self.take_over(entry, file, folder, &key).await;
            }
        }
        if upload.is_none() && file.bytes <= WHOLE {
            let data = read_file(&path, 0, file.bytes).await?;
            self.remote.put(&key, data).await?;
            return self.take_over(entry, file, folder, &key).await;
        }
        let mut upload = match upload.take() {
            Some(upload) => upload,
            None => {
                let begun = self.begin(folder, &file.name, &key, Layout::Whole);
                begun.await?
            }
        };
        loop {
            let (at, length) = (upload.next_at(file), upload.next_length(file));
            if length == 0 {
                break;
            }
            let data = read_file(&path, at, length).await?;
            let put = self.put_part(folder, &file.name, &key, upload, data);
            upload = put.await?;
        }
        let mut ids: Vec<String> = upload.parts.iter().map(|part| part.id.clone()).collect();
        if let Some(length) = upload.first_length(file) {
            let first = read_file(&path, 0, length).await?;
            ids.insert(0, self.remote.put_part(&key, &upload.id, 0, first).await?);
        }
        upload.joined += 1;
        upload.save(folder, &file.name)?;
        self.remote.complete(&key, &upload.id, &ids).await?;
        self.take_over(entry, file, folder, &key).await
    }

    /// Returns the upload of a finished file that is under way, unless it is of no use.
    async fn resume(
        &self,
        file: &Finished,
        folder: &Path,
        key: &Key,
    ) -> Result<Option<Upload>, UploadError> {
        let Some(upload) = Upload::load(folder, &file.name)? else {
            return Ok(None);
        };
        let (begun, finished) = (upload.clone(), file.clone());
        let path = folder.join(&file.name);
        let fits = upload.layout == Layout::Whole
            || blocking(move || begun.fits(&path, &finished)).await?;
        if fits && upload.joined < JOIN_LIMIT {
            return Ok(Some(upload));
        }
        tracing::warn!(
            file = file.name,
            fits,
            "upload begins anew with the finished file"
        );
        self.remote.abort(key, &upload.id).await?;
        Upload::forget(folder, &file.name)?;
        Ok(None)
    }

    async fn take_over(
        &self,
        entry: &Entry,
        file: &Finished,
        folder: &Path,
        key: &Key,
    ) -> Result<(), UploadError> {
        let has = self.remote.size(key).await?;
        if has != Some(file.bytes) {
            return Err(UploadError::Size {
                has,
                of: file.bytes,
            });
        }
        let place = if self.keep_local {
            Place::Both
        } else {
            Place::Remote
        };
        self.library.note_uploaded(&entry.id, &file.name, place)?;
        if !self.keep_local {
            fs::remove_file(folder.join(&file.name))?;
        }
        Upload::forget(folder, &file.name)?;
        tracing::info!(recording = %entry.id, file = file.name, "recorded file is in the storage");
        Ok(())
    }

    /// Removes deleted recordings from the storage, then their folders.
    async fn clear_trash(&mut self) {
        let folders = self.library.trash();
        self.trash.retain(|folder, _| folders.contains(folder));
        for folder in folders {
            let name = folder.to_string_lossy();
            let course = self.trash.remove(&folder);
            let mut course = course.unwrap_or_else(|| Course::new(&name));
            if Instant::now() >= course.not_before
                && let Err(error) = self.throw_away(&folder).await
            {
                let trouble = course.fail(&error);
                if trouble.attempt.is_power_of_two() {
                    tracing::warn!(code = ?trouble.code, reason = error.reason(), attempt = trouble.attempt,
                        "deleted recording stays in the storage; it is tried again");
                }
            }
            self.trash.insert(folder, course);
        }
    }

    async fn throw_away(&self, folder: &Path) -> Result<(), UploadError> {
        if let Ok(entry) = Entry::load(folder) {
            for name in Upload::list(folder)? {
                if let Some(upload) = Upload::load(folder, &name)? {
                    let key = self.remote.key(&entry, &name);
                    self.remote.abort(&key, &upload.id).await?;
                }
            }
            for file in entry.files.iter().filter(|f| f.place != Place::Local) {
                let key = self.remote.key(&entry, &file.name);
                self.remote.delete(&key).await?;
            }
        }
        Ok(fs::remove_dir_all(folder)?)
    }
}

impl Course {
    fn new(name: &str) -> Self {
        let seed = name.bytes().fold(1, |seed: u64, byte| {
            seed.wrapping_mul(31).wrapping_add(byte.into())
        });
        Self {
            follower: None,
            backoff: Backoff::new(RETRY_DELAY, RETRY_DELAY_CAP, seed),
            not_before: Instant::now(),
            failures: 0,
        }
    }

    /// Returns whether something was wrong before.
    fn recover(&mut self) -> bool {
        self.backoff.reset();
        std::mem::take(&mut self.failures) > 0
    }

    fn fail(&mut self, error: &UploadError) -> StorageTrouble {
        metrics::counter!("fanlight_recording_upload_failures_total").increment(1);
        self.follower = None;
        self.failures = self.failures.saturating_add(1);
        let delay = self.backoff.next();
        self.not_before = Instant::now() + delay;
        let code = error.code();
        StorageTrouble {
            code,
            message: advice(code).to_owned(),
            attempt: self.failures,
            next_try_at_ms: unix_ms_now() + u64::try_from(delay.as_millis()).unwrap_or(0),
        }
    }
}

async fn read_file(path: &Path, from: u64, length: u64) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    blocking(move || read(&path, from, length)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Reads on, and returns a range of the media bytes if so much is there.
fn next_media(
    mut follower: Follower,
    folder: &Path,
    from: u64,
    length: u64,
) -> io::Result<(Follower, Option<Vec<u8>>)> {
    follower.advance()?;
    let movie = follower.movie();
    let is_there = movie.is_some_and(|movie| movie.length() >= from + length);
    let data = is_there.then(|| read_media(&follower, folder, from, length));
    let data = data.transpose()?;
    Ok((follower, data))
}

/// Reads a range of a movie's media bytes.
fn read_media(follower: &Follower, folder: &Path, from: u64, length: u64) -> io::Result<Vec<u8>> {
    let movie = follower.movie().ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut media = Media::new(movie.pieces(), follower.raws(), folder);
    let skipped = media.skip(from);
    let mut data = Vec::new();
    let wanted = usize::try_from(skipped + length).unwrap_or(usize::MAX);
    while data.len() < wanted && media.copy_piece(&mut data)?.is_some() {}
    data.truncate(wanted);
    data.drain(..usize::try_from(skipped).unwrap_or(0));
    Ok(data)
}

/// A file up to this size is not worth parts.
const WHOLE: u64 = 16 << 20;
/// What the storage does not join after so many times, it never will.
const JOIN_LIMIT: u32 = 3;
const TICK: Duration = Duration::from_secs(1);
const RETRY_DELAY: Duration = Duration::from_secs(1);
const RETRY_DELAY_CAP: Duration = Duration::from_secs(30);
