//! The media port of a shard: its sockets as one thing to wait for and to send by.
//!
//! A publisher's packets come by a lane, a socket of their own, once it is known where they come from. So a busy
//! shard need not wake up for every report of a viewer: it watches the lanes only, and looks for everything
//! else now and then.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll},
};

use sfu_core::{Local, Outgoing, Path};
use tokio::io::{Interest, unix::AsyncFd};

use crate::{
    batch::{SendBatch, Sent},
    receive::{Arrived, RECEIVE_BATCH, ReceiveBatch},
    socket::Socket,
};

/// The sockets of a shard, one an address, and the lanes.
pub(crate) struct Port {
    doors: Vec<Door>,
    lanes: Vec<Lane>,
    /// Which one is asked first, so that a busy one does not starve the others.
    first: usize,
}

struct Door {
    socket: Arc<Socket>,
    /// Unless the door is only looked at now and then.
    watch: Option<Watch>,
    outbound: SendBatch,
}

struct Lane {
    path: Path,
    watch: Watch,
}

struct Watch(AsyncFd<Arc<Socket>>);

impl Port {
    /// Registers the sockets with the runtime.
    ///
    /// # Errors
    /// When the reactor does not take a socket.
    pub(crate) fn new(sockets: Vec<Socket>) -> io::Result<Self> {
        let doors: io::Result<Vec<Door>> = sockets.into_iter().map(Door::new).collect();
        Ok(Self {
            doors: doors?,
            lanes: Vec::new(),
            first: 0,
        })
    }

    /// Gives each of these paths a lane, at most [`MAX_LANES`], and closes all others. Returns whether all have one.
    pub(crate) fn set_lanes(&mut self, paths: &[Path]) -> bool {
        self.lanes.retain(|lane| paths.contains(&lane.path));
        paths.iter().all(|path| self.open_lane(*path))
    }

    fn open_lane(&mut self, path: Path) -> bool {
        let Local::Udp(local) = path.local else {
            return true;
        };
        if self.lanes.iter().any(|lane| lane.path == path) {
            return true;
        }
        let mut doors = self.doors.iter();
        let Some(door) = doors.find(|door| door.socket.local() == local) else {
            return false;
        };
        if self.lanes.len() >= MAX_LANES {
            return false;
        }
        let lane = door.socket.lane(path.remote);
        match lane.and_then(|socket| Watch::new(Arc::new(socket))) {
            Ok(watch) => self.lanes.push(Lane { path, watch }),
            Err(error) => {
                tracing::debug!(%error, "a publisher gets no socket of its own");
                return false;
            }
        }
        true
    }

    /// Says whether what does not come by a lane is waited for, too.
    ///
    /// # Errors
    /// When the reactor does not take a socket back.
    pub(crate) fn watch_doors(&mut self, is_watched: bool) -> io::Result<()> {
        for door in &mut self.doors {
            match (is_watched, &door.watch) {
                (true, None) => door.watch = Some(Watch::new(Arc::clone(&door.socket))?),
                (false, Some(_)) => door.watch = None,
                (true, Some(_)) | (false, None) => {}
            }
        }
        Ok(())
    }

    /// Waits for datagrams and receives a batch from one of the sockets. Loses nothing when abandoned.
    ///
    /// # Errors
    /// What the system says; the port goes on.
    pub(crate) async fn receive(&mut self, batch: &mut ReceiveBatch) -> io::Result<Arrived> {
        poll_fn(|context| self.poll_receive(batch, context)).await
    }

    /// Receives a batch from a door without waiting; `position` is the first one that is asked. Returns the
    /// position to go on with, `None` when there is nothing.
    ///
    /// # Errors
    /// What the system says; the port goes on.
    pub(crate) fn look(
        &self,
        position: usize,
        batch: &mut ReceiveBatch,
    ) -> io::Result<Option<(usize, Arrived)>> {
        for (position, door) in self.doors.iter().enumerate().skip(position) {
            match batch.receive(&door.socket) {
                Ok(arrived) => {
                    let is_empty = arrived.datagrams < RECEIVE_BATCH;
                    return Ok(Some((position + usize::from(is_empty), arrived)));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn poll_receive(
        &mut self,
        batch: &mut ReceiveBatch,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Arrived>> {
        let count = self.lanes.len() + self.doors.len();
        for turn in 0..count {
            let index = (self.first + turn) % count;
            let watch = match index.checked_sub(self.lanes.len()) {
                None => self.lanes.get(index).map(|lane| &lane.watch),
                Some(door) => self.doors.get(door).and_then(|door| door.watch.as_ref()),
            };
            if let Some(watch) = watch
                && let Poll::Ready(received) = watch.poll_receive(batch, context)
            {
                self.first = index + 1;
                return Poll::Ready(received);
            }
        }
        Poll::Pending
    }

    /// Begins a flush, of which everything is sent by [`Port::send`].
    pub(crate) fn begin_flush(&mut self) {
        let doors = self.doors.iter_mut();
        doors.for_each(|door| door.outbound.begin_flush());
    }

    /// Sends each datagram from the socket that its path names; what cannot be sent is dropped and told.
    pub(crate) fn send(&mut self, outgoing: &Outgoing, mut tell: impl FnMut(&Sent)) {
        for door in &mut self.doors {
            if outgoing.has(door.socket.local()) {
                tell(&door.outbound.send(&door.socket, outgoing));
            }
        }
    }
}

impl Door {
    fn new(socket: Socket) -> io::Result<Self> {
        let socket = Arc::new(socket);
        Ok(Self {
            watch: Some(Watch::new(Arc::clone(&socket))?),
            socket,
            outbound: SendBatch::new(),
        })
    }
}

impl Watch {
    /// Registers a socket. Only readability is registered: with writability, the kernel would wake the thread for
    /// every datagram that left a socket's buffer.
    fn new(socket: Arc<Socket>) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe and asks for what is given: the socket is owned and never replaced"
        )]
        let watch = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self(watch))
    }

    fn poll_receive(
        &self,
        batch: &mut ReceiveBatch,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Arrived>> {
        loop {
            let mut ready = match self.0.poll_read_ready(context) {
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
                // What a lane sends nothing to may still say that nobody is there.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// Most publishers with a socket of their own; with more, all sockets are watched.
const MAX_LANES: usize = 128;
