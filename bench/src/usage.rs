//! What a process has used so far, read from `/proc`.

use std::{fs, time::Duration};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// CPU time and memory of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// CPU time in user mode and in the kernel, of all threads; to 10 ms.
    pub(crate) cpu: Duration,
    /// Resident memory in bytes.
    pub(crate) resident: u64,
}

impl Usage {
    /// Reads the usage of a process of this machine.
    ///
    /// # Errors
    /// When there is no such process.
    pub(crate) fn of(pid: u32) -> anyhow::Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        parse(&stat).with_context(|| format!("understand {path}"))
    }

    /// Returns the CPU time since an earlier reading.
    pub(crate) fn cpu_since(self, earlier: Self) -> Duration {
        self.cpu.saturating_sub(earlier.cpu)
    }
}

/// Parses `/proc/PID/stat` (proc(5)). The name in parentheses may contain anything.
fn parse(stat: &str) -> Option<Usage> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let user: u64 = fields.nth(UTIME)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let pages: u64 = fields.nth(RSS - UTIME - 2)?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    Some(Usage {
        cpu: Duration::from_millis((user + system) * 1000 / ticks),
        resident: pages * rustix::param::page_size() as u64,
    })
}

/// Places of fields behind the name.
const UTIME: usize = 11;
const RSS: usize = 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_from_behind_the_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 17 18 19 20 300 rest";
        let usage = parse(stat).unwrap();
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(usage.cpu, Duration::from_millis(200 * 1000 / ticks));
        assert_eq!(usage.resident, 300 * rustix::param::page_size() as u64);
        assert_eq!(parse("7 (a) S 1"), None);
        assert!(Usage::of(std::process::id()).unwrap().resident > 0);
    }
}
