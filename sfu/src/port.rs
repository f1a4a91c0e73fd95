//! The media port of a shard: its sockets as one thing to wait for and to send by.

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
};

use sfu_core::Outgoing;
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    batch::{SendBatch, Sent},
    receive::{Arrived, RECEIVE_BATCH, ReceiveBatch},
    socket::Socket,
};

/// The sockets of a shard, one an address.
pub(crate) struct Port {
    doors: Vec<Door>,
    /// Which one is asked first, so that a busy one does not starve the others.
    first: usize,
}

struct Door {
    socket: AsyncFd<Socket>,
    outbound: SendBatch,
}

impl Port {
    /// Registers the sockets with the runtime. Only readability is registered: with writability, the kernel
    /// would wake the thread for every datagram that left a socket's buffer.
    ///
    /// # Errors
    /// When the reactor does not take a socket.
    pub(crate) fn new(sockets: Vec<Socket>) -> io::Result<Self> {
        let doors: io::Result<Vec<Door>> = sockets.into_iter().map(Door::new).collect();
        Ok(Self {
            doors: doors?,
            first: 0,
        })
    }

    /// Waits for datagrams and receives a batch from one of the sockets. Loses nothing when abandoned.
    ///
    /// # Errors
    /// What the system says; the port goes on.
    pub(crate) async fn receive(&mut self, batch: &mut ReceiveBatch) -> io::Result<Arrived> {
        poll_fn(|context| self.poll_receive(batch, context)).await
    }

    fn poll_receive(
        &mut self,
        batch: &mut ReceiveBatch,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Arrived>> {
        let count = self.doors.len();
        for turn in 0..count {
            let index = (self.first + turn) % count;
            if let Some(door) = self.doors.get(index)
                && let Poll::Ready(received) = door.poll_receive(batch, context)
            {
                self.first = index + 1;
                return Poll::Ready(received);
            }
        }
        Poll::Pending
    }

    /// Sends each datagram from the socket that its path names; what cannot be sent is dropped and told.
    pub(crate) fn send(&mut self, outgoing: &Outgoing, mut tell: impl FnMut(&Sent)) {
        for door in &mut self.doors {
            let sent = door.outbound.send(door.socket.get_ref(), outgoing);
            tell(&sent);
        }
    }
}

impl Door {
    fn new(socket: Socket) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe and asks for what is given: the socket is owned and never replaced"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self {
            socket,
            outbound: SendBatch::new(),
        })
    }

    fn poll_receive(
        &self,
        batch: &mut ReceiveBatch,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Arrived>> {
        loop {
            let mut ready = match self.socket.poll_read_ready(context) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return Poll::Pending,
            };
            match batch.receive(ready.get_inner()) {
                Ok(arrived) => {
                    if arrived.datagrams < RECEIVE_BATCH {
                        ready.clear_ready();
                    }
                    return Poll::Ready(Ok(arrived));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}
