//! What leaves a shard: sendmmsg, with UDP GSO for runs.

use std::{
    io::IoSlice,
    net::SocketAddr,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::sys::socket::{setsockopt, sockopt};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg},
    time::Timespec,
};
use sfu_core::{Local, Outgoing, Path};

use crate::socket::Socket;

/// Why datagrams were not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendDrop {
    /// The socket's buffer stayed full for longer than a flush waits.
    BufferFull,
    /// There is no route to the peer.
    Unreachable,
    /// A packet filter said no.
    Denied,
    /// Anything else.
    Other,
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Datagrams given to the kernel.
    pub(crate) datagrams: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// System calls.
    pub(crate) calls: u64,
    /// Datagrams dropped, by reason.
    pub(crate) drops: Vec<(SendDrop, u64)>,
}

/// Sends a batch with as few system calls as possible. Keeps its memory between batches.
///
/// Neighbouring datagrams of equal length to one destination become one message that the kernel splits
/// (UDP GSO). The segment length is a property of the socket, as no safe call sets it per message: it is
/// changed between calls, and messages are ordered so that those of one length come together. The order
/// of datagrams to one destination never changes.
pub(crate) struct SendBatch {
    offload: bool,
    segment: usize,
    messages: Vec<Message>,
    slices: Vec<IoSlice<'static>>,
    names: Vec<SocketAddrAny>,
    control: Vec<SendAncillaryBuffer<'static, 'static, 'static>>,
    headers: Vec<MMsgHdr<'static>>,
    patience: Patience,
}

/// How long a flush may still wait for room in the socket's buffer, over all its batches: when the network is
/// slower than the media, what does not fit is dropped instead of delaying everything behind it.
struct Patience {
    left: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            left: WRITABLE_WAIT,
        }
    }
}

impl Patience {
    /// Sends messages; when the buffer is full, once more when there is room or patience has ended.
    fn send(&mut self, socket: &Socket, messages: &mut [MMsgHdr<'_>]) -> Result<usize, Errno> {
        match sendmmsg(socket, messages, SendFlags::DONTWAIT) {
            Err(Errno::AGAIN) => {
                let limit = Timespec::try_from(self.left).ok();
                let mut wait = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::OUT)];
                let start = Instant::now();
                let polled = poll(&mut wait, limit.as_ref());
                self.waited(start.elapsed());
                polled?;
                sendmmsg(socket, messages, SendFlags::DONTWAIT)
            }
            result => result,
        }
    }

    fn waited(&mut self, time: Duration) {
        self.left = self.left.saturating_sub(time);
    }
}

/// What the kernel gets as one message: one datagram, or a run for it to split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Message {
    to: SocketAddr,
    /// Index of its first datagram.
    first: usize,
    datagrams: usize,
    /// Length of all its datagrams but the last, which may be shorter.
    segment: usize,
    bytes: usize,
    /// Place among the messages to the same destination.
    round: u32,
}

impl Message {
    fn takes(&self, index: usize, to: SocketAddr, len: usize) -> bool {
        let next = self.first + self.datagrams == index;
        let even = self.bytes == self.datagrams * self.segment;
        let room = self.datagrams < MAX_SEGMENTS && self.bytes + len <= MAX_RUN_BYTES;
        next && self.to == to && even && len <= self.segment && len > 0 && room
    }
}

impl SendBatch {
    /// Creates an empty batch.
    pub(crate) fn new() -> Self {
        Self {
            offload: true,
            segment: 0,
            messages: Vec::new(),
            slices: Vec::new(),
            names: Vec::new(),
            control: Vec::new(),
            headers: Vec::new(),
            patience: Patience::default(),
        }
    }

    /// Begins a flush: what one could not wait for says nothing about the next.
    pub(crate) fn begin_flush(&mut self) {
        self.patience = Patience::default();
    }

    /// Sends what is to leave from this socket; what cannot be sent is dropped and told.
    pub(crate) fn send(&mut self, socket: &Socket, outgoing: &Outgoing) -> Sent {
        let mut sent = Sent::default();
        self.plan(socket.local(), outgoing);
        if self.messages.is_empty() {
            return sent;
        }
        let mut slices = recycle(std::mem::take(&mut self.slices));
        slices.extend(outgoing.iter().map(|(_, datagram)| IoSlice::new(datagram)));
        let messages = std::mem::take(&mut self.messages);
        let mut rest = messages.as_slice();
        while !rest.is_empty() {
            let (group, segment) = split_group(rest);
            let (group, after) = rest.split_at(group);
            self.set_segment(socket, segment);
            if self.offload || segment == 0 {
                self.send_group(socket, group, &slices, &mut sent);
            } else {
                group
                    .iter()
                    .for_each(|message| self.send_singly(socket, message, &slices, &mut sent));
            }
            rest = after;
        }
        self.messages = messages;
        self.slices = recycle(slices);
        sent
    }

    /// Joins datagrams into messages and orders them by round.
    fn plan(&mut self, local: u8, outgoing: &Outgoing) {
        self.messages.clear();
        let mut rounds = 0;
        for (index, (path, datagram)) in outgoing.iter().enumerate() {
            if path.local != Local::Udp(local) {
                continue;
            }
            let Path { remote: to, .. } = path;
            let len = datagram.len();
            let round = match self.messages.last_mut() {
                Some(last) if self.offload && last.takes(index, to, len) => {
                    last.datagrams += 1;
                    last.bytes += len;
                    continue;
                }
                Some(last) if last.to == to => last.round + 1,
                Some(_) | None => 0,
            };
            rounds = rounds.max(round);
            self.messages.push(Message {
                to,
                first: index,
                datagrams: 1,
                segment: len,
                bytes: len,
                round,
            });
        }
        if self.offload && rounds > 0 {
            self.messages.sort_unstable_by_key(|m| (m.round, m.first));
        }
    }

    /// Sets the length at which the kernel splits messages, unless it is harmless as it is.
    fn set_segment(&mut self, socket: &Socket, segment: usize) {
        if !self.offload || segment == self.segment {
            return;
        }
        let value = i32::try_from(segment).unwrap_or_default();
        match setsockopt(&socket, sockopt::UdpGsoSegment, &value) {
            Ok(()) => self.segment = segment,
            Err(error) => self.give_up_offload(&error),
        }
    }

    fn give_up_offload(&mut self, reason: &dyn std::error::Error) {
        self.offload = false;
        tracing::info!(%reason, "segmentation offload is not available, sending datagrams one by one");
    }

    /// Sends messages that agree on the segment length.
    fn send_group(
        &mut self,
        socket: &Socket,
        group: &[Message],
        slices: &[IoSlice<'_>],
        sent: &mut Sent,
    ) {
        self.names.clear();
        self.names
            .extend(group.iter().map(|m| SocketAddrAny::from(m.to)));
        self.control.resize_with(
            self.control.len().max(group.len()),
            SendAncillaryBuffer::default,
        );
        let mut headers = recycle_headers(std::mem::take(&mut self.headers));
        let parts = group.iter().zip(&self.names).zip(&mut self.control);
        headers.extend(parts.map(|((message, name), control)| {
            let run = message.first..message.first + message.datagrams;
            MMsgHdr::new_with_addr(name, slices.get(run).unwrap_or_default(), control)
        }));
        let mut next = 0;
        let mut refused = None;
        while let (Some(rest), Some(message)) = (headers.get_mut(next..), group.get(next)) {
            sent.calls += 1;
            match self.patience.send(socket, rest) {
                Ok(accepted) => {
                    let done = group.get(next..next + accepted).unwrap_or_default();
                    for message in done {
                        sent.datagrams += message.datagrams as u64;
                        sent.bytes += message.bytes as u64;
                    }
                    next += accepted.max(1);
                }
                Err(Errno::INTR) => {}
                Err(error) if message.datagrams > 1 && error != Errno::AGAIN => {
                    refused = Some((next, error));
                    break;
                }
                Err(error) => {
                    sent.drop(error, message.datagrams);
                    next += 1;
                }
            }
        }
        self.headers = recycle_headers(headers);
        if let Some((at, error)) = refused {
            self.resend_refused(
                socket,
                group.get(at..).unwrap_or_default(),
                slices,
                error,
                sent,
            );
        }
    }

    /// Sends the run that the kernel would not split datagram by datagram, then the rest of its group.
    fn resend_refused(
        &mut self,
        socket: &Socket,
        group: &[Message],
        slices: &[IoSlice<'_>],
        error: Errno,
        sent: &mut Sent,
    ) {
        let Some((refused, rest)) = group.split_first() else {
            return;
        };
        if matches!(error, Errno::IO | Errno::OPNOTSUPP) {
            self.give_up_offload(&error);
        }
        self.send_singly(socket, refused, slices, sent);
        if self.offload {
            self.send_group(socket, rest, slices, sent);
        } else {
            rest.iter()
                .for_each(|message| self.send_singly(socket, message, slices, sent));
        }
    }

    /// Sends the datagrams of one message as messages of their own.
    fn send_singly(
        &mut self,
        socket: &Socket,
        message: &Message,
        slices: &[IoSlice<'_>],
        sent: &mut Sent,
    ) {
        for first in message.first..message.first + message.datagrams {
            let bytes = slices.get(first).map_or(0, |slice| slice.len());
            let single = Message {
                first,
                datagrams: 1,
                segment: bytes,
                bytes,
                ..*message
            };
            self.send_group(socket, &[single], slices, sent);
        }
    }
}

impl Sent {
    fn drop(&mut self, error: Errno, datagrams: usize) {
        let reason = match error {
            Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM => SendDrop::BufferFull,
            Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::ADDRNOTAVAIL => {
                SendDrop::Unreachable
            }
            Errno::PERM | Errno::ACCESS => SendDrop::Denied,
            _ => SendDrop::Other,
        };
        let datagrams = datagrams as u64;
        match self.drops.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += datagrams,
            None => self.drops.push((reason, datagrams)),
        }
    }
}

/// Returns how many messages from the front agree on a segment length, and that length (0 when all of
/// them are single datagrams).
fn split_group(messages: &[Message]) -> (usize, usize) {
    let mut segment = 0;
    let mut longest = 0;
    let mut count = 0;
    for message in messages.iter().take(MAX_MESSAGES) {
        let is_run = message.datagrams > 1;
        let fits = match (is_run, segment) {
            (true, 0) => longest <= message.segment,
            (true, segment) => message.segment == segment,
            (false, 0) => true,
            (false, segment) => message.bytes <= segment,
        };
        if !fits {
            break;
        }
        if is_run {
            segment = message.segment;
        }
        longest = longest.max(message.segment);
        count += 1;
    }
    (count, segment)
}

/// Empties a vector and changes the lifetime of what it may hold. Keeps the memory (in-place collect).
fn recycle<'b>(mut slices: Vec<IoSlice<'_>>) -> Vec<IoSlice<'b>> {
    slices.clear();
    slices.into_iter().map(|_| IoSlice::new(&[])).collect()
}

/// Like [`recycle`].
fn recycle_headers<'b>(mut headers: Vec<MMsgHdr<'_>>) -> Vec<MMsgHdr<'b>> {
    headers.clear();
    headers
        .into_iter()
        .map(|_| unreachable!("the vector is empty"))
        .collect()
}

/// Most messages in one call (UIO_MAXIOV).
const MAX_MESSAGES: usize = 1024;

/// Most datagrams that the kernel makes of one message (UDP_MAX_SEGMENTS of older kernels).
const MAX_SEGMENTS: usize = 64;

/// Most bytes in one message, below the 65,507 of a UDP datagram.
const MAX_RUN_BYTES: usize = 65_000;

/// How long a flush waits for a full socket buffer. A gigabit line empties 500 kB in 4 ms.
const WRITABLE_WAIT: Duration = Duration::from_millis(4);

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, UdpSocket};

    #[test]
    fn neighbours_of_equal_length_become_runs() {
        let (a, b) = (address(1), address(2));
        #[rustfmt::skip]
        let cases = [
            ("one", vec![(a, 100)], vec![1]),
            ("equal", vec![(a, 100), (a, 100), (a, 100)], vec![3]),
            ("shorter last", vec![(a, 100), (a, 100), (a, 50), (a, 50)], vec![3, 1]),
            ("longer", vec![(a, 100), (a, 101)], vec![1, 1]),
            ("two destinations", vec![(a, 100), (a, 100), (b, 100), (b, 100)], vec![2, 2]),
            ("alternating", vec![(a, 100), (b, 100), (a, 100)], vec![1, 1, 1]),
            ("empty", vec![(a, 0), (a, 0)], vec![1, 1]),
        ];
        for (label, datagrams, runs) in cases {
            let batch = planned(&datagrams);
            let found: Vec<usize> = batch.messages.iter().map(|m| m.datagrams).collect();
            assert_eq!(found, runs, "{label}");
        }
    }

    #[test]
    fn messages_of_one_length_come_together_in_order() {
        let (a, b) = (address(1), address(2));
        let lengths = [100, 100, 101, 101];
        let datagrams: Vec<_> = [a, b]
            .iter()
            .flat_map(|to| lengths.map(|len| (*to, len)))
            .collect();
        let batch = planned(&datagrams);
        let order: Vec<_> = batch.messages.iter().map(|m| (m.to, m.segment)).collect();
        assert_eq!(order, [(a, 100), (b, 100), (a, 101), (b, 101)]);
        assert_eq!(split_group(&batch.messages), (2, 100));
        assert_eq!(split_group(&batch.messages[2..]), (2, 101));
    }

    #[test]
    fn a_single_datagram_longer_than_the_segment_is_not_split() {
        let (a, b) = (address(1), address(2));
        let batch = planned(&[(a, 200), (b, 100), (b, 100)]);
        assert_eq!(split_group(&batch.messages), (1, 0));
        let batch = planned(&[(a, 50), (b, 100), (b, 100)]);
        assert_eq!(split_group(&batch.messages), (2, 100));
    }

    #[test]
    fn everything_arrives_once_and_in_order() {
        let server = server();
        let clients = [0, 1].map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let lengths = [1100, 1100, 1100, 1101, 1101, 900, 1200, 20, 1100, 1100];
        let mut outgoing = Outgoing::default();
        for client in &clients {
            for (index, len) in lengths.into_iter().enumerate() {
                let to = client.local_addr().unwrap().into();
                outgoing.reserve(to, len).fill(u8::try_from(index).unwrap());
            }
        }
        let mut batch = SendBatch::new();
        for _ in 0..2 {
            let sent = batch.send(&server, &outgoing);
            assert_eq!(sent.datagrams, (lengths.len() * clients.len()) as u64);
            assert_eq!(sent.drops, []);
            for client in &clients {
                client
                    .set_read_timeout(Some(Duration::from_secs(5)))
                    .unwrap();
                let mut buffer = [0; 2048];
                for (index, len) in lengths.into_iter().enumerate() {
                    let received = client.recv(&mut buffer).unwrap();
                    assert_eq!((received, usize::from(buffer[0])), (len, index));
                }
            }
        }
    }

    #[test]
    fn a_flush_of_many_batches_waits_for_room_once() {
        let server = server();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut outgoing = Outgoing::default();
        outgoing.push(client.local_addr().unwrap().into(), b"part");
        let mut batch = SendBatch::new();
        for _ in 0..2 {
            batch.begin_flush();
            for (waited, left) in [(1, 3), (2, 1), (2, 0)] {
                batch.patience.waited(Duration::from_millis(waited));
                assert_eq!(batch.send(&server, &outgoing).datagrams, 1);
                assert_eq!(batch.patience.left, Duration::from_millis(left));
            }
        }
    }

    #[test]
    fn what_has_no_route_is_dropped_and_the_rest_sent() {
        let server = server();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut outgoing = Outgoing::default();
        let broadcast = SocketAddr::from((Ipv4Addr::BROADCAST, 9));
        outgoing.push(broadcast.into(), b"denied");
        outgoing.push(client.local_addr().unwrap().into(), b"fine");
        let sent = SendBatch::new().send(&server, &outgoing);
        assert_eq!(sent.datagrams, 1);
        assert_eq!(sent.drops, [(SendDrop::Denied, 1)]);
    }

    #[test]
    fn other_sockets_datagrams_are_left_to_them() {
        let server = server();
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let remote = client.local_addr().unwrap();
        let mut outgoing = Outgoing::default();
        outgoing.push(
            Path {
                remote,
                local: Local::Udp(1),
            },
            b"elsewhere",
        );
        assert_eq!(SendBatch::new().send(&server, &outgoing), Sent::default());
        outgoing.push(
            Path {
                remote,
                local: Local::Udp(0),
            },
            b"here",
        );
        assert_eq!(SendBatch::new().send(&server, &outgoing).datagrams, 1);
        let mut buffer = [0; 16];
        let (len, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..len], from),
            (&b"here"[..], server.address().unwrap())
        );
    }

    fn server() -> Socket {
        let loopback = [Ipv4Addr::LOCALHOST.into()];
        Socket::open_all(&loopback, 0).unwrap().remove(0)
    }

    fn planned(datagrams: &[(SocketAddr, usize)]) -> SendBatch {
        let mut outgoing = Outgoing::default();
        for (to, len) in datagrams {
            outgoing.reserve((*to).into(), *len);
        }
        let mut batch = SendBatch::new();
        batch.plan(0, &outgoing);
        batch
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, last], 9))
    }
}
