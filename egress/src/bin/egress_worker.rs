//! A worker process by itself: what `fanlight egress-worker` runs.

use std::process::ExitCode;

fn main() -> ExitCode {
    egress::run_worker()
}
