//! Clients whose networks let no UDP through, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "each test uses its part of the client")]
mod support;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    thread,
    time::Duration,
};

use sfu::{Config, Handle, Join, ParticipantId, Role, RoomConfig, RoomId};
use support::{Client, delta, keyframe, until};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn media_and_messages_cross_a_connection() {
    let server = Server::start();
    let mut publisher = server.join(Client::publisher(V4), Role::Publisher, 0).await;
    let mut viewer = server.join(Client::viewer(V4), Role::Viewer, 1).await;
    let clients = &mut [&mut publisher, &mut viewer];
    until("both connected", clients, |c| {
        c.iter().all(|c| c.connected) && c[1].has_channel()
    })
    .await;
    let mut sent: Vec<Vec<u8>> = keyframe().into();
    for payload in &sent {
        clients[0].send_video(payload, 0, payload == &sent[2]);
    }
    for frame in 1..=100 {
        let payload = delta(frame);
        clients[0].send_video(&payload, frame.into(), true);
        sent.push(payload);
        until("sent", clients, |_| true).await;
    }
    until("all arrived", clients, |c| c[1].packets.len() >= sent.len()).await;
    let received: Vec<&[u8]> = viewer.packets.iter().map(|p| &p.payload[..]).collect();
    assert_eq!(received, sent);
    server.stop().await;
}

#[tokio::test]
async fn connections_of_strangers_are_closed_and_keep_nobody_out() {
    let server = Server::start();
    let check = [0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    let strangers: [(&str, Vec<u8>); 4] = [
        ("a web client", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("no check", [0, 4, 1, 2, 3, 4].to_vec()),
        (
            "a check without a name",
            [&[0, 20][..], &check, &[7; 12]].concat(),
        ),
        ("too long", [0xff; 100].to_vec()),
    ];
    for (label, bytes) in strangers {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(&bytes).unwrap();
        let timeout = Some(Duration::from_secs(3));
        stream.set_read_timeout(timeout).unwrap();
        let ended = tokio::task::spawn_blocking(move || stream.read(&mut [0; 16]))
            .await
            .unwrap();
        match ended {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("{label}: {other:?}"),
        }
    }
    // More than may wait, all of them silent.
    let mut silent = Vec::new();
    for _ in 0..300 {
        let stream = tokio::net::TcpStream::connect(server.address).await;
        silent.push(stream.unwrap());
    }
    let mut viewer = server.join(Client::viewer(V4), Role::Viewer, 1).await;
    until("connected", &mut [&mut viewer], |c| c[0].connected).await;
    drop(silent);
    server.stop().await;
}

struct Server {
    handle: Handle,
    address: SocketAddr,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Server {
    fn start() -> Self {
        let config = Config {
            udp_port: 0,
            public_ips: vec![V4],
            ..Config::default()
        };
        let (driver, handle, _) = sfu::bind(&config).unwrap();
        let address = driver.advertised_tcp()[0];
        let cancel = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "the server owns the task")]
        let task = tokio::spawn(driver.run(cancel.clone()));
        Self {
            handle,
            address,
            cancel,
            task,
        }
    }

    /// Joins by way of the TCP candidate of the answer.
    async fn join(
        &self,
        (mut client, offer): (Client, String),
        role: Role,
        participant: u64,
    ) -> Client {
        let join = Join {
            room: RoomId(1),
            participant: ParticipantId(participant),
            role,
            sees_own: false,
            config: RoomConfig::default(),
        };
        let answer = self.handle.negotiate(join, offer).await.unwrap().sdp;
        let is_candidate = |line: &str| line.starts_with("a=candidate:");
        let passive = answer
            .lines()
            .find(|line| is_candidate(line) && line.ends_with("tcptype passive"))
            .unwrap();
        let fields: Vec<&str> = passive.split(' ').collect();
        let to = SocketAddr::new(fields[4].parse().unwrap(), fields[5].parse().unwrap());
        assert_eq!(to, self.address);
        let bridge = bridge(to);
        let mut lines: Vec<String> = Vec::new();
        for line in answer.lines() {
            if !is_candidate(line) {
                lines.push(line.to_owned());
            }
            if line.starts_with("a=setup:") {
                let port = bridge.port();
                lines.push(format!("a=candidate:1 1 udp 1 127.0.0.1 {port} typ host"));
            }
        }
        client.accept(lines.join("\r\n") + "\r\n");
        client
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// Carries one client's datagrams over a connection (RFC 4571). Returns where the client reaches it.
fn bridge(to: SocketAddr) -> SocketAddr {
    let socket = UdpSocket::bind((V4, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        let (mut len, client) = socket.recv_from(&mut buffer).unwrap();
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut reader, back) = (stream.try_clone().unwrap(), socket.try_clone().unwrap());
        thread::spawn(move || {
            let mut length = [0; 2];
            while reader.read_exact(&mut length).is_ok() {
                let mut datagram = vec![0; u16::from_be_bytes(length).into()];
                reader.read_exact(&mut datagram).unwrap();
                back.send_to(&datagram, client).unwrap();
            }
        });
        loop {
            let length = u16::try_from(len).unwrap().to_be_bytes();
            let frame = [&length[..], &buffer[..len]].concat();
            if stream.write_all(&frame).is_err() {
                return;
            }
            (len, _) = socket.recv_from(&mut buffer).unwrap();
        }
    });
    address
}

const V4: std::net::IpAddr = std::net::IpAddr::V4(Ipv4Addr::LOCALHOST);
