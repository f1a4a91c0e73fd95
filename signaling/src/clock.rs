//! Wall-clock time at the edge; decisions get it as a value.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Returns seconds since the Unix epoch.
pub(crate) fn unix_seconds() -> u64 {
    unix_ms() / 1000
}
