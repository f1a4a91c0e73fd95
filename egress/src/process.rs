//! A worker process as the supervisor holds it.

use std::{
    ffi::OsStr,
    io,
    os::fd::OwnedFd,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixDatagram, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::{Child, ChildStderr, Command},
    sync::mpsc,
    task::JoinSet,
};

use crate::link::{self, Report, Setup, Target};

/// A running worker. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    control: OwnedWriteHalf,
    packets: Arc<UnixDatagram>,
    /// What must not appear in the worker's words.
    secrets: Arc<Mutex<Vec<Target>>>,
    /// At most [`REPORT_LIMIT`] wait; then the worker's own queue fills.
    reports: mpsc::Receiver<(Report, Bytes)>,
    _readers: JoinSet<()>,
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
        let mut readers = JoinSet::new();
        readers.spawn(read_reports(control_in, into));
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(log_lines(stderr, secrets.clone()));
        }
        Ok(Self {
            child,
            control,
            packets: Arc::new(UnixDatagram::from_std(packets)?),
            secrets,
            reports,
            _readers: readers,
        })
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns the socket that takes [`link::encode_packet`]'s datagrams.
    pub(crate) fn packets(&self) -> Arc<UnixDatagram> {
        self.packets.clone()
    }

    /// Sends a command. A worker that does not take it is about to be found dead.
    pub(crate) async fn send(&mut self, command: &link::Command) {
        if let link::Command::Connect { target, .. } = command {
            let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
            if !secrets.contains(target) {
                secrets.push(target.clone());
            }
        }
        if let Ok(frame) = link::encode_frame(command, &[]) {
            let _ = self.control.write_all(&frame).await;
        }
    }

    /// Returns the next report; `None` when the worker has closed its side. Cancel safe.
    pub(crate) async fn report(&mut self) -> Option<(Report, Bytes)> {
        self.reports.recv().await
    }

    /// Waits for the process to end.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.start_kill();
    }
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
        tracing::warn!(text, "egress worker wrote");
    }
}

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
const LINE_LIMIT: u64 = 4096;
