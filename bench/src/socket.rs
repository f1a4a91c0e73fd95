//! A client's socket, and the receive buffers that many clients share.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use nix::{
    cmsg_space,
    errno::Errno,
    sys::{
        socket::{
            ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt,
            sockopt,
        },
        time::TimeSpec,
    },
};

/// Opens a nonblocking socket on a free port whose datagrams the kernel stamps.
///
/// # Errors
/// When the system refuses.
pub(crate) fn open(local: IpAddr) -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind((local, 0)).context("open a socket")?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).context("ask for timestamps")?;
    Ok(socket)
}

/// Returns the address to bind to, to reach a server that is asked for at this one.
pub(crate) fn local_for(remote: IpAddr) -> IpAddr {
    match remote {
        IpAddr::V4(ip) if ip.is_loopback() => remote,
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Nanoseconds since the Unix epoch, as the kernel stamps datagrams.
pub(crate) fn wall_clock() -> i64 {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Room for what one system call receives.
pub(crate) struct Inbox {
    buffers: Box<[[u8; DATAGRAM]; BATCH]>,
    headers: MultiHeaders<SockaddrStorage>,
    received: Vec<Received>,
}

#[derive(Clone, Copy)]
struct Received {
    len: usize,
    source: Option<SocketAddr>,
    arrival: Option<i64>,
}

/// One received datagram.
pub(crate) struct Datagram<'a> {
    /// Its bytes.
    pub(crate) bytes: &'a mut [u8],
    /// Where it came from, when the socket is not connected.
    pub(crate) source: Option<SocketAddr>,
    /// When it reached the socket, in nanoseconds since the Unix epoch.
    pub(crate) arrival: i64,
}

impl Inbox {
    /// Creates an empty one.
    pub(crate) fn new() -> Self {
        let buffers: Box<[[u8; DATAGRAM]]> = vec![[0; DATAGRAM]; BATCH].into();
        Self {
            buffers: buffers.try_into().expect("the length is the same constant"),
            headers: MultiHeaders::preallocate(BATCH, Some(cmsg_space!(TimeSpec))),
            received: Vec::with_capacity(BATCH),
        }
    }

    /// Receives what is waiting, [`BATCH`] datagrams at most. Returns whether more may wait.
    ///
    /// # Errors
    /// When the socket is broken. A port that nobody listens on is not an error.
    pub(crate) fn receive(&mut self, socket: &UdpSocket) -> io::Result<bool> {
        self.received.clear();
        let mut slices = self
            .buffers
            .each_mut()
            .map(|buffer| [IoSliceMut::new(buffer)]);
        let results = recvmmsg(
            socket.as_raw_fd(),
            &mut self.headers,
            slices.iter_mut(),
            MsgFlags::MSG_DONTWAIT,
            None,
        );
        let results = match results {
            Ok(results) => results,
            Err(Errno::EAGAIN) => return Ok(false),
            Err(Errno::EINTR | Errno::ECONNREFUSED) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        for message in results {
            let arrival = message.cmsgs().ok().and_then(|mut all| {
                all.find_map(|control| {
                    let ControlMessageOwned::ScmTimestampns(time) = control else {
                        return None;
                    };
                    Some(time.tv_sec() * 1_000_000_000 + time.tv_nsec())
                })
            });
            self.received.push(Received {
                len: message.bytes,
                source: message.address.as_ref().and_then(address),
                arrival,
            });
        }
        Ok(self.received.len() == BATCH)
    }

    /// Returns how many datagrams the last call brought.
    pub(crate) fn len(&self) -> usize {
        self.received.len()
    }

    /// Returns what the last call brought.
    pub(crate) fn datagrams(&mut self) -> impl Iterator<Item = Datagram<'_>> {
        let received = self.received.iter().zip(self.buffers.iter_mut());
        received.filter_map(|(received, buffer)| {
            Some(Datagram {
                bytes: buffer.get_mut(..received.len)?,
                source: received.source,
                arrival: received.arrival.unwrap_or_else(wall_clock),
            })
        })
    }
}

fn address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    Some(SocketAddr::V6((*address.as_sockaddr_in6()?).into()))
}

const BATCH: usize = 64;
const DATAGRAM: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_stamped_when_they_arrive() {
        let loopback = Ipv4Addr::LOCALHOST.into();
        let (receiver, sender) = (open(loopback).unwrap(), open(loopback).unwrap());
        let mut inbox = Inbox::new();
        assert!(!inbox.receive(&receiver).unwrap());
        // The kernel begins to stamp some time after the first socket asked for it.
        let mut stamped = 0;
        while stamped < 2 {
            let before = wall_clock();
            for text in [b"one", b"two"] {
                sender
                    .send_to(text, receiver.local_addr().unwrap())
                    .unwrap();
            }
            let after = wall_clock();
            std::thread::sleep(Duration::from_millis(5));
            inbox.receive(&receiver).unwrap();
            assert_eq!(inbox.len(), 2);
            let source = sender.local_addr().unwrap();
            let arrived: Vec<_> = inbox.datagrams().collect();
            for (datagram, text) in arrived.iter().zip([b"one", b"two"]) {
                assert_eq!(
                    (&*datagram.bytes, datagram.source),
                    (&text[..], Some(source))
                );
            }
            let in_time = |datagram: &Datagram<'_>| (before..=after).contains(&datagram.arrival);
            stamped += usize::from(arrived.iter().all(in_time));
        }
    }
}
