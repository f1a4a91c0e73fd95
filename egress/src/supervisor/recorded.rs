//! What the library of recordings has to know of a job.

use super::Run;
use crate::{
    feed::feed,
    recording::{Cast, Library},
    status::{self, DestinationState, DestinationType},
    wall_clock::unix_ms_now,
};

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
            let kept = tokio::task::spawn_blocking(move || {
                if writes {
                    return library.begin(&id, &room, unix_ms_now());
                }
                library.end(&id, code);
                Ok(())
            });
            if let Ok(Err(error)) = kept.await {
                tracing::error!(%error, "the record of a recording cannot be written");
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
            let noted = tokio::task::spawn_blocking(move || library.note_cast(&id, cast)).await;
            if let Ok(Err(error)) = noted {
                tracing::error!(%error, "the record of a recording cannot be written");
            }
        }
    }
}

/// Keyframes of tracks that are recorded apart are asked for so much less often.
const TRACK_PATIENCE: u32 = 5;
