//! The data channel `chat`.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::ErrorCode;

/// What a participant sends on the `chat` channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum ChatRequest {
    /// Says something.
    Say {
        /// 1 to 500 characters.
        text: String,
        /// Chosen by the sender, returned in `refused` and in the sender's own `message`; at most 64 characters.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        nonce: Option<String>,
    },
}

/// What the server sends on the `chat` channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ChatEvent {
    /// The last messages, oldest first, at most 100, when the channel opens. A long history comes in
    /// several of these: merge them by id.
    History {
        /// The messages.
        messages: Vec<ChatMessage>,
    },
    /// Somebody said something.
    Message {
        /// The message.
        message: ChatMessage,
        /// The sender's nonce; only to the sender, who gets the message twice: with the nonce, then as
        /// everybody does. Ids tell that it is the same.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        nonce: Option<String>,
    },
    /// A message was not taken.
    Refused {
        /// `chat_rate_limited`, `chat_too_long`, `chat_empty`, `chat_not_allowed`, `bad_message`.
        code: ErrorCode,
        /// What happened, for people.
        message: String,
        /// When to try again, for `chat_rate_limited`.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional, type = "number")]
        retry_after_ms: Option<u64>,
        /// The refused message's nonce.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        nonce: Option<String>,
    },
}

/// One chat message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct ChatMessage {
    /// Increases within a room.
    #[ts(type = "number")]
    pub id: i64,
    /// Who wrote it.
    pub identity: String,
    /// The name shown.
    pub name: String,
    /// Whether the writer is the room's broadcaster (may publish).
    pub host: bool,
    /// The text.
    pub text: String,
    /// When, Unix milliseconds.
    #[ts(type = "number")]
    pub at_ms: u64,
}
