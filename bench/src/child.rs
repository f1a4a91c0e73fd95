//! Processes under test: this binary again, asked and answering in JSON lines over its standard streams.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::{profile::Profile, usage::Usage};

/// What a child is asked. The SFU knows the first two, the floor the third.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Accept an offer.
    Negotiate {
        /// Whether it is the publisher.
        publishes: bool,
        /// Who it is.
        participant: u64,
        /// The SDP offer.
        offer: String,
    },
    /// Tell the usage and what was forwarded so far.
    Totals,
    /// Send a stream to each of these addresses, encrypted for each.
    Send {
        /// The stream.
        profile: Profile,
        /// Where to.
        to: Vec<SocketAddr>,
        /// Whether runs are left to the kernel to split (UDP GSO).
        offload: bool,
        /// For how long.
        time: Duration,
    },
}

/// What a child answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The SDP answer.
    Answer(String),
    /// The totals so far.
    Totals(Totals),
    /// It could not.
    Failed(String),
}

/// What a child has done so far, and what it took.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// CPU and memory.
    pub(crate) usage: Usage,
    /// RTP packets received.
    pub(crate) packets_in: u64,
    /// RTP packets sent to viewers.
    pub(crate) packets_out: u64,
    /// Data channels open.
    pub(crate) channels: u64,
}

/// A child process. It ends when dropped.
pub(crate) struct Process {
    child: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl Process {
    /// Starts this binary with a hidden command.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn start(command: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("find this program")?;
        let mut child = Command::new(program)
            .arg(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start the process {command}"))?;
        let requests = child.stdin.take().context("open its input")?;
        let replies = BufReader::new(child.stdout.take().context("open its output")?);
        Ok(Self {
            child,
            requests,
            replies,
        })
    }

    /// Asks for the answer to an offer.
    ///
    /// # Errors
    /// When the child has ended or refuses.
    pub(crate) fn negotiate(
        &mut self,
        publishes: bool,
        participant: u64,
        offer: String,
    ) -> anyhow::Result<String> {
        let request = Request::Negotiate {
            publishes,
            participant,
            offer,
        };
        match self.ask(&request)? {
            Reply::Answer(sdp) => Ok(sdp),
            Reply::Totals(_) => bail!("totals in answer to an offer"),
            Reply::Failed(reason) => bail!(reason),
        }
    }

    /// Asks for totals, at once or after sending.
    ///
    /// # Errors
    /// When the child has ended or fails.
    pub(crate) fn totals(&mut self, request: &Request) -> anyhow::Result<Totals> {
        match self.ask(request)? {
            Reply::Totals(totals) => Ok(totals),
            Reply::Answer(_) => bail!("an answer without an offer"),
            Reply::Failed(reason) => bail!(reason),
        }
    }

    fn ask(&mut self, request: &Request) -> anyhow::Result<Reply> {
        write_line(&mut self.requests, request)?;
        let mut line = String::new();
        if self.replies.read_line(&mut line).context("hear from it")? == 0 {
            bail!("the process under test has ended");
        }
        serde_json::from_str(&line).context("understand its reply")
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
