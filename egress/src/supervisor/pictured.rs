//! What becomes of the pictures that a worker takes.

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{Event, Run};
use crate::{
    album,
    link::{Command, Pictured, Report, Target},
};

/// What became of a picture: its destination, its number, and that.
pub(super) type Outcome = (usize, u64, Pictured);

impl Run {
    /// Has a picture made if that is what a worker reports.
    pub(super) fn handle_picture(&mut self, report: &Report, body: Bytes) {
        let &Report::Picture {
            destination,
            shot,
            taken_at_ms,
            configuration,
        } = report
        else {
            return;
        };
        let accepted = self.accepted.get(&destination);
        let Some(Target::Thumbnails(target)) = accepted.map(|accepted| &accepted.target) else {
            return;
        };
        // A destination has one at a time; those of workers that have died may be left.
        if self.developing.len() >= DEVELOPING_LIMIT {
            return self.answer_picture((destination, shot, Pictured::Missed));
        }
        let albums = self.supervisor.albums.clone();
        let order = album::Order {
            album: albums.of(&self.supervisor.id, destination),
            target: *target,
            taken_at_ms,
            body,
            configuration,
        };
        self.developing
            .spawn(async move { (destination, shot, albums.develop(order).await) });
    }

    /// Tells the worker what became of a picture.
    pub(super) fn answer_picture(&mut self, (destination, shot, outcome): Outcome) {
        self.send(&Command::Pictured {
            destination,
            shot,
            outcome,
        });
    }
}

/// Cancel safe.
pub(super) async fn next_picture(developing: &mut JoinSet<Outcome>) -> Event {
    while let Some(developed) = developing.join_next().await {
        if let Ok(outcome) = developed {
            return Event::Pictured(outcome);
        }
    }
    std::future::pending().await
}

/// Twice the destinations that a job may have.
const DEVELOPING_LIMIT: usize = 32;
