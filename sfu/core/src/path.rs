//! [`Path`]: an address pair.

use std::net::SocketAddr;

/// The way between a peer and the server: a candidate pair (RFC 8445 §5.1). Answers must leave from the very
/// address that was asked, or the peer drops them (§7.2.5.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// The peer's address.
    pub remote: SocketAddr,
    /// Which of the server's sockets it is, by the driver's own count.
    pub local: u8,
}

impl From<SocketAddr> for Path {
    /// The path of a server with one socket.
    fn from(remote: SocketAddr) -> Self {
        Self { remote, local: 0 }
    }
}
