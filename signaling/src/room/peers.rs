//! The media connections of a room: whose they are, what for, and who counts as a viewer.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use sfu::{PeerId, Role};

use super::Room;
use crate::{
    auth::Member,
    protocol::{Participant, ParticipantList},
};

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) member: Arc<Member>,
    pub(super) purpose: Purpose,
    pub(super) connected: bool,
    /// Whether it is one of [`Room::viewers`].
    counted: bool,
    /// Its participant is done: it no longer holds the stage.
    pub(super) leaving: bool,
}

/// What a peer is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Sends media.
    Publish,
    /// Receives media: a viewer.
    Watch,
    /// Data channels only, as of a broadcaster who is not on air yet, or of a viewer who plays HLS.
    Talk,
}

impl Purpose {
    /// Returns what an offer is for.
    pub(crate) fn of(role: Role, offer: &str) -> Self {
        let is_media = |line: &str| line.starts_with("m=audio") || line.starts_with("m=video");
        match role {
            Role::Publisher => Self::Publish,
            Role::Viewer if offer.lines().any(is_media) => Self::Watch,
            Role::Viewer => Self::Talk,
        }
    }
}

impl Peer {
    /// Returns whether it is a viewer's, unless they are on stage.
    fn watches(&self) -> bool {
        let grants = &self.member.grants;
        match self.purpose {
            Purpose::Publish => false,
            Purpose::Watch => true,
            // Who may perform only prepares for that.
            Purpose::Talk => !grants.publish && !grants.stage,
        }
    }
}

impl Room {
    /// Notes the peer that an accepted offer has made.
    pub(crate) fn add_peer(
        &mut self,
        peer: PeerId,
        purpose: Purpose,
        member: Arc<Member>,
        now: Instant,
    ) {
        self.used_at = now;
        if purpose == Purpose::Publish {
            if self.is_host(&member) {
                // A page that goes on with a pause says so once it has its answer.
                self.paused = false;
            }
            self.stage.arrive(&member.identity);
            self.recount(&member.identity);
        }
        self.peers.insert(
            peer,
            Peer {
                member,
                purpose,
                connected: false,
                counted: false,
                leaving: false,
            },
        );
    }

    /// Returns who has a media connection, those on stage first, and how many they are.
    pub(crate) fn participants(&self, most: usize) -> ParticipantList {
        let mut by_identity: BTreeMap<&str, Participant> = BTreeMap::new();
        let host = self.stage.host().map(|host| host.identity.as_str());
        for peer in self.peers.values().filter(|peer| peer.connected) {
            let Member { identity, name, .. } = &*peer.member;
            let of = by_identity.entry(identity).or_insert_with(|| Participant {
                identity: identity.clone(),
                name: name.clone(),
                host: host == Some(identity),
                on_stage: self.stage.has(identity),
                publishing: 0,
                watching: 0,
            });
            match peer.purpose {
                Purpose::Publish => of.publishing += 1,
                Purpose::Watch => of.watching += 1,
                Purpose::Talk => {}
            }
        }
        let mut participants: Vec<_> = by_identity
            .into_values()
            .filter(|one| one.publishing + one.watching > 0)
            .collect();
        let total = u32::try_from(participants.len()).unwrap_or(u32::MAX);
        participants.sort_by_key(|one| (!one.host, !one.on_stage));
        participants.truncate(most);
        ParticipantList {
            participants,
            total,
        }
    }

    /// Returns the media connections of a participant.
    pub(crate) fn peers_of(&self, identity: &str) -> Vec<PeerId> {
        let mut peers: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.member.identity == identity && peer.purpose != Purpose::Talk)
            .map(|(id, _)| *id)
            .collect();
        peers.sort();
        peers
    }

    /// Returns what a peer is there for.
    pub(crate) fn purpose(&self, peer: PeerId) -> Option<Purpose> {
        self.peers.get(&peer).map(|peer| peer.purpose)
    }

    /// Returns whose peer this is.
    pub(crate) fn member(&self, peer: PeerId) -> Option<&Arc<Member>> {
        self.peers.get(&peer).map(|peer| &peer.member)
    }

    pub(crate) fn handle_connected(&mut self, peer: PeerId) {
        let Some(peer) = self.peers.get_mut(&peer) else {
            return;
        };
        let watches = peer.watches();
        let is_new = !std::mem::replace(&mut peer.connected, true);
        if is_new && watches && !self.stage.has(&peer.member.identity) {
            peer.counted = true;
            self.viewers += 1;
        }
    }

    pub(crate) fn handle_closed(&mut self, peer: PeerId, now: Instant) {
        self.used_at = now;
        let Some(peer) = self.peers.remove(&peer) else {
            return;
        };
        self.viewers -= u32::from(peer.counted);
        if peer.purpose == Purpose::Publish {
            if !peer.leaving {
                self.depart(&peer.member.identity, now);
            }
            self.leave_air(now);
        }
    }

    /// Notes that a peer is about to be closed.
    pub(super) fn dismiss(&mut self, peer: PeerId, now: Instant) {
        let Some(peer) = self.peers.get_mut(&peer) else {
            return;
        };
        let left = !std::mem::replace(&mut peer.leaving, true);
        if left && peer.purpose == Purpose::Publish {
            let member = Arc::clone(&peer.member);
            self.depart(&member.identity, now);
        }
    }

    fn depart(&mut self, identity: &str, now: Instant) {
        self.stage.depart(identity, now);
        self.recount(identity);
    }

    /// Returns the publishing peers of some members that are not about to be closed.
    pub(super) fn publishing(&self, of: impl Fn(&Member) -> bool) -> Vec<PeerId> {
        let peers = self.peers.iter().filter(|(_, peer)| {
            peer.purpose == Purpose::Publish && !peer.leaving && of(&peer.member)
        });
        peers.map(|(id, _)| *id).collect()
    }

    /// Counts a peer as a viewer or not: who is on stage and sees the others is none.
    fn recount(&mut self, identity: &str) {
        let on_stage = self.stage.has(identity);
        let peers = self.peers.values_mut();
        for peer in peers.filter(|peer| peer.member.identity == identity) {
            let counted = peer.connected && peer.watches() && !on_stage;
            self.viewers += u32::from(counted);
            self.viewers -= u32::from(std::mem::replace(&mut peer.counted, counted));
        }
    }
}
