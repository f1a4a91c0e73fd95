//! Hostile input while a broadcast runs.

use std::{
    net::{SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use reqwest::header;

use crate::support::{
    http,
    peer::{Peer, START_BURST},
    random::Random,
    server::Server,
    session::Session,
    source::Source,
    wait,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_stands_a_storm_of_garbage() {
    let server = Server::start();
    let source = Source::h264();
    let host = server.host("stage");
    let broadcaster = Peer::publisher(&server, &source).await;
    let offer = broadcaster.offer().await;
    let response = http::post_sdp(&server, "/whip/stage", Some(&host), offer).await;
    let answer = response.text().await.unwrap();
    broadcaster.accept(&answer).await;
    let viewer = Peer::viewer(&server).await;
    viewer.whep(&server, "stage").await;
    viewer.receives("video/H264", 60).await;

    let start = Instant::now();
    let target = media_address(&answer);
    let ufrag = attribute(&answer, "a=ice-ufrag:");
    let storm = std::thread::spawn(move || throw(target, &ufrag));
    throw_at_http(&server, &host).await;
    let (mut session, _) = Session::join(&server, "stage", None, None).await;
    for garbage in ["[", "{}", "\u{0}", &"[".repeat(60_000)] {
        session.send_text(garbage).await;
    }
    storm.join().unwrap();

    let after = Instant::now();
    for codec in ["video/H264", "audio/opus"] {
        viewer.receives_since(codec, 60, Some(after)).await;
        let stream = viewer.stream(codec).unwrap();
        stream.assert_continuous(START_BURST);
        source.assert_reached(&stream, start);
    }
    let video = viewer.stream("video/H264").unwrap();
    assert_eq!(video.missing(), 0);
    wait::until("drops are counted by reason", async || {
        let dropped = server
            .metric("fanlight_datagrams_dropped_total", "reason=")
            .await;
        wait::check(dropped >= Some(1000.0), dropped)
    })
    .await;
    let newcomer = Peer::viewer(&server).await;
    newcomer.whep(&server, "stage").await;
    assert!(
        newcomer
            .receives("video/H264", 30)
            .await
            .starts_with_keyframe()
    );
    let log = server.log();
    assert!(!log.contains("panicked"), "something panicked");
    assert!(
        log.len() < 4 << 20,
        "{} bytes of log: a flood must not fill the disk",
        log.len()
    );
}

/// Oversized, cut off and misplaced requests; each is answered.
async fn throw_at_http(server: &Server, host: &str) {
    let client = http::client();
    let deep = "[".repeat(100_000);
    for (path, kind, body) in [
        ("/whip/stage", "application/sdp", vec![b'a'; 5 << 20]),
        ("/whip/stage", "application/sdp", vec![0; 1000]),
        (
            "/whep/stage",
            "application/sdp",
            "m=".repeat(20_000).into_bytes(),
        ),
        (
            "/whep/stage",
            "application/sdp",
            "v=0\r\nm=audio 9 X 0\r\n".repeat(3000).into_bytes(),
        ),
        ("/api/rooms", "application/json", deep.clone().into_bytes()),
        (
            "/api/rooms/stage/egress",
            "application/json",
            deep.into_bytes(),
        ),
        (
            "/api/rooms/stage/egress",
            "application/json",
            vec![0xff; 2000],
        ),
        (
            "/api/rooms/stage/tokens",
            "application/json",
            b"{\"ttl_seconds\":-1}".to_vec(),
        ),
        (
            "/api/rooms/%2e%2e%2f/egress",
            "application/json",
            b"{}".to_vec(),
        ),
        ("/whip/stage%00", "application/sdp", b"v=0".to_vec()),
    ] {
        let what = format!("{path}, {} bytes of {kind}", body.len());
        let sent = client
            .post(server.url(path))
            .bearer_auth(host)
            .header(header::CONTENT_TYPE, kind)
            .body(body)
            .send()
            .await;
        // Err: the server may close without reading a body that is too large.
        if let Ok(response) = sent {
            let status = response.status();
            assert!(status.is_client_error(), "{what}: {status}");
            let kind = http::header_text(&response, header::CONTENT_TYPE);
            assert!(
                kind.starts_with("application/problem+json"),
                "{what}: {status} {kind}"
            );
        }
    }
}

/// Sends datagrams of every protocol's looks.
fn throw(target: SocketAddr, ufrag: &str) {
    let mut random = Random::new();
    let socket = UdpSocket::bind(SocketAddr::new(target.ip(), 0)).unwrap();
    let stun = binding_request(ufrag);
    for round in 0..4000_u32 {
        let mut datagram = match round % 8 {
            // STUN: type, length, cookie; then whatever.
            0 => [
                &[0, 1],
                &random.bytes(2)[..],
                &[0x21, 0x12, 0xa4, 0x42],
                &random.bytes(60),
            ]
            .concat(),
            // The same with a real user name, which reaches its peer and fails there.
            1 | 2 => stun.clone(),
            // DTLS 1.2: handshake, alert, application data; small and lying lengths.
            3 => [&[22, 0xfe, 0xfd], &random.bytes(90)[..]].concat(),
            4 => [
                &[20 + (random.next() % 6) as u8, 0xfe, 0xff, 0, 0],
                &random.bytes(20)[..],
            ]
            .concat(),
            // RTP and RTCP.
            5 => [&[0x80, 102], &random.bytes(200)[..]].concat(),
            6 => [
                &[
                    0x80 | (random.next() % 64) as u8,
                    200 + (random.next() % 8) as u8,
                ],
                &random.bytes(60)[..],
            ]
            .concat(),
            _ => {
                let size = random.below(1400);
                random.bytes(size)
            }
        };
        if round % 8 == 2 {
            let at = random.below(datagram.len());
            datagram[at] ^= 1 << (random.next() % 8);
            datagram.truncate(1 + random.below(datagram.len()));
        }
        // A full buffer loses some: that is what a storm is like.
        let _ = socket.send_to(&datagram, target);
        if round % 16 == 0 {
            std::thread::sleep(Duration::from_millis(4));
        }
    }
}

/// A binding request (RFC 8489) for a real session, without its password.
fn binding_request(ufrag: &str) -> Vec<u8> {
    let user = format!("{ufrag}:abcd");
    let mut attribute = vec![0, 6, 0, u8::try_from(user.len()).unwrap()];
    attribute.extend(user.as_bytes());
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute.extend([0, 8, 0, 20]);
    attribute.extend([7; 20]);
    let length = u16::try_from(attribute.len()).unwrap().to_be_bytes();
    [
        &[0, 1],
        &length[..],
        &[0x21, 0x12, 0xa4, 0x42],
        &[9; 12],
        &attribute,
    ]
    .concat()
}

/// The server's address in its answer.
fn media_address(answer: &str) -> SocketAddr {
    let candidate = attribute(answer, "a=candidate:");
    let fields: Vec<&str> = candidate.split(' ').collect();
    SocketAddr::new(fields[4].parse().unwrap(), fields[5].parse().unwrap())
}

fn attribute(sdp: &str, name: &str) -> String {
    let value = sdp.lines().find_map(|line| line.strip_prefix(name));
    value
        .unwrap_or_else(|| panic!("no {name} in:\n{sdp}"))
        .trim()
        .to_owned()
}
