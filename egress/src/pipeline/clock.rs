//! The worker's time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gstreamer as gst;
use rustix::time::{ClockId, clock_gettime};

/// Time since the worker started, on `CLOCK_MONOTONIC` as GStreamer's system clock and the supervisor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    base: Duration,
    /// Unix time at the base.
    unix_base: Duration,
}

impl Clock {
    /// Starts the time.
    pub(crate) fn start() -> Self {
        let unix_now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            base: monotonic(),
            unix_base: unix_now,
        }
    }

    pub(crate) fn now(&self) -> Duration {
        monotonic().saturating_sub(self.base)
    }

    /// Returns when a packet is to be presented; `None` when that was before the worker started.
    pub(crate) fn running_time(&self, monotonic_ns: u64) -> Option<Duration> {
        Duration::from_nanos(monotonic_ns).checked_sub(self.base)
    }

    pub(crate) fn unix_ms(&self, time: Duration) -> u64 {
        u64::try_from((self.unix_base + time).as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn unix_us(&self, time: Duration) -> u64 {
        u64::try_from((self.unix_base + time).as_micros()).unwrap_or(u64::MAX)
    }

    /// Returns the base time for pipelines.
    pub(crate) fn base_time(&self) -> gst::ClockTime {
        clock_time(self.base)
    }
}

/// Returns `CLOCK_MONOTONIC`.
pub(crate) fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}

pub(crate) fn clock_time(time: Duration) -> gst::ClockTime {
    gst::ClockTime::try_from(time).unwrap_or(gst::ClockTime::ZERO)
}
