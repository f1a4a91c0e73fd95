//! WebSocket sessions: who is in which room, and how they are reached.

use std::time::Instant;

use sfu::{PeerId, Role, RoomId};
use tokio::sync::mpsc;

use super::{
    Directory,
    peers::{Owner, orphaned},
};
use crate::{
    auth::Member,
    outbox::Outbox,
    protocol::{IceServer, ServerMessage, close_code},
};

/// Identifies a WebSocket session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(u64);

/// What a session has, from its arrival on.
#[derive(Debug, Default)]
pub(super) struct Presence {
    room: Option<RoomId>,
    pub(super) peers: Vec<PeerId>,
}

/// How a session is reached.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    pub(crate) outbox: Outbox,
    /// Ends of the session's peers and why, at most a few; when full, the session is closed as too slow.
    pub(crate) ended: mpsc::Sender<(PeerId, &'static str)>,
    /// Whether it is told about outputs.
    pub(crate) egress: bool,
}

impl Directory {
    /// Returns how many sessions and resources there are.
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len() + self.resources.len()
    }

    /// Counts a new session in. [`Directory::leave`] counts it out.
    pub(crate) fn arrive(&mut self) -> SessionId {
        self.last_session += 1;
        let id = SessionId(self.last_session);
        self.sessions.insert(id, Presence::default());
        self.gauge();
        id
    }

    /// Seats a session in a room and sends it `joined`, before anything else can be sent to it. Returns the
    /// peers that an earlier session of the same identity has left, which are this session's from now on.
    pub(crate) fn enter(
        &mut self,
        session: SessionId,
        room: RoomId,
        member: &Member,
        seat: Seat,
        ice_servers: Vec<IceServer>,
        guest_token: Option<String>,
    ) -> Vec<(Role, PeerId)> {
        let Some(place) = self.rooms.get_mut(&room) else {
            return Vec::new();
        };
        seat.outbox.push(&ServerMessage::Joined {
            identity: member.identity.clone(),
            name: member.name.clone(),
            grants: member.grants,
            room: place.room.info(),
            ice_servers,
            guest_token,
        });
        if let (true, Some(outputs)) = (seat.egress, &place.outputs) {
            seat.outbox.push_text(outputs.clone());
        }
        place.seats.insert(session, seat);
        let Some(presence) = self.sessions.get_mut(&session) else {
            return Vec::new();
        };
        presence.room = Some(room);
        let mut adopted = Vec::new();
        for (role, publishes) in [(Role::Publisher, true), (Role::Viewer, false)] {
            let key = (room, member.identity.clone(), publishes);
            if let Some(orphan) = self.orphans.remove(&key)
                && let Some(link) = self.peers.get_mut(&orphan)
            {
                link.owner = Owner::Session(session);
                presence.peers.push(orphan);
                adopted.push((role, orphan));
            }
        }
        adopted
    }

    /// Takes a session out of its room. One that said goodbye takes its peers with it: they are returned,
    /// to be closed. The peers of one that was cut off stay: their media may well arrive.
    pub(crate) fn leave(&mut self, session: SessionId, goodbye: bool, now: Instant) -> Vec<PeerId> {
        let presence = self.sessions.remove(&session);
        self.gauge();
        let Some(Presence {
            room: Some(room),
            peers,
        }) = presence
        else {
            return Vec::new();
        };
        let Some(place) = self.rooms.get_mut(&room) else {
            return Vec::new();
        };
        place.seats.remove(&session);
        place.room.touch(now);
        for &peer in &peers {
            if let Some(link) = self.peers.get_mut(&peer) {
                link.owner = Owner::Nobody;
            }
            if let (false, Some(key)) = (goodbye, orphaned(&place.room, peer)) {
                self.orphans.insert(key, peer);
            }
        }
        if goodbye { peers } else { Vec::new() }
    }

    /// Closes all sessions: the server stops, and pages are to come back.
    pub(crate) fn close_sessions(&self) {
        for seat in self.rooms.values().flat_map(|place| place.seats.values()) {
            seat.outbox
                .close(close_code::RESTARTING, "server restarting");
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "there are far fewer than 2^52 sessions"
    )]
    pub(super) fn gauge(&self) {
        metrics::gauge!("fanlight_sessions", "kind" => "ws").set(self.sessions.len() as f64);
        metrics::gauge!("fanlight_sessions", "kind" => "http").set(self.resources.len() as f64);
    }
}
