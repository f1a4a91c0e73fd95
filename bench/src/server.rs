//! The server under test, when it is ours to start.

use std::{
    io::{BufRead, BufReader},
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;
use url::Url;

use crate::usage::Usage;

/// How the server is started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// The program.
    pub(crate) program: PathBuf,
    /// Lines of its config file.
    pub(crate) config: String,
    /// The processors it may run on; all, when empty.
    pub(crate) processors: Vec<usize>,
}

/// A running `fanlight` on free ports of 127.0.0.1, in a folder of its own. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    folder: TempDir,
    program: PathBuf,
    origin: Url,
}

impl Server {
    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// When it does not start, with its words.
    pub(crate) fn start(setup: &Setup) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir().context("make a folder for the server")?;
        let config = folder.path().join("fanlight.toml");
        std::fs::write(&config, &setup.config).context("write the server's config")?;
        let mut command = command(&setup.program);
        command
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--http", "127.0.0.1:0", "--udp-port", "0", "--log", "warn"])
            .args(["--public-ip", &Ipv4Addr::LOCALHOST.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = spawn_on(&setup.processors, &mut command)
            .with_context(|| format!("start {}", setup.program.display()))?;
        let output = child.stdout.take().context("open its output")?;
        let (links, link) = mpsc::sync_channel(1);
        // Reads to the end, so that the server never waits for this process.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some((origin, _)) = line.trim().split_once("/#token=") {
                    // Only the first link is waited for.
                    let _ = links.try_send(origin.to_owned());
                }
            }
        });
        let mut server = Self {
            child,
            folder,
            program: setup.program.clone(),
            origin: Url::parse("http://127.0.0.1")?,
        };
        let Ok(origin) = link.recv_timeout(START_LIMIT) else {
            let status = server.child.try_wait()?;
            bail!("the server did not come up: {status:?}");
        };
        server.origin = Url::parse(&origin).context("read the server's address")?;
        Ok(server)
    }

    /// Returns the address of WHIP or WHEP for a room.
    ///
    /// # Errors
    /// When the room has no usable name.
    pub(crate) fn url(&self, protocol: &str, room: &str) -> anyhow::Result<Url> {
        self.origin
            .join(&format!("/{protocol}/{room}"))
            .context("make an address")
    }

    /// Returns a token that lets its bearer publish in a room.
    ///
    /// # Errors
    /// When the program refuses.
    pub(crate) fn token(&self, room: &str, identity: &str) -> anyhow::Result<String> {
        let output = command(&self.program)
            .args([
                "token",
                "--publish",
                "--room",
                room,
                "--identity",
                identity,
                "--data-dir",
            ])
            .arg(self.folder.path().join("data"))
            .output()
            .context("make a token")?;
        if !output.status.success() {
            bail!(
                "make a token: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let token = String::from_utf8(output.stdout).context("read the token")?;
        Ok(token.trim().to_owned())
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads what it has used so far.
    ///
    /// # Errors
    /// When it has ended.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        Usage::of(self.pid())
    }

    /// Returns whether it takes these lines in its config file.
    pub(crate) fn understands(program: &Path, config: &str) -> bool {
        let Ok(folder) = tempfile::tempdir() else {
            return false;
        };
        let file = folder.path().join("fanlight.toml");
        std::fs::write(&file, config).is_ok()
            && command(program)
                .arg("config")
                .arg("--config")
                .arg(&file)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already if it crashed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, without settings of whoever runs it.
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FANLIGHT_")) {
        command.env_remove(name);
    }
    command
}

/// Starts a process on these processors: children inherit them from the thread that starts them.
pub(crate) fn spawn_on(processors: &[usize], command: &mut Command) -> anyhow::Result<Child> {
    if processors.is_empty() {
        return Ok(command.spawn()?);
    }
    let before = sched_getaffinity(None).context("read the processors")?;
    pin(processors)?;
    let child = command.spawn();
    sched_setaffinity(None, &before).context("choose processors")?;
    Ok(child?)
}

/// Lets this thread, and those it starts, run on these processors only.
///
/// # Errors
/// When the system refuses.
pub(crate) fn pin(processors: &[usize]) -> anyhow::Result<()> {
    let mut chosen = CpuSet::new();
    for processor in processors {
        chosen.set(*processor);
    }
    sched_setaffinity(None, &chosen).context("choose processors")
}

/// Returns the processors that this process may run on.
///
/// # Errors
/// When the system does not tell.
pub(crate) fn processors() -> anyhow::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None).context("read the processors")?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect())
}

const START_LIMIT: Duration = Duration::from_secs(20);
