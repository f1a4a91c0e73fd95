//! Rooms, people and permissions: the WebSocket protocol of the pages, WHIP, WHEP, chat, tokens, the store.
//!
//! Refuses to know sockets of media, GStreamer and outputs; those reach it as values through the app.

mod announcer;
mod api;
mod auth;
mod chat;
mod clock;
mod config;
mod directory;
mod gallery;
mod http_session;
mod look;
mod meters;
mod outbox;
mod problem;
pub mod protocol;
mod room;
mod secret;
mod service;
mod session;
mod stage;
mod store;
mod token;
pub mod turn;
mod whep;
mod whip;
mod ws;

pub use auth::{Grant, participant};
pub use config::{Chat as ChatConfig, Config, Turn as TurnConfig};
pub use look::{Image, Look};
pub use problem::Problem;
pub use room::{Performance, Performer};
pub use secret::Secret;
pub use service::{OpenError, RoomRef, Service};
pub use store::StoreError;
pub use token::{MintError, TokenRequest, mint_token};
