//! The media socket of a shard: UDP, both address families where the machine has both.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket as RawSocket, Type};

/// A non-blocking UDP socket. Speaks IPv4 as itself towards its user, whatever the kernel calls it.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: UdpSocket,
    port: u16,
    dual_stack: bool,
}

impl Socket {
    /// Opens the port on all addresses; 0 for any free one.
    pub(crate) fn open(port: u16) -> io::Result<Self> {
        let (socket, dual_stack) = match Self::open_dual_stack(port) {
            Ok(socket) => (socket, true),
            Err(error) if lacks_ipv6(&error) => (Self::open_ipv4(port)?, false),
            Err(error) => return Err(error),
        };
        socket.set_nonblocking(true)?;
        enlarge_buffers(&socket);
        let socket = UdpSocket::from(socket);
        let port = socket.local_addr()?.port();
        Ok(Self {
            socket,
            port,
            dual_stack,
        })
    }

    /// Returns the open port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns whether IPv6 peers can be served.
    pub(crate) fn is_dual_stack(&self) -> bool {
        self.dual_stack
    }

    /// Translates an address into what the kernel wants: IPv4-mapped (RFC 4291 §2.5.5.2) on a dual-stack socket.
    pub(crate) fn to_kernel(&self, address: SocketAddr) -> SocketAddr {
        match address {
            SocketAddr::V4(v4) if self.dual_stack => {
                SocketAddr::new(v4.ip().to_ipv6_mapped().into(), v4.port())
            }
            SocketAddr::V4(_) | SocketAddr::V6(_) => address,
        }
    }

    fn open_dual_stack(port: u16) -> io::Result<RawSocket> {
        let socket = RawSocket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(false)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)).into())?;
        Ok(socket)
    }

    fn open_ipv4(port: u16) -> io::Result<RawSocket> {
        let socket = RawSocket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into())?;
        Ok(socket)
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

fn lacks_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_found_and_a_taken_one_refused() {
        let socket = Socket::open(0).unwrap();
        assert_ne!(socket.port(), 0);
        let error = Socket::open(socket.port()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
