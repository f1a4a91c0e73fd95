//! Waiting for facts, never for time alone.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

/// Long enough for a loaded machine; no test expects to use it up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Polls until there is a value, and panics with `what` and the last thing seen after `limit`.
///
/// `look` answers `Ok` with the value, or `Err` with what it saw instead.
pub(crate) async fn within<T, E: Debug>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let start = Instant::now();
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if start.elapsed() > limit => {
                panic!("not within {limit:?}: {what}; last seen: {seen:?}")
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// [`within`] the usual patience.
pub(crate) async fn until<T, E: Debug>(what: &str, look: impl AsyncFnMut() -> Result<T, E>) -> T {
    within(PATIENCE, what, look).await
}

/// Turns a condition into what [`within`] wants.
pub(crate) fn check<E: Debug>(holds: bool, seen: E) -> Result<(), E> {
    if holds { Ok(()) } else { Err(seen) }
}

const POLL: Duration = Duration::from_millis(20);
