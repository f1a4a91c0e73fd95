//! The wire messages: WebSocket (`/ws/{room}`), and the data channels `chat` and `events`.
//!
//! The TypeScript types in `web/sdk/src/generated` are made from these; a test fails when they drift.

mod api;
mod chat;
mod look;
mod problem;
mod room;
mod session;

pub use api::{
    ChangeRoom, CreateInvite, CreateRoom, CreateToken, CreatedInvite, CreatedToken, Feature,
    Participant, ParticipantList, ParticipantStats, RoomList,
};
pub use chat::{ChatEvent, ChatMessage, ChatRequest};
pub use look::{ChangeLook, Corner, ImageKind, Layout, Look, RoomImage};
pub use problem::{ErrorCode, ProblemBody};
pub use room::{RoomEvent, RoomInfo, Slot, StageMember, TrackKind};
pub use session::{ClientMessage, Grants, IceCredentials, IceServer, MediaRole, ServerMessage};

/// Label of the data channel that carries [`ChatRequest`] up and [`ChatEvent`] down. Reliable, ordered.
pub const CHAT_CHANNEL: &str = "chat";
/// Label of the data channel that carries [`RoomEvent`] down. Reliable, ordered.
pub const EVENTS_CHANNEL: &str = "events";
/// Most characters (Unicode scalar values) of a chat message, after trimming.
pub const CHAT_TEXT_LIMIT: usize = 500;
/// Most characters of a shown name.
pub const NAME_LIMIT: usize = 40;
/// Most participants on a room's stage.
pub const STAGE_LIMIT: u32 = 16;
/// Participants on stage when a room does not say.
pub const STAGE_SIZE: u32 = 9;
/// Audio slots of a viewer that shows the stage: the loudest speakers.
pub const AUDIO_SLOTS: u32 = 3;

/// Why the server closed a WebSocket. Only [`close_code::RESTARTING`], [`close_code::TOO_SLOW`] and
/// [`close_code::SILENT`] are worth joining again for by itself.
pub mod close_code {
    /// A message was not valid UTF-8 (RFC 6455 §7.4.1).
    pub const NOT_UTF8: u16 = 1007;
    /// A message was longer than the server takes (RFC 6455 §7.4.1).
    pub const TOO_LONG: u16 = 1009;
    /// The server is stopping or restarting: join again soon (RFC 6455 registry).
    pub const RESTARTING: u16 = 1012;
    /// Too many messages that could not be understood.
    pub const BAD_MESSAGES: u16 = 4400;
    /// The token is missing where it is needed, invalid or expired; an `error` said which.
    pub const TOKEN: u16 = 4401;
    /// The token does not allow to enter this room; an `error` said why.
    pub const NOT_ALLOWED: u16 = 4403;
    /// There is no such room.
    pub const ROOM_UNKNOWN: u16 = 4404;
    /// No `join` within 10 s, or silence for 45 s.
    pub const SILENT: u16 = 4408;
    /// The client did not read fast enough: join again for a fresh picture.
    pub const TOO_SLOW: u16 = 4429;
    /// The server is full.
    pub const SERVER_FULL: u16 = 4503;
}
