//! Works on recordings: one thread with low priority, which finishes files, makes their pictures and clears up.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use super::{
    cast::{Role, is_track_folder},
    entry::{Entry, Finished, Growing, Phase, Place},
    finish::finish,
    follower::{Follower, Step},
    library::Shelves,
    movie::{Keyframe, Movie},
    raw::Raw,
    sprite,
};
use crate::still::{Picture, Stills};

/// The thread's state.
pub(super) struct Workshop {
    shelves: Arc<Shelves>,
    stills: Stills,
    /// Whether finished files go to the storage.
    uploads: bool,
    /// How far each unfinished recording was read.
    followers: HashMap<(String, Option<String>), Follower>,
    /// What kept recordings from being finished, as it was last said.
    troubles: HashMap<String, io::ErrorKind>,
}

impl Workshop {
    pub(super) fn new(shelves: Arc<Shelves>, stills: Stills, uploads: bool) -> Self {
        Self {
            shelves,
            stills,
            uploads,
            followers: HashMap::new(),
            troubles: HashMap::new(),
        }
    }

    /// Works until the sender of `wake` is dropped.
    pub(super) fn run(mut self, wake: &Receiver<()>) {
        // On Linux it is the thread that becomes nicer.
        let _ = rustix::process::nice(NICE);
        loop {
            if !self.uploads {
                self.clear_trash();
            }
            for id in self.shelves.unfinished() {
                match self.work_on(&id) {
                    Ok(()) => _ = self.troubles.remove(&id),
                    // Said once.
                    Err(error) => {
                        let kind = error.kind();
                        if self.troubles.insert(id.clone(), kind) != Some(kind) {
                            tracing::error!(recording = %id, %error, "recording cannot be finished; it is tried again");
                        }
                    }
                }
            }
            match wake.recv_timeout(TICK) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn work_on(&mut self, id: &str) -> io::Result<()> {
        let folder = self.shelves.folder(id);
        if self.shelves.get(id).is_none() {
            return Ok(());
        }
        if self.shelves.forget_lost(id) {
            tracing::error!(recording = %id, "somebody has removed the folder of this recording");
            return Ok(());
        }
        let mut done = self.work_in(id, None)?;
        for track in tracks(&folder)? {
            done &= self.work_in(id, Some(&track))?;
        }
        if done {
            self.shelves.note_done(id)?;
        }
        Ok(())
    }

    /// Works on the programme, or on the track of that folder; returns whether there is nothing left to do.
    fn work_in(&mut self, id: &str, track: Option<&str>) -> io::Result<bool> {
        let Some(entry) = self.shelves.get(id) else {
            return Ok(false);
        };
        let folder = self.shelves.folder(id);
        let from = track.map_or_else(|| folder.clone(), |track| folder.join(track));
        let key = (id.to_owned(), track.map(str::to_owned));
        forget_used(&from, &entry, track)?;
        loop {
            let follower = self.followers.remove(&key);
            let mut follower = follower.unwrap_or_else(|| Follower::new(&from));
            // Asked first: what an ended recording consists of is there when it is read.
            let ended = self.shelves.phase(id) != Some(Phase::Open);
            let step = follower.advance()?;
            if step == Step::Waiting && !ended {
                let growing = follower.movie().map(growing).unwrap_or_default();
                if track.is_none() {
                    self.shelves.note_growing(id, growing);
                }
                self.followers.insert(key, follower);
                return Ok(false);
            }
            let Some(movie) = follower.movie() else {
                break;
            };
            let file = self.finish_one(id, track, &follower, movie)?;
            self.shelves.note_finished(id, file)?;
            if let Some(entry) = self.shelves.get(id) {
                forget_used(&from, &entry, track)?;
            }
        }
        self.shelves.unless_open(id, || {
            for raw in Raw::list(&from)? {
                fs::remove_file(from.join(raw.name()))?;
            }
            track.map_or(Ok(()), |_| fs::remove_dir(from))
        })
    }

    fn finish_one(
        &self,
        id: &str,
        track: Option<&str>,
        follower: &Follower,
        movie: &Movie,
    ) -> io::Result<Finished> {
        let entry = self.shelves.get(id).ok_or(io::ErrorKind::NotFound)?;
        let is_picture = movie.video().is_some();
        let role = track.map(|track| Role::of(track, &entry.cast, is_picture));
        let name = match &role {
            Some(role) => entry.next_name_of(role),
            None => entry.next_name(),
        };
        let folder = &self.shelves.folder(id);
        let path = folder.join(&name);
        let from = track.map_or_else(|| folder.clone(), |track| folder.join(track));
        let head = finish(follower, &from, &path)?;
        let pictures = Pictures {
            path: &path,
            head,
            movie,
            stills: &self.stills,
        };
        let is_first = role.is_none() && entry.program().next().is_none();
        if is_first && let Some(poster) = pictures.poster() {
            fs::write(folder.join(POSTER), poster)?;
            self.shelves.note_poster(id);
        }
        let stem = name.trim_end_matches(".mp4");
        let sprite = role.is_none() && pictures.sprite(folder, stem)?;
        let raws = follower.raws();
        Ok(Finished {
            started_at_ms: movie.start_us() / 1000,
            duration_ms: movie.duration_ms(),
            bytes: fs::metadata(&path)?.len(),
            head,
            size: movie
                .video()
                .map(|video| (video.visual.width, video.visual.height)),
            sprite,
            made_of: raws.last().map_or(0, |raw| raw.number),
            place: if self.uploads {
                Place::Uploading
            } else {
                Place::Local
            },
            role,
            name,
        })
    }

    /// Removes what was deleted. With a storage, the uploader does it.
    fn clear_trash(&self) {
        for folder in self.shelves.trash() {
            if let Err(error) = fs::remove_dir_all(&folder) {
                tracing::warn!(%error, "deleted recording cannot be removed");
            }
        }
    }
}

/// The pictures of a finished file.
struct Pictures<'a> {
    path: &'a Path,
    /// Where its media starts.
    head: u64,
    movie: &'a Movie,
    stills: &'a Stills,
}

impl Pictures<'_> {
    /// A recording without picture, or whose picture cannot be decoded, has no poster.
    fn poster(&self) -> Option<Vec<u8>> {
        let keyframes = self.movie.keyframes();
        // The very first picture is often black.
        let wanted = self.movie.duration_ms() / 10;
        let keyframe = keyframes.iter().rfind(|k| k.time_ms <= wanted);
        let keyframe = keyframe.or(keyframes.first())?;
        self.still(keyframe, POSTER_WIDTH, None)
    }

    /// Writes a sheet of small pictures, and the list of where they belong.
    fn sprite(&self, folder: &Path, stem: &str) -> io::Result<bool> {
        let plan = sprite::plan(&self.movie.keyframes(), self.movie.duration_ms());
        let Some(video) = self.movie.video().filter(|_| !plan.is_empty()) else {
            return Ok(false);
        };
        let tile = sprite::tile(video.visual.width, video.visual.height);
        let tiles = plan
            .iter()
            .map(|tile_plan| self.still(&tile_plan.keyframe, tile.0, Some(tile.1)));
        let tiles: Vec<Vec<u8>> = tiles.map(Option::unwrap_or_default).collect();
        if tiles.iter().all(Vec::is_empty) {
            return Ok(false);
        }
        let Some(sheet) = self.stills.sheet(&tiles, tile, sprite::COLUMNS) else {
            return Ok(false);
        };
        fs::write(folder.join(format!("{stem}.jpg")), sheet)?;
        let list = sprite::list(&plan, tile, &format!("{stem}.jpg"));
        fs::write(folder.join(format!("{stem}.vtt")), list)?;
        Ok(true)
    }

    fn still(&self, keyframe: &Keyframe, width: u16, height: Option<u16>) -> Option<Vec<u8>> {
        let avcc = self.movie.avcc()?;
        let mut file = fs::File::open(self.path).ok()?;
        file.seek(SeekFrom::Start(self.head + keyframe.at)).ok()?;
        let mut data = Vec::new();
        file.take(keyframe.size.into())
            .read_to_end(&mut data)
            .ok()?;
        let picture = Picture::AccessUnit { avcc, data };
        self.stills.decode_waiting(picture, width, height)
    }
}

/// Returns the folders of tracks, in the order in which they began.
fn tracks(folder: &Path) -> io::Result<Vec<String>> {
    let mut tracks = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if is_track_folder(&name) {
            let first = Raw::list(&folder.join(&name))?.first().copied();
            tracks.push((first.map(|raw| raw.start_us), name));
        }
    }
    tracks.sort_unstable();
    Ok(tracks.into_iter().map(|(_, name)| name).collect())
}

/// Removes the fragmented files that a finished one of the programme, or of a track, consists of.
fn forget_used(folder: &Path, entry: &Entry, track: Option<&str>) -> io::Result<()> {
    let of = |file: &&Finished| file.role.as_ref().map(|role| role.folder.as_str()) == track;
    let used = entry.files.iter().rfind(of).map_or(0, |file| file.made_of);
    for raw in Raw::list(folder)? {
        if raw.number <= used {
            fs::remove_file(folder.join(raw.name()))?;
        }
    }
    Ok(())
}

fn growing(movie: &Movie) -> Growing {
    Growing {
        duration_ms: movie.duration_ms(),
        bytes: movie.length(),
        size: movie
            .video()
            .map(|video| (video.visual.width, video.visual.height)),
    }
}

pub(super) const POSTER: &str = "poster.jpg";
const POSTER_WIDTH: u16 = 1280;
const NICE: i32 = 10;
const TICK: Duration = Duration::from_secs(1);
