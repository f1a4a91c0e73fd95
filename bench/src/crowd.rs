//! The viewers: thousands of clients, driven by few threads.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{
    pulse::Pulse,
    socket::{self, Inbox},
    tally::Tally,
    viewer::Viewer,
};

/// A running crowd. It leaves when dropped.
pub(crate) struct Crowd {
    workers: Vec<Worker>,
    sinks: Vec<SocketAddr>,
    next: AtomicUsize,
    pulses: Vec<Pulse>,
    stop: Arc<AtomicBool>,
}

struct Worker {
    orders: SyncSender<Order>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What a worker shows.
#[derive(Default)]
struct Shared {
    tally: Mutex<Tally>,
    present: AtomicUsize,
    settled: AtomicUsize,
    sunk: AtomicU64,
}

enum Order {
    Admit(Box<Viewer>),
    /// Is about to leave.
    ExpectEnd(u64),
    Leave(u64),
}

impl Crowd {
    /// Starts the threads, with this many bare sockets for the floor to send to, and the pulses of
    /// the processors that matter.
    ///
    /// # Errors
    /// When the sockets cannot be opened.
    pub(crate) fn start(threads: usize, sinks: usize, pulses: Vec<Pulse>) -> anyhow::Result<Self> {
        let localhost = std::net::Ipv4Addr::LOCALHOST.into();
        let mut sinks: Vec<UdpSocket> = (0..sinks)
            .map(|_| socket::open(localhost))
            .collect::<anyhow::Result<_>>()?;
        let addresses = sinks
            .iter()
            .map(|sink| sink.local_addr().context("name a socket"))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut workers = Vec::new();
        for _ in 0..threads.max(1) {
            let shared = Arc::new(Shared::default());
            let (orders, ordered) = mpsc::sync_channel(MAX_ORDERS);
            let mut drain = Drain {
                viewers: Vec::new(),
                sinks: std::mem::take(&mut sinks),
                ordered,
                shared: Arc::clone(&shared),
            };
            let stop = Arc::clone(&stop);
            let thread = thread::Builder::new()
                .name("viewers".to_owned())
                .spawn(move || {
                    let mut inbox = Inbox::new();
                    while !stop.load(Ordering::Acquire) {
                        thread::sleep(drain.turn(&mut inbox));
                    }
                    drain.dismiss();
                })
                .context("start the viewers")?;
            workers.push(Worker {
                orders,
                shared,
                thread: Some(thread),
            });
        }
        Ok(Self {
            workers,
            sinks: addresses,
            next: AtomicUsize::new(0),
            pulses,
            stop,
        })
    }

    /// Adds a viewer that has accepted its answer.
    ///
    /// # Errors
    /// When the thread has ended.
    pub(crate) fn admit(&self, viewer: Viewer) -> anyhow::Result<()> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let worker = self
            .workers
            .get(next % self.workers.len())
            .context("find a worker")?;
        let order = Order::Admit(Box::new(viewer));
        worker
            .orders
            .send(order)
            .ok()
            .context("the viewers' thread has ended")
    }

    /// Lets a viewer leave.
    pub(crate) fn leave(&self, id: u64) {
        self.order(|| Order::Leave(id));
    }

    /// From here on it is a viewer's own wish when the server ends it.
    pub(crate) fn expect_end(&self, id: u64) {
        self.order(|| Order::ExpectEnd(id));
    }

    fn order(&self, order: impl Fn() -> Order) {
        for worker in &self.workers {
            // A worker that has ended has no viewers.
            let _ = worker.orders.send(order());
        }
    }

    /// Returns the addresses of the bare sockets.
    pub(crate) fn sinks(&self) -> &[SocketAddr] {
        &self.sinks
    }

    /// Returns how many viewers are present.
    pub(crate) fn present(&self) -> usize {
        self.sum(|shared| shared.present.load(Ordering::Relaxed))
    }

    /// Returns how many viewers have their media connection, and their data channel if they want one.
    pub(crate) fn settled(&self) -> usize {
        self.sum(|shared| shared.settled.load(Ordering::Relaxed))
    }

    /// Returns how many datagrams the bare sockets got so far.
    pub(crate) fn sunk(&self) -> u64 {
        let workers = self.workers.iter();
        workers
            .map(|worker| worker.shared.sunk.load(Ordering::Relaxed))
            .sum()
    }

    /// Returns what was counted since the last call.
    pub(crate) fn take_tally(&self) -> Tally {
        let mut all = Tally::default();
        for worker in &self.workers {
            let mut tally = worker
                .shared
                .tally
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            all.merge(&std::mem::take(&mut *tally));
        }
        let pauses: Vec<_> = self.pulses.iter().flat_map(Pulse::pauses).collect();
        all.settle(&pauses);
        all
    }

    fn sum(&self, of: impl Fn(&Shared) -> usize) -> usize {
        self.workers.iter().map(|worker| of(&worker.shared)).sum()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

/// One worker's part of the crowd.
struct Drain {
    viewers: Vec<Viewer>,
    sinks: Vec<UdpSocket>,
    ordered: Receiver<Order>,
    shared: Arc<Shared>,
}

impl Drain {
    /// Serves everybody once. Returns how long sockets may fill until the next time.
    fn turn(&mut self, inbox: &mut Inbox) -> Duration {
        let shared = Arc::clone(&self.shared);
        let mut tally = shared.tally.lock().unwrap_or_else(PoisonError::into_inner);
        for order in self.ordered.try_iter() {
            match order {
                Order::Admit(viewer) => self.viewers.push(*viewer),
                Order::ExpectEnd(id) => {
                    let viewer = self.viewers.iter_mut().find(|viewer| viewer.id == id);
                    if let Some(viewer) = viewer {
                        viewer.expect_end();
                    }
                }
                Order::Leave(id) => self.viewers.retain_mut(|viewer| {
                    let stays = viewer.id != id;
                    if !stays {
                        viewer.close(&mut tally);
                    }
                    stays
                }),
            }
        }
        self.viewers.retain_mut(|viewer| {
            let now = Instant::now();
            let is_alive = viewer.receive(inbox, &mut tally, now);
            viewer.tick(&mut tally, now);
            is_alive
        });
        drop(tally);
        let mut sunk = 0;
        for sink in &self.sinks {
            while inbox.receive(sink).is_ok_and(|more| more) {
                sunk += inbox.len() as u64;
            }
            sunk += inbox.len() as u64;
        }
        self.shared.sunk.fetch_add(sunk, Ordering::Relaxed);
        let settled = self
            .viewers
            .iter()
            .filter(|viewer| viewer.is_settled())
            .count();
        self.shared
            .present
            .store(self.viewers.len(), Ordering::Relaxed);
        self.shared.settled.store(settled, Ordering::Relaxed);
        if settled < self.viewers.len() || self.viewers.len() <= FEW {
            SHORT_NAP
        } else {
            LONG_NAP
        }
    }

    fn dismiss(&mut self) {
        let mut tally = self
            .shared
            .tally
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for viewer in &mut self.viewers {
            viewer.close(&mut tally);
        }
    }
}

/// Orders that may wait for a worker; whoever gives more waits.
const MAX_ORDERS: usize = 256;

/// How long sockets fill between two looks. Sleeping instead of waiting for readiness keeps the cost of waking
/// this process out of the senders' bills; the kernel's stamps keep the naps out of the delays.
const SHORT_NAP: Duration = Duration::from_millis(1);

/// The same with many settled viewers: the sockets' buffers hold 90 packets, 250 ms of a stream.
const LONG_NAP: Duration = Duration::from_millis(5);
const FEW: usize = 300;
