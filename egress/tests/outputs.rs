//! Real workers send a real stream to a real RTMP server and to HLS.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, in its helpers too"
)]

mod support;

use std::time::Duration;

use axum::http::StatusCode;
use egress::{
    Config,
    status::{DestinationState, DestinationType, FailureCode, Job, JobState},
};
use serde_json::json;
use support::{
    Probe,
    broadcaster::{Sends, media_file},
    rtmp_server::{RtmpServer, StallingProxy, free_port},
    stage::Stage,
    tls_front::TlsFront,
};
use tokio::time::sleep;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test(flavor = "multi_thread")]
async fn rtmp_and_hls_carry_the_broadcast() {
    let mut stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "secret-key"}, {"type": "hls"}]))
        .await;
    stage.wait_live(&job).await;
    sleep(secs(10)).await;
    let during = stage.job(&job).await;
    assert!(during.receiving);
    let rtmp = &during.destinations[0];
    assert!(rtmp.frames > 250 && rtmp.dropped_frames == 0, "{rtmp:?}");
    assert!(rtmp.bitrate_bps > 100_000, "{rtmp:?}");
    assert!(!format!("{during:?}").contains("secret-key"));
    let live = (DestinationType::Rtmp, DestinationState::Live, 1);
    assert!(stage.service.gauges().contains(&live));
    let mut last_event = None;
    while let Ok(event) = stage.events.try_recv() {
        last_event = Some(event);
    }
    let told = last_event.unwrap();
    assert!(
        told.hls && told.jobs[0].destinations[0].state == DestinationState::Live,
        "{told:?}"
    );

    assert_hls_headers(&stage).await;
    let (hls, playlist) = stage.download_hls("live.mp4").await;
    assert!(
        !playlist.contains("DISCONTINUITY\n") && !playlist.contains("ENDLIST"),
        "{playlist}"
    );
    let probe = Probe::with_offsets(&hls);
    probe.assert_sound(&["aac", "h264"]);
    assert_in_step(&probe);
    assert!(probe.longest_gap() < 0.1, "{}", probe.longest_gap());

    let ended = stage.end(&job).await;
    assert_eq!(ended.state, JobState::Ended);
    assert_eq!(ended.restarts, 0);
    let (_, playlist) = stage.download_hls("ended.mp4").await;
    assert!(playlist.ends_with("#EXT-X-ENDLIST\n"));
    assert!(server.error_log().contains("deleteStream"), "no proper end");
    let recordings = server.recordings();
    assert_eq!(recordings.len(), 1);
    let probe = Probe::with_offsets(&recordings[0]);
    probe.assert_sound(&["aac", "h264"]);
    assert!(probe.length() > 9.5, "{}", probe.length());
    assert!(probe.longest_gap() < 0.1, "{}", probe.longest_gap());
    assert_in_step(&probe);
    stage.stop().await;
}

async fn assert_hls_headers(stage: &Stage) {
    let (_, _, playlist) = stage.request("GET", "/hls/room/v0/index.m3u8", "").await;
    let playlist = String::from_utf8(playlist.to_vec()).unwrap();
    let mut lines = playlist.lines();
    let segment = lines.find(|line| line.starts_with("seg-")).unwrap();
    let init = playlist.split('"').nth(1).unwrap();
    let (short, long) = ("public, max-age=1", "public, max-age=86400, immutable");
    let table = [
        ("../index.m3u8", "application/vnd.apple.mpegurl", short),
        ("index.m3u8", "application/vnd.apple.mpegurl", short),
        (init, "video/mp4", long),
        (segment, "video/iso.segment", long),
    ];
    for (file, media_type, cache) in table {
        let path = match file.strip_prefix("../") {
            Some(file) => format!("/hls/room/{file}"),
            None => format!("/hls/room/v0/{file}"),
        };
        let (status, headers, body) = stage.request("HEAD", &path, "").await;
        assert_eq!((status, body.len()), (StatusCode::OK, 0), "{file}");
        assert_eq!(headers["content-type"], media_type);
        assert_eq!(headers["cache-control"], cache);
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert!(headers.contains_key("etag"));
    }
}

fn assert_in_step(probe: &Probe) {
    assert!(probe.offsets.len() >= 3, "{:?}", probe.offsets);
    // A busy machine delays single beeps.
    let mut sizes: Vec<f64> = probe.offsets.iter().map(|offset| offset.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    assert!(sizes[sizes.len() / 2] < 0.06, "{:?}", probe.offsets);
    println!("sound behind picture, s: {:?}", probe.offsets);
}

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
    sleep(secs(2)).await;
    failing.stop();
    let retrying = |job: &Job| job.destinations[0].state == DestinationState::Retrying;
    let (away, noticed) = stage.wait_for(&job, secs(10), retrying).await;
    println!(
        "noticed after {noticed:?}: {:?}",
        away.destinations[0].last_error
    );
    let refused = |job: &Job| job.destinations[0].code == Some(FailureCode::ConnectionRefused);
    stage.wait_for(&job, secs(10), refused).await;
    sleep(secs(2)).await;
    failing.resume();
    let (_, back) = stage
        .wait_for(&job, secs(15), |job| {
            job.destinations[0].state == DestinationState::Live
        })
        .await;
    println!("live again after {back:?}");
    sleep(secs(2)).await;
    let ended = stage.end(&job).await;
    assert_eq!(ended.restarts, 0);
    assert_eq!(ended.destinations[1].last_error, None);
    assert_eq!(healthy.recordings().len(), 1);
    let probe = Probe::of(&healthy.recordings()[0]);
    probe.assert_sound(&["aac", "h264"]);
    assert!(probe.longest_gap() < 0.1, "{}", probe.longest_gap());
    Probe::of(failing.recordings().last().unwrap()).assert_sound(&["aac", "h264"]);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_server_is_said_within_ten_seconds() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let closed = free_port();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = listener.local_addr().unwrap().port();
    let _broadcaster = stage.broadcast(Sends::default());
    let table = [
        (
            format!("rtmp://127.0.0.1:{closed}/live"),
            FailureCode::ConnectionRefused,
        ),
        (
            "rtmp://nosuch.invalid/live".to_owned(),
            FailureCode::HostNotFound,
        ),
        (server.url("deny"), FailureCode::Rejected),
        (server.url("nosuch"), FailureCode::Rejected),
        (
            format!("rtmp://127.0.0.1:{mute}/live"),
            FailureCode::Timeout,
        ),
        (
            format!("rtmps://127.0.0.1:{}/live", server.port),
            FailureCode::Timeout,
        ),
    ];
    let destinations: Vec<_> = table
        .iter()
        .map(|(url, _)| json!({"type": "rtmp", "url": url, "key": "hush-hush"}))
        .collect();
    let job = stage.start(json!(destinations)).await;
    let all_said = |job: &Job| job.destinations.iter().all(|d| d.code.is_some());
    let (job, took) = stage.wait_for(&job, secs(10), all_said).await;
    println!("all said after {took:?}");
    for (destination, (url, code)) in job.destinations.iter().zip(&table) {
        println!("{url}: {:?}", destination.last_error);
        assert_eq!(destination.code, Some(*code), "{url}");
        let given_up =
            destination.state == DestinationState::Failed && *code == FailureCode::Rejected;
        assert!(
            given_up || destination.state == DestinationState::Retrying,
            "{url}"
        );
        assert!(!destination.last_error.as_ref().unwrap().contains("hush"));
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codec_that_outputs_do_not_take_is_said() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let silent = Sends {
        no_video: true,
        ..Sends::default()
    };
    let _sound = stage.broadcast(silent);
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}, {"type": "hls"}]))
        .await;
    let program = stage.program.clone();
    let failed = |job: &Job| {
        program.refuse(sfu::Codec::Vp9);
        job.state == JobState::Failed
    };
    let (job, _) = stage.wait_for(&job, secs(15), failed).await;
    for destination in &job.destinations {
        assert_eq!(destination.code, Some(FailureCode::CodecUnsupported));
        assert_eq!(destination.state, DestinationState::Failed);
        let said = destination.last_error.as_ref().unwrap();
        assert!(said.contains("VP9") && said.contains("H.264"), "{said}");
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stalls_is_connected_anew() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let proxy = StallingProxy::start(server.port);
    let large = Sends {
        large: true,
        ..Sends::default()
    };
    let _broadcaster = stage.broadcast(large);
    let stalling = format!("rtmp://127.0.0.1:{}/live", proxy.port);
    let job = stage
        .start(json!([
            {"type": "rtmp", "url": stalling, "key": "a"},
            {"type": "rtmp", "url": server.url("live"), "key": "b"},
        ]))
        .await;
    stage.wait_live(&job).await;
    proxy.set_stalled(true);
    let stalled = |job: &Job| job.destinations[0].code == Some(FailureCode::Stalled);
    let (_, took) = stage.wait_for(&job, secs(25), stalled).await;
    println!("stall noticed after {took:?}");
    proxy.set_stalled(false);
    let live = stage.wait_live(&job).await;
    assert_eq!(live.destinations[1].last_error, None);
    stage.end(&job).await;
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
    support::output("kill", &["-STOP", &pid]);
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
    sleep(secs(2)).await;
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
async fn counters_follow_what_the_server_acknowledges() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let large = Sends {
        large: true,
        ..Sends::default()
    };
    let _broadcaster = stage.broadcast(large);
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}]))
        .await;
    stage.wait_live(&job).await;
    sleep(secs(5)).await;
    let destination = stage.job(&job).await.destinations[0].clone();
    println!("{destination:?}");
    let unacknowledged = destination.bytes - destination.acknowledged_bytes;
    assert!(destination.acknowledged_bytes > 0, "{destination:?}");
    assert!(unacknowledged < 1 << 20, "{destination:?}");
    assert!(destination.delay_ms < 1500, "{destination:?}");
    let ended = stage.end(&job).await;
    let size = std::fs::metadata(&server.recordings()[0]).unwrap().len();
    let sent = ended.destinations[0].bytes;
    assert!(
        sent.abs_diff(size) < size / 50,
        "sent {sent}, recorded {size}"
    );
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_ones_own_certificate_authority_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let (front, other) = (
        TlsFront::make(directory.path()),
        tempfile::tempdir().unwrap(),
    );
    let stage = Stage::with_config(Config {
        tls_ca_file: Some(front.ca_file()),
        ..Config::default()
    });
    let server = RtmpServer::start(&stage.path("server"));
    let port = front.serve(server.port);
    let stranger = TlsFront::make(other.path()).serve(server.port);
    let _broadcaster = stage.broadcast(Sends::default());
    let rtmps = |port: u16, key: &str| json!({"type": "rtmp", "url": format!("rtmps://127.0.0.1:{port}/live"), "key": key});
    let job = stage
        .start(json!([rtmps(port, "a"), rtmps(stranger, "b")]))
        .await;
    let settled = |job: &Job| {
        job.destinations[0].state == DestinationState::Live
            && job.destinations[1].code == Some(FailureCode::TlsFailed)
    };
    let (settled, _) = stage.wait_for(&job, secs(10), settled).await;
    println!("{:?}", settled.destinations[1].last_error);
    sleep(secs(3)).await;
    stage.end(&job).await;
    assert_eq!(server.recordings().len(), 1);
    Probe::of(&server.recordings()[0]).assert_sound(&["aac", "h264"]);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_an_idempotency_key_starts_one_job() {
    let stage = Stage::new();
    let request = |key: &str, body: &str| {
        let request = axum::http::Request::builder();
        let request = request.method("POST").uri("/api/rooms/room/egress");
        let request = request.header("content-type", "application/json; charset=utf-8");
        let request = request.header("idempotency-key", key);
        request
            .body(axum::body::Body::from(body.to_owned()))
            .unwrap()
    };
    let body = r#"{"destinations":[{"type":"hls"}]}"#;
    let (one, two) = tokio::join!(
        stage.send(request("x", body)),
        stage.send(request("x", body))
    );
    assert_eq!((one.0, two.0), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(one.1["location"], two.1["location"]);
    let replayed = [&one.1, &two.1].map(|headers| headers.contains_key("idempotent-replayed"));
    assert!(replayed == [false, true] || replayed == [true, false]);
    let stage = stage.restart().await;
    sleep(secs(1)).await;
    let again = stage.send(request("x", body)).await;
    assert_eq!(
        again.1["location"], one.1["location"],
        "after a restart, too"
    );
    let other = r#"{"destinations":[{"type":"rtmp","url":"rtmp://h/a","key":"k"}]}"#;
    let (status, _, problem) = stage.send(request("x", other)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(String::from_utf8_lossy(&problem).contains("idempotency_key_reused"));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_with_what_is_free() {
    let stage = Stage::with_config(Config {
        max_jobs_per_room: 1,
        ..Config::default()
    });
    stage.start(json!([{"type": "hls"}])).await;
    let body = r#"{"destinations":[{"type":"rtmp","url":"rtmp://127.0.0.1:1/a","key":"k"}]}"#;
    let (status, _, problem) = stage.request("POST", "/api/rooms/room/egress", body).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
    assert_eq!(problem["code"], "egress_capacity");
    assert_eq!(problem["free"]["jobs_in_room"], 0);
    assert_eq!(problem["free"]["jobs"], 7);
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
    sleep(secs(3)).await;
    let pid = before.worker_pid.unwrap().to_string();
    support::output("kill", &["-9", &pid]);
    let (_, took) = stage.wait_for(&job, secs(3), |job| job.restarts == 1).await;
    println!("worker started again after {took:?}");
    let (_, took) = stage.wait_for(&job, secs(3), rtmp_live_again).await;
    println!("live at the RTMP server again after another {took:?}");
    let after = stage.wait_live(&job).await;
    assert_ne!(after.worker_pid, before.worker_pid);
    assert_eq!(after.destinations[0].code, None);
    let past = after.destinations[0].past_failure.as_ref().unwrap();
    assert_eq!(past.code, FailureCode::WorkerDied);
    sleep(secs(3)).await;
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
async fn a_broadcaster_who_reloads_keeps_the_session_and_the_playlist() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let first = stage.broadcast(Sends::default());
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}, {"type": "hls"}]))
        .await;
    stage.wait_live(&job).await;
    sleep(secs(4)).await;
    drop(first);
    sleep(secs(5)).await;
    assert!(!stage.job(&job).await.receiving);
    let _second = stage.broadcast(Sends::default());
    sleep(secs(6)).await;
    let (hls, playlist) = stage.download_hls("all.mp4").await;
    assert!(!playlist.contains("DISCONTINUITY\n"), "{playlist}");
    Probe::of(&hls).assert_sound(&["aac", "h264"]);
    let job = stage.end(&job).await;
    assert_eq!(job.destinations[0].last_error, None);
    assert_eq!(server.recordings().len(), 1);
    let probe = Probe::with_offsets(&server.recordings()[0]);
    probe.assert_sound(&["aac", "h264"]);
    assert_in_step(&probe);
    assert!(probe.length() > 14.0, "{}", probe.length());
    assert!(probe.longest_gap() < 2.0, "{}", probe.longest_gap());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_resolution_and_another_codec_reach_the_same_session() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let large = Sends {
        large: true,
        ..Sends::default()
    };
    let vp8 = Sends {
        vp8: true,
        ..Sends::default()
    };
    media_file(large);
    media_file(vp8);
    let first = stage.broadcast(Sends::default());
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}, {"type": "hls"}]))
        .await;
    stage.wait_live(&job).await;
    sleep(secs(3)).await;
    drop(first);
    let second = stage.broadcast(large);
    sleep(secs(5)).await;
    drop(second);
    let _third = stage.broadcast(vp8);
    sleep(secs(6)).await;
    let (_, playlist) = stage.download_hls("all.mp4").await;
    assert_eq!(playlist.matches("#EXT-X-MAP").count(), 3, "{playlist}");
    assert_eq!(
        playlist.matches("#EXT-X-DISCONTINUITY\n").count(),
        2,
        "{playlist}"
    );
    let ended = stage.end(&job).await;
    assert_eq!(ended.destinations[0].last_error, None);
    assert_eq!(server.recordings().len(), 1);
    let recording = &server.recordings()[0];
    Probe::of(recording).assert_sound(&["aac", "h264"]);
    let frames = support::output(
        "ffprobe",
        &[
            "-v",
            "error",
            "-select_streams",
            "v",
            "-show_entries",
            "frame=width",
            "-of",
            "csv=p=0",
            recording.to_str().unwrap(),
        ],
    );
    let widths = frames.lines().map(|line| line.trim_matches(','));
    let mut widths: Vec<_> = widths.filter(|width| !width.is_empty()).collect();
    widths.dedup();
    assert_eq!(widths, ["640", "1280", "640"]);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_broadcast_arrives() {
    let kinds = [
        (
            "VP8",
            Sends {
                vp8: true,
                ..Sends::default()
            },
            &["aac", "h264"][..],
        ),
        (
            "sound only",
            Sends {
                no_video: true,
                ..Sends::default()
            },
            &["aac"][..],
        ),
        (
            "picture only",
            Sends {
                no_audio: true,
                ..Sends::default()
            },
            &["aac", "h264"][..],
        ),
    ];
    for (label, sends, codecs) in kinds {
        println!("{label}");
        let stage = Stage::new();
        let server = RtmpServer::start(&stage.path("server"));
        let _broadcaster = stage.broadcast(sends);
        let job = stage
            .start(
                json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}, {"type": "hls"}]),
            )
            .await;
        stage.wait_live(&job).await;
        sleep(secs(5)).await;
        let (hls, _) = stage.download_hls("all.mp4").await;
        Probe::of(&hls).assert_sound(codecs);
        stage.end(&job).await;
        let probe = Probe::of(&server.recordings()[0]);
        probe.assert_sound(codecs);
        assert!(probe.length() > 4.0, "{label}: {}", probe.length());
        stage.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_get_their_code() {
    let stage = Stage::new();
    let jobs = "/api/rooms/room/egress";
    let rtmp = |url: &str, key: &str| {
        json!({"destinations": [{"type": "rtmp", "url": url, "key": key}]}).to_string()
    };
    let many = json!({"destinations": vec![json!({"type": "hls"}); 17]}).to_string();
    let table = [
        ("POST", jobs, "{".to_owned(), 400, "bad_request"),
        (
            "POST",
            jobs,
            r#"{"destinations":[{"type":"ftp"}]}"#.to_owned(),
            400,
            "bad_request",
        ),
        (
            "POST",
            jobs,
            format!("\"{}\"", "x".repeat(70_000)),
            413,
            "body_too_large",
        ),
        (
            "POST",
            jobs,
            r#"{"destinations":[]}"#.to_owned(),
            422,
            "destinations_empty",
        ),
        ("POST", jobs, many, 422, "destinations_too_many"),
        (
            "POST",
            jobs,
            rtmp("http://host/app", "k"),
            422,
            "destination_url_invalid",
        ),
        (
            "POST",
            jobs,
            rtmp("rtmp://host/app", ""),
            422,
            "destination_key_invalid",
        ),
        ("PUT", jobs, String::new(), 405, "method_not_allowed"),
        (
            "GET",
            "/api/rooms/room/egress/eg_0",
            String::new(),
            404,
            "egress_unknown",
        ),
        (
            "DELETE",
            "/api/rooms/room/egress/eg_0",
            String::new(),
            404,
            "egress_unknown",
        ),
        (
            "GET",
            "/hls/room/index.m3u8",
            String::new(),
            404,
            "hls_unknown",
        ),
        (
            "GET",
            "/hls/room/seg-0.m4s",
            String::new(),
            404,
            "hls_unknown",
        ),
    ];
    for (method, path, body, status, code) in table {
        let (found, headers, body) = stage.request(method, path, body).await;
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(found.as_u16(), status, "{method} {path}: {problem}");
        assert_eq!(problem["code"], code);
        assert_eq!(headers["content-type"], "application/problem+json");
    }
    for media_type in ["text/plain", "application/x-www-form-urlencoded"] {
        let request = axum::http::Request::builder().method("POST").uri(jobs);
        let request = request.header("content-type", media_type);
        let (status, _, body) = stage.send(request.body("{}".into()).unwrap()).await;
        assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert!(String::from_utf8_lossy(&body).contains("unsupported_media_type"));
    }
    let hls = json!({"destinations": [{"type": "hls"}]}).to_string();
    assert_eq!(
        stage.request("POST", jobs, hls.clone()).await.0,
        StatusCode::CREATED
    );
    assert_eq!(
        stage.request("POST", jobs, hls).await.0,
        StatusCode::CONFLICT
    );
    stage.stop().await;
}

/// `cargo test -p egress --release --test outputs -- --ignored --nocapture worker_cost`
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn worker_cost_of_passing_720p30_through() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let large = Sends {
        large: true,
        ..Sends::default()
    };
    for destinations in [1, 4] {
        // Its file lasts for one round.
        let _broadcaster = stage.broadcast(large);
        let rtmp = |i| json!({"type": "rtmp", "url": server.url("live"), "key": format!("k{i}")});
        let list: Vec<_> = (0..destinations).map(rtmp).collect();
        let started = std::time::Instant::now();
        let job = stage.start(json!(list)).await;
        let (_, took) = stage
            .wait_for(&job, secs(9), |job| job.destinations[0].bytes > 0)
            .await;
        println!(
            "first byte after {took:?}, {:?} since the request",
            started.elapsed()
        );
        let pid = stage.wait_live(&job).await.worker_pid.unwrap();
        sleep(secs(2)).await;
        let before = ProcessCost::of(pid);
        let bytes = stage.job(&job).await.destinations[0].bytes;
        sleep(secs(20)).await;
        let after = ProcessCost::of(pid);
        let bytes = stage.job(&job).await.destinations[0].bytes - bytes;
        stage.end(&job).await;
        println!(
            "worker, 720p30 H.264 at {} kbit/s to {destinations} RTMP destinations: {:.1} % of a core, {} MB",
            bytes * 8 / 1000 / 20,
            (after.ticks - before.ticks) as f64 / 20.0,
            after.resident_kb / 1024
        );
    }
    stage.stop().await;
}

struct ProcessCost {
    /// User and system time, in 1/100 s.
    ticks: u64,
    resident_kb: u64,
}

impl ProcessCost {
    fn of(pid: u32) -> Self {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let stat = read("stat");
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let fields: Vec<_> = fields.split_whitespace().collect();
        let number = |text: &str| text.parse::<u64>().unwrap();
        let status = read("status");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Self {
            ticks: number(fields[11]) + number(fields[12]),
            resident_kb: number(resident.unwrap().trim().trim_end_matches(" kB")),
        }
    }
}
