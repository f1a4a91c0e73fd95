//! The connections of a shard.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::BytesMut;
use sfu_core::{Local, Outgoing, Path};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Interval, MissedTickBehavior, interval},
};

use super::{
    connection::{self, Outbox},
    listener::Accepted,
};

/// What connections tell their shard.
#[derive(Debug)]
pub(crate) enum Inbound {
    /// A client has connected and begun with a check.
    Opened(Accepted),
    /// A datagram arrived.
    Frame {
        /// The connection.
        id: u32,
        /// The datagram.
        frame: BytesMut,
    },
    /// A connection has ended.
    Closed {
        /// The connection.
        id: u32,
    },
    /// It is time to look for connections that no peer uses any more.
    Sweep,
}

/// What a shard is to do about something inbound.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// Take a datagram.
    Datagram(Path, BytesMut),
    /// Forget a path.
    Gone(Path),
    /// Call [`Connections::sweep`].
    Sweep,
}

/// All connections of a shard. What they receive waits in one queue of [`QUEUED_FRAMES`]; when it is full,
/// they stop reading, and TCP makes the clients wait.
#[derive(Debug)]
pub(crate) struct Connections {
    by_id: BTreeMap<u32, Connection>,
    next_id: u32,
    most: usize,
    tasks: JoinSet<()>,
    sender: mpsc::Sender<Inbound>,
    inbound: mpsc::Receiver<Inbound>,
    sweep: Option<Interval>,
}

#[derive(Debug)]
struct Connection {
    remote: SocketAddr,
    outbox: Arc<Outbox>,
    task: AbortHandle,
}

impl Connections {
    /// Creates a place for `most` connections.
    pub(crate) fn new(most: usize) -> Self {
        let (sender, inbound) = mpsc::channel(QUEUED_FRAMES);
        Self {
            by_id: BTreeMap::new(),
            next_id: 0,
            most,
            tasks: JoinSet::new(),
            sender,
            inbound,
            sweep: None,
        }
    }

    /// Returns the way for a listener to hand over connections.
    pub(crate) fn sender(&self) -> mpsc::Sender<Inbound> {
        self.sender.clone()
    }

    /// Waits for something inbound. Loses nothing when abandoned.
    pub(crate) async fn recv(&mut self) -> Option<Inbound> {
        let Some(sweep) = &mut self.sweep else {
            return self.inbound.recv().await;
        };
        tokio::select! {
            inbound = self.inbound.recv() => inbound,
            _ = sweep.tick() => Some(Inbound::Sweep),
        }
    }

    /// Returns something that is inbound already.
    pub(crate) fn try_recv(&mut self) -> Option<Inbound> {
        self.inbound.try_recv().ok()
    }

    /// Returns how many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Takes something inbound. `None` for what is over already, and for connections beyond the limit.
    pub(crate) fn handle(&mut self, inbound: Inbound) -> Option<Arrival> {
        match inbound {
            Inbound::Opened(accepted) => self
                .open(accepted)
                .inspect_err(|reason| tracing::debug!(%reason, "connection refused"))
                .ok(),
            Inbound::Sweep => Some(Arrival::Sweep),
            Inbound::Frame { id, frame } => Some(Arrival::Datagram(self.path(id)?, frame)),
            Inbound::Closed { id } => {
                let path = self.path(id)?;
                self.close(path);
                Some(Arrival::Gone(path))
            }
        }
    }

    /// Closes a connection.
    pub(crate) fn close(&mut self, path: Path) {
        if let Local::Tcp(id) = path.local
            && let Some(connection) = self.by_id.remove(&id)
        {
            connection.task.abort();
        }
        if self.by_id.is_empty() {
            self.sweep = None;
        }
        while self.tasks.try_join_next().is_some() {}
    }

    /// Closes the connections whose paths are not known.
    pub(crate) fn sweep(&mut self, is_known: impl Fn(Path) -> bool) {
        let all = self.by_id.iter().map(|(id, c)| path(*id, c.remote));
        let unknown: Vec<Path> = all.filter(|path| !is_known(*path)).collect();
        unknown.into_iter().for_each(|path| self.close(path));
    }

    /// Sends the datagrams that go over connections. Returns how many were dropped.
    pub(crate) fn send(&mut self, outgoing: &Outgoing) -> u64 {
        let mut dropped = 0;
        if self.by_id.is_empty() {
            return dropped;
        }
        for (path, datagram) in outgoing.iter() {
            if let Local::Tcp(id) = path.local {
                let connection = self.by_id.get(&id);
                let taken = connection.is_some_and(|c| c.outbox.push(datagram));
                dropped += u64::from(!taken);
            }
        }
        dropped
    }

    fn open(&mut self, accepted: Accepted) -> io::Result<Arrival> {
        if self.by_id.len() >= self.most {
            return Err(io::Error::other("too many connections"));
        }
        let stream = TcpStream::from_std(accepted.stream)?;
        self.next_id = self.next_id.wrapping_add(1);
        let id = self.next_id;
        let outbox = Arc::new(Outbox::default());
        let task = connection::run(
            stream,
            accepted.received,
            id,
            Arc::clone(&outbox),
            self.sender.clone(),
        );
        let connection = Connection {
            remote: accepted.remote,
            outbox,
            task: self.tasks.spawn(task),
        };
        let path = path(id, connection.remote);
        self.by_id.insert(id, connection);
        self.sweep.get_or_insert_with(|| {
            let mut interval = interval(SWEEP);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval.reset();
            interval
        });
        Ok(Arrival::Datagram(path, accepted.check))
    }

    fn path(&self, id: u32) -> Option<Path> {
        Some(path(id, self.by_id.get(&id)?.remote))
    }
}

fn path(id: u32, remote: SocketAddr) -> Path {
    let local = Local::Tcp(id);
    Path { remote, local }
}

/// About 1 MB.
const QUEUED_FRAMES: usize = 1024;

/// How long a connection may outlive its peer.
const SWEEP: Duration = Duration::from_secs(5);
