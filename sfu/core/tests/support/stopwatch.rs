//! How long the processor works on something: what else a machine does is not counted.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Goes while this thread runs.
pub(crate) struct Stopwatch(Duration);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        now() - self.0
    }
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap()
}
