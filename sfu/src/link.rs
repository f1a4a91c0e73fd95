//! The ways between shards.

use std::collections::VecDeque;

use sfu_core::{RelayMessage, ShardId};
use tokio::sync::mpsc;

/// A message and who sent it.
pub(crate) type Letter = (ShardId, RelayMessage);

/// One shard's ways to and from all the others.
///
/// A shard that does not keep up is told nothing of media while more than [`INBOX`] letters wait for it, and
/// everything anew when it has read half of them. What shards ask of each other is never lost: it waits in
/// its sender, where it is bounded by the number of rooms.
#[derive(Debug)]
pub(crate) struct Links {
    own: ShardId,
    ways: Vec<Way>,
    inbox: mpsc::Receiver<Letter>,
}

/// The way to one shard.
#[derive(Debug)]
struct Way {
    inbox: mpsc::Sender<Letter>,
    waiting: VecDeque<RelayMessage>,
    /// Whether news was lost, and none is sent before there is room again.
    interrupted: bool,
}

impl Links {
    /// Connects this many shards with each other; one entry a shard.
    pub(crate) fn mesh(count: u8) -> Vec<Self> {
        let (senders, inboxes): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(INBOX)).unzip();
        let way = |inbox: &mpsc::Sender<Letter>| Way {
            inbox: inbox.clone(),
            waiting: VecDeque::new(),
            interrupted: false,
        };
        (0..count)
            .zip(inboxes)
            .map(|(index, inbox)| Self {
                own: ShardId(index),
                ways: senders.iter().map(way).collect(),
                inbox,
            })
            .collect()
    }

    /// Returns whose they are.
    pub(crate) fn own(&self) -> ShardId {
        self.own
    }

    /// Waits for a letter. Loses nothing when abandoned.
    pub(crate) async fn recv(&mut self) -> Option<Letter> {
        self.inbox.recv().await
    }

    /// Returns a letter that is there already.
    pub(crate) fn try_recv(&mut self) -> Option<Letter> {
        self.inbox.try_recv().ok()
    }

    /// Sends a message. Returns whether it was taken: news is not while the other shard is behind.
    pub(crate) fn send(&mut self, to: ShardId, message: RelayMessage) -> bool {
        let own = self.own;
        let Some(way) = self.ways.get_mut(usize::from(to.0)) else {
            return false;
        };
        if !matches!(message, RelayMessage::News(_)) {
            way.waiting.push_back(message);
            way.push(own);
            return true;
        }
        if way.interrupted {
            return false;
        }
        way.push(own);
        way.interrupted = way.inbox.try_send((own, message)).is_err();
        !way.interrupted
    }

    /// Sends what waits. Returns the shards that lost news and have room again.
    pub(crate) fn recover(&mut self) -> impl Iterator<Item = ShardId> {
        let own = self.own;
        (0..).zip(&mut self.ways).filter_map(move |(index, way)| {
            way.push(own);
            let recovered = way.interrupted && way.inbox.capacity() >= INBOX / 2;
            way.interrupted &= !recovered;
            recovered.then_some(ShardId(index))
        })
    }
}

impl Way {
    fn push(&mut self, own: ShardId) {
        while let Some(message) = self.waiting.pop_front() {
            if let Err(mpsc::error::TrySendError::Full((_, message))) =
                self.inbox.try_send((own, message))
            {
                self.waiting.push_front(message);
                return;
            }
        }
    }
}

/// Most letters that wait for one shard: half a second of one busy room, a few MB.
const INBOX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use sfu_core::RoomId;

    #[test]
    fn requests_wait_for_room_and_keep_their_order() {
        let mut links = Links::mesh(2);
        let (mut one, mut other) = (links.remove(0), links.remove(0));
        let sent: Vec<u64> = (0..INBOX as u64 + 10).collect();
        for room in &sent {
            assert!(one.send(ShardId(1), RelayMessage::Follow(RoomId(*room))));
        }
        let mut received = Vec::new();
        for _ in 0..3 {
            while let Some((from, message)) = other.try_recv() {
                assert_eq!(from, ShardId(0));
                if let RelayMessage::Follow(room) = message {
                    received.push(room.0);
                }
            }
            assert_eq!(one.recover().count(), 0);
        }
        assert_eq!(received, sent);
        assert!(!one.send(ShardId(7), RelayMessage::Leave(RoomId(1))));
    }
}
