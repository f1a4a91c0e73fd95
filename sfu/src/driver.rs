//! One shard: UDP sockets, clock and command queue around one `Sfu`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Event, Handle};

/// Media settings: where the server listens, and which addresses it tells its peers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// UDP port for media, 0 for any free one.
    pub udp_port: u16,
    /// Addresses told to peers as candidates. Empty: guessed from the network interfaces.
    pub public_ips: Vec<IpAddr>,
    /// Most peers (viewers and publishers) at a time.
    pub max_peers: usize,
    /// Packets kept per video layer for retransmission; a power of two from 256 to 8192.
    pub history_packets: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            udp_port: 7000,
            public_ips: Vec::new(),
            max_peers: 5000,
            history_packets: 1024,
        }
    }
}

/// Why the media port could not be opened.
#[derive(Debug, Error)]
pub enum BindError {
    /// The port is taken or not allowed.
    #[error("cannot open UDP port {port} for media: {source}")]
    Socket {
        /// The port.
        port: u16,
        /// The cause.
        source: std::io::Error,
    },
    /// A setting is out of its range.
    #[error("{0}")]
    Config(&'static str),
}

/// Owns the sockets and the SFU. Run it in one task.
#[derive(Debug)]
pub struct Driver {}

/// Opens the sockets, IPv4 and IPv6 where there is one.
///
/// The event receiver must be read: when it is full the driver waits (control-plane backpressure).
///
/// # Errors
/// See [`BindError`].
pub fn bind(_config: &Config) -> Result<(Driver, Handle, mpsc::Receiver<Event>), BindError> {
    unimplemented!()
}

impl Driver {
    /// Returns the addresses peers are told.
    pub fn advertised(&self) -> &[SocketAddr] {
        unimplemented!()
    }

    /// Runs until cancelled, then says goodbye to all peers.
    ///
    /// # Errors
    /// Only when a socket is beyond repair.
    pub async fn run(self, _cancel: CancellationToken) -> std::io::Result<()> {
        unimplemented!()
    }
}
