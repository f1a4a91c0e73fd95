//! A room over two shards, with clients of an independent stack over real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[allow(dead_code, reason = "each test uses its part of the client")]
mod support;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use bytes::Bytes;
use sfu::{
    CloseReason, Config, Event, Join, NegotiateError, ParticipantId, PeerId, Role, RoomConfig,
    RoomId,
};
use support::{Client, delta, keyframe, until};
use tokio_util::sync::CancellationToken;

/// As many viewers as are on the second shard, when those on the first one are not worth spreading.
const VIEWERS: usize = 22;

#[tokio::test]
async fn viewers_of_both_shards_get_everything() {
    let config = Config {
        shards: 2,
        max_peers: VIEWERS + 1,
        udp_port: 0,
        public_ips: vec![V4],
        ..Config::default()
    };
    let (driver, handle, mut events) = sfu::bind(&config).unwrap();
    let ports = driver.ports();
    assert_eq!(ports[1], ports[0] + 1);
    assert_eq!(driver.advertised_tcp()[0].port(), ports[0]);
    let cancel = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "the test owns the task")]
    let task = tokio::spawn(driver.run(cancel.clone()));
    let mut ports: BTreeMap<String, usize> = BTreeMap::new();
    let mut clients: Vec<(Client, PeerId)> = Vec::new();
    for participant in 0..=VIEWERS {
        let (mut client, offer) = match participant {
            0 => Client::publisher(V4),
            _ => Client::viewer(V4),
        };
        let role = match participant {
            0 => Role::Publisher,
            _ => Role::Viewer,
        };
        let join = join(participant, role);
        let answer = handle.negotiate(join, offer).await.unwrap();
        let line = answer.sdp.lines().find(|l| l.starts_with("a=candidate:"));
        let port = line.unwrap().split(' ').nth(5).unwrap();
        *ports.entry(port.to_owned()).or_default() += 1;
        client.accept(answer.sdp);
        clients.push((client, answer.peer));
    }
    let mut spread: Vec<usize> = ports.into_values().collect();
    spread.sort_unstable();
    assert_eq!(spread, [3, VIEWERS - 2]);
    let (_, offer) = Client::viewer(V4);
    let refused = handle.negotiate(join(99, Role::Viewer), offer).await;
    let full = NegotiateError::Full.to_string();
    assert_eq!(refused.unwrap_err().to_string(), full, "over all shards");

    all(&mut clients, "connected", |c| c.connected).await;
    let publisher = &mut clients[0].0;
    let mut sent: Vec<Vec<u8>> = keyframe().into();
    for payload in &sent {
        publisher.send_video(payload, 0, payload == &sent[2]);
    }
    for frame in 1..=60 {
        let payload = delta(frame);
        clients[0].0.send_video(&payload, frame.into(), true);
        sent.push(payload);
        step(&mut clients);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    all(&mut clients[1..], "everything arrived", |c| {
        c.packets.len() >= sent.len()
    })
    .await;
    for (viewer, _) in &clients[1..] {
        let received: Vec<&[u8]> = viewer.packets.iter().map(|p| &p.payload[..]).collect();
        assert_eq!(received, sent);
        let gaps = viewer.packets.windows(2).filter(|pair| {
            pair[0].header.sequence_number.wrapping_add(1) != pair[1].header.sequence_number
        });
        assert_eq!(gaps.count(), 0, "sequence numbers are continuous");
    }
    let stats = handle.stats().await.unwrap();
    assert_eq!(
        (stats.rooms, stats.publishers, stats.viewers),
        (1, 1, VIEWERS)
    );
    let room = handle.room_stats(ROOM).await.unwrap();
    assert_eq!((room.live, room.viewers), (true, VIEWERS));

    handle
        .broadcast(ROOM, "chat", Bytes::from_static(b"everybody"))
        .await;
    all(&mut clients[1..], "message arrived", |c| {
        c.messages == ["everybody"]
    })
    .await;

    // Somebody leaves at each shard, and their places are free again.
    for index in [VIEWERS, 1] {
        let peer = clients[index].1;
        assert!(handle.peer_stats(peer).await.unwrap().is_some());
        handle.close(peer, CloseReason::Requested).await;
        assert!(handle.peer_stats(peer).await.unwrap().is_none());
    }
    let (_, offer) = Client::viewer(V4);
    handle
        .negotiate(join(99, Role::Viewer), offer)
        .await
        .unwrap();
    cancel.cancel();
    task.await.unwrap().unwrap();
    let mut closed = 0;
    while let Some(event) = events.recv().await {
        closed += usize::from(matches!(event, Event::Closed { .. }));
    }
    assert_eq!(closed, VIEWERS + 2);
}

fn join(participant: usize, role: Role) -> Join {
    Join {
        room: ROOM,
        participant: ParticipantId(participant as u64),
        role,
        sees_own: false,
        config: RoomConfig::default(),
    }
}

fn step(clients: &mut [(Client, PeerId)]) {
    clients.iter_mut().for_each(|(client, _)| client.step());
}

async fn all(clients: &mut [(Client, PeerId)], what: &str, done: impl Fn(&Client) -> bool) {
    let mut none: [&mut Client; 0] = [];
    let clients = std::cell::RefCell::new(clients);
    until(what, &mut none, |_| {
        let clients = &mut *clients.borrow_mut();
        step(clients);
        clients.iter().all(|(client, _)| done(client))
    })
    .await;
}

const ROOM: RoomId = RoomId(1);
const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
