//! The routes over HTTP and WebSocket.

mod http;
mod media;
mod server;
mod websocket;
