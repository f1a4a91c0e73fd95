//! WHIP and WHEP sessions.

use sfu::{PeerId, Role, RoomId};

use super::Directory;

/// A WHIP or WHEP session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) peer: PeerId,
    pub(crate) room: RoomId,
    pub(crate) role: Role,
    /// Entity tag of its ICE session, with quotes.
    pub(crate) etag: String,
    pub(crate) identity: String,
    /// Digest of the token that made it; `None` when none was needed.
    pub(crate) token: Option<Vec<u8>>,
}

impl Directory {
    pub(crate) fn add_resource(&mut self, id: String, resource: Resource) {
        // The peer may have ended while its resource was being made.
        if self.peers.contains_key(&resource.peer) {
            self.resources.insert(id, resource);
            self.gauge();
        }
    }

    pub(crate) fn resource(&self, id: &str) -> Option<&Resource> {
        self.resources.get(id)
    }

    /// Notes that a resource has a new ICE session.
    pub(crate) fn change_etag(&mut self, id: &str, etag: &str) {
        if let Some(resource) = self.resources.get_mut(id) {
            etag.clone_into(&mut resource.etag);
        }
    }

    pub(crate) fn remove_resource(&mut self, id: &str) {
        self.resources.remove(id);
        self.gauge();
    }
}
