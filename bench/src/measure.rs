//! The course of a run: connect everybody, then play each profile against its floors.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use crate::{
    child::{Process, Request, Totals},
    crowd::Crowd,
    peer::Peer,
    profile::Profile,
    publisher::Publisher,
};

/// Everything that was measured.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// Viewers connected.
    pub(crate) viewers: usize,
    /// From the first offer until the last data channel was open.
    pub(crate) connecting: Duration,
    /// CPU time of the SFU to connect one viewer, in microseconds.
    pub(crate) connect_us: f64,
    /// Memory of the SFU per connected viewer before media flowed, in bytes.
    pub(crate) idle_bytes: f64,
    /// The same after all media had flowed.
    pub(crate) loaded_bytes: f64,
    /// [`Profile::Paced`].
    pub(crate) paced: Comparison,
    /// [`Profile::Bursts`].
    pub(crate) bursts: Comparison,
}

/// One profile, the SFU against the floors. Costs are averages of two rounds.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    /// The SFU.
    pub(crate) sfu: Cost,
    /// AES-128-GCM and `sendmmsg`.
    pub(crate) floor: Cost,
    /// The same with runs split by the kernel; not measured where there are no runs.
    pub(crate) offload_floor: Cost,
}

/// What sending cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    cpu_us: i64,
    /// Packets sent.
    pub(crate) packets: u64,
    elapsed: Duration,
    /// Packets that arrived.
    pub(crate) arrived: u64,
}

#[expect(clippy::cast_precision_loss, reason = "counts of a short run")]
impl Cost {
    /// Returns the CPU time per packet in microseconds, `None` when nothing was sent.
    pub(crate) fn per_packet(&self) -> Option<f64> {
        (self.packets > 0).then(|| self.cpu_us as f64 / self.packets as f64)
    }

    /// Returns the packets per second.
    pub(crate) fn rate(&self) -> f64 {
        self.packets as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns the share of packets that did not arrive.
    pub(crate) fn lost(&self) -> f64 {
        1.0 - self.arrived as f64 / self.packets.max(1) as f64
    }

    fn add(&mut self, before: Totals, after: Totals, elapsed: Duration, arrived: u64) {
        self.cpu_us += after.usage.cpu_us_since(before.usage);
        self.packets += after.packets_out - before.packets_out;
        self.elapsed += elapsed;
        self.arrived += arrived;
    }
}

/// Runs everything.
///
/// # Errors
/// When a process or a connection fails.
pub(crate) fn run(viewers: usize, seconds: u64) -> anyhow::Result<Figures> {
    let time = Duration::from_secs(seconds);
    let mut server = Process::start("serve")?;
    let mut floor = Process::start("floor")?;
    let crowd = Crowd::start(viewers)?;
    let mut figures = Figures {
        viewers,
        ..Figures::default()
    };
    let (mut peer, offer) = Peer::publisher()?;
    let answer = server.negotiate(true, 0, offer).context("publish")?;
    peer.accept(answer, Instant::now())?;
    let publisher = Publisher::start(peer)?;
    // The history of the room's layers is filled before memory is compared.
    publisher.play(Some(Profile::Paced));
    thread::sleep(Duration::from_secs(4));
    publisher.play(None);
    let alone = server.totals(&Request::Totals)?;
    figures.connecting = connect(&mut server, &crowd, viewers)?;
    let connected = server.totals(&Request::Totals)?;
    figures.idle_bytes = growth(alone, connected, viewers);
    figures.connect_us = per_viewer(connected.usage.cpu_us_since(alone.usage), viewers);
    for _ in 0..ROUNDS {
        for (profile, comparison) in [
            (Profile::Paced, &mut figures.paced),
            (Profile::Bursts, &mut figures.bursts),
        ] {
            measure_floor(
                &mut floor,
                &crowd,
                profile,
                false,
                time,
                &mut comparison.floor,
            )?;
            if profile == Profile::Bursts {
                let cost = &mut comparison.offload_floor;
                measure_floor(&mut floor, &crowd, profile, true, time, cost)?;
            }
            publisher.play(Some(profile));
            measure_sfu(&mut server, &crowd, time, &mut comparison.sfu)?;
            publisher.play(None);
        }
    }
    figures.loaded_bytes = growth(alone, server.totals(&Request::Totals)?, viewers);
    if crowd.failed() > 0 {
        bail!("{} viewers lost their connection", crowd.failed());
    }
    Ok(figures)
}

/// Connects all viewers, media and data channel. Returns how long that took.
fn connect(server: &mut Process, crowd: &Crowd, viewers: usize) -> anyhow::Result<Duration> {
    // Making an offer costs a client more than answering it costs the server.
    let offers = (0..viewers)
        .map(|_| Peer::viewer())
        .collect::<anyhow::Result<Vec<_>>>()?;
    let start = Instant::now();
    for (participant, (mut peer, offer)) in (1..).zip(offers) {
        let answer = server
            .negotiate(false, participant, offer)
            .context("view")?;
        peer.accept(answer, Instant::now())?;
        crowd.admit(peer)?;
    }
    while crowd.ready() < viewers {
        if start.elapsed() > Duration::from_secs(15) {
            bail!("only {} of {viewers} viewers connected", crowd.ready());
        }
        thread::sleep(Duration::from_millis(5));
    }
    let elapsed = start.elapsed();
    // Let acknowledgements and timers settle.
    thread::sleep(Duration::from_millis(500));
    Ok(elapsed)
}

fn measure_floor(
    floor: &mut Process,
    crowd: &Crowd,
    profile: Profile,
    offload: bool,
    time: Duration,
    cost: &mut Cost,
) -> anyhow::Result<()> {
    let before = floor.totals(&Request::Totals)?;
    let arrived = crowd.packets();
    let start = Instant::now();
    let after = floor.totals(&Request::Send {
        profile,
        to: crowd.sinks().to_vec(),
        offload,
        time,
    })?;
    let elapsed = start.elapsed();
    thread::sleep(SETTLE);
    cost.add(before, after, elapsed, crowd.packets() - arrived);
    Ok(())
}

fn measure_sfu(
    server: &mut Process,
    crowd: &Crowd,
    time: Duration,
    cost: &mut Cost,
) -> anyhow::Result<()> {
    thread::sleep(WARM_UP);
    let before = server.totals(&Request::Totals)?;
    let arrived = crowd.packets();
    let start = Instant::now();
    thread::sleep(time);
    let after = server.totals(&Request::Totals)?;
    let elapsed = start.elapsed();
    cost.add(before, after, elapsed, crowd.packets() - arrived);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "memory of a small process")]
fn growth(before: Totals, after: Totals, viewers: usize) -> f64 {
    (after.usage.resident as f64 - before.usage.resident as f64) / viewers.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "CPU time of a short run")]
fn per_viewer(cpu_us: i64, viewers: usize) -> f64 {
    cpu_us as f64 / viewers.max(1) as f64
}

/// Floor and SFU alternate, so that a machine that becomes slower or faster changes both.
const ROUNDS: usize = 2;

/// From a stream's start until viewers have their keyframe and everything is in the caches.
const WARM_UP: Duration = Duration::from_millis(1500);

/// How long the last packets take to be counted.
const SETTLE: Duration = Duration::from_millis(50);
