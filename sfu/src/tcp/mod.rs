//! ICE over TCP (RFC 6544), passive, for peers whose networks let no UDP through.

mod connection;
mod connections;
mod listener;

pub(crate) use connections::{Arrival, Connections, Inbound};
pub(crate) use listener::Listener;
