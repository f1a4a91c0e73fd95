//! The `fanlight` server binary: parses arguments, loads the config, runs, and turns the result into an
//! exit code.

mod app;
mod cli;
mod config;
mod http;
mod lock;
mod operations;
mod pages;
mod sources;
mod telemetry;
mod tls;
mod token;

use std::{process::ExitCode, time::Duration};

use clap::Parser;

use crate::{cli::Command, config::Config};

fn main() -> ExitCode {
    match run(cli::Cli::parse().command()) {
        Ok(code) => code,
        Err(error) => {
            telemetry::complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    egress::keep_files_private();
    match command {
        // A process of its own with its own rules: no config, no runtime.
        Command::EgressWorker => return Ok(egress::run_worker()),
        Command::StillWorker => return Ok(egress::run_still_worker()),
        Command::Serve(args) => {
            let config = Config::load(&args)?;
            let _logs = telemetry::init(&config.log);
            let runtime = runtime()?;
            let served = runtime.block_on(app::serve(config));
            // What still waits for a disk or a name server has nothing more to say.
            runtime.shutdown_timeout(STUCK_LIMIT);
            served?;
        }
        Command::Token(args) => runtime()?.block_on(token::print(args))?,
        Command::Config(args) => Config::load(&args)?.print()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// How long the process stays for what has begun and cannot be interrupted.
const STUCK_LIMIT: Duration = Duration::from_secs(3);

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}
