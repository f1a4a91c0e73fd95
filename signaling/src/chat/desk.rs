//! [`Desk`]: takes what the members of all rooms say, one after the other.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::Serialize;
use sfu::{PeerId, RoomId};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::{
    pace::{Limit, Pace},
    rules::{self, Refusal, Said},
};
use crate::{
    auth::Member,
    clock::unix_ms,
    config,
    problem::code_word,
    protocol::{CHAT_CHANNEL, ChatEvent, ChatMessage, ErrorCode},
    store::Store,
};

/// One thing for the desk to do.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) peer: PeerId,
    pub(crate) room: RoomId,
    pub(crate) by: Arc<Member>,
    /// What was said; `None` when the channel has just been opened.
    pub(crate) payload: Option<Bytes>,
    /// The sender's place in the queue, given back when the errand is done.
    pub(crate) _place: OwnedSemaphorePermit,
}

/// Owns the state of chat: histories of the rooms in use, and everybody's pace.
#[derive(Debug)]
pub(crate) struct Desk {
    store: Store,
    sfu: sfu::Handle,
    limit: Limit,
    shown: usize,
    kept: usize,
    rooms: HashMap<RoomId, History>,
    paces: HashMap<(RoomId, String), Pace>,
}

#[derive(Debug)]
struct History {
    messages: VecDeque<ChatMessage>,
    last_id: i64,
    used_at: Instant,
}

impl Desk {
    pub(crate) fn new(config: &config::Chat, store: Store, sfu: sfu::Handle) -> Self {
        Self {
            store,
            sfu,
            limit: Limit {
                burst: config.burst,
                interval: Duration::from_millis(config.interval_ms),
            },
            shown: config.history,
            kept: config.keep,
            rooms: HashMap::new(),
            paces: HashMap::new(),
        }
    }

    /// Works until the queue ends.
    pub(crate) async fn run(mut self, mut errands: mpsc::Receiver<Errand>) {
        while let Some(errand) = errands.recv().await {
            match &errand.payload {
                None => self.greet(&errand).await,
                Some(payload) => self.take(&errand, payload).await,
            }
            self.forget_unused(Instant::now());
        }
    }

    /// Sends a newcomer what was said before.
    async fn greet(&mut self, errand: &Errand) {
        let messages = match self.history(errand.room).await {
            Ok(history) => history.messages.make_contiguous(),
            Err(error) => {
                tracing::error!(room = %errand.room, cause = %error, "chat history not read");
                return;
            }
        };
        let parts: Vec<Bytes> = parts(messages)
            .map(|part| {
                json(&ChatEvent::History {
                    messages: part.to_vec(),
                })
            })
            .collect();
        for part in parts {
            self.sfu.send(errand.peer, CHAT_CHANNEL, part).await;
        }
    }

    async fn take(&mut self, errand: &Errand, payload: &Bytes) {
        let now = Instant::now();
        let outcome = match rules::read(payload, &errand.by) {
            Ok(said) => match self.keep_pace(errand, now) {
                Ok(()) => self.publish(errand, said).await,
                Err(wait) => Err((too_fast(wait, said.nonce), Some(wait))),
            },
            Err(refusal) => Err((refusal, None)),
        };
        let Err((refusal, wait)) = outcome else {
            return;
        };
        metrics::counter!("fanlight_chat_refusals_total", "code" => code_word(refusal.code))
            .increment(1);
        let refused = ChatEvent::Refused {
            code: refusal.code,
            message: refusal.reason,
            retry_after_ms: wait.map(whole_ms),
            nonce: refusal.nonce,
        };
        self.sfu
            .send(errand.peer, CHAT_CHANNEL, json(&refused))
            .await;
    }

    fn keep_pace(&mut self, errand: &Errand, now: Instant) -> Result<(), Duration> {
        let who = (errand.room, errand.by.identity.clone());
        self.paces
            .entry(who)
            .or_insert_with(|| Pace::new(now))
            .take(self.limit, now)
    }

    /// Stores a message and sends it to everybody. Its sender gets it first with the nonce, then with
    /// everybody else: ids tell that it is the same.
    async fn publish(
        &mut self,
        errand: &Errand,
        said: Said,
    ) -> Result<(), (Refusal, Option<Duration>)> {
        let message = match self.record(errand, said.text).await {
            Ok(message) => message,
            Err(error) => {
                tracing::error!(room = %errand.room, cause = %error, "chat message not stored");
                let reason = "The message could not be stored. Try again in a moment.".to_owned();
                let code = ErrorCode::Internal;
                return Err((
                    Refusal {
                        code,
                        reason,
                        nonce: said.nonce,
                    },
                    None,
                ));
            }
        };
        metrics::counter!("fanlight_chat_messages_total").increment(1);
        if said.nonce.is_some() {
            let own = ChatEvent::Message {
                message: message.clone(),
                nonce: said.nonce,
            };
            self.sfu.send(errand.peer, CHAT_CHANNEL, json(&own)).await;
        }
        let event = ChatEvent::Message {
            message,
            nonce: None,
        };
        self.sfu
            .broadcast(errand.room, CHAT_CHANNEL, json(&event))
            .await;
        Ok(())
    }

    async fn record(&mut self, errand: &Errand, text: String) -> Result<ChatMessage, sqlx::Error> {
        let (store, shown, kept) = (self.store.clone(), self.shown, self.kept);
        let history = self.history(errand.room).await?;
        let message = ChatMessage {
            id: history.last_id + 1,
            identity: errand.by.identity.clone(),
            name: errand.by.name.clone(),
            host: errand.by.grants.publish,
            text,
            at_ms: unix_ms(),
        };
        store.add_chat_message(errand.room, &message).await?;
        history.last_id = message.id;
        history.messages.push_back(message.clone());
        while history.messages.len() > shown {
            history.messages.pop_front();
        }
        if message.id % PRUNE_EVERY == 0 {
            let kept = i64::try_from(kept).unwrap_or(i64::MAX);
            store
                .prune_chat(errand.room, message.id.saturating_sub(kept))
                .await?;
        }
        Ok(message)
    }

    async fn history(&mut self, room: RoomId) -> Result<&mut History, sqlx::Error> {
        let now = Instant::now();
        if !self.rooms.contains_key(&room) {
            // At least one, so that ids go on from the last.
            let mut messages =
                VecDeque::from(self.store.chat_history(room, self.shown.max(1)).await?);
            let last_id = messages.back().map_or(0, |message| message.id);
            messages.drain(..messages.len().saturating_sub(self.shown));
            self.rooms.insert(
                room,
                History {
                    messages,
                    last_id,
                    used_at: now,
                },
            );
        }
        let history = self.rooms.get_mut(&room).expect("inserted above");
        history.used_at = now;
        Ok(history)
    }

    /// Keeps memory bounded: histories can be read again, and an unused pace says nothing.
    fn forget_unused(&mut self, now: Instant) {
        if self.rooms.len() > MAX_HISTORIES
            && let Some((&oldest, _)) = self.rooms.iter().min_by_key(|(_, history)| history.used_at)
        {
            self.rooms.remove(&oldest);
        }
        if self.paces.len() >= self.paces.capacity() {
            self.paces.retain(|_, pace| !pace.is_unused(now));
        }
    }
}

/// Cuts a history into parts that each fit into one data channel message.
fn parts(messages: &[ChatMessage]) -> impl Iterator<Item = &[ChatMessage]> {
    let mut rest = Some(messages);
    std::iter::from_fn(move || {
        let messages = rest?;
        let mut size = 0;
        let fitting = messages.iter().take_while(|message| {
            size += json(message).len() + 1;
            size <= PART_BYTES
        });
        let (part, after) = messages.split_at(
            fitting
                .count()
                .clamp(1, messages.len().max(1))
                .min(messages.len()),
        );
        rest = (!after.is_empty()).then_some(after);
        Some(part)
    })
}

fn too_fast(wait: Duration, nonce: Option<String>) -> Refusal {
    let seconds = whole_ms(wait).div_ceil(1000);
    Refusal {
        code: ErrorCode::ChatRateLimited,
        reason: format!("You are writing too fast. Wait {seconds} s."),
        nonce,
    }
}

/// Rounds up: who waits that long is not refused again.
fn whole_ms(wait: Duration) -> u64 {
    u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

fn json(value: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("wire types are JSON"))
}

/// Bytes of messages in one part of a history: with what is around them, below the 64 KiB that every
/// browser takes in one message.
const PART_BYTES: usize = 48 * 1024;
const MAX_HISTORIES: usize = 256;
const PRUNE_EVERY: i64 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_history_is_cut_into_messages_that_fit() {
        let rows = [
            ("none", 0, 1, 1),
            ("short", 100, 10, 1),
            ("longest", 100, 500, 5),
        ];
        for (label, count, length, at_least) in rows {
            let messages: Vec<_> = (0..count)
                .map(|id| message(id, &"🌻".repeat(length)))
                .collect();
            let parts: Vec<_> = parts(&messages).collect();
            assert!(parts.len() >= at_least, "{label}: {}", parts.len());
            assert_eq!(parts.concat(), messages, "{label}");
            for part in parts {
                let bytes = json(&ChatEvent::History {
                    messages: part.to_vec(),
                })
                .len();
                assert!(bytes < 64 * 1024, "{label}: {bytes}");
            }
        }
    }

    fn message(id: i64, text: &str) -> ChatMessage {
        ChatMessage {
            id,
            identity: "ann".into(),
            name: "Ann".into(),
            host: false,
            text: text.into(),
            at_ms: 0,
        }
    }
}
