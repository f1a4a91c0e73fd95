//! Datagram -> peer: by address pair, else by the ICE username fragment.

use std::{collections::HashMap, net::SocketAddr};

use crate::PeerId;

/// Where datagrams belong. Bounded by the number of peers and the addresses of each.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    by_address: HashMap<SocketAddr, PeerId>,
    by_ufrag: HashMap<String, PeerId>,
}

/// The addresses that lead to one peer.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    addresses: Vec<SocketAddr>,
}

impl Bound {
    /// Returns whether there is no address.
    pub(crate) fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }
}

impl Demux {
    /// Leads binding requests for `ufrag` to a peer.
    pub(crate) fn add(&mut self, ufrag: String, peer: PeerId) {
        self.by_ufrag.insert(ufrag, peer);
    }

    /// Returns the peer at an address.
    pub(crate) fn find(&self, address: SocketAddr) -> Option<PeerId> {
        self.by_address.get(&address).copied()
    }

    /// Returns the peer that was given a username fragment.
    pub(crate) fn find_ufrag(&self, ufrag: &str) -> Option<PeerId> {
        self.by_ufrag.get(ufrag).copied()
    }

    /// Makes exactly these addresses lead to a peer. A NAT may hand an address from one peer to another:
    /// the authenticated check, which came last, wins.
    pub(crate) fn bind(&mut self, peer: PeerId, bound: &mut Bound, addresses: &[SocketAddr]) {
        for address in &bound.addresses {
            if !addresses.contains(address) {
                self.unbind(peer, address);
            }
        }
        for address in addresses {
            self.by_address.insert(*address, peer);
        }
        bound.addresses.clear();
        bound.addresses.extend_from_slice(addresses);
    }

    /// Forgets a peer.
    pub(crate) fn remove(&mut self, peer: PeerId, ufrag: &str, bound: &Bound) {
        self.by_ufrag.remove(ufrag);
        for address in &bound.addresses {
            self.unbind(peer, address);
        }
    }

    fn unbind(&mut self, peer: PeerId, address: &SocketAddr) {
        if self.by_address.get(address) == Some(&peer) {
            self.by_address.remove(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_claim_to_an_address_wins_and_survives_the_older_peer() {
        let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let other: SocketAddr = "127.0.0.1:2".parse().unwrap();
        let mut demux = Demux::default();
        let (mut first, mut second) = (Bound::default(), Bound::default());
        demux.add("a".into(), PeerId(1));
        demux.add("b".into(), PeerId(2));
        demux.bind(PeerId(1), &mut first, &[address, other]);
        demux.bind(PeerId(2), &mut second, &[address]);
        assert_eq!(demux.find(address), Some(PeerId(2)));
        demux.remove(PeerId(1), "a", &first);
        assert_eq!(demux.find(address), Some(PeerId(2)));
        assert_eq!(demux.find(other), None);
        assert_eq!(demux.find_ufrag("a"), None);
        assert_eq!(demux.find_ufrag("b"), Some(PeerId(2)));
        demux.bind(PeerId(2), &mut second, &[other]);
        assert_eq!(demux.find(address), None);
    }
}
