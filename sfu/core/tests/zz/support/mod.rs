//! An independent WebRTC client without sockets, made of the libraries' client sides.

pub(crate) mod client;
