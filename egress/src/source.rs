//! Where a job's packets come from.

use std::{collections::BTreeMap, fmt::Debug, future::Future, pin::Pin, time::Duration};

use sfu::{RoomId, Snapshot, TapPacket, TapVideo};

use crate::status;

/// A future that borrows from its maker.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Opens what rooms send. The app's resolves identities and taps the SFU.
pub trait Sources: Debug + Send + Sync + 'static {
    /// Opens a source of a room, whether anything comes from it yet or not; `None` when the media server has
    /// stopped.
    fn open<'a>(
        &'a self,
        room: RoomId,
        source: &'a status::Source,
    ) -> BoxFuture<'a, Option<Box<dyn Source>>>;

    /// Returns the newest keyframe of the room's program, and asks for a newer one if none came within `fresh`.
    fn snapshot(&self, _room: RoomId, _fresh: Option<Duration>) -> BoxFuture<'_, Option<Snapshot>> {
        Box::pin(async { None })
    }

    /// Returns whether anybody sends to the room.
    fn is_live(&self, _room: RoomId) -> BoxFuture<'_, bool> {
        Box::pin(async { false })
    }
}

/// The packets of one source. Ends when dropped.
pub trait Source: Debug + Send {
    /// Returns the next packet; `None` when there will be no more. Must be cancel safe.
    fn recv(&mut self) -> BoxFuture<'_, Option<TapPacket>>;

    /// Asks those who send for a keyframe.
    fn request_keyframe(&self);

    /// Says how much of the video is to come.
    fn set_video(&self, video: TapVideo);

    /// Says of which simulcast layer the video of each lane is to be: so many below the top, 0 for lanes that are not
    /// listed.
    fn set_layers(&self, layers: BTreeMap<u32, usize>);
}

impl Source for sfu::Tap {
    fn recv(&mut self) -> BoxFuture<'_, Option<TapPacket>> {
        Box::pin(self.recv())
    }

    fn request_keyframe(&self) {
        self.request_keyframe();
    }

    fn set_video(&self, video: TapVideo) {
        self.set_video(video);
    }

    fn set_layers(&self, layers: BTreeMap<u32, usize>) {
        self.set_layers(layers);
    }
}
