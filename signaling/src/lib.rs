//! Rooms, people and permissions: the WebSocket protocol of the pages, WHIP, WHEP, chat, tokens, the store.
//!
//! Refuses to know sockets of media, GStreamer and outputs; those reach it as values through the app.

pub mod protocol;
