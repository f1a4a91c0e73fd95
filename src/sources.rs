//! What outputs may read of a room: joins identities, which signaling knows, with taps of the SFU.

use std::time::Duration;

use egress::{BoxFuture, Source, Sources, status};
use sfu::{MediaKind, RoomId, Snapshot, TapSource};

/// Taps the SFU.
#[derive(Debug)]
pub(crate) struct RoomSources {
    pub(crate) sfu: sfu::Handle,
}

impl Sources for RoomSources {
    fn open<'a>(
        &'a self,
        room: RoomId,
        source: &'a status::Source,
    ) -> BoxFuture<'a, Option<Box<dyn Source>>> {
        Box::pin(async move {
            let tap = self.sfu.tap(room, tapped(source)).await.ok()?;
            Some(Box::new(tap) as Box<dyn Source>)
        })
    }

    fn snapshot(&self, room: RoomId, fresh: Option<Duration>) -> BoxFuture<'_, Option<Snapshot>> {
        Box::pin(async move { self.sfu.snapshot(room, fresh).await.ok().flatten() })
    }

    fn is_live(&self, room: RoomId) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            self.sfu
                .room_stats(room)
                .await
                .is_ok_and(|stats| stats.live)
        })
    }
}

/// Identities need not be there yet: the SFU's ids of participants follow from them.
fn tapped(source: &status::Source) -> TapSource {
    match source {
        status::Source::Program {} => TapSource::Program,
        status::Source::Stage {} => TapSource::Stage,
        status::Source::Participant { identity } => {
            TapSource::Participant(signaling::participant(identity))
        }
        status::Source::Track { identity, track } => {
            let (kind, position) = match track {
                status::Track::Camera => (MediaKind::Video, 0),
                status::Track::Screen => (MediaKind::Video, 1),
                status::Track::Microphone => (MediaKind::Audio, 0),
                status::Track::ScreenAudio => (MediaKind::Audio, 1),
            };
            TapSource::Track {
                participant: signaling::participant(identity),
                kind,
                position,
            }
        }
    }
}
