//! Servers that vanish or stall, workers that hang or die, and restarts.

use std::time::Duration;

use axum::http::StatusCode;
use egress::{
    Config, Scene,
    status::{DestinationState, FailureCode, Job, JobState},
};
use serde_json::json;
use sfu::RoomId;
use tokio::{task::JoinSet, time::sleep};

use crate::support::{
    Probe, broadcaster::Sends, output, rtmp_server::RtmpServer, secs, stage::Stage,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_is_connected_again_and_the_other_does_not_notice() {
    let stage = Stage::new();
    let mut failing = RtmpServer::start(&stage.path("failing"));
    let healthy = RtmpServer::start(&stage.path("healthy"));
    let _broadcaster = stage.broadcast(Sends::default());
    let job = stage
        .start(json!([
            {"type": "rtmp", "url": failing.url("live"), "key": "a"},
            {"type": "rtmp", "url": healthy.url("live"), "key": "b"},
        ]))
        .await;
    stage.wait_live(&job).await;
    stage.plays(&job, 0, 1).await;
    failing.stop();
    let retrying = |job: &Job| job.destinations[0].state == DestinationState::Retrying;
    let (away, noticed) = stage.wait_for(&job, secs(10), retrying).await;
    println!(
        "noticed after {noticed:?}: {:?}",
        away.destinations[0].last_error
    );
    let refused = |job: &Job| job.destinations[0].code == Some(FailureCode::ConnectionRefused);
    stage.wait_for(&job, secs(10), refused).await;
    // Long enough for the pauses between attempts to grow to their most.
    sleep(secs(6)).await;
    failing.resume();
    let (_, back) = stage
        .wait_for(&job, secs(15), |job| {
            job.destinations[0].state == DestinationState::Live
        })
        .await;
    println!("live again after {back:?}");
    assert!(back < Duration::from_millis(2500), "{back:?}");
    stage.plays(&job, 0, 2).await;
    let ended = stage.end(&job).await;
    assert_eq!(ended.restarts, 0);
    assert_eq!(ended.destinations[1].last_error, None);
    assert_eq!(healthy.recordings().len(), 1);
    let probe = Probe::of(&healthy.recordings()[0]);
    probe.assert_sound(&["aac", "h264"]);
    assert!(probe.longest_gap() <= 0.05, "{}", probe.longest_gap());
    Probe::of(failing.recordings().last().unwrap()).assert_sound(&["aac", "h264"]);
    stage.stop().await;
}

fn rtmp_live_again(job: &Job) -> bool {
    job.restarts > 0 && job.destinations[0].state == DestinationState::Live
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_is_replaced() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}]))
        .await;
    let pid = stage.wait_live(&job).await.worker_pid.unwrap().to_string();
    // A young one is given more time.
    sleep(secs(11)).await;
    output("kill", &["-STOP", &pid]);
    let (_, took) = stage.wait_for(&job, secs(4), |job| job.restarts == 1).await;
    println!("worker started again after {took:?}");
    stage.wait_for(&job, secs(4), rtmp_live_again).await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    stage.end(&job).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_go_on_after_a_restart_of_the_server_until_they_are_ended() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let rtmp = json!({"type": "rtmp", "url": server.url("live"), "key": "hush-hush"});
    let job = stage.start(json!([rtmp, {"type": "hls"}])).await;
    let other = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "other"}]))
        .await;
    let before = stage.wait_live(&job).await;
    stage.wait_live(&other).await;
    stage.end(&other).await;
    assert!(server.error_log().contains("deleteStream"), "no proper end");
    sleep(secs(1)).await;

    let stage = stage.restart().await;
    let after = stage.wait_live(&job).await;
    assert_eq!(
        (&after.id, after.created_at_ms),
        (&before.id, before.created_at_ms)
    );
    assert_ne!(after.worker_pid, before.worker_pid);
    let (status, _, _) = stage.request("GET", &other, "").await;
    assert_eq!(
        status,
        StatusCode::NOT_FOUND,
        "an ended one does not come back"
    );
    stage.plays(&job, 0, 2).await;
    stage.end(&job).await;
    let recordings = server.recordings();
    assert_eq!(recordings.len(), 3, "{recordings:?}");
    Probe::of(&recordings[2]).assert_sound(&["aac", "h264"]);

    let stage = stage.restart().await;
    let (status, _, _) = stage.request("GET", &job, "").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "it was ended");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_replaced() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}, {"type": "hls"}]))
        .await;
    let before = stage.wait_live(&job).await;
    stage.plays(&job, 0, 3).await;
    let pid = before.worker_pid.unwrap().to_string();
    output("kill", &["-9", &pid]);
    let (_, took) = stage.wait_for(&job, secs(3), |job| job.restarts == 1).await;
    println!("worker started again after {took:?}");
    let (_, took) = stage.wait_for(&job, secs(3), rtmp_live_again).await;
    println!("live at the RTMP server again after another {took:?}");
    let after = stage.wait_live(&job).await;
    assert_ne!(after.worker_pid, before.worker_pid);
    assert_eq!(after.destinations[0].code, None);
    let past = after.destinations[0].past_failure.as_ref().unwrap();
    assert_eq!(past.code, FailureCode::WorkerDied);
    stage.plays(&job, 1, 3).await;
    let (_, playlist) = stage.download_hls("after.mp4").await;
    assert_eq!(
        playlist.matches("#EXT-X-DISCONTINUITY\n").count(),
        1,
        "{playlist}"
    );
    stage.end(&job).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_reads_nothing_holds_up_nobody() {
    let stage = Stage::new();
    let _broadcaster = stage.broadcast(Sends::default());
    let body = json!({"source": {"type": "stage"}, "destinations": [{"type": "hls"}]}).to_string();
    let (status, _, job) = stage.request("POST", "/api/rooms/room/egress", body).await;
    assert_eq!(status, StatusCode::CREATED, "{job:?}");
    let job: Job = serde_json::from_slice(&job).unwrap();
    let job = format!("/api/rooms/room/egress/{}", job.id);
    let runs = |job: &Job| job.state == JobState::Running;
    let (running, _) = stage.wait_for(&job, secs(10), runs).await;
    output("kill", &["-STOP", &running.worker_pid.unwrap().to_string()]);

    // Far more than its socket takes.
    let service = stage.service.clone();
    let mut storm = JoinSet::new();
    storm.spawn(async move {
        for number in 0_u32.. {
            let mut scene = Scene::default();
            scene.look.title = format!("{number} {}", "much to read ".repeat(50));
            service.stage_changed(RoomId(1), scene);
            sleep(Duration::from_millis(1)).await;
        }
    });
    let again = |job: &Job| job.restarts == 1 && job.state == JobState::Running;
    stage.wait_for(&job, secs(12), again).await;
    storm.abort_all();
    stage.end(&job).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_longer_allowed_does_not_keep_a_job_from_going_on() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let rtmp =
        |application: &str| json!({"type": "rtmp", "url": server.url(application), "key": "k"});
    let job = stage.start(json!([rtmp("live"), rtmp("other")])).await;
    let live = |job: &Job| job.destinations[0].state == DestinationState::Live;
    stage.wait_for(&job, secs(10), live).await;

    let config = Config {
        allow: vec![server.url("live")],
        ..Config::default()
    };
    let stage = stage.restart_with(config).await;
    let (after, _) = stage.wait_for(&job, secs(10), live).await;
    assert_eq!(after.destinations.len(), 1);
    stage.end(&job).await;
    stage.stop().await;
}
