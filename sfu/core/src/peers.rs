//! All peers, found by id in constant time.

use crate::{PeerId, ShardId, peer::Peer, shard::PLACE_MASK};

/// The peers. An id is the place in the low bits, the shard, and a serial number above, so that ids grow with
/// age and are never used twice.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    shard: ShardId,
    places: Vec<Option<Box<Peer>>>,
    free: Vec<usize>,
    serial: u64,
}

impl Peers {
    /// Creates a place for the peers of a shard.
    pub(crate) fn new(shard: ShardId) -> Self {
        Self {
            shard,
            ..Self::default()
        }
    }

    /// Keeps the peer that `create` makes for its id; `None` when there is no place.
    pub(crate) fn insert(&mut self, create: impl FnOnce(PeerId) -> Peer) -> Option<PeerId> {
        let place = self.free.pop().unwrap_or(self.places.len());
        if place as u64 > PLACE_MASK {
            return None;
        }
        self.serial += 1;
        let id = self.shard.peer_id(self.serial, place as u64);
        let peer = Some(Box::new(create(id)));
        match self.places.get_mut(place) {
            Some(entry) => *entry = peer,
            None => self.places.push(peer),
        }
        Some(id)
    }

    /// Returns a peer.
    pub(crate) fn get(&self, id: PeerId) -> Option<&Peer> {
        let peer = self.places.get(place_of(id))?.as_deref();
        peer.filter(|peer| peer.id == id)
    }

    /// Returns a peer.
    pub(crate) fn get_mut(&mut self, id: PeerId) -> Option<&mut Peer> {
        let peer = self.places.get_mut(place_of(id))?.as_deref_mut();
        peer.filter(|peer| peer.id == id)
    }

    /// Removes a peer.
    pub(crate) fn remove(&mut self, id: PeerId) -> Option<Box<Peer>> {
        let place = place_of(id);
        let peer = self.places.get_mut(place)?.take_if(|peer| peer.id == id)?;
        self.free.push(place);
        Some(peer)
    }

    /// Returns all peers in the order of their places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.places.iter().flatten().map(Box::as_ref)
    }

    /// Returns the number of peers.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

fn place_of(id: PeerId) -> usize {
    usize::try_from(id.0 & PLACE_MASK).unwrap_or(usize::MAX)
}
