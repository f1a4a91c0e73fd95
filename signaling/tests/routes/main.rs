//! The routes over HTTP and WebSocket.

mod http;
mod look;
mod media;
mod server;
mod websocket;
