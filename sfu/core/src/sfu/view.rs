//! What can be seen of an [`Sfu`] from outside.

use std::time::{Duration, Instant};

use super::{Role, Sfu};
use crate::{PeerId, PeerStats, RoomId, RoomStats, Snapshot, Stats};

impl Sfu {
    /// Returns the totals.
    pub fn stats(&self) -> Stats {
        let connected = |role| {
            let peers = self.peers.iter().filter(|peer| peer.join.role == role);
            peers.filter(|peer| peer.transport.is_connected()).count()
        };
        // A connection for data channels only watches nothing.
        let viewers = || {
            let peers = self.peers.iter();
            peers.filter(|peer| peer.transport.is_connected() && peer.has_views())
        };
        let mut stats = Stats {
            rooms: self.rooms.values().filter(|room| room.counts()).count(),
            publishers: connected(Role::Publisher),
            viewers: viewers().count(),
            viewers_limited: viewers().filter(|p| p.allotment.is_limited()).count(),
            viewers_paused: viewers().filter(|p| p.allotment.is_paused()).count(),
            ..self.totals.snapshot()
        };
        for peer in self.peers.iter().filter(|p| p.transport.is_connected()) {
            stats.add(peer);
        }
        stats
    }

    /// Returns the newest keyframe of what a room shows as its program; `None` while nothing flows. When none
    /// came within `fresh`, one is asked for, paced as always.
    pub fn snapshot(
        &mut self,
        room: RoomId,
        fresh: Option<Duration>,
        now: Instant,
    ) -> Option<Snapshot> {
        let (snapshot, asked) = self.rooms.get_mut(&room)?.snapshot(fresh, now);
        if asked {
            self.touch(room);
        }
        snapshot
    }

    /// Returns the state of one room; all zero for a room without peers.
    pub fn room_stats(&self, room: RoomId, now: Instant) -> RoomStats {
        let Some(room) = self.rooms.get(&room) else {
            return RoomStats::default();
        };
        let viewers = room.viewers().iter().filter_map(|id| self.peers.get(*id));
        RoomStats {
            live: room.is_live(now),
            viewers: viewers.filter(|p| p.transport.is_connected()).count(),
        }
    }

    /// Returns the state of one peer.
    pub fn peer_stats(&self, peer: PeerId, now: Instant) -> Option<PeerStats> {
        let peer = self.peers.get(peer)?;
        let room = self.rooms.get(&peer.join.room);
        let publications = room.map_or(&[][..], |room| &room.publications);
        Some(PeerStats::of(peer, publications, now))
    }
}
