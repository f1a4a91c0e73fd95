//! Media connections: to whom each belongs, and who takes over those whose session is gone.

use std::{sync::Arc, time::Instant};

use sfu::{PeerId, Role, RoomId};
use tokio::sync::{Semaphore, mpsc};

use super::{Directory, SessionId, events::CHAT_PLACES, gone};
use crate::{
    Problem,
    auth::Member,
    room::{Purpose, Room},
};

/// What a peer without a session is found by: its room, identity, and whether it publishes.
pub(super) type Orphaned = (RoomId, String, bool);

/// What a peer belongs to.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) room: RoomId,
    pub(super) owner: Owner,
    /// Why signaling is about to close it, when its owner is to be told more than that it was requested.
    pub(super) dismissed: Option<&'static str>,
    /// Places in the chat queue, so that one flooding peer does not take them all.
    pub(super) chat_places: Arc<Semaphore>,
}

/// Who is told when a peer is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A WebSocket session.
    Session(SessionId),
    /// A WHIP or WHEP session.
    Resource(String),
    /// Nobody: its session was cut off and may come back.
    Nobody,
}

impl Directory {
    /// Reserves what an offer needs; see [`Room::reserve`]. Follow with [`Directory::add_peer`] or
    /// [`Directory::release`].
    pub(crate) fn reserve(
        &mut self,
        room: RoomId,
        role: Role,
        by: &Member,
        now: Instant,
    ) -> Result<(), Problem> {
        let room = self.room_mut(room).ok_or_else(gone)?;
        match role {
            Role::Publisher => room.reserve(by, now),
            Role::Viewer => Ok(()),
        }
    }

    /// Gives back what was reserved.
    pub(crate) fn release(&mut self, room: RoomId, role: Role, by: &Member, now: Instant) {
        if let (Role::Publisher, Some(room)) = (role, self.room_mut(room)) {
            room.release(by, now);
        }
    }

    /// Notes a new peer. A session that is gone by now leaves it to its successor.
    pub(crate) fn add_peer(
        &mut self,
        room: RoomId,
        peer: PeerId,
        purpose: Purpose,
        member: Arc<Member>,
        owner: Owner,
        now: Instant,
    ) {
        let Some(place) = self.rooms.get_mut(&room) else {
            return;
        };
        let owner = match owner {
            Owner::Session(session) => match self.sessions.get_mut(&session) {
                Some(presence) => {
                    presence.peers.push(peer);
                    Owner::Session(session)
                }
                None => {
                    let publishes = purpose == Purpose::Publish;
                    let key = (room, member.identity.clone(), publishes);
                    self.orphans.insert(key, peer);
                    Owner::Nobody
                }
            },
            owner @ (Owner::Resource(_) | Owner::Nobody) => owner,
        };
        if purpose == Purpose::Publish && matches!(owner, Owner::Resource(_)) {
            // A sender by WHIP does not say what its picture is: what a page said before was about another.
            place.room.set_heights(&member, &[]);
            place.room.set_screen(&member, false);
        }
        place.room.add_peer(peer, purpose, member, now);
        let chat_places = Arc::new(Semaphore::new(CHAT_PLACES));
        self.peers.insert(
            peer,
            Link {
                room,
                owner,
                dismissed: None,
                chat_places,
            },
        );
    }

    pub(super) fn handle_closed(&mut self, peer: PeerId, reason: &'static str, now: Instant) {
        let Some(link) = self.peers.remove(&peer) else {
            return;
        };
        let Some(place) = self.rooms.get_mut(&link.room) else {
            return;
        };
        if let Some(key) = orphaned(&place.room, peer)
            && self.orphans.get(&key) == Some(&peer)
        {
            self.orphans.remove(&key);
        }
        place.room.handle_closed(peer, now);
        match link.owner {
            Owner::Session(session) => {
                if let Some(presence) = self.sessions.get_mut(&session) {
                    presence.peers.retain(|&other| other != peer);
                }
                if let Some(seat) = place.seats.get(&session)
                    && let Err(mpsc::error::TrySendError::Full(_)) = seat
                        .ended
                        .try_send((peer, link.dismissed.unwrap_or(reason)))
                {
                    seat.outbox.give_up();
                }
            }
            Owner::Resource(id) => self.remove_resource(&id),
            Owner::Nobody => {}
        }
    }
}

pub(super) fn orphaned(room: &Room, peer: PeerId) -> Option<Orphaned> {
    let member = room.member(peer)?;
    let publishes = room.purpose(peer) == Some(Purpose::Publish);
    Some((room.id(), member.identity.clone(), publishes))
}
