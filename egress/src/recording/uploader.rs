//! Brings recordings to the storage while they are made.
//!
//! A finished file is its head, which is known last, and media bytes, which are known as they are recorded. So the
//! parts of a multipart upload behind the first one leave while the recording goes on; the first one, with the head
//! and the media bytes before the second, leaves when the file is finished. The local file goes when the storage has
//! said that it has the whole.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},

    time::{Duration, Instant},
};

use aws_lc_rs::digest::{SHA256, digest};
use object_store::{MultipartId, path::Path as Key};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::{task::spawn_blocking, time::sleep};
use tokio_util::sync::CancellationToken;

use super::{
    entry::{Entry, Finished, Phase, Place},
    finish::Media,
    follower::Follower,
    library::Library,
    remote::Remote,
};
use crate::backoff::Backoff;

/// Uploads everything, one part at a time in turn, until cancelled.
pub(crate) struct Uploader {
    library: Library,
    remote: Remote,
    /// How each recording fares.
    courses: HashMap<String, Course>,
}

/// How the uploads of a recording fare.
struct Course {
    follower: Option<Follower>,
    backoff: Backoff,
    not_before: Instant,
    failures: u32,
}

/// A multipart upload, noted beside the recording so that a restarted server goes on with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Upload {
    id: MultipartId,
    /// What the storage calls each part from the second on, and what is in it.
    parts: Vec<Part>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Part {
    id: String,
    length: u64,
    sha256: Vec<u8>,
}

#[derive(Debug, Error)]
enum UploadError {
    #[error(transparent)]
    Store(#[from] object_store::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the storage has {0} bytes of {1}")]
    Size(u64, u64),
}

impl Uploader {
    pub(crate) fn new(library: Library, remote: Remote) -> Self {
        Self {
            library,
            remote,
            courses: HashMap::new(),
        }
    }

    /// Runs until cancelled.
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
            let mut course = course.unwrap_or_else(Course::new);
            if Instant::now() >= course.not_before {
                match self.step(&entry, &mut course).await {
                    Ok(went) => {
                        moved |= went;
                        if went && std::mem::take(&mut course.failures) > 0 {
                            tracing::info!(recording = %entry.id, "upload goes on");
                            course.backoff.reset();
                        }
                    }
                    Err(error) => course.fail(&entry, &error),
                }
            }
            self.courses.insert(entry.id, course);
        }
        for folder in self.library.trash() {
            if let Err(error) = self.throw_away(&folder).await {
                tracing::debug!(%error, "deleted recording waits for the storage");
            }
        }
        moved
    }

    /// Uploads one part if one is there; returns whether it was.
    async fn step(&self, entry: &Entry, course: &mut Course) -> Result<bool, UploadError> {
        let folder = self.library.folder(&entry.id);
        let waiting = entry.files.iter();
        if let Some(file) = waiting.clone().find(|f| f.place == Place::Uploading) {
            course.follower = None;
            self.finish(entry, file, &folder).await?;
            return Ok(true);
        }
        if entry.phase != Phase::Open {
            return Ok(false);
        }
        let name = Finished::name_of(&entry.id, entry.files.len() + 1);
        let upload = Upload::load(&folder, &name)?;
        let from = upload.as_ref().map_or(FIRST, Upload::end);
        let length = part_length(upload.as_ref().map_or(0, |upload| upload.parts.len()));
        let follower = course.follower.take();
        let (follower, data) = spawn_blocking(move || {
            let mut follower = follower.unwrap_or_else(|| Follower::new(&folder));
            follower.advance()?;
            let there = follower.movie().is_some_and(|m| m.length() >= from + length);
            let data = if there {
                Some(read(&follower, &folder, from, length)?)
            } else {
                None
            };
            Ok::<_, io::Error>((follower, data))
        })
        .await
        .map_err(io::Error::other)??;
        course.follower = Some(follower);
        let Some(data) = data else { return Ok(false) };
        let folder = self.library.folder(&entry.id);
        let key = self.remote.key(entry, &name);
        self.put_part(&folder, &name, &key, upload, data).await?;
        Ok(true)
    }

    /// Uploads the next part behind the first one, and notes it.
    async fn put_part(
        &self,
        folder: &Path,
        name: &str,
        key: &Key,
        upload: Option<Upload>,
        data: Vec<u8>,
    ) -> Result<Upload, UploadError> {
        let mut upload = match upload {
            Some(upload) => upload,
            None => {
                let begun = Upload {
                    id: self.remote.begin(key).await?,
                    parts: Vec::new(),
                };
                begun.save(folder, name)?;
                begun
            }
        };
        let part = Part {
            length: data.len() as u64,
            sha256: digest(&SHA256, &data).as_ref().to_vec(),
            id: String::new(),
        };
        let number = upload.parts.len() + 1;
        let put = self.remote.put_part(key, &upload.id, number, data);
        let id = match put.await {
            Err(object_store::Error::NotFound { source, path }) => {
                // The storage has forgotten the upload: begin anew.
                Upload::forget(folder, name)?;
                return Err(object_store::Error::NotFound { source, path }.into());
            }
            id => id?,
        };
        upload.parts.push(Part { id, ..part });
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
        let mut upload = Upload::load(folder, &file.name)?;
        if let Some(begun) = &upload
            && !begun.fits(&path, file)?
        {
            tracing::warn!(recording = %entry.id, "upload does not fit the finished file; it begins anew");
            self.remote.abort(&key, &begun.id).await?;
            Upload::forget(folder, &file.name)?;
            upload = None;
        }
        if upload.is_none() && file.bytes <= WHOLE {
            self.remote
                .put(&key, read_file(&path, 0, file.bytes)?)
                .await?;
            return self.take_over(entry, file, folder, &key).await;
        }
        loop {
            let from = file.head + upload.as_ref().map_or(FIRST, Upload::end);
            let parts = upload.as_ref().map_or(0, |upload| upload.parts.len());
            let length = part_length(parts).min(file.bytes.saturating_sub(from));
            if length == 0 {
                break;
            }
            let data = read_file(&path, from, length)?;
            let put = self.put_part(folder, &file.name, &key, upload, data);
            upload = Some(put.await?);
        }
        let Some(upload) = upload else {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        };
        let first = read_file(&path, 0, (file.head + FIRST).min(file.bytes))?;
        let mut ids = vec![self.remote.put_part(&key, &upload.id, 0, first).await?];
        ids.extend(upload.parts.iter().map(|part| part.id.clone()));
        match self.remote.complete(&key, &upload.id, &ids).await {
            Ok(()) => {}
            // Perhaps it was complete already, and a crash kept that from being noted.
            Err(error) => match self.remote.size(&key).await {
                Ok(size) if size == file.bytes => {}
                Ok(_) | Err(_) => {
                    Upload::forget(folder, &file.name)?;
                    return Err(error.into());
                }
            },
        }
        self.take_over(entry, file, folder, &key).await
    }

    async fn take_over(
        &self,
        entry: &Entry,
        file: &Finished,
        folder: &Path,
        key: &Key,
    ) -> Result<(), UploadError> {
        let size = self.remote.size(key).await?;
        if size != file.bytes {
            return Err(UploadError::Size(size, file.bytes));
        }
        self.library.note_uploaded(&entry.id, &file.name)?;
        fs::remove_file(folder.join(&file.name))?;
        Upload::forget(folder, &file.name)?;
        tracing::info!(recording = %entry.id, file = file.name, "recorded file is in the storage");
        Ok(())
    }

    /// Removes a deleted recording from the storage, then its folder.
    async fn throw_away(&self, folder: &Path) -> Result<(), UploadError> {
        let Ok(entry) = Entry::load(folder) else {
            return Ok(fs::remove_dir_all(folder)?);
        };
        for file in &entry.files {
            let key = self.remote.key(&entry, &file.name);
            if let Some(upload) = Upload::load(folder, &file.name)? {
                match self.remote.abort(&key, &upload.id).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if file.place != Place::Local {
                self.remote.delete(&key).await?;
            }
        }
        Ok(fs::remove_dir_all(folder)?)
    }
}

impl Course {
    fn new() -> Self {
        Self {
            follower: None,
            backoff: Backoff::new(RETRY_DELAY, RETRY_DELAY_CAP, 1),
            not_before: Instant::now(),
            failures: 0,
        }
    }

    fn fail(&mut self, entry: &Entry, error: &UploadError) {
        self.follower = None;
        self.failures += 1;
        self.not_before = Instant::now() + self.backoff.next();
        metrics::counter!("fanlight_recording_upload_failures_total").increment(1);
        if self.failures.is_power_of_two() {
            let times = self.failures;
            tracing::warn!(recording = %entry.id, %error, times, "upload failed; it is tried again");
        }
    }
}

impl Upload {
    fn load(folder: &Path, name: &str) -> io::Result<Option<Self>> {
        match fs::read(Self::path(folder, name)) {
            // A broken note is as good as none: the upload begins anew.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn save(&self, folder: &Path, name: &str) -> io::Result<()> {
        let path = Self::path(folder, name);
        let unfinished = path.with_extension("new");
        fs::write(&unfinished, serde_json::to_vec(self)?)?;
        fs::rename(unfinished, path)
    }

    fn forget(folder: &Path, name: &str) -> io::Result<()> {
        match fs::remove_file(Self::path(folder, name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn path(folder: &Path, name: &str) -> PathBuf {
        folder.join(format!("{name}.upload"))
    }

    /// Returns up to which media byte it reaches.
    fn end(&self) -> u64 {
        FIRST + self.parts.iter().map(|part| part.length).sum::<u64>()
    }

    /// Returns whether what was sent before the file was finished is what is in it.
    fn fits(&self, path: &Path, file: &Finished) -> io::Result<bool> {
        let mut at = file.head + FIRST;
        for part in &self.parts {
            if at + part.length > file.bytes {
                return Ok(false);
            }
            let data = read_file(path, at, part.length)?;
            if digest(&SHA256, &data).as_ref() != part.sha256 {
                return Ok(false);
            }
            at += part.length;
        }
        Ok(true)
    }
}

/// Reads a range of a movie's media bytes.
fn read(follower: &Follower, folder: &Path, from: u64, length: u64) -> io::Result<Vec<u8>> {
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

fn read_file(path: &Path, from: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut file = fs::File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut data = Vec::new();
    file.take(length).read_to_end(&mut data)?;
    if data.len() as u64 == length {
        Ok(data)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Storages take at most 10,000 parts, and none below 5 MiB but the last.
fn part_length(number: usize) -> u64 {
    if number < 1000 { 8 << 20 } else { 64 << 20 }
}

/// Media bytes that leave with the head.
const FIRST: u64 = 8 << 20;
/// A file up to this size is not worth parts.
const WHOLE: u64 = 16 << 20;
const TICK: Duration = Duration::from_secs(1);
const RETRY_DELAY: Duration = Duration::from_secs(1);
const RETRY_DELAY_CAP: Duration = Duration::from_secs(30);
