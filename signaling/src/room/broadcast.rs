//! When a room is on air: from the host's first publication to the end of the last, and over interruptions.

use std::{sync::Arc, time::Instant};

use sfu::{MediaKind, PeerId, PublicationId};

use super::{Purpose, Room, slots::Published};
use crate::{Problem, auth::Member, protocol::ErrorCode};

#[derive(Debug)]
pub(super) struct Broadcast {
    identity: String,
    pub(super) since_ms: u64,
    pub(super) state: Air,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Air {
    On,
    /// Still on air, but asked to end.
    Ending,
    Off {
        since: Instant,
    },
}

impl Room {
    pub(crate) fn handle_published(
        &mut self,
        peer: PeerId,
        publication: PublicationId,
        kind: MediaKind,
        now: Instant,
        now_ms: u64,
    ) {
        let Some(member) = self.member(peer).cloned() else {
            return;
        };
        let identity = member.identity.clone();
        let host = self.is_host(&member);
        self.publications
            .insert(publication, Published { kind, member });
        if !host {
            return;
        }
        let before = self.broadcast.take().filter(|broadcast| {
            broadcast.identity == identity
                && match broadcast.state {
                    Air::On => true,
                    Air::Ending => false,
                    Air::Off { since } => now.duration_since(since) <= self.grace,
                }
        });
        let since_ms = before.map_or(now_ms, |before| before.since_ms);
        self.broadcast = Some(Broadcast {
            identity,
            since_ms,
            state: Air::On,
        });
    }

    pub(crate) fn handle_unpublished(&mut self, publication: PublicationId, now: Instant) {
        self.publications.remove(&publication);
        self.leave_air(now);
    }

    /// Notes that a participant is done, whose peer is about to be closed. The host's end is everybody's:
    /// returns the guests' peers, which are to be closed too.
    pub(crate) fn stop(&mut self, peer: PeerId, now: Instant) -> Vec<PeerId> {
        let Some(stopped) = self.peers.get(&peer) else {
            return Vec::new();
        };
        let member = Arc::clone(&stopped.member);
        let is_end = stopped.purpose == Purpose::Publish && self.is_host(&member);
        self.dismiss(peer, now);
        if !is_end || self.stage.host().is_some() {
            return Vec::new();
        }
        if let Some(broadcast) = &mut self.broadcast
            && broadcast.state == Air::On
        {
            broadcast.state = Air::Ending;
        }
        self.close_stage(now)
    }

    /// The same for a participant whose peer is gone already: it was no interruption.
    pub(crate) fn finish(&mut self, by: &Member, now: Instant) -> Vec<PeerId> {
        let Some(broadcast) = &mut self.broadcast else {
            return Vec::new();
        };
        if broadcast.identity != by.identity || self.stage.host().is_some() {
            return Vec::new();
        }
        match broadcast.state {
            Air::On => broadcast.state = Air::Ending,
            Air::Ending => {}
            Air::Off { .. } => self.broadcast = None,
        }
        self.close_stage(now)
    }

    /// The broadcaster pauses or goes on.
    pub(crate) fn set_paused(&mut self, by: &Member, paused: bool) -> Result<(), Problem> {
        if !self.is_host(by) {
            return Err(Problem::new(
                ErrorCode::NotAllowed,
                "Only the one who is broadcasting can pause.",
            ));
        }
        self.paused = paused;
        Ok(())
    }

    /// Between two peers of the same broadcaster the room stays on air: viewers see a cut, not an end.
    pub(super) fn leave_air(&mut self, now: Instant) {
        let taken_over = self
            .peers
            .values()
            .any(|peer| peer.connected && peer.purpose == Purpose::Publish);
        if self.publications.is_empty()
            && !taken_over
            && let Some(broadcast) = &mut self.broadcast
        {
            match broadcast.state {
                Air::On => broadcast.state = Air::Off { since: now },
                Air::Ending => self.broadcast = None,
                Air::Off { .. } => return,
            }
            self.paused = false;
        }
    }
}
