//! A worker process by itself: what `fanlight egress-worker` and `fanlight still-worker` run.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("still-worker") => egress::run_still_worker(),
        _ => egress::run_worker(),
    }
}
