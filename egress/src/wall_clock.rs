//! The time that people know.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Turns an [`Instant`] into Unix time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WallClock {
    instant: Instant,
    unix_ms: u64,
}

impl WallClock {
    pub(crate) fn take() -> Self {
        Self {
            instant: Instant::now(),
            unix_ms: unix_ms_now(),
        }
    }

    pub(crate) fn unix_ms(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.instant).as_millis();
        self.unix_ms + u64::try_from(since).unwrap_or(0)
    }
}

/// Returns the Unix time in milliseconds.
pub(crate) fn unix_ms_now() -> u64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
