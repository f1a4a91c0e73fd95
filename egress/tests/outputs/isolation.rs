//! Of several destinations one misbehaves, in every way, and no other loses a frame.

use egress::status::{DestinationState, FailureCode, Job};
use serde_json::json;

use crate::{
    delivery::assert_in_step,
    recordings::{download, ready},
    support::{
        Probe,
        broadcaster::Sends,
        proxy::{Fault, Proxy},
        rtmp_server::RtmpServer,
        secs,
        srt_receiver::{SrtReceiver, free_udp_port},
        stage::Stage,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn whatever_one_destination_does_the_others_lose_no_frame() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let away = RtmpServer::start(&stage.path("away"));
    let proxy = Proxy::start(away.port);
    let port = free_udp_port();
    let receiver = SrtReceiver::start(&stage.path("srt").join("a.ts"), port, "");
    let _broadcaster = stage.broadcast(Sends::obedient());
    let job = stage
        .start(json!([
            {"type": "rtmp", "url": proxy.url(), "key": "faulty"},
            {"type": "rtmp", "url": server.url("live"), "key": "sound"},
            {"type": "srt", "url": format!("srt://127.0.0.1:{port}")},
            {"type": "hls"},
            {"type": "recording"},
        ]))
        .await;
    stage.wait_live(&job).await;
    let table = [
        (Fault::Reset, FailureCode::ClosedByServer),
        (Fault::Close, FailureCode::ClosedByServer),
        (Fault::Stall, FailureCode::Stalled),
    ];
    for (fault, code) in table {
        proxy.set(fault);
        let noticed = |job: &Job| {
            let faulty = &job.destinations[0];
            faulty.state != DestinationState::Live && faulty.code == Some(code)
        };
        let (_, took) = stage.wait_for(&job, secs(20), noticed).await;
        println!("{fault:?} noticed after {took:?}");
        proxy.set(Fault::None);
        let live = |job: &Job| job.destinations[0].state == DestinationState::Live;
        let (_, took) = stage.wait_for(&job, secs(10), live).await;
        println!("live again after {took:?}");
    }
    // Slow answers are no fault: they take their time, and then it is live.
    proxy.set(Fault::Reset);
    let gone = |job: &Job| job.destinations[0].state != DestinationState::Live;
    stage.wait_for(&job, secs(5), gone).await;
    proxy.set(Fault::Slow);
    stage.wait_live(&job).await;
    let (hls, _) = stage.download_hls("hls.mp4").await;
    let ended = stage.end(&job).await;
    assert_eq!(ended.restarts, 0);
    for destination in &ended.destinations[1..] {
        assert_eq!(destination.past_failure, None);
        assert_eq!(destination.dropped_frames, 0);
    }
    let srt = tokio::task::spawn_blocking(|| receiver.finish())
        .await
        .unwrap();
    let recordings = server.recordings();
    assert_eq!(
        recordings.len(),
        1,
        "one session from the beginning to the end"
    );
    let recording = ready(&stage).await;
    assert_eq!(recording.files.len(), 1, "{recording:?}");
    let recording = download(&stage, &recording.files[0].url).await;
    for file in [&recordings[0], &srt, &hls, &recording] {
        let probe = Probe::with_offsets(file);
        assert_in_step(&probe);
        probe.assert_sound(&["aac", "h264"]);
        let (gap, length) = (probe.longest_gap(), probe.length());
        assert!(gap <= 0.05, "a gap of {gap} s in {}", file.display());
        assert!(length > 10.0, "{length} s in {}", file.display());
    }
    assert!(server.error_log().contains("deleteStream"), "no proper end");
    stage.stop().await;
}
