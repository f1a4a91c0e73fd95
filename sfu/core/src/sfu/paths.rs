//! The ways to a peer: moved, lost, begun anew.

use std::time::Instant;

use thiserror::Error;

use super::Sfu;
use crate::{
    Path, PeerId,
    transport::{IceCredentials, IceFragment},
};

/// A new ICE session of a peer whose media goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceRestart {
    /// The server's username fragment.
    pub ufrag: String,
    /// The server's password.
    pub pwd: String,
    /// Both with the server's candidates, as `application/trickle-ice-sdpfrag` (RFC 8840).
    pub fragment: String,
}

/// Why an ICE session was not begun anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RestartError {
    /// There is no such peer.
    #[error("the session has ended")]
    UnknownPeer,
    /// There is no `ice-ufrag`, or no `ice-pwd`.
    #[error("the fragment has no ICE credentials")]
    NoCredentials,
}

impl Sfu {
    /// Takes a fragment (RFC 8840) or a whole offer of a peer that has been negotiated. Other credentials
    /// than its present ones begin a new ICE session, whose credentials are returned: DTLS, media and data
    /// go on, on the present path until the peer nominates another one. With the same credentials nothing
    /// changes (`None`): the server does not need the candidates that it may be about.
    ///
    /// # Errors
    /// See [`RestartError`]; nothing has changed then.
    pub fn restart_ice(
        &mut self,
        peer: PeerId,
        fragment: &str,
        _now: Instant,
    ) -> Result<Option<IceRestart>, RestartError> {
        let credentials = self.new_credentials();
        let peer = self.peers.get_mut(peer).ok_or(RestartError::UnknownPeer)?;
        let fragment = IceFragment::parse(fragment).ok_or(RestartError::NoCredentials)?;
        if fragment.ufrag == peer.remote_ufrag {
            return Ok(None);
        }
        fragment.ufrag.clone_into(&mut peer.remote_ufrag);
        peer.transport.restart_ice(credentials.clone());
        self.demux
            .add(credentials.ufrag.clone(), peer.id, &mut peer.bound);
        self.demux.keep(&mut peer.bound, &peer.transport.ufrags());
        Ok(Some(IceRestart {
            fragment: fragment.answer(&self.shared, &credentials),
            ufrag: credentials.ufrag,
            pwd: credentials.pwd,
        }))
    }

    /// Returns where a peer's media comes from and goes to; `None` before its first check, and for unknown peers.
    pub fn path_of(&self, peer: PeerId) -> Option<Path> {
        self.peers.get(peer)?.transport.selected()
    }

    /// Returns whether an authentic check came on this path.
    pub fn knows(&self, path: Path) -> bool {
        self.demux.find(path).is_some()
    }

    /// Forgets a path that is gone for good, as a connection that was closed. Its peer goes on on another
    /// path, if it has one, and else has until its consent expires to find one.
    pub fn forget(&mut self, path: Path) {
        if let Some(id) = self.demux.find(path)
            && let Some(peer) = self.peers.get_mut(id)
        {
            peer.transport.forget(path);
            self.demux.bind(id, &mut peer.bound, peer.transport.paths());
        }
    }

    /// An authentic packet came on a path.
    pub(super) fn heard(&mut self, peer: PeerId, from: Path, now: Instant) {
        if let Some(peer) = self.peers.get_mut(peer) {
            peer.transport.heard(from, now);
        }
    }

    pub(super) fn new_credentials(&mut self) -> IceCredentials {
        IceCredentials {
            ufrag: format!("{}{}", self.config.shard.tag(), self.rng.token(8)),
            pwd: self.rng.token(32),
        }
    }
}
