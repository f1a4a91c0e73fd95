//! The driver with clients of an independent stack over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    time::Duration,
};

use bytes::Bytes;
use sfu::{
    CloseReason, Codec, Config, Event, Handle, HandleError, Join, MediaKind, ParticipantId, PeerId,
    Role, RoomConfig, RoomId, TapSource,
};
use support::{Client, delta, keyframe, until};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

const ROOM: RoomId = RoomId(1);
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[tokio::test]
async fn video_arrives_whole_and_in_order_over_both_families() {
    for ip in [V4, V6] {
        if UdpSocket::bind((ip, 0)).is_err() {
            continue;
        }
        let mut server = Server::start(ip);
        let (mut publisher, _) = server.publisher(ip).await;
        let (mut viewer, _) = server.viewer(ip, 1).await;
        until("both connected", &mut [&mut publisher, &mut viewer], |c| {
            c.iter().all(|c| c.connected)
        })
        .await;
        let mut sent: Vec<Vec<u8>> = keyframe().into();
        for payload in &sent {
            publisher.send_video(payload, 0, payload == &sent[2]);
        }
        for frame in 1..=100 {
            let payload = delta(frame);
            publisher.send_video(&payload, frame.into(), true);
            sent.push(payload);
            until("sent", &mut [&mut publisher, &mut viewer], |_| true).await;
        }
        let mut clients = [&mut publisher, &mut viewer];
        until("all arrived", &mut clients, |c| {
            c[1].packets.len() >= sent.len()
        })
        .await;
        let received: Vec<&[u8]> = viewer.packets.iter().map(|p| &p.payload[..]).collect();
        assert_eq!(received, sent);
        let gaps = viewer.packets.windows(2).filter(|pair| {
            pair[0].header.sequence_number.wrapping_add(1) != pair[1].header.sequence_number
        });
        assert_eq!(gaps.count(), 0, "sequence numbers are continuous");
        let stats = server.handle.stats().await.unwrap();
        assert_eq!((stats.publishers, stats.viewers), (1, 1));
        assert_eq!(stats.packets_out, sent.len() as u64);
        server.stop().await;
    }
}

#[tokio::test]
async fn messages_cross_the_data_channel() {
    let mut server = Server::start(V4);
    let (mut first, first_peer) = server.viewer(V4, 1).await;
    let (mut second, _) = server.viewer(V4, 2).await;
    until("channels open", &mut [&mut first, &mut second], |c| {
        c.iter().all(|c| c.has_channel())
    })
    .await;
    first.say("hello");
    let heard = async {
        loop {
            let event = server.events.recv().await.expect("the driver runs");
            if let Event::Message {
                peer,
                label,
                payload,
            } = event
            {
                return (peer, label, payload);
            }
        }
    };
    let clients = &mut [&mut first, &mut second];
    let heard = tokio::select! {
        heard = heard => heard,
        () = until("heard", clients, |_| false) => unreachable!("panics"),
    };
    let expected = (first_peer, "chat".to_owned(), Bytes::from_static(b"hello"));
    assert_eq!(heard, expected);
    let handle = &server.handle;
    handle
        .send(first_peer, "chat", Bytes::from_static(b"just you"))
        .await;
    handle
        .broadcast(ROOM, "chat", Bytes::from_static(b"everybody"))
        .await;
    until("answers arrived", clients, |c| {
        c[0].messages.len() == 2 && c[1].messages.len() == 1
    })
    .await;
    assert_eq!(first.messages, ["just you", "everybody"]);
    assert_eq!(second.messages, ["everybody"]);
    server.stop().await;
}

#[tokio::test]
async fn a_tap_yields_the_program_and_asks_for_keyframes() {
    let mut server = Server::start(V4);
    let mut tap = server.handle.tap(ROOM, TapSource::Program).await.unwrap();
    let (mut publisher, _) = server.publisher(V4).await;
    until("connected", &mut [&mut publisher], |c| c[0].connected).await;
    for payload in keyframe() {
        publisher.send_video(&payload, 0, payload[0] == 0x7c && payload[1] == 0x45);
    }
    publisher.send_video(&delta(1), 1, true);
    let mut packets = Vec::new();
    while packets.len() < 4 {
        until("sent", &mut [&mut publisher], |_| true).await;
        let received = timeout(Duration::from_millis(5), tap.recv()).await;
        packets.extend(received.map(|packet| packet.expect("the driver runs")));
    }
    assert!(packets[0].keyframe, "starts at a keyframe");
    assert!(packets.iter().all(|p| p.codec == Codec::H264));
    assert!(packets[3].rtp.ends_with(&delta(1)));
    assert_eq!(tap.dropped(), 0);
    let before = publisher.keyframe_requests();
    tokio::time::sleep(Duration::from_millis(600)).await;
    tap.request_keyframe();
    until("asked for a keyframe", &mut [&mut publisher], |c| {
        c[0].keyframe_requests() > before
    })
    .await;
    drop(tap);
    server.stop().await;
}

#[tokio::test]
async fn stopping_says_goodbye_and_ends_everything() {
    let mut server = Server::start(V4);
    let mut tap = server.handle.tap(ROOM, TapSource::Program).await.unwrap();
    let (mut viewer, peer) = server.viewer(V4, 1).await;
    until("connected", &mut [&mut viewer], |c| c[0].has_channel()).await;
    server.cancel.cancel();
    until("told goodbye", &mut [&mut viewer], |c| {
        c[0].ended || !c[0].connected || !c[0].has_channel()
    })
    .await;
    assert!(tap.recv().await.is_none());
    let mut reasons = Vec::new();
    while let Some(event) = server.events.recv().await {
        if let Event::Closed { peer, reason, .. } = event {
            reasons.push((peer, reason));
        }
    }
    assert_eq!(reasons, [(peer, CloseReason::Requested)]);
    server.task.await.unwrap().unwrap();
    let stopped = server.handle.stats().await.unwrap_err();
    assert!(matches!(stopped, HandleError::Stopped));
}

#[tokio::test]
async fn hostile_datagrams_are_counted_and_the_broadcast_goes_on() {
    let mut server = Server::start(V4);
    let (mut publisher, _) = server.publisher(V4).await;
    let (mut viewer, _) = server.viewer(V4, 1).await;
    let clients = &mut [&mut publisher, &mut viewer];
    until("both connected", clients, |c| c.iter().all(|c| c.connected)).await;
    let attacker = UdpSocket::bind((V4, 0)).unwrap();
    for first in 0..=255 {
        for len in [1, 12, 20, 100, 1200, 1900] {
            let datagram = vec![first; len];
            attacker.send_to(&datagram, server.address).unwrap();
        }
    }
    for payload in keyframe() {
        clients[0].send_video(&payload, 0, false);
    }
    until("video arrives", clients, |c| c[1].packets.len() == 3).await;
    let stats = server.handle.stats().await.unwrap();
    assert!(
        stats.dropped.iter().map(|(_, n)| n).sum::<u64>() > 1000,
        "{stats:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_publication_is_announced_and_withdrawn() {
    let mut server = Server::start(V4);
    let (mut publisher, peer) = server.publisher(V4).await;
    until("connected", &mut [&mut publisher], |c| c[0].connected).await;
    for payload in keyframe() {
        publisher.send_video(&payload, 0, false);
    }
    publisher.step();
    let published = loop {
        let event = server.events.recv().await.expect("the driver runs");
        if let Event::Published {
            publication, kind, ..
        } = event
        {
            assert_eq!(kind, MediaKind::Video);
            break publication;
        }
    };
    assert!(server.handle.room_stats(ROOM).await.unwrap().live);
    server.handle.close(peer, CloseReason::Requested).await;
    loop {
        let event = server.events.recv().await.expect("the driver runs");
        if let Event::Unpublished { publication, .. } = event {
            assert_eq!(publication, published);
            break;
        }
    }
    assert_eq!(server.handle.peer_stats(peer).await.unwrap(), None);
    server.stop().await;
}

struct Server {
    handle: Handle,
    events: mpsc::Receiver<Event>,
    address: std::net::SocketAddr,
    cancel: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    fn start(ip: IpAddr) -> Self {
        let config = Config {
            udp_port: 0,
            public_ips: vec![ip],
            ..Config::default()
        };
        let (driver, handle, events) = sfu::bind(&config).unwrap();
        let address = driver.advertised()[0];
        let cancel = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "the server owns the task")]
        let task = tokio::spawn(driver.run(cancel.clone()));
        Self {
            handle,
            events,
            address,
            cancel,
            task,
        }
    }

    async fn publisher(&mut self, ip: IpAddr) -> (Client, PeerId) {
        self.join(Client::publisher(ip), Role::Publisher, 0).await
    }

    async fn viewer(&mut self, ip: IpAddr, participant: u64) -> (Client, PeerId) {
        self.join(Client::viewer(ip), Role::Viewer, participant)
            .await
    }

    async fn join(
        &mut self,
        (mut client, offer): (Client, String),
        role: Role,
        participant: u64,
    ) -> (Client, PeerId) {
        let join = Join {
            room: ROOM,
            participant: ParticipantId(participant),
            role,
            sees_own: false,
            config: RoomConfig::default(),
        };
        let answer = self.handle.negotiate(join, offer).await.unwrap();
        client.accept(answer.sdp);
        (client, answer.peer)
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap().unwrap();
    }
}
