//! A worker process as the supervisor holds it.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    io,
    os::fd::OwnedFd,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixDatagram, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, ChildStderr, Command},
    sync::mpsc::{self, error::TrySendError},
    task::JoinSet,
};

use crate::link::{self, Report, Setup, Target};

/// A running worker. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// At most [`COMMAND_LIMIT`] wait to be read; a worker that lets more gather is killed.
    commands: mpsc::Sender<Vec<u8>>,
    packets: Arc<UnixDatagram>,
    /// What must not appear in the worker's words: the newest [`SECRET_LIMIT`].
    secrets: Arc<Mutex<Vec<Target>>>,
    /// At most [`REPORT_LIMIT`] wait; then the worker's own queue fills.
    reports: mpsc::Receiver<(Report, Bytes)>,
    /// How long each of its threads had waited for a processor when it was last examined.
    waits: (Instant, BTreeMap<OsString, Duration>),
    _helpers: JoinSet<()>,
}

impl Process {
    /// Starts `program egress-worker` and sets it up.
    pub(crate) async fn spawn(program: &Path, setup: Setup) -> io::Result<Self> {
        let (packets, their_packets) = std::os::unix::net::UnixDatagram::pair()?;
        let (control, their_control) = std::os::unix::net::UnixStream::pair()?;
        let mut child = Command::new(program)
            .arg("egress-worker")
            .stdin(OwnedFd::from(their_packets))
            .stdout(OwnedFd::from(their_control))
            .stderr(Stdio::piped())
            // The server's own secrets may be there, debug output would show the stream keys, and error texts
            // are matched in English.
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| is_harmless(name)))
            .env("LC_ALL", "C.UTF-8")
            // A Ctrl-C in the terminal is for the supervisor, which ends its workers cleanly.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        packets.set_nonblocking(true)?;
        control.set_nonblocking(true)?;
        let (control_in, mut control) = UnixStream::from_std(control)?.into_split();
        let secrets: Arc<Mutex<Vec<Target>>> = Arc::default();
        let frame = link::encode_frame(&link::Command::Setup(setup), &[])?;
        control.write_all(&frame).await?;
        let (into, reports) = mpsc::channel(REPORT_LIMIT);
        let mut helpers = JoinSet::new();
        helpers.spawn(read_reports(control_in, into));
        let (commands, from) = mpsc::channel(COMMAND_LIMIT);
        helpers.spawn(write_commands(from, control));
        if let Some(stderr) = child.stderr.take() {
            helpers.spawn(log_lines(stderr, secrets.clone()));
        }
        Ok(Self {
            child,
            commands,
            packets: Arc::new(UnixDatagram::from_std(packets)?),
            secrets,
            reports,
            waits: (Instant::now(), BTreeMap::new()),
            _helpers: helpers,
        })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns the socket that takes [`link::encode_packet`]'s datagrams.
    pub(crate) fn packets(&self) -> Arc<UnixDatagram> {
        self.packets.clone()
    }

    /// Sends a command, without waiting for a worker that does not read.
    pub(crate) fn send(&mut self, command: &link::Command) {
        if let link::Command::Connect { target, .. } = command {
            let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
            note_secret(&mut secrets, target);
        }
        if let Ok(frame) = link::encode_frame(command, &[]) {
            // One that has gone is found dead by its reports.
            if let Err(TrySendError::Full(_)) = self.commands.try_send(frame) {
                tracing::warn!("egress worker takes no commands");
                self.kill();
            }
        }
    }

    /// Returns whether the worker reads what it is sent. What can be said later, better is.
    pub(crate) fn is_attentive(&self) -> bool {
        self.commands.capacity() > COMMAND_LIMIT / 2
    }

    /// Returns the next report; `None` when the worker has closed its side. Cancel safe.
    pub(crate) async fn report(&mut self) -> Option<(Report, Bytes)> {
        self.reports.recv().await
    }

    /// Returns whether one of its threads has waited for a processor most of the time since the last call.
    pub(crate) fn is_starved(&mut self, now: Instant) -> bool {
        let waits = self.pid().map(thread_waits).unwrap_or_default();
        let (then, before) = std::mem::replace(&mut self.waits, (now, waits));
        let passed = now.saturating_duration_since(then);
        self.waits.1.iter().any(|(thread, waited)| {
            let before = before.get(thread);
            before.is_some_and(|before| waited.saturating_sub(*before) > passed / 2)
        })
    }

    /// Waits for the process to end.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.start_kill();
    }
}

/// Returns how long each thread of a process was ready to run, but had to wait.
fn thread_waits(pid: u32) -> BTreeMap<OsString, Duration> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    tasks
        .filter_map(|task| {
            // Time on a processor, time of waiting for one (nanoseconds), and how often it got one.
            let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            let waited = stat.split_whitespace().nth(1)?.parse().ok()?;
            Some((task.file_name(), Duration::from_nanos(waited)))
        })
        .collect()
}

/// Returns whether a worker may see this environment variable.
pub(crate) fn is_harmless(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let plugins = name.starts_with("GST_PLUGIN") || name.starts_with("GST_REGISTRY");
    plugins || ENVIRONMENT.contains(&name.as_ref())
}

async fn read_reports(mut control: OwnedReadHalf, into: mpsc::Sender<(Report, Bytes)>) {
    while let Ok(frame) = link::read_frame_async(&mut control).await {
        if into.send(frame).await.is_err() {
            return;
        }
    }
}

async fn write_commands(mut commands: mpsc::Receiver<Vec<u8>>, mut control: OwnedWriteHalf) {
    while let Some(frame) = commands.recv().await {
        if control.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// Notes a target as the newest, and forgets the oldest when there are too many.
fn note_secret(secrets: &mut Vec<Target>, target: &Target) {
    secrets.retain(|known| known != target);
    if secrets.len() >= SECRET_LIMIT {
        secrets.remove(0);
    }
    secrets.push(target.clone());
}

async fn log_lines(stderr: ChildStderr, secrets: Arc<Mutex<Vec<Target>>>) {
    let mut stderr = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        let read = (&mut stderr)
            .take(LINE_LIMIT)
            .read_until(b'\n', &mut line)
            .await;
        if !matches!(read, Ok(1..)) {
            return;
        }
        let mut text = String::from_utf8_lossy(&line).trim_end().to_owned();
        for target in secrets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
        {
            text = target.scrub(&text);
        }
        match text.strip_prefix(NOTE) {
            Some(text) => tracing::info!(text, "egress worker wrote"),
            None => tracing::warn!(text, "egress worker wrote"),
        }
    }
}

/// Begins a line of standard error that is no trouble.
pub(crate) const NOTE: &str = "note: ";
/// What libraries need to find their files, besides GStreamer's own.
const ENVIRONMENT: [&str; 9] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_RUNTIME_DIR",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "LIBVA_DRIVER_NAME",
];
const REPORT_LIMIT: usize = 16;
/// Above what one change of a job with all its destinations makes.
const COMMAND_LIMIT: usize = 128;
const LINE_LIMIT: u64 = 4096;
/// Many times the destinations that a job may have.
const SECRET_LIMIT: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::RtmpTarget;

    #[test]
    fn the_newest_secrets_are_known_and_no_more_than_so_many() {
        let target = |n: usize| {
            Target::Rtmp(RtmpTarget {
                tls: false,
                host: "host".to_owned(),
                port: 1935,
                application: "app".to_owned(),
                key: format!("key-{n:04}"),
            })
        };
        let mut secrets = Vec::new();
        for n in 0..1000 {
            note_secret(&mut secrets, &target(n));
            note_secret(&mut secrets, &target(7));
        }
        assert_eq!(secrets.len(), SECRET_LIMIT);
        for n in [7, 999, 1000 - SECRET_LIMIT + 1] {
            assert!(secrets.contains(&target(n)), "{n}");
        }
    }

    #[test]
    fn waiting_for_a_processor_is_seen() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let spinning: Vec<_> = (0..3 * cores)
            .map(|_| {
                let stop = stop.clone();
                std::thread::spawn(
                    move || while !stop.load(std::sync::atomic::Ordering::Relaxed) {},
                )
            })
            .collect();
        let total = || thread_waits(std::process::id()).values().sum::<Duration>();
        let (before, deadline) = (total(), Instant::now() + Duration::from_secs(10));
        let passed = |waited: Duration| waited > before + Duration::from_millis(200);
        while !passed(total()) && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let after = total();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for thread in spinning {
            thread.join().unwrap();
        }
        assert!(passed(after), "{before:?}, then {after:?}");
    }
}
