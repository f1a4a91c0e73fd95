//! Accepts connections and keeps those that begin with a check.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use sfu_core::{ShardId, tcp::Frames, transport::binding_request_ufrag};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::Inbound;
use crate::socket::is_absent;

/// One TCP port on every address of this machine, for all shards: the username fragment of the first check
/// tells which shard it is for. Clients that have sent none yet never reach a shard. At most
/// [`MAX_UNPROVEN`] of them wait, each for [`PROOF_TIME`]; when there are more, the oldest is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    sockets: Vec<std::net::TcpListener>,
    shards: Vec<mpsc::Sender<Inbound>>,
}

/// A connection that began with a check for one of a shard's peers, authentic or not.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(super) stream: std::net::TcpStream,
    pub(super) remote: SocketAddr,
    pub(super) check: BytesMut,
    /// What was received behind the check.
    pub(super) received: Frames,
}

impl Listener {
    /// Opens the port on all these addresses, 0 for one that is free on all; those that this machine does not
    /// have are passed over.
    ///
    /// # Errors
    /// When the port is taken on one of them, or none is of this machine.
    pub(crate) fn open_all(addresses: &[IpAddr], port: u16) -> io::Result<Self> {
        let attempts = if port == 0 { FREE_PORT_ATTEMPTS } else { 1 };
        let mut result = Err(io::ErrorKind::AddrInUse.into());
        for _ in 0..attempts {
            result = open_all(addresses, port);
            if !matches!(&result, Err(e) if e.kind() == io::ErrorKind::AddrInUse) {
                break;
            }
        }
        Ok(Self {
            sockets: result?,
            shards: Vec::new(),
        })
    }

    /// Returns the port.
    ///
    /// # Errors
    /// Never for open sockets.
    pub(crate) fn port(&self) -> io::Result<u16> {
        let first = self.sockets.first().ok_or(io::ErrorKind::NotFound)?;
        Ok(first.local_addr()?.port())
    }

    /// Adds the shard with the next index.
    pub(crate) fn add_shard(&mut self, inbound: mpsc::Sender<Inbound>) {
        self.shards.push(inbound);
    }

    /// Accepts connections until dropped.
    pub(crate) async fn run(self) -> io::Result<()> {
        let shards: Arc<[mpsc::Sender<Inbound>]> = self.shards.into();
        let (accepted, mut connections) = mpsc::channel(1);
        let mut accepting = JoinSet::new();
        for socket in self.sockets {
            let listener = TcpListener::from_std(socket)?;
            let accepted = accepted.clone();
            accepting.spawn(async move {
                loop {
                    match listener.accept().await {
                        Ok(connection) => drop(accepted.send(connection).await),
                        // Out of descriptors, or the client has gone.
                        Err(_) => sleep(ACCEPT_PAUSE).await,
                    }
                }
            });
        }
        let mut proving = JoinSet::new();
        let mut oldest: VecDeque<AbortHandle> = VecDeque::new();
        while let Some((stream, remote)) = connections.recv().await {
            while proving.try_join_next().is_some() {}
            oldest.retain(|task| !task.is_finished());
            if oldest.len() >= MAX_UNPROVEN
                && let Some(task) = oldest.pop_front()
            {
                task.abort();
            }
            let shards = Arc::clone(&shards);
            oldest.push_back(proving.spawn(async move {
                let proof = timeout(PROOF_TIME, prove(stream, remote, &shards)).await;
                if let Ok(Err(reason)) = proof {
                    tracing::debug!(%reason, "connection dropped");
                }
            }));
        }
        Ok(())
    }
}

/// Reads the first frame and hands the connection to the shard that it is for.
async fn prove(
    mut stream: TcpStream,
    remote: SocketAddr,
    shards: &[mpsc::Sender<Inbound>],
) -> io::Result<()> {
    let mut received = Frames::default();
    let check = loop {
        if let Some(frame) = received.next_frame().map_err(io::Error::other)? {
            break frame;
        }
        if stream.read_buf(received.buffer()).await? == 0 {
            return Ok(());
        }
    };
    let shard = binding_request_ufrag(&check)
        .and_then(ShardId::of_ufrag)
        .and_then(|shard| shards.get(usize::from(shard.0)))
        .ok_or_else(|| io::Error::other("not a check for one of our peers"))?;
    stream.set_nodelay(true)?;
    // A long queue in the kernel is delay that nobody can drop.
    let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
    let accepted = Accepted {
        stream: stream.into_std()?,
        remote,
        check,
        received,
    };
    shard
        .try_send(Inbound::Opened(accepted))
        .map_err(|_| io::Error::other("the shard is too busy"))
}

fn open_all(addresses: &[IpAddr], mut port: u16) -> io::Result<Vec<std::net::TcpListener>> {
    let mut sockets = Vec::new();
    for address in addresses {
        match open(SocketAddr::new(*address, port)) {
            Ok(socket) => {
                port = socket.local_addr()?.port();
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

fn open(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restarted server need not wait for the connections of the one before.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Most connections that have not begun with a check yet.
const MAX_UNPROVEN: usize = 256;

/// How long a connection may take to begin with a check: a browser sends it at once.
const PROOF_TIME: Duration = Duration::from_secs(5);

/// How long accepting rests after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the kernel may hold for one connection.
const SEND_BUFFER: usize = 128 << 10;

const BACKLOG: i32 = 256;

/// A port that is free on one address may be taken on another.
const FREE_PORT_ATTEMPTS: usize = 16;
