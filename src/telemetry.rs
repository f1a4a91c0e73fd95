//! Structured logs, to standard error.

use std::io::{IsTerminal, Write};

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::Log;

/// Starts logging, until what it returns is dropped. The filter has been validated with the rest of the config.
///
/// A thread of its own writes, so that a terminal that was paused holds up nobody. When [`LINES_LIMIT`] lines wait,
/// further ones are left out.
pub(crate) fn init(config: &Log) -> WorkerGuard {
    let lines = NonBlockingBuilder::default().buffered_lines_limit(LINES_LIMIT);
    let (writer, guard) = lines.lossy(true).finish(std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.filter))
        .with_writer(writer)
        .with_ansi(std::io::stderr().is_terminal());
    if config.json {
        builder.json().init()
    } else {
        builder.init()
    }
    guard
}

/// A few megabytes.
const LINES_LIMIT: usize = 16_384;

/// Tells the person at the terminal why the program ends, with all causes.
pub(crate) fn complain(error: &anyhow::Error) {
    // Standard error may be gone; there is nobody left to tell then.
    let _ = writeln!(std::io::stderr(), "fanlight: {error:#}");
}
