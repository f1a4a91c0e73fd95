//! Destinations come and go while the job runs.

use axum::http::StatusCode;
use egress::status::{DestinationState, Job, JobState};
use serde_json::json;
use tokio::time::sleep;

use crate::support::{Probe, broadcaster::Sends, rtmp_server::RtmpServer, secs, stage::Stage};

#[tokio::test(flavor = "multi_thread")]
async fn destinations_come_and_go_and_the_others_do_not_notice() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let rtmp = |key: &str| json!({"type": "rtmp", "url": server.url("live"), "key": key});
    let job = stage.start(json!([rtmp("a")])).await;
    stage.wait_live(&job).await;
    let added = format!("{job}/destinations");
    let (status, _, body) = stage.request("POST", &added, rtmp("b").to_string()).await;
    assert_eq!(status, StatusCode::CREATED, "{body:?}");
    let (status, _, body) = stage.request("POST", &added, rtmp("b").to_string()).await;
    assert_eq!(status, StatusCode::CONFLICT, "{body:?}");
    assert!(String::from_utf8_lossy(&body).contains("destination_duplicate"));
    let both = |job: &Job| {
        let live = job
            .destinations
            .iter()
            .filter(|d| d.live_since_ms.is_some());
        live.count() == 2
    };
    let (both, took) = stage.wait_for(&job, secs(5), both).await;
    println!("added and live after {took:?}");
    let second = &both.destinations[1];
    assert_eq!(
        (both.destinations[0].id.as_str(), second.id.as_str()),
        ("d1", "d2")
    );

    // Another key: the server sees one session end and another one begin.
    let path = format!("{added}/d2");
    let (status, _, body) = stage.request("PATCH", &path, r#"{"key":"c"}"#).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let third = |job: &Job| {
        let mut found = job.destinations.iter();
        found.any(|d| d.id == "d3" && d.state == DestinationState::Live)
    };
    let (job_now, _) = stage.wait_for(&job, secs(5), third).await;
    assert!(job_now.destinations.iter().all(|d| d.id != "d2"));

    // An HLS output comes and goes as well.
    let change = r#"{"add":[{"type":"hls"}],"remove":["d3"]}"#;
    let (status, _, body) = stage.request("PATCH", &job, change).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let now: Job = serde_json::from_slice(&body).unwrap();
    assert!(now.destinations.iter().all(|d| d.id != "d3"), "{now:?}");
    stage.wait_live(&job).await;
    sleep(secs(3)).await;
    let (hls, _) = stage.download_hls("added.mp4").await;
    Probe::of(&hls).assert_sound(&["aac", "h264"]);
    for (change, expected, says) in [
        (r#"{"key":"d"}"#, 422, "no address"),
        (r#"{"keys":"d"}"#, 400, r#"{\"url\""#),
        ("{}", 200, r#""d4""#),
    ] {
        let path = format!("{added}/d4");
        let (status, _, body) = stage.request("PATCH", &path, change).await;
        let body = String::from_utf8_lossy(&body);
        assert!(
            status == expected && body.contains(says),
            "{change}: {body}"
        );
    }
    let (status, _, _) = stage.request("DELETE", &format!("{added}/d4"), "").await;
    assert_eq!(status, StatusCode::OK);
    let (status, _, _) = stage.request("DELETE", &format!("{added}/d4"), "").await;
    assert_eq!(status, StatusCode::NOT_FOUND);

    // Without the last one there is no job.
    let (status, _, _) = stage.request("DELETE", &format!("{added}/d1"), "").await;
    assert_eq!(status, StatusCode::OK);
    stage
        .wait_for(&job, secs(5), |job| job.state == JobState::Ended)
        .await;
    let recordings = server.recordings();
    assert_eq!(recordings.len(), 3);
    let probe = Probe::of(&recordings[0]);
    probe.assert_sound(&["aac", "h264"]);
    assert!(probe.longest_gap() < 0.1, "{}", probe.longest_gap());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_playlist_may_move_to_an_older_job_and_a_failed_job_be_dismissed() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let older = stage.start(json!([{"type": "recording"}])).await;
    let newer = stage
        .start(json!([{"type": "recording"}, {"type": "hls"}]))
        .await;
    stage.wait_live(&newer).await;
    for (job, change) in [
        (&newer, r#"{"remove":["d2"]}"#),
        (&older, r#"{"add":[{"type":"hls"}]}"#),
    ] {
        let (status, _, body) = stage.request("PATCH", job, change).await;
        assert_eq!(status, StatusCode::OK, "{body:?}");
    }
    stage.wait_live(&older).await;
    let (status, _, playlist) = stage.request("GET", "/hls/room/v0/index.m3u8", "").await;
    assert_eq!(status, StatusCode::OK);
    let playlist = String::from_utf8_lossy(&playlist);
    assert!(!playlist.contains("ENDLIST"), "{playlist}");
    let goes_on = "#EXT-X-DISCONTINUITY-SEQUENCE:0\n";
    let breaks = |playlist: &str| playlist.matches("#EXT-X-DISCONTINUITY\n").count();
    assert!(playlist.contains(goes_on), "{playlist}");
    assert_eq!(breaks(&playlist), 1, "{playlist}");

    // Another destination in the same job: the playlist goes on.
    let change = r#"{"remove":["d2"],"add":[{"type":"hls"}]}"#;
    let (status, _, body) = stage.request("PATCH", &older, change).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let third = |job: &Job| {
        let mut found = job.destinations.iter();
        found.any(|d| d.id == "d3" && d.state == DestinationState::Live)
    };
    stage.wait_for(&older, secs(20), third).await;
    let (_, playlist) = stage.download_hls("third.mp4").await;
    assert!(playlist.contains(goes_on), "{playlist}");
    assert_eq!(breaks(&playlist), 2, "{playlist}");
    assert!(!playlist.contains("ENDLIST"), "{playlist}");

    let wrong = json!([{"type": "rtmp", "url": server.url("nowhere"), "key": "k"}]);
    let wrong = stage.start(wrong).await;
    let failed = |job: &Job| job.state == JobState::Failed;
    stage.wait_for(&wrong, secs(15), failed).await;
    let (status, _, _) = stage.request("DELETE", &wrong, "").await;
    assert_eq!(status, StatusCode::OK);
    let (status, _, _) = stage.request("GET", &wrong, "").await;
    assert_eq!(status, StatusCode::NOT_FOUND, "it is still listed");
    stage.stop().await;
}
