//! Workers that a server that was killed has left behind.
//!
//! A worker ends when its control socket closes. One that hangs does not notice; it is ended at the next start.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A folder with an empty file for each living worker, named by its process id and when the process started.
#[derive(Clone, Debug)]
pub(crate) struct Leftovers {
    folder: PathBuf,
}

impl Leftovers {
    /// Opens the folder, making it if need be.
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Notes a worker that has just started.
    pub(crate) fn note(&self, pid: u32) {
        if let Some(since) = started_at(pid) {
            // Without the note it still ends by itself, unless it hangs.
            let _ = fs::write(self.folder.join(format!("{pid}-{since}")), []);
        }
    }

    /// Takes in that a worker has ended.
    pub(crate) fn forget(&self, pid: u32) {
        for (path, noted, _) in self.notes() {
            if noted == pid {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Kills the workers of an earlier run that still live, and returns how many there were.
    pub(crate) fn end_all(&self) -> usize {
        let mut ended = 0;
        for (path, pid, since) in self.notes() {
            // The number may belong to another process by now.
            if started_at(pid) == Some(since) && is_worker(pid) && kill(pid) {
                ended += 1;
            }
            let _ = fs::remove_file(path);
        }
        ended
    }

    fn notes(&self) -> Vec<(PathBuf, u32, u64)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries
            .filter_map(|entry| {
                let name = entry.file_name();
                let (pid, since) = name.to_str()?.split_once('-')?;
                Some((entry.path(), pid.parse().ok()?, since.parse().ok()?))
            })
            .collect()
    }
}

/// Returns when the process started, in ticks since the machine did; `None` when it is gone.
fn started_at(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name, in parentheses, may contain anything. State is the third field, the start the 22nd.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    let since = fields.nth(18)?.parse().ok()?;
    (!is_dead).then_some(since)
}

fn is_worker(pid: u32) -> bool {
    let arguments = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline"));
    let arguments = arguments.unwrap_or_default();
    arguments.split(|byte| *byte == 0).nth(1) == Some(b"egress-worker")
}

fn kill(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return false;
    };
    pidfd_open(pid, PidfdFlags::empty())
        .and_then(|process| pidfd_send_signal(process, Signal::KILL))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn only_workers_that_were_noted_are_ended() {
        let folder = tempfile::tempdir().unwrap();
        let leftovers = Leftovers::open(folder.path().join("workers")).unwrap();
        // The second argument is what makes a worker.
        let worker = ["-c", "sleep 60", "x"];
        let mut innocent = Command::new("sh").args(worker).spawn().unwrap();
        leftovers.note(innocent.id());
        assert_eq!(leftovers.end_all(), 0, "not a worker");
        assert!(leftovers.notes().is_empty());
        assert_eq!(innocent.try_wait().unwrap(), None);
        innocent.kill().unwrap();
        innocent.wait().unwrap();

        let script = folder.path().join("egress-worker");
        fs::write(&script, "sleep 60").unwrap();
        let mut hung = Command::new("sh")
            .arg("egress-worker")
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        // An exec sets the arguments last.
        while !is_worker(hung.id()) {
            std::thread::yield_now();
        }
        leftovers.note(hung.id());
        let reused = leftovers.folder.join(format!("{}-1", std::process::id()));
        fs::write(reused, []).unwrap();
        assert_eq!(leftovers.end_all(), 1);
        assert!(!hung.wait().unwrap().success());
        leftovers.note(std::process::id());
        leftovers.forget(std::process::id());
        assert!(leftovers.notes().is_empty());
    }
}
