//! Datagram -> peer: by address pair, else by the ICE username fragment.

use std::collections::HashMap;

use crate::{Path, PeerId};

/// Where datagrams belong. Bounded by the number of peers and the paths of each.
#[derive(Debug, Default)]
pub(crate) struct Demux {
    by_path: HashMap<Path, PeerId>,
    by_ufrag: HashMap<String, PeerId>,
}

/// The paths and username fragments that lead to one peer.
#[derive(Debug, Default)]
pub(crate) struct Bound {
    paths: Vec<Path>,
    ufrags: Vec<String>,
}

impl Bound {
    /// Returns whether there is no path.
    pub(crate) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }
}

impl Demux {
    /// Leads binding requests for `ufrag` to a peer.
    pub(crate) fn add(&mut self, ufrag: String, peer: PeerId, bound: &mut Bound) {
        self.by_ufrag.insert(ufrag.clone(), peer);
        bound.ufrags.push(ufrag);
    }

    /// Forgets the username fragments of a peer that are not among these.
    pub(crate) fn keep<'a>(
        &mut self,
        bound: &mut Bound,
        ufrags: &(impl Iterator<Item = &'a str> + Clone),
    ) {
        bound.ufrags.retain(|ufrag| {
            let is_kept = ufrags.clone().any(|kept| kept == ufrag);
            if !is_kept {
                self.by_ufrag.remove(ufrag);
            }
            is_kept
        });
    }

    /// Returns the peer on a path.
    pub(crate) fn find(&self, path: Path) -> Option<PeerId> {
        self.by_path.get(&path).copied()
    }

    /// Returns the peer that was given a username fragment.
    pub(crate) fn find_ufrag(&self, ufrag: &str) -> Option<PeerId> {
        self.by_ufrag.get(ufrag).copied()
    }

    /// Makes exactly these paths lead to a peer. A NAT may hand an address from one peer to another:
    /// the authenticated check, which came last, wins.
    pub(crate) fn bind(&mut self, peer: PeerId, bound: &mut Bound, paths: &[Path]) {
        for path in &bound.paths {
            if !paths.contains(path) {
                self.unbind(peer, path);
            }
        }
        for path in paths {
            self.by_path.insert(*path, peer);
        }
        bound.paths.clear();
        bound.paths.extend_from_slice(paths);
    }

    /// Forgets a peer.
    pub(crate) fn remove(&mut self, peer: PeerId, bound: &Bound) {
        for ufrag in &bound.ufrags {
            self.by_ufrag.remove(ufrag);
        }
        for path in &bound.paths {
            self.unbind(peer, path);
        }
    }

    fn unbind(&mut self, peer: PeerId, path: &Path) {
        if self.by_path.get(path) == Some(&peer) {
            self.by_path.remove(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn the_newest_claim_to_an_address_wins_and_survives_the_older_peer() {
        let [address, other] = ["127.0.0.1:1", "127.0.0.1:2"]
            .map(|text| Path::from(text.parse::<SocketAddr>().unwrap()));
        let mut demux = Demux::default();
        let (mut first, mut second) = (Bound::default(), Bound::default());
        demux.add("a".into(), PeerId(1), &mut first);
        demux.add("b".into(), PeerId(2), &mut second);
        demux.bind(PeerId(1), &mut first, &[address, other]);
        demux.bind(PeerId(2), &mut second, &[address]);
        assert_eq!(demux.find(address), Some(PeerId(2)));
        demux.remove(PeerId(1), &first);
        assert_eq!(demux.find(address), Some(PeerId(2)));
        assert_eq!(demux.find(other), None);
        assert_eq!(demux.find_ufrag("a"), None);
        assert_eq!(demux.find_ufrag("b"), Some(PeerId(2)));
        demux.bind(PeerId(2), &mut second, &[other]);
        assert_eq!(demux.find(address), None);
    }

    #[test]
    fn a_restarted_session_has_two_fragments_until_the_old_one_is_dropped() {
        let mut demux = Demux::default();
        let mut bound = Bound::default();
        demux.add("old".into(), PeerId(1), &mut bound);
        demux.add("new".into(), PeerId(1), &mut bound);
        demux.keep(&mut bound, &["new", "old"].into_iter());
        assert_eq!(demux.find_ufrag("old"), Some(PeerId(1)));
        demux.keep(&mut bound, &["new"].into_iter());
        assert_eq!(demux.find_ufrag("old"), None);
        demux.remove(PeerId(1), &bound);
        assert_eq!(demux.find_ufrag("new"), None);
    }
}
