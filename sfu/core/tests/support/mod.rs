//! An independent WebRTC client without sockets, made of the libraries' client sides, and what is measured.

pub(crate) mod client;
pub(crate) mod memory;
pub(crate) mod stopwatch;
