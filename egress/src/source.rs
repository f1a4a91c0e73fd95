//! Where a job's packets come from.

use std::{fmt::Debug, future::Future, pin::Pin, time::Duration};

use sfu::{RoomId, Snapshot, TapPacket, TapSource};

/// A future that borrows from its maker.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Opens the program of a room. [`sfu::Handle`] is the one in production.
pub trait Sources: Debug + Send + Sync + 'static {
    /// Opens the room's program; `None` when the media server has stopped.
    fn open(&self, room: RoomId) -> BoxFuture<'_, Option<Box<dyn Source>>>;

    /// Returns the newest keyframe of the room's program, and asks for a newer one if none came within `fresh`.
    fn snapshot(&self, _room: RoomId, _fresh: Option<Duration>) -> BoxFuture<'_, Option<Snapshot>> {
        Box::pin(async { None })
    }

    /// Returns whether anybody sends to the room.
    fn is_live(&self, _room: RoomId) -> BoxFuture<'_, bool> {
        Box::pin(async { false })
    }
}

/// The packets of one room's program. Ends when dropped.
pub trait Source: Debug + Send {
    /// Returns the next packet; `None` when there will be no more. Must be cancel safe.
    fn recv(&mut self) -> BoxFuture<'_, Option<TapPacket>>;

    /// Asks the broadcaster for a keyframe.
    fn request_keyframe(&self);
}

impl Sources for sfu::Handle {
    fn open(&self, room: RoomId) -> BoxFuture<'_, Option<Box<dyn Source>>> {
        Box::pin(async move {
            let tap = self.tap(room, TapSource::Program).await.ok()?;
            Some(Box::new(tap) as Box<dyn Source>)
        })
    }

    fn snapshot(&self, room: RoomId, fresh: Option<Duration>) -> BoxFuture<'_, Option<Snapshot>> {
        Box::pin(async move { self.snapshot(room, fresh).await.ok().flatten() })
    }

    fn is_live(&self, room: RoomId) -> BoxFuture<'_, bool> {
        Box::pin(async move { self.room_stats(room).await.is_ok_and(|stats| stats.live) })
    }
}

impl Source for sfu::Tap {
    fn recv(&mut self) -> BoxFuture<'_, Option<TapPacket>> {
        Box::pin(self.recv())
    }

    fn request_keyframe(&self) {
        self.request_keyframe();
    }
}
