//! The network between the server and a viewer: in order, a little slower than loopback, lossy on demand.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{net::UdpSocket, task::JoinSet};

use super::random::Random;

/// A UDP relay for one client.
///
/// It pauses after the server's last handshake message. On loopback the first media would reach the
/// `webrtc` crate in one batch with that message, of which it drops everything that it has no keys for yet.
pub(crate) struct Relay {
    address: SocketAddr,
    server: Arc<Mutex<Option<SocketAddr>>>,
    lost: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Relay {
    /// Opens a relay that loses `loss` of 1000 RTP packets on their way to the client.
    pub(crate) async fn start(ip: IpAddr, loss: u64) -> Self {
        let outside = Arc::new(UdpSocket::bind((ip, 0)).await.unwrap());
        let inside = Arc::new(UdpSocket::bind((ip, 0)).await.unwrap());
        let address = inside.local_addr().unwrap();
        let server = Arc::new(Mutex::new(None));
        let client = Arc::new(Mutex::new(None));
        let lost = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        tasks.spawn({
            let (outside, inside) = (Arc::clone(&outside), Arc::clone(&inside));
            let (server, client) = (Arc::clone(&server), Arc::clone(&client));
            async move {
                let mut buffer = [0; 2048];
                loop {
                    let Ok((size, from)) = inside.recv_from(&mut buffer).await else {
                        continue;
                    };
                    *client.lock().unwrap() = Some(from);
                    let to: Option<SocketAddr> = *server.lock().unwrap();
                    if let Some(to) = to {
                        // A lost datagram is what a network does, too.
                        let _ = outside.send_to(&buffer[..size], to).await;
                    }
                }
            }
        });
        tasks.spawn({
            let lost = Arc::clone(&lost);
            async move {
                let mut random = Random::new();
                let mut buffer = [0; 2048];
                loop {
                    let Ok(size) = outside.recv(&mut buffer).await else {
                        continue;
                    };
                    let datagram = &buffer[..size];
                    if is_rtp(datagram) && random.next() % 1000 < loss {
                        lost.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    let to: Option<SocketAddr> = *client.lock().unwrap();
                    if let Some(to) = to {
                        let _ = inside.send_to(datagram, to).await;
                    }
                    if ends_handshake(datagram) {
                        tokio::time::sleep(HANDSHAKE_PAUSE).await;
                    }
                }
            }
        });
        Self {
            address,
            server,
            lost,
            _tasks: tasks,
        }
    }

    /// Rewrites an answer so that its peer comes here, and sends on what it sends to the answer's address.
    pub(crate) fn lead(&self, answer: &str) -> String {
        let mut led = String::new();
        for line in answer.lines() {
            let mut fields: Vec<&str> = line.split(' ').collect();
            let port = self.address.port().to_string();
            if let [
                "a=candidate:1" | "a=candidate:2",
                _,
                "udp",
                _,
                ip,
                server_port,
                ..,
            ] = fields[..]
            {
                let server = SocketAddr::new(ip.parse().unwrap(), server_port.parse().unwrap());
                *self.server.lock().unwrap() = Some(server);
                fields[5] = &port;
            }
            led += &fields.join(" ");
            led += "\r\n";
        }
        assert!(
            self.server.lock().unwrap().is_some(),
            "no candidate in:\n{answer}"
        );
        led
    }

    /// Returns how many packets were lost.
    pub(crate) fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }
}

fn is_rtp(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, kind, ..] if !(192..=223).contains(kind))
}

/// The server's ChangeCipherSpec, which travels with its Finished.
fn ends_handshake(datagram: &[u8]) -> bool {
    datagram.first() == Some(&20)
}

const HANDSHAKE_PAUSE: Duration = Duration::from_millis(20);
