//! How many peers each shard has, and which one gets the next.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use sfu_core::{Role, RoomId, ShardId};

/// The peers of one shard, those that are about to join included.
#[derive(Clone, Debug, Default)]
pub(crate) struct Load {
    peers: Arc<AtomicUsize>,
}

/// A place for a peer at a shard; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    load: Load,
}

impl Load {
    /// Takes a place.
    pub(crate) fn take(&self) -> Place {
        self.peers.fetch_add(1, Ordering::Relaxed);
        Place { load: self.clone() }
    }

    /// Returns how many places are taken.
    pub(crate) fn peers(&self) -> usize {
        self.peers.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.load.peers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns where a room's publishers live: the same place for as long as there are as many shards.
pub(crate) fn home_of(room: RoomId, shards: usize) -> ShardId {
    // Fibonacci hashing: neighbours in number are not neighbours in place.
    let hash = room.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let index = hash % shards.max(1) as u64;
    ShardId(u8::try_from(index).unwrap_or_default())
}

/// Returns where a peer is to live. A room's publishers are together; a viewer is with them, unless another
/// shard has clearly less to do: a room with few viewers is not worth being sent to a second shard.
pub(crate) fn shard_for(role: Role, room: RoomId, loads: &[usize]) -> ShardId {
    let home = home_of(room, loads.len());
    if role == Role::Publisher {
        return home;
    }
    let at_home = loads.get(usize::from(home.0)).copied().unwrap_or_default();
    let idlest = (0..).zip(loads).min_by_key(|(_, peers)| **peers);
    match idlest {
        Some((index, peers)) if at_home > peers + TOGETHER => ShardId(index),
        Some(_) | None => home,
    }
}

/// How many more peers than the idlest shard a room's home may have before viewers go elsewhere.
const TOGETHER: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn viewers_stay_at_home_until_it_has_clearly_more_to_do() {
        let room = RoomId(7);
        let home = usize::from(home_of(room, 2).0);
        let with = |at_home, elsewhere| match home {
            0 => [at_home, elsewhere],
            _ => [elsewhere, at_home],
        };
        let cases = [
            ("nobody", Role::Viewer, with(0, 0), home),
            ("a few", Role::Viewer, with(16, 0), home),
            ("many", Role::Viewer, with(17, 0), 1 - home),
            ("many everywhere", Role::Viewer, with(500, 490), home),
            (
                "publishers are together",
                Role::Publisher,
                with(500, 0),
                home,
            ),
        ];
        for (label, role, loads, expected) in cases {
            let shard = shard_for(role, room, &loads);
            assert_eq!(usize::from(shard.0), expected, "{label}");
        }
        assert_eq!(shard_for(Role::Viewer, room, &[1000]), ShardId(0));
    }

    #[test]
    fn rooms_are_spread() {
        let mut homes = [0; 4];
        for room in 0..1000 {
            homes[usize::from(home_of(RoomId(room), 4).0)] += 1;
        }
        assert!(
            homes.iter().all(|count| (200..300).contains(count)),
            "{homes:?}"
        );
    }

    #[test]
    fn places_are_given_back() {
        let load = Load::default();
        let place = load.take();
        assert_eq!(load.peers(), 1);
        drop(place);
        assert_eq!(load.peers(), 0);
    }
}
