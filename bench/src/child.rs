//! The floor as a process of its own: this binary again, asked and answering in JSON lines over its standard
//! streams.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::{media::Schedule, server::spawn_on, usage::Usage};

/// Asks to send a stream to each of these addresses, encrypted for each.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// The stream.
    pub(crate) schedule: Schedule,
    /// Where to.
    pub(crate) to: Vec<SocketAddr>,
    /// Whether runs are left to the kernel to split (UDP GSO).
    pub(crate) offload: bool,
    /// For how long.
    pub(crate) time: Duration,
}

/// What the floor has done so far, and what it took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// CPU and memory.
    pub(crate) usage: Usage,
    /// Packets sent.
    pub(crate) packets: u64,
}

/// A child process. It ends when dropped.
pub(crate) struct Process {
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
    totals: Totals,
}

impl Process {
    /// Starts the floor on these processors.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn start(processors: &[usize]) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(program);
        command
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = spawn_on(processors, &mut command).context("start the floor")?;
        let requests = child.stdin.take().context("open its input")?;
        let replies = BufReader::new(child.stdout.take().context("open its output")?);
        Ok(Self {
            child,
            requests,
            replies,
            totals: Totals::default(),
        })
    }

    /// Lets it send. Returns the CPU time and the packets of this request.
    ///
    /// # Errors
    /// When the child has ended.
    pub(crate) fn send(&mut self, request: &Request) -> anyhow::Result<(Duration, u64)> {
        write_line(&mut self.requests, request)?;
        let mut line = String::new();
        if self
            .replies
            .read_line(&mut line)
            .context("hear from the floor")?
            == 0
        {
            bail!("the floor has ended");
        }
        let after: Totals = serde_json::from_str(&line).context("understand the floor")?;
        let before = std::mem::replace(&mut self.totals, after);
        let cpu = after.usage.cpu_since(before.usage);
        Ok((cpu, after.packets - before.packets))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes one JSON line.
///
/// # Errors
/// When the other side has gone.
pub(crate) fn write_line(mut to: impl Write, message: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(message).context("write JSON")?;
    line.push(b'\n');
    to.write_all(&line).context("write to the other process")?;
    to.flush().context("write to the other process")
}

/// Reads requests until the parent has gone.
pub(crate) fn requests() -> impl Iterator<Item = anyhow::Result<Request>> {
    io::stdin().lines().map(|line| {
        let line = line.context("read a request")?;
        serde_json::from_str(&line).context("understand the request")
    })
}

/// The hidden command that makes this program the floor.
pub(crate) const COMMAND: &str = "send";
