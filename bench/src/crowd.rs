//! The viewers: peers and bare sockets that are drained by one thread.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::peer::Peer;

/// A running crowd. It leaves when dropped.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    arrivals: mpsc::Sender<Peer>,
    sinks: Vec<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    connected: AtomicUsize,
    channels: AtomicUsize,
    failed: AtomicUsize,
    packets: AtomicU64,
    stop: AtomicBool,
}

impl Crowd {
    /// Starts the thread, with this many bare sockets for the floor to send to.
    ///
    /// # Errors
    /// When the sockets cannot be opened.
    pub(crate) fn start(sinks: usize) -> anyhow::Result<Self> {
        let sinks = (0..sinks)
            .map(|_| sink())
            .collect::<anyhow::Result<Vec<_>>>()?;
        let addresses = sinks
            .iter()
            .map(|sink| sink.local_addr().context("name a socket"))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let (arrivals, arriving) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("viewers".to_owned())
            .spawn(move || drain(&theirs, &arriving, &sinks))
            .context("start the viewers")?;
        Ok(Self {
            shared,
            arrivals,
            sinks: addresses,
            thread: Some(thread),
        })
    }

    /// Adds a viewer that has accepted its answer.
    ///
    /// # Errors
    /// When the thread has ended.
    pub(crate) fn admit(&self, viewer: Peer) -> anyhow::Result<()> {
        if self.arrivals.send(viewer).is_err() {
            anyhow::bail!("the viewers' thread has ended");
        }
        Ok(())
    }

    /// Returns the addresses of the bare sockets.
    pub(crate) fn sinks(&self) -> &[SocketAddr] {
        &self.sinks
    }

    /// Returns how many viewers have their media connection and their data channel.
    pub(crate) fn ready(&self) -> usize {
        let connected = self.shared.connected.load(Ordering::Relaxed);
        connected.min(self.shared.channels.load(Ordering::Relaxed))
    }

    /// Returns how many viewers failed.
    pub(crate) fn failed(&self) -> usize {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// Returns how many media packets arrived so far.
    pub(crate) fn packets(&self) -> u64 {
        self.shared.packets.load(Ordering::Relaxed)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sink() -> anyhow::Result<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("open a socket")?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn drain(shared: &Shared, arriving: &mpsc::Receiver<Peer>, sinks: &[UdpSocket]) {
    let mut viewers: Vec<Peer> = Vec::new();
    let mut buffer = [0; 2048];
    let mut ticked = Instant::now();
    while !shared.stop.load(Ordering::Acquire) {
        viewers.extend(arriving.try_iter());
        let now = Instant::now();
        let tick = now >= ticked + TICK;
        if tick {
            ticked = now;
        }
        let before = viewers.len();
        viewers.retain_mut(|viewer| {
            let received = viewer.receive(&mut buffer, now);
            let alive = received.and_then(|()| if tick { viewer.tick(now) } else { Ok(()) });
            shared
                .packets
                .fetch_add(viewer.take_packets(), Ordering::Relaxed);
            alive.is_ok()
        });
        shared
            .failed
            .fetch_add(before - viewers.len(), Ordering::Relaxed);
        if tick {
            let count = |is: fn(&Peer) -> bool| viewers.iter().filter(|viewer| is(viewer)).count();
            shared
                .connected
                .store(count(Peer::is_connected), Ordering::Relaxed);
            shared
                .channels
                .store(count(Peer::is_channel_open), Ordering::Relaxed);
        }
        for sink in sinks {
            let received = drain_sink(sink, &mut buffer);
            shared.packets.fetch_add(received, Ordering::Relaxed);
        }
        thread::sleep(NAP);
    }
}

fn drain_sink(sink: &UdpSocket, buffer: &mut [u8]) -> u64 {
    let mut received = 0;
    loop {
        match sink.recv(buffer) {
            Ok(_) => received += 1,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return received,
        }
    }
}

/// How often timers are looked at.
const TICK: Duration = Duration::from_millis(5);

/// How long sockets fill between two looks. Sleeping instead of waiting for readiness keeps the cost of
/// waking this process out of the senders' bills.
const NAP: Duration = Duration::from_millis(1);
