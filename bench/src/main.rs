//! Puts load on WHIP and WHEP servers, and measures Fanlight's forwarding plane against the floor of the same
//! run.
//!
//! The server and the floor (this binary with a hidden command) run as processes of their own, so that what
//! is measured is theirs alone; publishers and viewers are in this one.

mod audience;
mod child;
mod client;
mod crowd;
mod flood;
mod floor;
mod frames;
mod histogram;
mod http;
mod load;
mod media;
mod peer;
mod publisher;
mod pulse;
mod ramp;
mod report;
mod scene;
mod sent_frames;
mod server;
mod socket;
mod stamp;
mod suite;
mod tally;
mod usage;
mod viewer;

use anyhow::Context;
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Puts load on WHIP and WHEP servers, and measures Fanlight's forwarding plane.
///
/// Without a command: all figures of Fanlight with their goals, in five to eight minutes. Leave the machine alone
/// meanwhile, or run it with a real-time priority (`chrt -r 1`): on a busy machine delays mean nothing without it.
#[derive(Parser)]
#[command(
    name = "fanlight-bench",
    version,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    suite: suite::SuiteArgs,
}

#[derive(Subcommand)]
enum Command {
    Load(Box<load::LoadArgs>),
    Floor(suite::SuiteArgs),
    /// Runs the floor, controlled by JSON lines.
    #[command(hide = true, name = child::COMMAND)]
    Send,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    raise_limit()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    match arguments.command {
        Some(Command::Send) => floor::run(),
        Some(Command::Load(args)) => runtime.block_on(load::run(*args)),
        Some(Command::Floor(args)) => runtime.block_on(suite::run_floor(&args)),
        None => runtime.block_on(suite::run_all(&arguments.suite)),
    }
}

/// Every viewer has a socket.
fn raise_limit() -> anyhow::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).context("read the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("raise the limit of open files")
}
