//! From a broadcaster to viewers, over WHIP and WHEP.

use std::net::Ipv6Addr;

use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;

use crate::support::{
    peer::{Peer, START_BURST},
    server::{Server, Setup},
    source::{Source, Video},
    stream::Stream,
    wait,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn h264_and_opus_reach_viewers() {
    reach_viewers(&Server::start(), &Source::h264(), "video/H264").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vp8_and_opus_reach_viewers() {
    reach_viewers(&Server::start(), &Source::vp8(), "video/VP8").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_works_alone() {
    let server = Setup::new().ip(Ipv6Addr::LOCALHOST.into()).start();
    reach_viewers(&server, &Source::h264(), "video/H264").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_packets_are_sent_again() {
    let server = Server::start();
    let source = Source::h264();
    let broadcaster = Peer::publisher(&server, &source).await;
    broadcaster
        .whip(&server, "stage", &server.host("stage"))
        .await;
    let viewer = Peer::lossy_viewer(&server, 50).await;
    viewer.whep(&server, "stage").await;
    let video = wait::until("30 losses in the middle of the stream", async || {
        let video = viewer.stream("video/H264").ok_or(0_usize)?;
        wait::check(
            viewer.lost() >= 30 && video.packets.len() > 300,
            viewer.lost(),
        )
        .map(|()| video)
    })
    .await;
    let resent = server
        .metric("fanlight_rtp_packets_retransmitted_total", "")
        .await;
    assert!(resent >= Some(20.0), "{resent:?} packets were sent again");
    // A retransmission may be lost as well, and the newest ones are still on their way.
    let missing = video.missing();
    assert!(
        missing < 10,
        "{missing} of {} lost packets never came",
        viewer.lost()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sound_alone_and_picture_alone_work() {
    let server = Server::start();
    let sound = Source::start(None, true);
    let radio = Peer::publisher(&server, &sound).await;
    radio.whip(&server, "radio", &server.host("radio")).await;
    let listener = Peer::viewer(&server).await;
    listener.whep(&server, "radio").await;
    let only_listener = Peer::viewer_of(&server, &[RtpCodecKind::Audio]).await;
    only_listener.whep(&server, "radio").await;
    assert_flows(&sound, &listener.receives("audio/opus", 100).await);
    assert_flows(&sound, &only_listener.receives("audio/opus", 50).await);
    assert!(
        listener.stream("video/H264").is_none(),
        "{:?}",
        listener.summary()
    );

    let picture = Source::start(Some(Video::H264), false);
    let silent = Peer::publisher(&server, &picture).await;
    silent.whip(&server, "silent", &server.host("silent")).await;
    let watcher = Peer::viewer(&server).await;
    watcher.whep(&server, "silent").await;
    let stream = watcher.receives("video/H264", 100).await;
    assert_flows(&picture, &stream);
    assert!(stream.starts_with_keyframe());
    assert!(
        watcher.stream("audio/opus").is_none(),
        "{:?}",
        watcher.summary()
    );
}

/// One viewer is there first, one comes in the middle; both must be served faultlessly.
async fn reach_viewers(server: &Server, source: &Source, codec: &str) {
    let host = server.host("stage");
    let early = Peer::viewer(server).await;
    early.whep(server, "stage").await;
    early.connected().await;
    assert_eq!(early.summary(), [], "nobody broadcasts yet");

    let broadcaster = Peer::publisher(server, source).await;
    let session = broadcaster.whip(server, "stage", &host).await;
    early.receives(codec, 60).await;
    early.receives("audio/opus", 60).await;

    // With the broadcaster's own token, as to see what others do.
    let late = Peer::viewer(server).await;
    late.whep_as(server, "stage", &host).await;
    for viewer in [&early, &late] {
        let video = viewer.receives(codec, 100).await;
        let audio = viewer.receives("audio/opus", 100).await;
        assert!(video.starts_with_keyframe(), "{:?}", &video.packets[..5]);
        assert_flows(source, &video);
        assert_flows(source, &audio);
    }
    let viewers = server.metric("fanlight_viewers", "").await;
    assert_eq!(viewers, Some(2.0));

    assert_eq!(session.delete(Some(&host)).await.status(), 200);
    broadcaster.ended().await;
    wait::until("the room has no publisher", async || {
        let publishers = server.metric("fanlight_publishers", "").await;
        wait::check(publishers == Some(0.0), publishers)
    })
    .await;
}

fn assert_flows(source: &Source, stream: &Stream) {
    stream.assert_continuous(START_BURST);
    assert_eq!(stream.missing(), 0, "{} has holes", stream.codec);
    source.assert_reached(stream, stream.packets[0].at);
}
