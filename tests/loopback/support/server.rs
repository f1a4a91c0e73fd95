//! The real server binary in a folder of its own.

use std::{
    io::{BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, MutexGuard, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;

use super::{http, wait};

/// How a server is started.
pub(crate) struct Setup {
    data_dir: Arc<TempDir>,
    ip: IpAddr,
    config: String,
    private_targets: bool,
    args: Vec<String>,
    log: &'static str,
    scheme: &'static str,
    http_port: u16,
    udp_port: u16,
}

/// A running server. Killed when dropped; its log is shown when the test has failed.
pub(crate) struct Server {
    setup: Setup,
    child: Child,
    log: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
    origin: String,
    owner: String,
}

impl Setup {
    pub(crate) fn new() -> Self {
        Self {
            data_dir: Arc::new(tempfile::tempdir().unwrap()),
            ip: Ipv4Addr::LOCALHOST.into(),
            config: String::new(),
            private_targets: true,
            args: Vec::new(),
            log: LOG,
            scheme: "http",
            http_port: 0,
            udp_port: 0,
        }
    }

    /// Serves and advertises on this address.
    pub(crate) fn ip(mut self, ip: IpAddr) -> Self {
        self.ip = ip;
        self
    }

    /// Adds lines to the config file.
    pub(crate) fn config(mut self, toml: &str) -> Self {
        self.config += toml;
        self.config += "\n";
        self
    }

    /// Logs everything.
    pub(crate) fn verbose(mut self) -> Self {
        self.log = "trace";
        self
    }

    /// Serves HTTPS with a certificate of the server's own.
    pub(crate) fn self_signed(mut self) -> Self {
        self.args.push("--tls-self-signed".into());
        self.scheme = "https";
        self
    }

    /// Leaves it at the default who may send to this machine.
    pub(crate) fn public_targets(mut self) -> Self {
        self.private_targets = false;
        self
    }

    /// Starts the server and waits until it has printed the owner's link.
    pub(crate) fn start(self) -> Server {
        let config = self.data_dir.path().join("fanlight.toml");
        std::fs::write(&config, &self.config).unwrap();
        let mut child = command()
            .env(
                "FANLIGHT_EGRESS__ALLOW_PRIVATE_TARGETS",
                self.private_targets.to_string(),
            )
            .arg("serve")
            .arg("--config")
            .arg(&config)
            .arg("--data-dir")
            .arg(self.data_dir())
            .args([
                "--http",
                &SocketAddr::new(self.ip, self.http_port).to_string(),
            ])
            .args(["--udp-port", &self.udp_port.to_string()])
            .args(["--public-ip", &self.ip.to_string()])
            .args(["--log", self.log])
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = collect(child.stderr.take().unwrap(), Arc::clone(&log));
        let (links, found) = mpsc::sync_channel(1);
        let stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some((url, token)) = line.trim().split_once("/#token=") {
                    // Only the first link is waited for.
                    let _ = links.try_send((url.to_owned(), token.to_owned()));
                }
            }
        });
        let readers = vec![stderr, reader];
        let Ok((url, owner)) = found.recv_timeout(wait::PATIENCE) else {
            // Killed so that its log is complete.
            let _ = child.kill();
            let status = child.wait();
            panic!(
                "the server printed no link; {status:?}; its log:\n{}",
                log.lock().unwrap()
            );
        };
        let port: u16 = url.rsplit(':').next().unwrap().parse().unwrap();
        let origin = format!("{}://{}", self.scheme, SocketAddr::new(self.ip, port));
        Server {
            setup: Self {
                http_port: port,
                ..self
            },
            child,
            log,
            readers,
            origin,
            owner,
        }
    }

    fn data_dir(&self) -> PathBuf {
        self.data_dir.path().join("data")
    }
}

impl Server {
    /// Starts a server with defaults.
    pub(crate) fn start() -> Self {
        Setup::new().start()
    }

    /// Returns the URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Returns the URL of a room's WebSocket.
    pub(crate) fn websocket_url(&self, room: &str) -> String {
        self.url(&format!("/ws/{room}")).replacen("http", "ws", 1)
    }

    pub(crate) fn ip(&self) -> IpAddr {
        self.setup.ip
    }

    /// Returns the token of the printed link.
    pub(crate) fn owner(&self) -> &str {
        &self.owner
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.setup.data_dir()
    }

    /// Returns the server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the log so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Mints a token by `fanlight token`, such as `token("room", &["--publish"])`.
    pub(crate) fn token(&self, room: &str, grants: &[&str]) -> String {
        let output = command()
            .arg("token")
            .arg("--config")
            .arg(self.setup.data_dir.path().join("fanlight.toml"))
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--room", room])
            .args(grants)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).unwrap();
        let token = text.trim_end();
        assert!(
            !token.contains(char::is_whitespace),
            "more than the token: {text:?}"
        );
        token.to_owned()
    }

    /// Returns the tokens of a new room: one that may publish, chat and run outputs.
    pub(crate) fn host(&self, room: &str) -> String {
        self.token(room, &["--publish", "--chat", "--egress"])
    }

    /// Returns one number of `/metrics`, summed over its labels that contain `labels`.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> Option<f64> {
        let text = http::client()
            .get(self.url("/metrics"))
            .send()
            .await
            .ok()?
            .text()
            .await
            .ok()?;
        let values: Vec<f64> = text
            .lines()
            .filter_map(|line| line.strip_prefix(name))
            .filter(|rest| rest.starts_with(['{', ' ']) && rest.contains(labels))
            .filter_map(|rest| rest.rsplit(' ').next()?.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// Reads nothing that the server logs while what it returns is there, like a terminal that was paused.
    pub(crate) fn pause_log(&self) -> MutexGuard<'_, String> {
        self.log.lock().unwrap()
    }

    /// Sends SIGINT, and returns what became of it and how long it took.
    pub(crate) fn interrupt(mut self) -> (Setup, Duration, String) {
        let start = Instant::now();
        self.signal(Signal::SIGINT);
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if start.elapsed() > Duration::from_secs(20) => {
                    panic!("the server did not stop; its log:\n{}", self.tail())
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let took = start.elapsed();
        assert_eq!(
            status.code(),
            Some(0),
            "{status:?}; its log:\n{}",
            self.tail()
        );
        let log = self.log();
        (self.setup(), took, log)
    }

    /// Kills the server without a chance to clean up, and returns what it takes to start it again on
    /// the same ports and data.
    pub(crate) fn kill(mut self) -> Setup {
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
        self.setup()
    }

    fn setup(&self) -> Setup {
        let setup = &self.setup;
        Setup {
            data_dir: Arc::clone(&setup.data_dir),
            config: setup.config.clone(),
            args: setup.args.clone(),
            ..*setup
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(80)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already after `interrupt` or `kill`.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.tail());
        }
        // A worker may hold standard error open: its reader ends with it.
        self.readers.clear();
    }
}

/// Runs the binary to its end.
pub(crate) fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    command()
        .args(args)
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

/// Kills a process that the server told of, without a chance to clean up.
pub(crate) fn kill_process(pid: u64) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
}

/// Makes a process hang that the server told of.
pub(crate) fn stop_process(pid: u64) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGSTOP).unwrap();
}

/// Returns whether a process exists and is not only waited for.
pub(crate) fn runs(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .map(|(_, rest)| rest.starts_with('Z'));
    state == Some(false)
}

/// Returns the permission bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Reads the claims of a token without checking it.
pub(crate) fn claims(token: &str) -> Value {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// The binary, without settings of whoever runs the tests.
fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanlight"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FANLIGHT_")) {
        command.env_remove(name);
    }
    command
}

fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(size @ 1..) = from.read(&mut buffer) {
            into.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&buffer[..size]));
        }
    })
}

const LOG: &str = "info,egress=debug,signaling=debug,sfu=debug,sfu_core=debug";
