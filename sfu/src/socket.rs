//! The media sockets of a shard: one port on every address of this machine.
//!
//! A socket for all addresses would be simpler, but its answers leave from whatever address the kernel
//! prefers, and a peer that checked another one drops them (RFC 8445 §7.2.5.2.1).

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

/// A non-blocking UDP socket of one address.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: UdpSocket,
    local: u8,
}

impl Socket {
    /// Opens the same port on all these addresses, 0 for one that is free on all. Addresses that this
    /// machine does not have, as those in front of a NAT, are passed over.
    ///
    /// # Errors
    /// When the port is taken on one of them, or none is of this machine.
    pub(crate) fn open_all(addresses: &[IpAddr], port: u16) -> io::Result<Vec<Self>> {
        let attempts = if port == 0 { FREE_PORT_ATTEMPTS } else { 1 };
        let mut result = Err(io::ErrorKind::AddrInUse.into());
        for _ in 0..attempts {
            result = Self::try_open_all(addresses, port);
            if !matches!(&result, Err(e) if e.kind() == io::ErrorKind::AddrInUse) {
                break;
            }
        }
        result
    }

    fn try_open_all(addresses: &[IpAddr], mut port: u16) -> io::Result<Vec<Self>> {
        let mut sockets: Vec<Self> = Vec::new();
        for (local, address) in (0..MAX_SOCKETS).zip(addresses) {
            match Self::open(SocketAddr::new(*address, port), local) {
                Ok(socket) => {
                    port = socket.address()?.port();
                    sockets.push(socket);
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(error),
            }
        }
        if sockets.is_empty() {
            return Err(io::ErrorKind::AddrNotAvailable.into());
        }
        Ok(sockets)
    }

    fn open(address: SocketAddr, local: u8) -> io::Result<Self> {
        let domain = Domain::for_address(address);
        let socket = RawSocket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.set_nonblocking(true)?;
        enlarge_buffers(&socket);
        Ok(Self {
            socket: socket.into(),
            local,
        })
    }

    /// Opens another socket on the same port that takes what comes from `remote`, and nothing else.
    ///
    /// What comes from there between two of its system calls may still go to this one, and what comes from
    /// elsewhere to the new one: read both, and believe the datagrams' sources.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn lane(&self, remote: SocketAddr) -> io::Result<Self> {
        let address = self.address()?;
        let lane = RawSocket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        if address.is_ipv6() {
            lane.set_only_v6(true)?;
        }
        // Only now may the port be shared: with this from the start, a second server would get it too.
        setsockopt(&self.socket, sockopt::ReusePort, &true)?;
        lane.set_reuse_port(true)?;
        let bound = lane.bind(&address.into());
        setsockopt(&self.socket, sockopt::ReusePort, &false)?;
        bound?;
        lane.set_nonblocking(true)?;
        enlarge_buffers(&lane);
        lane.connect(&remote.into())?;
        Ok(Self {
            socket: lane.into(),
            local: self.local,
        })
    }

    /// Returns the address and port.
    ///
    /// # Errors
    /// Never for an open socket.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Returns its number among the sockets of the shard, as paths name it.
    pub(crate) fn local(&self) -> u8 {
        self.local
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Tells whether an address is not of this machine.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    let absent = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL, Errno::OPNOTSUPP];
    absent
        .iter()
        .any(|e| error.raw_os_error() == Some(e.raw_os_error()))
}

/// Asks for large buffers, above the system's limit where we may.
fn enlarge_buffers(socket: &RawSocket) {
    if setsockopt(socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
        let _ = socket.set_recv_buffer_size(BUFFER_BYTES);
    }
    if setsockopt(socket, sockopt::SndBufForce, &BUFFER_BYTES).is_err() {
        let _ = socket.set_send_buffer_size(BUFFER_BYTES);
    }
    let receive_bytes = socket.recv_buffer_size().unwrap_or_default();
    let send_bytes = socket.send_buffer_size().unwrap_or_default();
    if receive_bytes.min(send_bytes) < BUFFER_BYTES {
        tracing::info!(
            receive_bytes,
            send_bytes,
            "socket buffers are small for many viewers; raise net.core.rmem_max and net.core.wmem_max"
        );
    }
}

/// Holds a frame of 40 packets for 200 viewers, with the kernel's overhead.
const BUFFER_BYTES: usize = 16 << 20;

/// Most addresses listened on.
const MAX_SOCKETS: u8 = 32;

/// A port that is free on one address may be taken on another.
const FREE_PORT_ATTEMPTS: usize = 16;

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const ADDRESSES: [IpAddr; 3] = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];

    #[test]
    fn all_addresses_have_one_port() {
        let sockets = Socket::open_all(&ADDRESSES, 0).unwrap();
        assert!(sockets.len() >= 2);
        let port = sockets[0].address().unwrap().port();
        assert!(sockets.iter().all(|s| s.address().unwrap().port() == port));
        let error = Socket::open_all(&ADDRESSES, port).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_lane_takes_what_comes_from_one_source_only() {
        let main = Socket::open_all(&ADDRESSES[..1], 0).unwrap().remove(0);
        let to = main.address().unwrap();
        let [mine, other] = [0, 1].map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let lane = main.lane(mine.local_addr().unwrap()).unwrap();
        assert_eq!((lane.address().unwrap(), lane.local()), (to, main.local()));
        for round in 0..20 {
            mine.send_to(&[round], to).unwrap();
            other.send_to(&[round + 100], to).unwrap();
        }
        let read = |socket: &Socket| {
            let mut buffer = [0; 8];
            let received =
                std::iter::from_fn(|| socket.socket.recv(&mut buffer).ok().map(|_| buffer[0]));
            received.collect::<Vec<_>>()
        };
        assert_eq!(read(&lane), (0..20).collect::<Vec<_>>());
        assert_eq!(read(&main), (100..120).collect::<Vec<_>>());
        let again = Socket::open_all(&ADDRESSES[..1], to.port()).unwrap_err();
        assert_eq!(
            again.kind(),
            io::ErrorKind::AddrInUse,
            "nobody else gets the port"
        );
        drop(lane);
        mine.send_to(&[7], to).unwrap();
        assert_eq!(read(&main), [7]);
    }

    #[test]
    fn addresses_of_others_are_passed_over() {
        let foreign = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));
        let sockets = Socket::open_all(&[foreign, ADDRESSES[0]], 0).unwrap();
        assert_eq!((sockets.len(), sockets[0].local()), (1, 1));
        assert!(Socket::open_all(&[foreign], 0).is_err());
    }
}
