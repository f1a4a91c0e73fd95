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
    followers: HashMap<String, Follower>,
}

impl Workshop {
    pub(super) fn new(shelves: Arc<Shelves>, stills: Stills, uploads: bool) -> Self {
        Self {
            shelves,
            stills,
            uploads,
            followers: HashMap::new(),
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
                if let Err(error) = self.work_on(&id) {
                    tracing::error!(recording = %id, %error, "recording cannot be finished; it is tried again");
                }
            }
            match wake.recv_timeout(TICK) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn work_on(&mut self, id: &str) -> io::Result<()> {
        let Some(entry) = self.shelves.get(id) else {
            return Ok(());
        };
        let folder = self.shelves.folder(id);
        forget_used(&folder, &entry)?;
        loop {
            let follower = self.followers.remove(id);
            let mut follower = follower.unwrap_or_else(|| Follower::new(&folder));
            // Asked first: what an ended recording consists of is there when it is read.
            let ended = self.shelves.phase(id) != Some(Phase::Open);
            let step = follower.advance()?;
            if step == Step::Waiting && !ended {
                let growing = follower.movie().map(growing).unwrap_or_default();
                self.shelves.note_growing(id, growing);
                self.followers.insert(id.to_owned(), follower);
                return Ok(());
            }
            let Some(movie) = follower.movie() else {
                break;
            };
            let file = self.finish_one(id, &folder, &follower, movie)?;
            self.shelves.note_finished(id, file)?;
            if let Some(entry) = self.shelves.get(id) {
                forget_used(&folder, &entry)?;
            }
        }
        for raw in Raw::list(&folder)? {
            fs::remove_file(folder.join(raw.name()))?;
        }
        self.shelves.note_done(id)
    }

    fn finish_one(
        &self,
        id: &str,
        folder: &Path,
        follower: &Follower,
        movie: &Movie,
    ) -> io::Result<Finished> {
        let number = self.shelves.get(id).map_or(0, |entry| entry.files.len()) + 1;
        let name = Finished::name_of(id, number);
        let path = folder.join(&name);
        let head = finish(follower, folder, &path)?;
        let pictures = Pictures {
            path: &path,
            head,
            movie,
            stills: &self.stills,
        };
        let is_first = number == 1;
        if is_first && let Some(poster) = pictures.poster() {
            fs::write(folder.join(POSTER), poster)?;
            self.shelves.note_poster(id);
        }
        let stem = name.trim_end_matches(".mp4");
        let sprite = pictures.sprite(folder, stem)?;
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

/// Removes the fragmented files that a finished one consists of.
fn forget_used(folder: &Path, entry: &Entry) -> io::Result<()> {
    let used = entry.files.last().map_or(0, |file| file.made_of);
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
