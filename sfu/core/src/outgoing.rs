//! Datagrams on their way out: one flat buffer, filled in place, emptied by the driver.

use crate::{Local, Path};

/// A batch of datagrams in one flat buffer. Reused between flushes, so that forwarding allocates nothing.
#[derive(Debug, Default)]
pub struct Outgoing {
    bytes: Vec<u8>,
    datagrams: Vec<Datagram>,
    /// The UDP sockets that have something to send, a bit each.
    sockets: u64,
}

#[derive(Clone, Copy, Debug)]
struct Datagram {
    to: Path,
    start: usize,
    len: usize,
}

impl Outgoing {
    /// Appends one datagram.
    pub fn push(&mut self, to: Path, datagram: &[u8]) {
        self.reserve(to, datagram.len()).copy_from_slice(datagram);
    }

    /// Appends a datagram of `len` zero bytes and returns it to be written in place.
    pub fn reserve(&mut self, to: Path, len: usize) -> &mut [u8] {
        let start = self.bytes.len();
        self.bytes.resize(start + len, 0);
        self.datagrams.push(Datagram { to, start, len });
        if let Local::Udp(socket) = to.local {
            self.sockets |= 1 << (socket % 64);
        }
        self.bytes.get_mut(start..).unwrap_or_default()
    }

    /// Returns the datagrams in the order they were appended.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Path, &[u8])> {
        self.datagrams.iter().map(|d| {
            (
                d.to,
                self.bytes.get(d.start..d.start + d.len).unwrap_or_default(),
            )
        })
    }

    /// Returns whether this UDP socket may have something to send.
    pub fn has(&self, socket: u8) -> bool {
        self.sockets & 1 << (socket % 64) != 0
    }

    /// Returns the number of datagrams.
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Returns whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Forgets all datagrams and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.datagrams.clear();
        self.sockets = 0;
    }
}
