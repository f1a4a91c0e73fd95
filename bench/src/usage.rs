//! What a process has used so far.

use std::fs;

use anyhow::Context;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use serde::{Deserialize, Serialize};

/// CPU time and memory of one process.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// CPU time in user mode, in microseconds.
    pub(crate) user_us: i64,
    /// CPU time in the kernel, in microseconds.
    pub(crate) system_us: i64,
    /// Resident memory in bytes.
    pub(crate) resident: u64,
}

impl Usage {
    /// Reads the usage of this process.
    ///
    /// # Errors
    /// When the system does not tell.
    pub(crate) fn of_this_process() -> anyhow::Result<Self> {
        let usage = getrusage(UsageWho::RUSAGE_SELF).context("read the CPU time")?;
        let statm = fs::read_to_string("/proc/self/statm").context("read the memory in use")?;
        let pages = statm.split_whitespace().nth(1).context("find the pages")?;
        let pages: u64 = pages.parse().context("parse the pages")?;
        Ok(Self {
            user_us: usage.user_time().num_microseconds(),
            system_us: usage.system_time().num_microseconds(),
            resident: pages * rustix::param::page_size() as u64,
        })
    }

    /// Returns the CPU time since an earlier reading, in microseconds.
    pub(crate) fn cpu_us_since(self, earlier: Self) -> i64 {
        self.user_us - earlier.user_us + self.system_us - earlier.system_us
    }
}
