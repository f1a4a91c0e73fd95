//! The decoding process as the server holds it.

use std::{
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    time::{Duration, Instant},
};

use super::decode::{Answer, Request};
use crate::link;

/// A process that is started when it is needed, and killed when it hangs.
pub(super) struct Child {
    program: PathBuf,
    running: Option<Running>,
    /// Not started again before.
    not_before: Option<Instant>,
}

struct Running {
    process: process::Child,
    socket: UnixStream,
}

impl Child {
    pub(super) fn new(program: PathBuf) -> Self {
        Self {
            program,
            running: None,
            not_before: None,
        }
    }

    /// Returns the picture that `request` asks for. Takes at most [`LIMIT`], and the start of a process.
    pub(super) fn ask(&mut self, request: &Request) -> Option<Vec<u8>> {
        if self.running.is_none() {
            if self.not_before.is_some_and(|at| Instant::now() < at) {
                return None;
            }
            match Running::start(&self.program) {
                Ok(running) => self.running = Some(running),
                Err(error) => {
                    tracing::warn!(%error, "the process that decodes pictures cannot be started");
                    self.not_before = Some(Instant::now() + START_AGAIN);
                    return None;
                }
            }
        }
        let running = self.running.as_mut()?;
        match running.ask(request) {
            Ok((Answer::Picture, bytes)) => Some(bytes),
            Ok((Answer::Failed { reason }, _)) => {
                tracing::debug!(reason, "picture cannot be decoded");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "the process that decodes pictures hung or died");
                metrics::counter!("fanlight_still_worker_failures_total").increment(1);
                self.running = None;
                None
            }
        }
    }
}

impl Running {
    fn start(program: &Path) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        let output = OwnedFd::from(theirs.try_clone()?);
        let process = Command::new(program)
            .arg("still-worker")
            .stdin(OwnedFd::from(theirs))
            .stdout(output)
            .stderr(Stdio::null())
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| crate::process::is_harmless(name)))
            .spawn()?;
        let mut running = Self { process, socket };
        // Loading the plugins is not part of decoding.
        running.socket.set_read_timeout(Some(START_LIMIT))?;
        link::read_frame::<Answer>(&mut running.socket)?;
        running.socket.set_read_timeout(Some(LIMIT))?;
        running.socket.set_write_timeout(Some(LIMIT))?;
        Ok(running)
    }

    fn ask(&mut self, request: &Request) -> io::Result<(Answer, Vec<u8>)> {
        let frame = link::encode_frame(&request.head, &request.body)?;
        self.socket.write_all(&frame)?;
        let (answer, body) = link::read_frame(&mut self.socket)?;
        Ok((answer, body.into()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Far more than a keyframe takes.
const LIMIT: Duration = Duration::from_secs(2);
const START_LIMIT: Duration = Duration::from_secs(20);
const START_AGAIN: Duration = Duration::from_secs(10);
