//! coturn, with the configuration in `turn-config`, takes the credentials that are issued and no others.

use std::{
    net::{Ipv4Addr, UdpSocket},
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use signaling::{Config, Secret, TurnConfig, turn::ice_servers};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

const TEMPLATE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../turn-config/turnserver.conf"
);

#[tokio::test]
async fn coturn_takes_issued_credentials_and_no_others() {
    let relay = Relay::start("north").await;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let (user, credential) = issue("north", now);
    let (late_user, late) = issue("north", now - 7200);
    let (other_user, other) = issue("south", now);
    let rows = [
        ("issued", &user, &credential, true),
        ("expired", &late_user, &late, false),
        ("other secret", &other_user, &other, false),
        ("somebody else's credential", &late_user, &credential, false),
        ("no credential", &user, &"wrong".to_owned(), false),
    ];
    for (label, user, credential, expected) in rows {
        assert_eq!(relay.allocates(user, credential).await, expected, "{label}");
    }
}

/// Issues credentials that are valid for an hour from `now`.
fn issue(secret: &str, now: u64) -> (String, String) {
    let config = Config {
        turn: TurnConfig {
            urls: vec!["turn:127.0.0.1".into()],
            secret: Some(Secret::new(secret)),
            ttl_seconds: 3600,
        },
        ..Config::default()
    };
    let server = ice_servers(&config, "ann", now).remove(0);
    (
        server.username.expect("a user name"),
        server.credential.expect("a credential"),
    )
}

/// A running coturn, killed when dropped.
struct Relay {
    port: u16,
    _process: Child,
    _folder: TempDir,
}

impl Relay {
    async fn start(secret: &str) -> Self {
        for _ in 0..3 {
            if let Some(relay) = Self::try_start(secret).await {
                return relay;
            }
        }
        panic!("turnserver did not answer");
    }

    /// Starts it; `None` if it does not answer, as when somebody was faster to take its port.
    async fn try_start(secret: &str) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (port, first_relayed) = (free_port(), free_port().min(65_000));
        let process = Command::new("turnserver")
            .args([
                "-c",
                TEMPLATE,
                "--listening-ip=127.0.0.1",
                "--relay-ip=127.0.0.1",
            ])
            .args(["--no-tls", "--no-dtls", "--log-file=stdout"])
            .arg(format!("--static-auth-secret={secret}"))
            .arg(format!("--listening-port={port}"))
            .arg(format!("--min-port={first_relayed}"))
            .arg(format!("--max-port={}", first_relayed + 100))
            .arg(format!("--pidfile={}", folder.path().join("pid").display()))
            .arg(format!(
                "--userdb={}",
                folder.path().join("users").display()
            ))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("turnserver: `make setup` installs coturn");
        answers(port).await.then_some(Self {
            port,
            _process: process,
            _folder: folder,
        })
    }

    /// Returns whether somebody with these credentials gets a relayed address.
    async fn allocates(&self, user: &str, credential: &str) -> bool {
        let mut client = Command::new("turnutils_uclient")
            .args(["-v", "-y", "-c", "-n", "1", "-u", user, "-w", credential])
            .args(["-p", &self.port.to_string(), "127.0.0.1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("turnutils_uclient comes with coturn");
        let mut lines = BufReader::new(client.stdout.take().expect("it is piped")).lines();
        let mut attempts = 0;
        let outcome = async {
            while let Some(line) = lines.next_line().await.expect("text") {
                if line.contains("Received relay addr") {
                    return true;
                }
                // The first attempt asks for the realm, the second one shows the credentials.
                attempts += usize::from(line.contains("allocate sent"));
                if attempts == 4 {
                    return false;
                }
            }
            false
        };
        timeout(Duration::from_secs(20), outcome)
            .await
            .expect("an answer")
    }
}

/// Sends binding requests (RFC 8489) until one is answered, for ten seconds; returns whether one was.
async fn answers(port: u16) -> bool {
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a port");
    let mut request = [0; 20];
    request[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
    for _ in 0..200 {
        // Until it listens, the kernel refuses.
        let _ = socket.send_to(&request, (Ipv4Addr::LOCALHOST, port)).await;
        let answer = timeout(Duration::from_millis(50), socket.recv_from(&mut [0; 1500])).await;
        if matches!(answer, Ok(Ok(_))) {
            return true;
        }
    }
    false
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    socket.local_addr().expect("it is bound").port()
}
