//! Carries a room's packets to the job's worker, and keyframe requests back.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use sfu::{MediaKind, TapPacket, TapVideo};
use tokio::{
    net::UnixDatagram,
    sync::watch,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{link, source::Source};

/// Where packets go, and what is wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Demand {
    /// The worker's socket while there is a worker. A worker that takes nothing for [`PATIENCE`] loses the packet.
    pub(crate) worker: Option<Arc<UnixDatagram>>,
    /// Whether keyframes are wanted regularly.
    pub(crate) keyframes: bool,
    /// Counts requests for a keyframe right now.
    pub(crate) urgent: u64,
    /// How much of the video is to come.
    pub(crate) video: TapVideo,
    /// How many layers below the top the video of each lane is to be.
    pub(crate) layers: BTreeMap<u32, usize>,
}

/// `apart` says that the packets are of tracks that are recorded alone.
///
/// Runs until the source ends or the demand's sender is dropped.
pub(crate) async fn feed(
    mut source: Box<dyn Source>,
    mut demand: watch::Receiver<Demand>,
    keyframe_interval: Duration,
    apart: bool,
) {
    let clock = MonotonicOffset::take();
    let mut datagram = Vec::with_capacity(2048);
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_keyframe = Instant::now();
    let mut urgent = 0;
    let mut told = (TapVideo::default(), BTreeMap::new());
    follow(&mut told, &demand, source.as_ref(), apart);
    loop {
        tokio::select! {
            packet = source.recv() => {
                let Some(packet) = packet else { return };
                let top = packet.lane == 0 && !apart;
                if packet.codec.kind() == MediaKind::Video && packet.keyframe && top {
                    last_keyframe = Instant::now();
                }
                let worker = demand.borrow().worker.clone();
                if let Some(worker) = worker {
                    link::encode_packet(&packet, clock.nanoseconds(&packet), apart, &mut datagram);
                    let _ = timeout(PATIENCE, worker.send(&datagram)).await;
                }
            }
            _ = tick.tick() => {
                let wanted = demand.borrow().keyframes;
                if wanted && last_keyframe.elapsed() >= keyframe_interval {
                    last_keyframe = Instant::now();
                    source.request_keyframe();
                }
            }
            changed = demand.changed() => {
                if changed.is_err() {
                    return;
                }
                // What changes from here on is a change of its own.
                let wanted = demand.borrow_and_update().urgent;
                follow(&mut told, &demand, source.as_ref(), apart);
                if std::mem::replace(&mut urgent, wanted) != wanted {
                    last_keyframe = Instant::now();
                    source.request_keyframe();
                }
            }
        }
    }
}

/// Tells the source which video is wanted, as far as that has changed.
fn follow(
    (video, layers): &mut (TapVideo, BTreeMap<u32, usize>),
    demand: &watch::Receiver<Demand>,
    source: &dyn Source,
    apart: bool,
) {
    let mut wanted = demand.borrow().video;
    if apart && wanted == TapVideo::Layers {
        wanted = TapVideo::Best;
    }
    if std::mem::replace(video, wanted) != wanted {
        source.set_video(wanted);
    }
    let wanted = demand.borrow().layers.clone();
    if *layers != wanted {
        layers.clone_from(&wanted);
        source.set_layers(wanted);
    }
}

/// Turns an [`Instant`] into nanoseconds of `CLOCK_MONOTONIC`, which it is on Linux.
#[derive(Debug, Clone, Copy)]
struct MonotonicOffset {
    instant: Instant,
    nanoseconds: u64,
}

impl MonotonicOffset {
    fn take() -> Self {
        let nanoseconds = crate::pipeline::monotonic().as_nanos();
        Self {
            instant: Instant::now(),
            nanoseconds: u64::try_from(nanoseconds).unwrap_or(u64::MAX),
        }
    }

    fn nanoseconds(&self, packet: &TapPacket) -> u64 {
        let nanos = |d: Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
        match packet.presentation.checked_duration_since(self.instant) {
            Some(later) => self.nanoseconds.saturating_add(nanos(later)),
            None => {
                let earlier = self.instant.duration_since(packet.presentation);
                self.nanoseconds.saturating_sub(nanos(earlier))
            }
        }
    }
}

const TICK: Duration = Duration::from_millis(50);
/// The tap drops until the next keyframe while this waits.
const PATIENCE: Duration = Duration::from_millis(500);
