//! Rooms that span several SFUs; see [`RelayMessage`].

use std::time::Instant;

use super::Sfu;
use crate::{
    RelayMessage, RoomId, ShardId,
    relay::{Here, Inlet},
};

impl Sfu {
    /// Follows a room, of which there are viewers here, at the SFU where its publishers are. To be called
    /// after each peer that joined; a room without peers is left by itself.
    pub fn follow(&mut self, room: RoomId, home: ShardId) {
        if home != self.config.shard
            && let Some(state) = self.rooms.get_mut(&room)
            && state.inlet.is_none()
        {
            state.inlet = Some(Inlet::new(home));
            self.outbound.push_back((home, RelayMessage::Follow(room)));
        }
    }

    /// Takes what another SFU says.
    pub fn handle_relay(&mut self, from: ShardId, message: &RelayMessage, now: Instant) {
        match message {
            RelayMessage::Follow(room) => {
                self.rooms.entry(*room).or_default().outlet.add(from);
                self.touch(*room);
            }
            RelayMessage::Leave(room) => {
                if let Some(state) = self.rooms.get_mut(room) {
                    state.outlet.remove(from);
                    self.drop_empty(*room);
                }
            }
            RelayMessage::Keyframe {
                room,
                publication,
                layer,
            } => {
                if let Some(state) = self.rooms.get_mut(room)
                    && let Some(layer) = state.layer_mut(*publication, usize::from(*layer))
                {
                    layer.keyframes.request();
                    self.touch(*room);
                }
            }
            RelayMessage::LayersWanted {
                room,
                publication,
                wanted,
            } => {
                if let Some(state) = self.rooms.get_mut(room) {
                    state.outlet.want(from, *publication, wanted);
                }
            }
            RelayMessage::News(batch) => {
                let id = batch.room();
                if let Some(room) = self.rooms.get_mut(&id)
                    && let Some(inlet) = &mut room.inlet
                    && inlet.home == from
                {
                    let here = Here {
                        publications: &mut room.publications,
                        stage: &mut room.stage,
                        held: &mut room.held,
                        history_packets: self.config.history_packets,
                    };
                    inlet.take(batch, here, self.clock, now);
                    self.waiting += batch.packets();
                    self.note(id);
                }
            }
        }
    }

    /// Returns the next message for another SFU.
    pub fn poll_relay(&mut self) -> Option<(ShardId, RelayMessage)> {
        self.outbound.pop_front()
    }

    /// A message for another SFU was lost: it is told everything anew.
    pub fn relay_lost(&mut self, to: ShardId) {
        let rooms = self.rooms.iter_mut();
        let lost: Vec<RoomId> = rooms
            .filter_map(|(id, room)| room.outlet.lost(to).then_some(*id))
            .collect();
        self.totals.drop_many("relay_full", lost.len() as u64);
        lost.into_iter().for_each(|room| self.touch(room));
    }
}
