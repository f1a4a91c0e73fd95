//! Measures the forwarding plane against the floor of the same run: CPU per forwarded packet at a given
//! number of viewers, and memory per connected viewer.
//!
//! The SFU and the floor run as processes of their own (this binary with a hidden command), so that what
//! is measured is theirs alone; publisher and viewers are in this one. Everything is on loopback.

mod child;
mod crowd;
mod floor;
mod measure;
mod peer;
mod profile;
mod publisher;
mod report;
mod server;
mod usage;

use clap::{Parser, Subcommand};

/// Measures the forwarding plane against the floor of the same run.
#[derive(Parser)]
struct Arguments {
    /// Viewers that watch.
    #[arg(long, default_value_t = 200)]
    viewers: usize,
    /// Seconds of each measurement; there are ten of them.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the SFU under test, controlled by JSON lines.
    #[command(hide = true)]
    Serve,
    /// Runs the floor, controlled by JSON lines.
    #[command(hide = true)]
    Floor,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.command {
        Some(Command::Serve) => server::run(),
        Some(Command::Floor) => floor::run(),
        None => {
            let figures = measure::run(arguments.viewers, arguments.seconds)?;
            report::print(&figures)?;
            Ok(())
        }
    }
}
