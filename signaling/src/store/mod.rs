//! What outlives the process: rooms and chat, in one SQLite file.
//!
//! Refuses to know who may read or write: callers have decided.

mod chat;
mod database;
mod rooms;

pub use database::OpenError as StoreError;
pub(crate) use database::Store;
pub(crate) use rooms::{Change as RoomChange, Record as RoomRecord};
