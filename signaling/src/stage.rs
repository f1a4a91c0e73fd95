//! Who is on a room's stage: one host, and guests beside them. Pure.
//!
//! The only place that decides who may send into a room.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    Problem,
    auth::Member,
    protocol::{ErrorCode, STAGE_LIMIT},
};

/// A stage. Everybody on it is there from the first offer until the last peer is gone.
#[derive(Debug)]
pub(crate) struct Stage {
    size: usize,
    members: Vec<OnStage>,
    /// Identities that the host has removed, the last [`REMOVED_LIMIT`].
    removed: VecDeque<String>,
    featured: Option<String>,
    /// Since when there has been no host, while there are guests.
    hostless_since: Option<Instant>,
}

/// Somebody on stage.
#[derive(Debug)]
pub(crate) struct OnStage {
    pub(crate) identity: String,
    pub(crate) name: String,
    pub(crate) host: bool,
    /// Offers that the SFU has not answered yet.
    pending: usize,
    /// Peers that are not about to be closed.
    peers: usize,
    heights: Vec<u32>,
    /// Their picture is a shared screen.
    screen: bool,
}

impl Stage {
    pub(crate) fn new(size: u32) -> Self {
        let mut stage = Self {
            size: 0,
            members: Vec::new(),
            removed: VecDeque::new(),
            featured: None,
            hostless_since: None,
        };
        stage.resize(size);
        stage
    }

    /// Sets how many may be on stage. Those who are stay.
    pub(crate) fn resize(&mut self, size: u32) {
        self.size = usize::try_from(size.clamp(1, STAGE_LIMIT)).unwrap_or(1);
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn members(&self) -> &[OnStage] {
        &self.members
    }

    pub(crate) fn host(&self) -> Option<&OnStage> {
        self.members.iter().find(|member| member.host)
    }

    pub(crate) fn has(&self, identity: &str) -> bool {
        self.find(identity).is_some()
    }

    /// Returns whom the host has featured, while they are on stage.
    pub(crate) fn featured(&self) -> Option<&str> {
        self.featured
            .as_deref()
            .filter(|featured| self.has(featured))
    }

    /// Reserves a place for an offer to publish. Follow with [`Stage::arrive`] or [`Stage::release`].
    ///
    /// The same identity always gets it: a reload must not wait for its own past. Who may broadcast is the
    /// host of a room without one; who was invited is a guest of a room with one.
    pub(crate) fn reserve(&mut self, by: &Member) -> Result<(), Problem> {
        if let Some(member) = self.find_mut(&by.identity) {
            member.pending += 1;
            return Ok(());
        }
        let host = match self.host() {
            None if by.grants.publish => true,
            Some(host) if !by.grants.stage => return Err(taken_by(&host.name)),
            Some(_) => false,
            None if self.hostless_since.is_some() => false,
            None => {
                return Err(Problem::new(
                    ErrorCode::StageClosed,
                    "The host is not on air. You can join the stage when the broadcast has begun.",
                ));
            }
        };
        if !host && self.removed.contains(&by.identity) {
            return Err(Problem::new(
                ErrorCode::RemovedFromStage,
                "The host has taken you off the stage. Ask for a new invite link to come back.",
            ));
        }
        if !host && self.members.len() >= self.size {
            return Err(Problem::new(
                ErrorCode::StageFull,
                format!(
                    "The stage is full: it has room for {}. Try again when somebody has left.",
                    self.size
                ),
            ));
        }
        if host {
            self.hostless_since = None;
        }
        self.members.push(OnStage {
            identity: by.identity.clone(),
            name: by.name.clone(),
            host,
            pending: 1,
            peers: 0,
            heights: Vec::new(),
            screen: false,
        });
        Ok(())
    }

    /// Gives a reservation back: the offer was refused.
    pub(crate) fn release(&mut self, identity: &str, now: Instant) {
        if let Some(member) = self.find_mut(identity) {
            member.pending = member.pending.saturating_sub(1);
        }
        self.clear(now);
    }

    /// Turns a reservation into a peer.
    pub(crate) fn arrive(&mut self, identity: &str) {
        if let Some(member) = self.find_mut(identity) {
            member.pending = member.pending.saturating_sub(1);
            member.peers += 1;
        }
    }

    /// Notes that a peer is gone or about to be.
    pub(crate) fn depart(&mut self, identity: &str, now: Instant) {
        if let Some(member) = self.find_mut(identity) {
            member.peers = member.peers.saturating_sub(1);
        }
        self.clear(now);
    }

    /// Returns how high the layers of somebody's picture are, the lowest first; empty when they did not say.
    pub(crate) fn heights(&self, identity: &str) -> &[u32] {
        self.find(identity)
            .map_or(&[], |member| member.heights.as_slice())
    }

    /// Notes how high the layers of somebody's picture are.
    pub(crate) fn set_heights(&mut self, identity: &str, heights: &[u32]) {
        if let Some(member) = self.find_mut(identity) {
            member.heights = heights.iter().copied().take(LAYERS_LIMIT).collect();
        }
    }

    /// Returns whether somebody's picture is a shared screen; not when they did not say.
    pub(crate) fn shares_screen(&self, identity: &str) -> bool {
        self.find(identity).is_some_and(|member| member.screen)
    }

    /// Notes whether somebody's picture is a shared screen.
    pub(crate) fn set_screen(&mut self, identity: &str, screen: bool) {
        if let Some(member) = self.find_mut(identity) {
            member.screen = screen;
        }
    }

    /// Takes a guest off the stage and keeps them off it.
    pub(crate) fn remove(&mut self, identity: &str) -> Result<(), Problem> {
        let Some(member) = self.find(identity) else {
            return Err(not_there());
        };
        if member.host {
            return Err(Problem::new(
                ErrorCode::NotAllowed,
                "The host cannot be removed: only guests can.",
            ));
        }
        if self.removed.len() >= REMOVED_LIMIT {
            self.removed.pop_front();
        }
        self.removed.push_back(identity.to_owned());
        Ok(())
    }

    /// Features somebody on stage, or lets the SFU choose again.
    pub(crate) fn feature(&mut self, identity: Option<&str>) -> Result<(), Problem> {
        if let Some(identity) = identity
            && !self.has(identity)
        {
            return Err(not_there());
        }
        self.featured = identity.map(str::to_owned);
        Ok(())
    }

    /// Returns whether guests have been without a host for longer than `grace`.
    pub(crate) fn is_abandoned(&self, grace: Duration, now: Instant) -> bool {
        self.hostless_since
            .is_some_and(|since| now.duration_since(since) > grace)
    }

    fn find(&self, identity: &str) -> Option<&OnStage> {
        self.members.iter().find(|m| m.identity == identity)
    }

    fn find_mut(&mut self, identity: &str) -> Option<&mut OnStage> {
        self.members.iter_mut().find(|m| m.identity == identity)
    }

    /// Forgets those who have left.
    fn clear(&mut self, now: Instant) {
        self.members.retain(|m| m.pending > 0 || m.peers > 0);
        if self.host().is_some() || self.members.is_empty() {
            self.hostless_since = None;
        } else {
            self.hostless_since.get_or_insert(now);
        }
    }
}

fn taken_by(host: &str) -> Problem {
    Problem::new(
        ErrorCode::RoomHasPublisher,
        format!(
            "{host} is broadcasting in this room. Ask them to stop or for an invite link, or use another \
             room. After a lost connection the room is free again within 30 seconds."
        ),
    )
}

fn not_there() -> Problem {
    Problem::new(
        ErrorCode::ParticipantUnknown,
        "There is nobody of this identity on stage.",
    )
}

/// A host who removes more guests than this in one broadcast has handed out the link too widely.
const REMOVED_LIMIT: usize = 256;
const LAYERS_LIMIT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Grants;

    #[test]
    fn invited_join_the_host_and_others_are_refused() {
        let (mut stage, t0) = (Stage::new(2), Instant::now());
        let refused = |stage: &mut Stage, by: &Member| stage.reserve(by).unwrap_err().code;
        assert_eq!(refused(&mut stage, &guest("bob")), ErrorCode::StageClosed);
        stage.reserve(&host("ann")).unwrap();
        stage.arrive("ann");
        let second = refused(&mut stage, &host("eve"));
        assert_eq!(second, ErrorCode::RoomHasPublisher);
        stage.reserve(&guest("bob")).unwrap();
        stage.arrive("bob");
        assert_eq!(refused(&mut stage, &guest("cid")), ErrorCode::StageFull);
        assert_eq!(stage.reserve(&guest("bob")), Ok(()), "a reload of Bob's");
        stage.release("bob", t0);
        assert!(stage.has("bob"), "his peer is still there");
        stage.depart("bob", t0);
        assert_eq!(stage.reserve(&guest("cid")), Ok(()), "Bob has left");
    }

    #[test]
    fn invited_broadcaster_is_the_host_where_there_is_none() {
        let mut stage = Stage::new(9);
        let both = Member {
            grants: Grants {
                stage: true,
                ..host("bob").grants
            },
            ..host("bob")
        };
        stage.reserve(&both).unwrap();
        assert_eq!(stage.host().map(|host| &*host.identity), Some("bob"));
        let mut stage = Stage::new(9);
        stage.reserve(&host("ann")).unwrap();
        stage.reserve(&both).unwrap();
        assert_eq!(stage.host().map(|host| &*host.identity), Some("ann"));
        assert_eq!(stage.members().len(), 2);
    }

    #[test]
    fn guests_wait_for_their_host_for_the_grace() {
        let (mut stage, t0) = (Stage::new(9), Instant::now());
        let grace = Duration::from_secs(10);
        for member in [host("ann"), guest("bob")] {
            stage.reserve(&member).unwrap();
            stage.arrive(&member.identity);
        }
        stage.depart("ann", t0);
        assert!(!stage.is_abandoned(grace, t0 + grace));
        assert_eq!(stage.reserve(&guest("cid")), Ok(()), "the host may be back");
        assert!(stage.is_abandoned(grace, t0 + grace * 2));
        stage.reserve(&host("ann")).unwrap();
        assert!(!stage.is_abandoned(grace, t0 + grace * 2));
        assert_eq!(stage.host().map(|host| &*host.identity), Some("ann"));
    }

    #[test]
    fn removed_guest_stays_off_and_the_host_cannot_be_removed() {
        let (mut stage, t0) = (Stage::new(9), Instant::now());
        for member in [host("ann"), guest("bob")] {
            stage.reserve(&member).unwrap();
            stage.arrive(&member.identity);
        }
        stage.feature(Some("bob")).unwrap();
        assert_eq!(stage.featured(), Some("bob"));
        assert_eq!(stage.remove("ann").unwrap_err().code, ErrorCode::NotAllowed);
        let nobody = stage.remove("cid").unwrap_err().code;
        assert_eq!(nobody, ErrorCode::ParticipantUnknown);
        stage.remove("bob").unwrap();
        stage.depart("bob", t0);
        assert_eq!(stage.featured(), None, "he is not there");
        let back = stage.reserve(&guest("bob")).unwrap_err().code;
        assert_eq!(back, ErrorCode::RemovedFromStage);
        let nobody = stage.feature(Some("bob")).unwrap_err().code;
        assert_eq!(nobody, ErrorCode::ParticipantUnknown);
    }

    #[test]
    fn shared_screen_is_forgotten_with_who_shares_it() {
        let (mut stage, t0) = (Stage::new(9), Instant::now());
        stage.set_screen("ann", true);
        stage.reserve(&host("ann")).unwrap();
        assert!(!stage.shares_screen("ann"), "said before she came");
        stage.arrive("ann");
        stage.set_screen("ann", true);
        stage.reserve(&host("ann")).unwrap();
        stage.arrive("ann");
        stage.depart("ann", t0);
        assert!(stage.shares_screen("ann"), "her other peer is still there");
        stage.depart("ann", t0);
        stage.reserve(&host("ann")).unwrap();
        assert!(!stage.shares_screen("ann"), "she has come back");
    }

    fn host(identity: &str) -> Member {
        member(identity, true)
    }

    fn guest(identity: &str) -> Member {
        member(identity, false)
    }

    fn member(identity: &str, publish: bool) -> Member {
        Member {
            identity: identity.into(),
            name: identity.into(),
            grants: Grants {
                publish,
                stage: !publish,
                subscribe: true,
                ..Grants::default()
            },
            anonymous: false,
            invited_until: None,
        }
    }
}
