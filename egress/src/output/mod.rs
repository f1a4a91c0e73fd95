//! Where the programme goes: one file per kind of destination.

mod attempt;
mod connection;
mod dial;
mod feed;
mod hls;
mod hls_audio;
mod hls_layer;
mod queue;
mod record;
mod record_file;
mod rtmp;
mod rtmp_failure;
mod schedule;
mod srt;
mod srt_failure;
mod stop;
mod thumbnails;
mod tls;
mod turn;

pub(crate) use attempt::{Attempt, start};
pub(crate) use dial::Policy;
pub(crate) use hls::Hls;
pub(crate) use record::Record;
pub(crate) use rtmp::{Limits, Rtmp};
pub(crate) use srt::Srt;
pub(crate) use stop::Stop;
pub(crate) use thumbnails::{Answer, Thumbnails, answers};
pub(crate) use turn::Turn;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::link::Counters;

/// Counts what a destination is sent, over all its attempts.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: AtomicU64,
    acknowledged_bytes: AtomicU64,
    delay_ms: AtomicU64,
    frames: AtomicU64,
    dropped_frames: AtomicU64,
}

impl Meter {
    pub(crate) fn count_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_acknowledged(&self, bytes: u64) {
        self.acknowledged_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Notes how old the newest frame was when it left.
    pub(crate) fn set_delay(&self, delay: Duration) {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.delay_ms.store(millis, Ordering::Relaxed);
    }

    pub(crate) fn count_frame(&self) {
        self.frames.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_dropped(&self, frames: u64) {
        self.dropped_frames.fetch_add(frames, Ordering::Relaxed);
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            bytes: self.bytes.load(Ordering::Relaxed),
            acknowledged_bytes: self.acknowledged_bytes.load(Ordering::Relaxed),
            delay_ms: self.delay_ms.load(Ordering::Relaxed),
            frames: self.frames.load(Ordering::Relaxed),
            dropped_frames: self.dropped_frames.load(Ordering::Relaxed),
        }
    }
}
