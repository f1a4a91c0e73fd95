//! Media settings and what may be wrong with them.

use std::{net::IpAddr, thread};

use serde::{Deserialize, Serialize};
use sfu_core::ShardId;
use thiserror::Error;

/// Media settings: where the server listens, and which addresses it tells its peers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Threads that forward media, each on a UDP port of its own; 0 for one a processor core, at most 64.
    pub shards: u8,
    /// UDP port for media, 0 for any free one. The second shard has the next one, and so on.
    pub udp_port: u16,
    /// Whether peers whose networks let no UDP through may connect over TCP (RFC 6544).
    pub tcp: bool,
    /// TCP port for media, 0 for the number of `udp_port`.
    pub tcp_port: u16,
    /// Addresses told to peers as candidates. Empty: guessed from the network interfaces.
    pub public_ips: Vec<IpAddr>,
    /// Most peers (viewers and publishers) at a time.
    pub max_peers: usize,
    /// Packets kept per video layer for retransmission; a power of two from 256 to 8192.
    pub history_packets: usize,
    /// How long the beginning of a video frame, or audio, may wait for what follows, so that a busy shard sends
    /// each viewer several packets by one call; in milliseconds, 0 for never, at most 20. The end of a picture
    /// ends the wait, and so does the end of a spatial layer that some viewer gets as the last.
    pub hold_ms: u8,
    /// How busy a shard has to be before it holds packets, in percent of one core; 0 for always. Up to there
    /// everything leaves at once.
    pub hold_from_percent: u8,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: 0,
            udp_port: 7000,
            tcp: true,
            tcp_port: 0,
            public_ips: Vec::new(),
            max_peers: 5000,
            history_packets: 1024,
            hold_ms: 4,
            hold_from_percent: 50,
        }
    }
}

impl Config {
    /// Refuses what cannot work, before a port opens.
    ///
    /// # Errors
    /// [`BindError::Config`] says which setting is wrong, and what it may be.
    pub fn validate(&self) -> Result<(), BindError> {
        if !(1..=MAX_PEERS).contains(&self.max_peers) {
            return Err(BindError::Config("max_peers must be from 1 to 100000"));
        }
        let packets = self.history_packets;
        if !packets.is_power_of_two() || !(256..=8192).contains(&packets) {
            return Err(BindError::Config(
                "history_packets must be a power of two from 256 to 8192",
            ));
        }
        let shards = u16::from(self.shards());
        if self.shards > ShardId::COUNT || self.udp_port > u16::MAX - shards {
            return Err(BindError::Config(
                "shards must be at most 64, and udp_port so low that each has a port",
            ));
        }
        if self.hold_ms > MAX_HOLD_MS || self.hold_from_percent > 100 {
            return Err(BindError::Config(
                "hold_ms must be at most 20 and hold_from_percent at most 100",
            ));
        }
        if self.public_ips.len() > MAX_PUBLIC_IPS {
            return Err(BindError::Config(
                "public_ips must be at most 8 addresses: each is a candidate that every peer tries",
            ));
        }
        if self
            .public_ips
            .iter()
            .any(|ip| ip.is_unspecified() || ip.is_multicast())
        {
            return Err(BindError::Config(
                "public_ips must be addresses of this server that peers can reach",
            ));
        }
        Ok(())
    }

    /// Returns how many shards there are to be.
    pub(crate) fn shards(&self) -> u8 {
        if self.shards > 0 {
            return self.shards;
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        u8::try_from(cores).unwrap_or(u8::MAX).min(ShardId::COUNT)
    }
}

/// Why the media port could not be opened.
#[derive(Debug, Error)]
pub enum BindError {
    /// The port is taken or not allowed.
    #[error("cannot open UDP port {port} for media; choose another one (--udp-port)")]
    Socket {
        /// The port.
        port: u16,
        /// The cause.
        source: std::io::Error,
    },
    /// The TCP port is taken or not allowed.
    #[error(
        "cannot open TCP port {port} for media; choose another one (tcp_port) or go without (tcp = false)"
    )]
    Listener {
        /// The port.
        port: u16,
        /// The cause.
        source: std::io::Error,
    },
    /// A setting is out of its range.
    #[error("{0}")]
    Config(&'static str),
    /// The operating system gave no random bytes.
    #[error("the operating system has no randomness to give")]
    Entropy,
}

const MAX_PEERS: usize = 100_000;
const MAX_HOLD_MS: u8 = 20;
const MAX_PUBLIC_IPS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused() {
        let valid = Config::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        #[rustfmt::skip]
        let cases = [
            ("defaults", valid.clone(), true),
            ("no peers", Config { max_peers: 0, ..valid.clone() }, false),
            ("too many peers", Config { max_peers: 100_001, ..valid.clone() }, false),
            ("short history", Config { history_packets: 128, ..valid.clone() }, false),
            ("odd history", Config { history_packets: 1000, ..valid.clone() }, false),
            ("long history", Config { history_packets: 16_384, ..valid.clone() }, false),
            ("shards", Config { shards: 64, ..valid.clone() }, true),
            ("many shards", Config { shards: 65, ..valid.clone() }, false),
            ("no ports left", Config { shards: 2, udp_port: 65_535, ..valid.clone() }, false),
            ("no holding", Config { hold_ms: 0, ..valid.clone() }, true),
            ("long holding", Config { hold_ms: 21, ..valid.clone() }, false),
            ("never busy enough", Config { hold_from_percent: 101, ..valid.clone() }, false),
            ("address", Config { public_ips: vec![ip("192.0.2.1"), ip("2001:db8::1")], ..valid.clone() }, true),
            ("unspecified", Config { public_ips: vec![ip("0.0.0.0")], ..valid.clone() }, false),
            ("multicast", Config { public_ips: vec![ip("ff02::1")], ..valid.clone() }, false),
            ("many", Config { public_ips: vec![ip("192.0.2.1"); 9], ..valid }, false),
        ];
        for (label, config, allowed) in cases {
            assert_eq!(config.validate().is_ok(), allowed, "{label}");
        }
    }
}
