//! Events on their way to the control plane.

use std::collections::VecDeque;

use tokio::sync::mpsc;

use crate::Event;

/// Events for the control plane: a channel of [`CHANNEL_EVENTS`], and behind it a backlog.
///
/// Media never waits for the control plane, and its counts must stay right, so while the channel is full
/// events go into the backlog. Once that holds [`BACKLOG_EVENTS`], messages of data channels are dropped
/// and the shard refuses new peers: what remains (peers leaving) is bounded by the number of peers.
#[derive(Debug)]
pub(crate) struct EventQueue {
    channel: mpsc::Sender<Event>,
    backlog: VecDeque<Event>,
}

impl EventQueue {
    /// Creates a queue and its reader's end.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (channel, events) = mpsc::channel(CHANNEL_EVENTS);
        let backlog = VecDeque::new();
        (Self { channel, backlog }, events)
    }

    /// Creates another queue with the same reader.
    pub(crate) fn sibling(&self) -> Self {
        Self {
            channel: self.channel.clone(),
            backlog: VecDeque::new(),
        }
    }

    /// Appends an event. Returns whether it was taken.
    pub(crate) fn push(&mut self, event: Event) -> bool {
        let event = if self.backlog.is_empty() {
            match self.channel.try_send(event) {
                // Without a reader there is nobody to be wrong.
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => return true,
                Err(mpsc::error::TrySendError::Full(event)) => event,
            }
        } else {
            event
        };
        let droppable = matches!(event, Event::Message { .. });
        if droppable && self.is_congested() {
            return false;
        }
        self.backlog.push_back(event);
        true
    }

    /// Returns whether the control plane is so far behind that no new peers should come.
    pub(crate) fn is_congested(&self) -> bool {
        self.backlog.len() >= BACKLOG_EVENTS
    }

    /// Returns how many events wait behind the channel.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog.len()
    }

    /// Moves the oldest events of the backlog into the channel as room appears. Waits for ever when there
    /// is no backlog. Can be cancelled without losing an event.
    pub(crate) async fn drain(&mut self) {
        if self.backlog.is_empty() {
            std::future::pending::<()>().await;
        }
        let Ok(first) = self.channel.reserve().await else {
            self.backlog.clear();
            return;
        };
        let mut room = Some(first);
        while let Some(permit) = room {
            let Some(event) = self.backlog.pop_front() else {
                return;
            };
            permit.send(event);
            room = self.channel.try_reserve().ok();
        }
    }
}

const CHANNEL_EVENTS: usize = 4096;
const BACKLOG_EVENTS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerId;
    use bytes::Bytes;

    #[tokio::test]
    async fn only_messages_are_dropped_and_order_is_kept() {
        let (mut queue, mut events) = EventQueue::new();
        for _ in 0..CHANNEL_EVENTS + BACKLOG_EVENTS {
            assert!(queue.push(message()));
        }
        assert!(queue.is_congested());
        assert!(!queue.push(message()));
        assert!(queue.push(connected(1)));
        assert!(queue.push(connected(2)));
        let mut received = Vec::new();
        while queue.backlog() > 0 {
            received.extend(events.recv().await);
            queue.drain().await;
        }
        drop(queue);
        while let Some(event) = events.recv().await {
            received.push(event);
        }
        assert_eq!(received.len(), CHANNEL_EVENTS + BACKLOG_EVENTS + 2);
        assert_eq!(received[received.len() - 2..], [connected(1), connected(2)]);
    }

    #[tokio::test]
    async fn without_a_reader_nothing_piles_up() {
        let (mut queue, events) = EventQueue::new();
        for _ in 0..CHANNEL_EVENTS + 10 {
            queue.push(connected(1));
        }
        drop(events);
        queue.drain().await;
        assert_eq!(queue.backlog(), 0);
        assert!(queue.push(message()));
        assert_eq!(queue.backlog(), 0);
    }

    fn message() -> Event {
        Event::Message {
            peer: PeerId(1),
            label: "chat".to_owned(),
            payload: Bytes::new(),
        }
    }

    fn connected(peer: u64) -> Event {
        Event::Connected { peer: PeerId(peer) }
    }
}
