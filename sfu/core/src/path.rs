//! [`Path`]: an address pair.

use std::net::SocketAddr;

/// The way between a peer and the server: a candidate pair (RFC 8445 §5.1). Answers must leave from the very
/// address that was asked, or the peer drops them (§7.2.5.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    /// The peer's address.
    pub remote: SocketAddr,
    /// The server's end.
    pub local: Local,
}

/// The server's end of a [`Path`], by the driver's own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Local {
    /// A UDP socket.
    Udp(u8),
    /// A TCP connection (RFC 6544). Its number is not given to another one for a long time.
    Tcp(u32),
}

impl From<SocketAddr> for Path {
    /// The path of a server with one UDP socket.
    fn from(remote: SocketAddr) -> Self {
        Self {
            remote,
            local: Local::Udp(0),
        }
    }
}
