//! Opens the sockets and runs the shards.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, SystemTime},
};

use tokio::{runtime, sync::mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    BindError, Config, Event, Handle, Reach, address,
    events::EventQueue,
    hold::Hold,
    link::Links,
    shard::{Plan, Shard},
    socket::Socket,
    tcp::{Connections, Listener},
};

/// Owns the sockets and the SFUs. Run it in one task.
#[derive(Debug)]
pub struct Driver {
    advertised: Vec<SocketAddr>,
    advertised_tcp: Vec<SocketAddr>,
    ports: Vec<u16>,
    plans: Vec<Plan>,
    listener: Option<Listener>,
}

/// Opens the ports on every address that this machine has, IPv4 and IPv6.
///
/// The event receiver should be read without long waits: while it is full, media goes on and events are
/// kept, but new offers are refused as [`Full`](crate::NegotiateError::Full) and messages of data channels
/// are dropped once 4096 more are waiting. Commands are always served, so a reader may use the [`Handle`].
///
/// # Errors
/// See [`BindError`].
pub fn bind(config: &Config) -> Result<(Driver, Handle, mpsc::Receiver<Event>), BindError> {
    config.validate()?;
    // Public addresses first: those of this machine may be missing from its interfaces (127.0.0.2).
    let listen: Vec<IpAddr> = config
        .public_ips
        .iter()
        .copied()
        .chain(address::local())
        .collect();
    let listen = unique(listen);
    let Ports {
        shards,
        mut listener,
    } = Ports::open(config, &listen)?;
    let tcp_port = listener.as_ref().map_or(Ok(0), Listener::port);
    let tcp_port = tcp_port.map_err(|source| listener_failed(0, source))?;
    let (handle, commands) = Handle::new(config.shards(), config.max_peers);
    let (event_queue, events) = EventQueue::new();
    let links = Links::mesh(config.shards());
    let mut advertised = Vec::new();
    let mut advertised_tcp = Vec::new();
    let mut ports = Vec::new();
    let mut plans = Vec::new();
    for (((sockets, addresses), commands), links) in shards.into_iter().zip(commands).zip(links) {
        let connections = Connections::new(config.max_peers);
        if let Some(listener) = &mut listener {
            listener.add_shard(connections.sender());
            advertised_tcp = addresses
                .iter()
                .map(|address| SocketAddr::new(address.ip(), tcp_port))
                .collect();
        }
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| BindError::Entropy)?;
        plans.push(Plan {
            sockets,
            connections,
            core: sfu_core::Config {
                advertise: addresses.clone(),
                advertise_tcp: advertised_tcp.clone(),
                shard: links.own(),
                max_peers: config.max_peers,
                history_packets: config.history_packets,
                connect_timeout: CONNECT_TIMEOUT,
                // Set when the shard starts, together with its first instant.
                unix_time: Duration::ZERO,
                seed,
            },
            commands,
            links,
            events: event_queue.sibling(),
            hold: Hold::new(
                Duration::from_millis(config.hold_ms.into()),
                config.hold_from_percent,
            ),
        });
        let port = addresses.first().map_or(0, SocketAddr::port);
        ports.push(port);
        if advertised.is_empty() {
            advertised = addresses;
        }
    }
    let driver = Driver {
        advertised,
        advertised_tcp,
        ports,
        plans,
        listener,
    };
    Ok((driver, handle, events))
}

impl Driver {
    /// Returns the addresses peers are told, with the port of the first shard.
    pub fn advertised(&self) -> &[SocketAddr] {
        &self.advertised
    }

    /// Returns the UDP port of each shard.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Returns the addresses at which peers without UDP connect; none when that is turned off.
    pub fn advertised_tcp(&self) -> &[SocketAddr] {
        &self.advertised_tcp
    }

    /// Returns who can reach them, at best.
    pub fn reach(&self) -> Reach {
        Reach::of(&self.advertised)
    }

    /// Runs until cancelled, then says goodbye to all peers.
    ///
    /// Each shard has a thread of its own: a packet never queues behind the control plane's work. Dropping
    /// the future cancels the shards too, without waiting for them.
    ///
    /// # Errors
    /// Only when a socket is beyond repair.
    pub async fn run(self, cancel: CancellationToken) -> io::Result<()> {
        let cancel = cancel.child_token();
        let _end_with_this_future = cancel.clone().drop_guard();
        let shards = self.plans.len();
        let (report, mut reports) = mpsc::channel(shards.max(1));
        for (index, plan) in self.plans.into_iter().enumerate() {
            let (span, cancel) = (tracing::Span::current(), cancel.clone());
            let report = report.clone();
            thread::Builder::new()
                .name(format!("sfu-{index}"))
                .spawn(move || {
                    let _entered = span.enter();
                    let _one_ends_all = cancel.clone().drop_guard();
                    let _ = report.blocking_send(run_shard(plan, cancel));
                })?;
        }
        drop(report);
        let ended = async {
            let mut result = Ok(());
            let mut silent = shards;
            while let Some(report) = reports.recv().await {
                silent -= 1;
                result = result.and(report);
            }
            match silent {
                0 => result,
                _ => Err(io::Error::other("a media thread panicked")),
            }
        };
        let listening = async {
            match self.listener {
                Some(listener) => listener.run().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            result = ended => result,
            failed = listening => failed,
        }
    }
}

fn run_shard(mut plan: Plan, cancel: CancellationToken) -> io::Result<()> {
    plan.core.unix_time = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async { Shard::new(plan)?.run(cancel).await })
}

/// The sockets of all shards.
struct Ports {
    /// The sockets of each shard, and the addresses that its peers are told.
    shards: Vec<(Vec<Socket>, Vec<SocketAddr>)>,
    listener: Option<Listener>,
}

impl Ports {
    /// Opens neighbouring ports. When any will do, a server that is started again may be told the first one
    /// and finds the others free, too.
    fn open(config: &Config, listen: &[IpAddr]) -> Result<Self, BindError> {
        let mut result = Self::open_at(config, listen);
        for _ in 1..FREE_PORT_ATTEMPTS {
            match &result {
                Err(BindError::Socket { source, .. } | BindError::Listener { source, .. })
                    if config.udp_port == 0 && source.kind() == io::ErrorKind::AddrInUse => {}
                Ok(_) | Err(_) => break,
            }
            result = Self::open_at(config, listen);
        }
        result
    }

    fn open_at(config: &Config, listen: &[IpAddr]) -> Result<Self, BindError> {
        let mut next = config.udp_port;
        let mut shards = Vec::new();
        for _ in 0..config.shards() {
            let failed = |source| BindError::Socket { port: next, source };
            let sockets = Socket::open_all(listen, next).map_err(failed)?;
            let advertised = advertised(config, &sockets).map_err(failed)?;
            let port = advertised.first().map_or(next, SocketAddr::port);
            // Behind the last port there is none, which is the port that any will do for.
            next = port.wrapping_add(1);
            shards.push((sockets, advertised));
        }
        let first = shards.first().and_then(|(_, addresses)| addresses.first());
        let port = match config.tcp_port {
            0 => first.map_or(0, SocketAddr::port),
            port => port,
        };
        let listener = config.tcp.then(|| Listener::open_all(listen, port));
        let listener = listener.transpose();
        let listener = listener.map_err(|source| listener_failed(port, source))?;
        Ok(Self { shards, listener })
    }
}

fn listener_failed(port: u16, source: io::Error) -> BindError {
    BindError::Listener { port, source }
}

fn advertised(config: &Config, sockets: &[Socket]) -> io::Result<Vec<SocketAddr>> {
    let open: io::Result<Vec<SocketAddr>> = sockets.iter().map(Socket::address).collect();
    let open = open?;
    let port = open.first().map_or(config.udp_port, SocketAddr::port);
    let mut ips = config.public_ips.clone();
    if ips.is_empty() {
        ips = address::guess();
        ips.retain(|ip| open.iter().any(|address| address.ip() == *ip));
    }
    Ok(ips
        .into_iter()
        .map(|ip| SocketAddr::new(ip.to_canonical(), port))
        .collect())
}

fn unique(ips: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut unique: Vec<IpAddr> = Vec::new();
    for ip in ips.into_iter().map(|ip| ip.to_canonical()) {
        if !unique.contains(&ip) {
            unique.push(ip);
        }
    }
    unique
}

/// How many free ports are tried before their neighbours count as taken.
const FREE_PORT_ATTEMPTS: usize = 16;

/// How long a peer may take from its answer to the end of its handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
