//! What enters a shard: recvmmsg.
//!
//! No UDP GRO: the kernel joins datagrams of one sender only, and what a shard receives is single packets of
//! many (a publisher's, which its browser spreads over time, and reports of all viewers).

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::AsRawFd,
};

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};

use sfu_core::{Local, Path};

use crate::socket::Socket;

/// Most datagrams received by one system call. After each such batch the shard serves everything else.
pub(crate) const RECEIVE_BATCH: usize = 64;

/// The datagrams that one system call returned, to be decrypted in place.
pub(crate) struct ReceiveBatch {
    buffers: Box<[[u8; DATAGRAM_BYTES]; RECEIVE_BATCH]>,
    headers: MultiHeaders<SockaddrStorage>,
    received: Vec<Received>,
    local: u8,
}

struct Received {
    source: SocketAddr,
    len: usize,
}

/// What one system call brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// Datagrams, the unusable ones included. Fewer than [`RECEIVE_BATCH`] mean that no more are waiting.
    pub(crate) datagrams: usize,
    /// Those that were longer than any datagram of ours, or without a usable source.
    pub(crate) unusable: usize,
}

impl ReceiveBatch {
    /// Creates an empty batch.
    pub(crate) fn new() -> Self {
        let buffers: Box<[[u8; DATAGRAM_BYTES]]> = vec![[0; DATAGRAM_BYTES]; RECEIVE_BATCH].into();
        Self {
            buffers: buffers.try_into().expect("the length is the same constant"),
            headers: MultiHeaders::preallocate(RECEIVE_BATCH, None),
            received: Vec::with_capacity(RECEIVE_BATCH),
            local: 0,
        }
    }

    /// Receives what is waiting, without waiting itself.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing is waiting; others from the system.
    pub(crate) fn receive(&mut self, socket: &Socket) -> io::Result<Arrived> {
        self.received.clear();
        self.local = socket.local();
        let mut slices = self.buffers.each_mut().map(|b| [IoSliceMut::new(b)]);
        let results = recvmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        )?;
        let mut arrived = Arrived {
            datagrams: 0,
            unusable: 0,
        };
        for message in results {
            arrived.datagrams += 1;
            let source = message.address.as_ref().and_then(source);
            let whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
            let len = if whole { message.bytes } else { 0 };
            arrived.unusable += usize::from(!whole || source.is_none());
            // The place in `received` is the place in `buffers`, so unusable ones stay in as empty.
            let (source, len) = source.map_or((UNKNOWN, 0), |source| (source, len));
            self.received.push(Received { source, len });
        }
        Ok(arrived)
    }

    /// Returns the usable datagrams of the last call.
    pub(crate) fn datagrams(&mut self) -> impl Iterator<Item = (Path, &mut [u8])> {
        let local = Local::Udp(self.local);
        self.received
            .iter()
            .zip(self.buffers.iter_mut())
            .filter(|(received, _)| received.len > 0)
            .filter_map(move |(received, buffer)| {
                let remote = received.source;
                Some((Path { remote, local }, buffer.get_mut(..received.len)?))
            })
    }
}

fn source(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    Some(SocketAddr::V6((*address.as_sockaddr_in6()?).into()))
}

/// Longest datagram taken: more than any path MTU on the Internet.
const DATAGRAM_BYTES: usize = 2048;

/// Stands for the source of a datagram that has none.
const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn datagrams_know_their_path_and_long_ones_are_refused() {
        let addresses = [2, 1].map(|last| Ipv4Addr::new(127, 0, 0, last).into());
        let server = Socket::open_all(&addresses, 0).unwrap().remove(1);
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = server.address().unwrap();
        client.send_to(b"first", to).unwrap();
        client.send_to(&[0; 3000], to).unwrap();
        client.send_to(b"third", to).unwrap();
        let mut batch = ReceiveBatch::new();
        let arrived = batch.receive(&server).unwrap();
        assert_eq!((arrived.datagrams, arrived.unusable), (3, 1));
        let remote = client.local_addr().unwrap();
        let local = Local::Udp(1);
        let path = Path { remote, local };
        let datagrams: Vec<_> = batch.datagrams().map(|(s, d)| (s, d.to_vec())).collect();
        assert_eq!(
            datagrams,
            [(path, b"first".to_vec()), (path, b"third".to_vec())]
        );
        let nothing = batch.receive(&server).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }
}
