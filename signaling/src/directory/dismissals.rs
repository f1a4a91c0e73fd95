//! Who has to go: participants who are done, guests who are removed or whose host is gone.

use std::time::Instant;

use sfu::{PeerId, RoomId};

use super::{Directory, gone};
use crate::{Problem, auth::Member};

impl Directory {
    /// Notes that the participant of a peer, which is about to be closed, is done. Returns the guests' peers
    /// that are to be closed with it.
    pub(crate) fn stop(&mut self, peer: PeerId, now: Instant) -> Vec<PeerId> {
        let Some(link) = self.peers.get(&peer) else {
            return Vec::new();
        };
        let Some(place) = self.rooms.get_mut(&link.room) else {
            return Vec::new();
        };
        let guests = place.room.stop(peer, now);
        self.dismiss(&guests, STAGE_CLOSED);
        guests
    }

    /// Notes that a participant is done whose publishing peer is gone already. Returns the guests' peers that are
    /// to be closed.
    pub(crate) fn finish(&mut self, room: RoomId, by: &Member, now: Instant) -> Vec<PeerId> {
        let guests = self.room_mut(room).map(|room| room.finish(by, now));
        let guests = guests.unwrap_or_default();
        self.dismiss(&guests, STAGE_CLOSED);
        guests
    }

    /// Takes a guest off the stage. Returns their peers, which are to be closed.
    pub(crate) fn remove_guest(
        &mut self,
        room: RoomId,
        identity: &str,
        now: Instant,
    ) -> Result<Vec<PeerId>, Problem> {
        let room = self.room_mut(room).ok_or_else(gone)?;
        let peers = room.remove_guest(identity, now)?;
        self.dismiss(&peers, REMOVED);
        Ok(peers)
    }

    /// Returns the peers of guests whose host has not come back in time; they are to be closed.
    pub(crate) fn abandoned_guests(&mut self, now: Instant) -> Vec<PeerId> {
        let rooms = self.rooms.values_mut();
        let guests: Vec<_> = rooms
            .flat_map(|place| place.room.abandoned_guests(now))
            .collect();
        self.dismiss(&guests, STAGE_CLOSED);
        guests
    }

    /// Notes why these peers are about to be closed.
    fn dismiss(&mut self, peers: &[PeerId], why: &'static str) {
        for peer in peers {
            if let Some(link) = self.peers.get_mut(peer) {
                link.dismissed = Some(why);
            }
        }
    }
}

/// Why guests lose their peers.
const REMOVED: &str = "removed";
const STAGE_CLOSED: &str = "stage_closed";
