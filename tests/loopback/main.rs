//! Loopback tests: the real server binary with real media, real sockets and independent peers.
//!
//! One crate, so that it links once. Every test starts its own server on free ports of 127.0.0.1.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails at that line"
)]

mod composition;
mod hls;
mod hostile;
mod media;
mod operations;
mod outputs;
mod recordings;
mod storage;
mod support;
mod takeover;
mod thumbnails;
mod websocket;
mod whip;
