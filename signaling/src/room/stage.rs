//! Who is on the stage of a room, and who has to leave it.

use std::time::Instant;

use sfu::{ParticipantId, PeerId};

use super::Room;
use crate::{
    Problem,
    auth::{self, Member},
    protocol::StageMember,
};

impl Room {
    /// Reserves a place on stage for an offer to publish; see [`Stage::reserve`]. Follow with
    /// [`Room::add_peer`] or [`Room::release`].
    pub(crate) fn reserve(&mut self, by: &Member, now: Instant) -> Result<(), Problem> {
        self.used_at = now;
        self.stage.reserve(by)
    }

    /// Gives a reservation back: the offer was refused.
    pub(crate) fn release(&mut self, by: &Member, now: Instant) {
        self.stage.release(&by.identity, now);
    }

    /// Returns how many may be on stage.
    pub(crate) fn stage_size(&self) -> usize {
        self.stage.size()
    }

    /// Notes how high the layers of a member's picture are, the lowest first.
    pub(crate) fn set_heights(&mut self, by: &Member, heights: &[u32]) {
        self.stage.set_heights(&by.identity, heights);
    }

    /// Notes whether a member's picture is a shared screen.
    pub(crate) fn set_screen(&mut self, by: &Member, screen: bool) {
        self.stage.set_screen(&by.identity, screen);
    }

    /// Returns who is featured and on stage, by their id in the SFU.
    pub(crate) fn featured(&self) -> Option<ParticipantId> {
        self.stage.featured().map(auth::participant)
    }

    /// Features somebody on stage, or nobody. Returns their id in the SFU.
    pub(crate) fn feature(
        &mut self,
        identity: Option<&str>,
    ) -> Result<Option<ParticipantId>, Problem> {
        self.stage.feature(identity)?;
        Ok(identity.map(auth::participant))
    }

    /// Takes a guest off the stage for good. Returns their peers, which are to be closed.
    pub(crate) fn remove_guest(
        &mut self,
        identity: &str,
        now: Instant,
    ) -> Result<Vec<PeerId>, Problem> {
        self.stage.remove(identity)?;
        let peers = self.publishing(|member| member.identity == identity);
        for peer in &peers {
            self.dismiss(*peer, now);
        }
        Ok(peers)
    }

    /// Returns the peers of guests whose host has been away for too long; they are to be closed.
    pub(crate) fn abandoned_guests(&mut self, now: Instant) -> Vec<PeerId> {
        if self.stage.is_abandoned(self.grace, now) {
            self.close_stage(now)
        } else {
            Vec::new()
        }
    }

    pub(super) fn is_host(&self, member: &Member) -> bool {
        self.stage
            .host()
            .is_some_and(|host| host.identity == member.identity)
    }

    /// Returns who is sending, the host first.
    pub(super) fn seen_on_stage(&self) -> Vec<StageMember> {
        let sends = |identity: &str| {
            self.publications
                .values()
                .any(|published| published.member.identity == identity)
        };
        let members = self.stage.members().iter();
        let mut seen: Vec<_> = members
            .filter(|member| sends(&member.identity))
            .map(|member| StageMember {
                identity: member.identity.clone(),
                name: member.name.clone(),
                host: member.host,
            })
            .collect();
        seen.sort_by_key(|member| !member.host);
        seen
    }

    /// Dismisses all who are left on stage, and returns their peers.
    pub(super) fn close_stage(&mut self, now: Instant) -> Vec<PeerId> {
        let peers = self.publishing(|_| true);
        for peer in &peers {
            self.dismiss(*peer, now);
        }
        peers
    }
}
