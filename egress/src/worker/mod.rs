//! The body of a worker process: one job's pipelines and destinations. Does as it is told; retries nothing.

mod pulse;
mod reporter;
mod run;
mod tracks;

pub(crate) use reporter::Reporter;
pub use run::run_worker;
