//! Who may broadcast in a room, and what viewers notice when the connection changes.

use std::time::{Duration, Instant};

use crate::support::{
    http,
    peer::{Peer, START_BURST},
    server::Server,
    source::Source,
    wait,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_takes_over_and_viewers_go_on() {
    let server = Server::start();
    let source = Source::h264();
    let host = server.host("stage");
    let first = Peer::publisher(&server, &source).await;
    first.whip(&server, "stage", &host).await;
    let viewer = Peer::viewer(&server).await;
    viewer.whep(&server, "stage").await;
    viewer.receives("video/H264", 60).await;
    viewer.receives("audio/opus", 60).await;

    // The same token again, as from a reloaded page or a second tab.
    let again = Instant::now();
    let mut second = Peer::publisher(&server, &source).await;
    second.whip(&server, "stage", &host).await;
    second.connected().await;
    first.ended().await;
    let taken = Instant::now();
    viewer.receives_since("video/H264", 60, Some(taken)).await;
    viewer.receives_since("audio/opus", 60, Some(taken)).await;
    for codec in ["video/H264", "audio/opus"] {
        let stream = viewer.stream(codec).unwrap();
        stream.assert_continuous(START_BURST);
        assert_eq!(stream.missing(), 0, "{codec} has holes");
        // A cut: until the new connection's first keyframe, which this source makes once a second.
        let gap = stream.longest_gap(again);
        assert!(
            gap < Duration::from_millis(2500),
            "{codec} stood still for {gap:?}"
        );
    }

    // Without a goodbye: the machine is gone, its page comes back elsewhere.
    second.fall_silent();
    let third = Peer::publisher(&server, &source).await;
    third.whip(&server, "stage", &host).await;
    third.connected().await;
    let back = Instant::now();
    viewer.receives_since("video/H264", 60, Some(back)).await;
    viewer
        .stream("video/H264")
        .unwrap()
        .assert_continuous(START_BURST);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_has_one_broadcaster() {
    let server = Server::start();
    let source = Source::h264();
    let (ann, bob) = (server.host("stage"), server.host("stage"));
    let first = Peer::publisher(&server, &source).await;
    let session = first.whip(&server, "stage", &ann).await;
    let viewer = Peer::viewer(&server).await;
    viewer.whep(&server, "stage").await;
    viewer.receives("video/H264", 30).await;

    let second = Peer::publisher(&server, &source).await;
    let offer = second.offer().await;
    let refused = http::post_sdp(&server, "/whip/stage", Some(&bob), offer.clone()).await;
    http::assert_problem(refused, 409, "room_has_publisher", "another identity").await;
    let goes_on = Instant::now();
    viewer.receives_since("video/H264", 30, Some(goes_on)).await;

    assert_eq!(session.delete(Some(&ann)).await.status(), 200);
    let answer = wait::until("the room is free for another broadcaster", async || {
        let response = http::post_sdp(&server, "/whip/stage", Some(&bob), offer.clone()).await;
        let status = response.status();
        let body = response.text().await.unwrap();
        if status == 201 {
            Ok(body)
        } else {
            Err((status, body))
        }
    })
    .await;
    second.accept(&answer).await;
    second.connected().await;
    let switched = Instant::now();
    viewer
        .receives_since("video/H264", 60, Some(switched))
        .await;
    viewer
        .stream("video/H264")
        .unwrap()
        .assert_continuous(START_BURST);
}
