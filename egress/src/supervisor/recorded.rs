//! What the library of recordings has to know of a job.

use std::io;

use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinSet, spawn_blocking},
};

use super::Run;
use crate::{
    feed::feed,
    recording::{Cast, Library},
    status::{self, DestinationState, DestinationType},
    wall_clock::unix_ms_now,
};

/// Tells the library things in their order while the job goes on: its disk may be slow. When [`NOTE_LIMIT`] wait, the job
/// waits, too.
#[derive(Debug)]
pub(super) struct Clerk {
    notes: Option<mpsc::Sender<Note>>,
    writing: JoinSet<()>,
}

type Note = Box<dyn FnOnce() -> io::Result<()> + Send>;

impl Clerk {
    pub(super) fn start() -> Self {
        let (notes, mut next) = mpsc::channel::<Note>(NOTE_LIMIT);
        let mut writing = JoinSet::new();
        writing.spawn(async move {
            while let Some(note) = next.recv().await {
                if let Ok(Err(error)) = spawn_blocking(note).await {
                    tracing::error!(%error, "the record of a recording cannot be written");
                }
            }
        });
        Self {
            notes: Some(notes),
            writing,
        }
    }

    async fn take(&self, note: impl FnOnce() -> io::Result<()> + Send + 'static) {
        if let Some(notes) = &self.notes {
            let _ = notes.send(Box::new(note)).await;
        }
    }

    /// The same, and waits until it is written.
    async fn take_first(&self, note: impl FnOnce() -> io::Result<()> + Send + 'static) {
        let (written, wait) = oneshot::channel();
        let note = move || {
            let result = note();
            let _ = written.send(());
            result
        };
        self.take(note).await;
        let _ = wait.await;
    }

    /// Waits until everything is written.
    pub(super) async fn finish(&mut self) {
        self.notes = None;
        while self.writing.join_next().await.is_some() {}
    }
}

impl Run {
    /// Tells the library which recordings are being written.
    pub(super) async fn tell_library(&mut self) {
        let over = self.job.is_over();
        let mut told = Vec::new();
        for (number, accepted) in &self.accepted {
            if accepted.kind != DestinationType::Recording {
                continue;
            }
            let mut destinations = self.job.destinations().iter();
            let destination = destinations.find(|d| d.number() == *number);
            // One that says goodbye is still writing.
            let writes =
                destination.is_some_and(|d| !over && d.state() != DestinationState::Failed);
            if self.recordings.contains(number) != writes {
                let failure = destination.and_then(|d| d.failure());
                told.push((*number, writes, failure.map(|failure| failure.code)));
            }
        }
        for (number, writes, code) in told {
            let id = Library::id(&self.supervisor.id, number);
            let (library, room) = (
                self.supervisor.library.clone(),
                self.supervisor.room.clone(),
            );
            let note = move || {
                if writes {
                    return library.begin(&id, &room, unix_ms_now());
                }
                library.end(&id, code);
                Ok(())
            };
            if writes {
                // What a worker has written of one that is over is removed.
                self.clerk.take_first(note).await;
            } else {
                self.clerk.take(note).await;
            }
            self.cast.clear();
            if writes {
                self.recordings.insert(number);
            } else {
                self.recordings.remove(&number);
            }
        }
    }

    /// Has the tracks of the stage come, too.
    pub(super) async fn open_tracks(&mut self) {
        if !self.tracks.is_empty() {
            return;
        }
        let (room, source) = (self.supervisor.room.id, status::Source::Stage {});
        if let Some(source) = self.supervisor.sources.open(room, &source).await {
            let interval = self.supervisor.config.keyframe_interval() * TRACK_PATIENCE;
            let demanded = self.demand.subscribe();
            self.tracks.spawn(feed(source, demanded, interval, true));
        }
    }

    /// Tells the library whose tracks are recorded.
    pub(super) async fn tell_cast(&mut self) {
        if self.tracks.is_empty() || self.recordings.is_empty() {
            return;
        }
        let cast = Cast::of(&self.supervisor.stage.borrow());
        if cast.is_empty() || cast == self.cast {
            return;
        }
        self.cast = cast;
        for number in &self.recordings {
            let id = Library::id(&self.supervisor.id, *number);
            let (library, cast) = (self.supervisor.library.clone(), self.cast.clone());
            let note = move || library.note_cast(&id, cast);
            self.clerk.take(note).await;
        }
    }
}

const NOTE_LIMIT: usize = 64;

/// Keyframes of tracks that are recorded apart are asked for so much less often.
const TRACK_PATIENCE: u32 = 5;

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn the_job_goes_on_while_the_disk_is_slow_and_nothing_changes_its_order() {
        let mut clerk = Clerk::start();
        let (disk, answer) = channel::<()>();
        let slow = move || {
            answer.recv().unwrap();
            Ok(())
        };
        clerk.take(slow).await;
        let (written, order) = channel();
        for n in 0..NOTE_LIMIT {
            let written = written.clone();
            let note = move || {
                written.send(n).unwrap();
                Ok(())
            };
            clerk.take(note).await;
        }
        assert!(order.try_recv().is_err(), "the disk has not answered yet");
        disk.send(()).unwrap();
        clerk.finish().await;
        drop(written);
        assert!(order.iter().eq(0..NOTE_LIMIT));
    }
}
