//! Where the programme goes: one file per kind of destination.

mod hls;
mod rtmp;
mod rtmp_failure;
mod rtmp_probe;
mod send_buffer;

pub(crate) use hls::Hls;
pub(crate) use rtmp::{Limits, Rtmp};

use std::sync::atomic::{AtomicU64, Ordering};

use crate::link::Counters;

/// Counts what a destination is sent, over all its attempts.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: AtomicU64,
    frames: AtomicU64,
    dropped_frames: AtomicU64,
}

impl Meter {
    pub(crate) fn count_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn count_frame(&self) {
        self.frames.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_dropped(&self) {
        self.dropped_frames.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters {
            bytes: self.bytes.load(Ordering::Relaxed),
            frames: self.frames.load(Ordering::Relaxed),
            dropped_frames: self.dropped_frames.load(Ordering::Relaxed),
        }
    }
}
