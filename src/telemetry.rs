//! Structured logs, to standard error.

use std::io::{IsTerminal, Write};

use tracing_subscriber::EnvFilter;

use crate::config::Log;

/// Starts logging. The filter has been validated with the rest of the config.
pub(crate) fn init(config: &Log) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.filter))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    if config.json {
        builder.json().init()
    } else {
        builder.init()
    }
}

/// Tells the person at the terminal why the program ends, with all causes.
pub(crate) fn complain(error: &anyhow::Error) {
    // Standard error may be gone; there is nobody left to tell then.
    let _ = writeln!(std::io::stderr(), "fanlight: {error:#}");
}
