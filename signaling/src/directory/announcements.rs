//! What the members of a room are told.

use bytes::Bytes;
use sfu::RoomId;

use super::Directory;
use crate::{
    outbox::text,
    protocol::{RoomEvent, ServerMessage},
    room::{Change, Performance, Slots},
};

impl Directory {
    /// Returns how soon somebody is to be told something.
    pub(crate) fn change(&self) -> Change {
        self.rooms
            .values()
            .map(|place| place.room.change())
            .max()
            .unwrap_or(Change::None)
    }

    /// Tells the sessions of all rooms with changes at least that urgent, and returns what their `events`
    /// channels are to be told.
    pub(crate) fn announce(&mut self, at_least: Change) -> Vec<(RoomId, Bytes)> {
        let changed = self.rooms.values_mut().filter(|place| {
            let change = place.room.change();
            change != Change::None && change >= at_least
        });
        let mut events = Vec::new();
        for place in changed {
            let announcement = place.room.announce();
            if let Some(room) = announcement.info {
                let message = text(&ServerMessage::Room { room: room.clone() });
                for seat in place.seats.values() {
                    seat.outbox.push_text(message.clone());
                }
                events.push((place.room.id(), event(&RoomEvent::Room { room })));
            }
            if let Some(slots) = announcement.slots {
                events.push((place.room.id(), event(&stage_event(slots))));
            }
        }
        events
    }

    /// Returns the performances that have changed since it was asked last.
    pub(crate) fn changed_performances(&mut self) -> Vec<(RoomId, Performance)> {
        let places = self.rooms.values_mut();
        let changed = places.filter_map(|place| {
            let performance = place.room.performance();
            let before = place.told.replace(performance.clone());
            (before.as_ref() != Some(&performance)).then(|| (place.room.id(), performance))
        });
        changed.collect()
    }

    /// Returns what a newcomer's `events` channel is told.
    pub(crate) fn greeting(&self, room: RoomId) -> Vec<Bytes> {
        let Some(room) = self.room(room) else {
            return Vec::new();
        };
        let info = event(&RoomEvent::Room { room: room.info() });
        vec![info, event(&stage_event(room.slots()))]
    }

    /// Tells those who may see them what a room's outputs do.
    pub(crate) fn set_outputs(&mut self, room: RoomId, jobs: serde_json::Value, hls: bool) {
        let Some(place) = self.rooms.get_mut(&room) else {
            return;
        };
        place.room.set_hls(hls);
        place.has_outputs = jobs.as_array().is_some_and(|jobs| !jobs.is_empty());
        let message = text(&ServerMessage::Outputs { jobs });
        for seat in place.seats.values().filter(|seat| seat.egress) {
            seat.outbox.push_text(message.clone());
        }
        place.outputs = Some(message);
    }

    /// Tells those who may see a room's outputs that a recording can be played.
    pub(crate) fn tell_recording(&mut self, room: RoomId, recording: serde_json::Value) {
        let Some(place) = self.rooms.get_mut(&room) else {
            return;
        };
        let message = text(&ServerMessage::RecordingReady { recording });
        for seat in place.seats.values().filter(|seat| seat.egress) {
            seat.outbox.push_text(message.clone());
        }
    }
}

fn stage_event(slots: Slots) -> RoomEvent {
    let Slots {
        video,
        audio,
        program,
    } = slots;
    RoomEvent::Stage {
        video,
        audio,
        program,
    }
}

fn event(event: &RoomEvent) -> Bytes {
    serde_json::to_vec(event)
        .expect("wire types are JSON")
        .into()
}
