//! [`ShardId`]: which of several SFUs of one server something belongs to.

use crate::PeerId;

/// One of the SFUs of a server, 0 to 63. It is part of everything that an SFU gives an id, so that ids are
/// unique over all of them and tell whom they are for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u8);

impl ShardId {
    /// How many there may be.
    pub const COUNT: u8 = 64;

    /// Returns the one that a peer belongs to.
    pub fn of_peer(peer: PeerId) -> Self {
        let shard = (peer.0 >> PLACE_BITS) & MASK;
        Self(u8::try_from(shard).unwrap_or_default())
    }

    /// Returns the one that gave a username fragment; it is the first character. `None` for a fragment that
    /// none gave.
    pub fn of_ufrag(ufrag: &str) -> Option<Self> {
        let first = ufrag.bytes().next()?;
        let position = TAGS.iter().position(|tag| *tag == first)?;
        u8::try_from(position).ok().map(Self)
    }

    /// Returns the first character of this one's username fragments.
    pub(crate) fn tag(self) -> char {
        let tag = TAGS.get(usize::from(self.0)).unwrap_or(&b'/');
        char::from(*tag)
    }

    /// Returns the id of a peer, from its serial number and its place.
    pub(crate) fn peer_id(self, serial: u64, place: u64) -> PeerId {
        let shard = u64::from(self.0) & MASK;
        PeerId((serial << BITS | shard) << PLACE_BITS | place & PLACE_MASK)
    }

    /// Returns an id that only this one gives, from a serial number.
    pub(crate) fn id(self, serial: u64) -> u64 {
        serial << BITS | u64::from(self.0) & MASK
    }
}

/// The ICE characters (RFC 8839 §5.4).
const TAGS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";

const BITS: u32 = 6;
const MASK: u64 = (1 << BITS) - 1;

/// How many bits of a peer's id are its place among its shard's peers.
const PLACE_BITS: u32 = 20;

/// Where a peer's place is in its id, and how many places there are at most.
pub(crate) const PLACE_MASK: u64 = (1 << PLACE_BITS) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_tells_its_shard() {
        for index in 0..ShardId::COUNT {
            let shard = ShardId(index);
            let ufrag = format!("{}abc", shard.tag());
            assert_eq!(ShardId::of_ufrag(&ufrag), Some(shard));
            let peer = shard.peer_id(3, 17);
            assert_eq!(ShardId::of_peer(peer), shard);
            assert_eq!(peer.0 & PLACE_MASK, 17);
            assert!(shard.peer_id(4, 0) > peer, "ids grow with age");
            assert!(shard.id(2) > ShardId(63).id(1));
        }
        assert_eq!(ShardId::of_ufrag(""), None);
        assert_eq!(ShardId::of_ufrag("-"), None);
    }
}
