//! The publishing side of RTMP 1.0, without I/O: bytes in, bytes out.
//!
//! Of our own because an output has to know what the server has acknowledged, to connect only to addresses
//! that were checked, and to say goodbye; and because it costs a tenth of a GStreamer sink.

mod amf;
mod chunk;
mod client;

pub(crate) use client::{ACK_WINDOW, Client, Metadata, Progress, RANDOM, Refusal};
