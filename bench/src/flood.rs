//! Garbage for a server's media port: what a careless or hostile sender throws at it.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Context;
use aws_lc_rs::rand;

/// A running flood. It stops when dropped.
pub(crate) struct Flood {
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Starts sending so many datagrams a second: noise, and noise that begins like STUN, DTLS, RTP and RTCP.
    ///
    /// # Errors
    /// When there is no socket or no randomness.
    pub(crate) fn start(target: SocketAddr, rate: u32) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0").context("open a socket")?;
        socket.connect(target).context("choose a target")?;
        let datagrams = garbage()?;
        let (sent, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (count, stopped) = (Arc::clone(&sent), Arc::clone(&stop));
        let thread = thread::Builder::new()
            .name("flood".to_owned())
            .spawn(move || {
                let start = Instant::now();
                let mut next = datagrams.iter().cycle();
                while !stopped.load(Ordering::Relaxed) {
                    let due = start.elapsed().as_micros() * u128::from(rate) / 1_000_000;
                    while u128::from(count.load(Ordering::Relaxed)) < due {
                        // A full buffer is as good as an arrival.
                        let _ = next.next().map(|datagram| socket.send(datagram));
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    thread::sleep(Duration::from_micros(500));
                }
            })
            .context("start the flood")?;
        Ok(Self {
            sent,
            stop,
            thread: Some(thread),
        })
    }

    /// Returns how many were sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn garbage() -> anyhow::Result<Vec<Vec<u8>>> {
    let starts: [&[u8]; 5] = [
        &[],
        &[0, 1, 0, 44, 0x21, 0x12, 0xa4, 0x42],
        &[22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 87],
        &[0x80, 108],
        &[0x81, 205, 0, 12],
    ];
    let mut datagrams = Vec::new();
    for index in 0..1000 {
        let mut datagram = vec![0; 20 + index % 180];
        rand::fill(&mut datagram).ok().context("no randomness")?;
        let start = starts[index % starts.len()];
        datagram[..start.len()].copy_from_slice(start);
        datagrams.push(datagram);
    }
    Ok(datagrams)
}
