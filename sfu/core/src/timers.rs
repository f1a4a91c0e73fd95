//! When something is due, over all peers and rooms.

use std::{collections::BTreeSet, time::Instant};

use crate::{PeerId, RoomId};

/// Whose time it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    /// A peer.
    Peer(PeerId),
    /// A room.
    Room(RoomId),
}

/// The earliest deadline of every owner.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeSet<(Instant, Owner)>,
}

/// An owner's entry in the queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scheduled(Option<Instant>);

impl Timers {
    /// Makes an owner due at `at` at the latest. An entry that is earlier stays: the owner is called too
    /// early once, which costs less than moving entries with every packet.
    pub(crate) fn schedule(&mut self, owner: Owner, entry: &mut Scheduled, at: Option<Instant>) {
        let Some(at) = at else { return };
        if entry.0.is_some_and(|present| present <= at) {
            return;
        }
        self.cancel(owner, entry);
        self.queue.insert((at, owner));
        entry.0 = Some(at);
    }

    /// Removes an owner's entry.
    pub(crate) fn cancel(&mut self, owner: Owner, entry: &mut Scheduled) {
        if let Some(present) = entry.0.take() {
            self.queue.remove(&(present, owner));
        }
    }

    /// Returns the earliest deadline.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// Returns an owner that is due; it is to cancel its entry and schedule itself anew.
    pub(crate) fn due(&self, now: Instant) -> Option<Owner> {
        let (at, owner) = self.queue.first()?;
        (*at <= now).then_some(*owner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_earliest_deadline_counts() {
        let t0 = Instant::now();
        let ms = |n| t0 + Duration::from_millis(n);
        let (room, peer) = (Owner::Room(RoomId(1)), Owner::Peer(PeerId(1)));
        let mut timers = Timers::default();
        let (mut of_room, mut of_peer) = (Scheduled::default(), Scheduled::default());
        timers.schedule(room, &mut of_room, Some(ms(10)));
        timers.schedule(room, &mut of_room, Some(ms(20)));
        timers.schedule(room, &mut of_room, None);
        timers.schedule(peer, &mut of_peer, Some(ms(5)));
        assert_eq!(timers.poll_timeout(), Some(ms(5)));
        assert_eq!(timers.due(ms(4)), None);
        assert_eq!(timers.due(ms(5)), Some(peer));
        timers.cancel(peer, &mut of_peer);
        assert_eq!(timers.due(ms(10)), Some(room));
        timers.schedule(room, &mut of_room, Some(ms(1)));
        assert_eq!(timers.poll_timeout(), Some(ms(1)));
    }
}
