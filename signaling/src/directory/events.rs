//! What the SFU tells, and what is to be done then.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use sfu::{Event, PeerId, RoomId};

use super::{Directory, Owner};
use crate::{
    chat,
    protocol::{CHAT_CHANNEL, EVENTS_CHANNEL, ServerMessage},
    room::Bindings,
};

/// What is to be done after an event.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Send the room to a newcomer's `events` channel.
    Greet(PeerId, RoomId),
    /// Give this to the chat desk.
    Chat(chat::Errand),
}

impl Directory {
    /// Takes what the SFU tells.
    pub(crate) fn handle_event(
        &mut self,
        event: Event,
        now: Instant,
        now_ms: u64,
    ) -> Option<Errand> {
        match event {
            Event::Connected { peer } => {
                let room = self.peers.get(&peer)?.room;
                self.room_mut(room)?.handle_connected(peer);
                None
            }
            Event::Closed { peer, reason, .. } => {
                self.handle_closed(peer, reason.as_str(), now);
                None
            }
            Event::Published {
                peer,
                room,
                publication,
                kind,
                ..
            } => {
                self.room_mut(room)?
                    .handle_published(peer, publication, kind, now, now_ms);
                None
            }
            Event::Unpublished {
                room, publication, ..
            } => {
                self.room_mut(room)?.handle_unpublished(publication, now);
                None
            }
            Event::Stage {
                room,
                video,
                audio,
                program,
            } => {
                self.room_mut(room)?.handle_stage(Bindings {
                    video,
                    audio,
                    program,
                });
                None
            }
            Event::LayersWanted { peer, wanted, .. } => {
                self.tell_wanted(peer, wanted);
                None
            }
            Event::ChannelOpened { peer, label } if label == EVENTS_CHANNEL => {
                Some(Errand::Greet(peer, self.peers.get(&peer)?.room))
            }
            Event::ChannelOpened { peer, label } if label == CHAT_CHANNEL => {
                self.chat_errand(peer, None)
            }
            Event::Message {
                peer,
                label,
                payload,
            } if label == CHAT_CHANNEL => self.chat_errand(peer, Some(payload)),
            Event::ChannelOpened { .. } | Event::Message { .. } => None,
        }
    }

    /// Tells a broadcasting page which of its layers anybody wants.
    fn tell_wanted(&self, peer: PeerId, wanted: Vec<bool>) {
        if let Some(link) = self.peers.get(&peer)
            && let Owner::Session(session) = link.owner
            && let Some(place) = self.rooms.get(&link.room)
            && let Some(seat) = place.seats.get(&session)
        {
            seat.outbox.push(&ServerMessage::WantedLayers { wanted });
        }
    }

    fn chat_errand(&self, peer: PeerId, payload: Option<Bytes>) -> Option<Errand> {
        // What is far too long is refused as nonsense, and does not wait with all its bytes.
        let payload = payload.map(|payload| match payload.len() {
            0..=chat::MAX_REQUEST => payload,
            _ => Bytes::new(),
        });
        let link = self.peers.get(&peer)?;
        let by = self.room(link.room)?.member(peer)?.clone();
        let Ok(place) = Arc::clone(&link.chat_places).try_acquire_owned() else {
            metrics::counter!("fanlight_chat_dropped_total", "reason" => "flood").increment(1);
            return None;
        };
        Some(Errand::Chat(chat::Errand {
            peer,
            room: link.room,
            by,
            payload,
            _place: place,
        }))
    }
}

/// Messages of one peer that may wait for the chat desk; the rest is dropped. Nobody writes that fast.
pub(super) const CHAT_PLACES: usize = 32;
