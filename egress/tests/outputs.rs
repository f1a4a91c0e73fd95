//! Real workers send a real stream to a real RTMP server and to HLS.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, in its helpers too"
)]

mod support;

use std::{sync::atomic::Ordering, time::Duration};

use axum::http::StatusCode;
use egress::status::{DestinationState, DestinationType, FailureCode, Job, JobState};
use serde_json::json;
use support::{
    Probe,
    broadcaster::{Sends, media_file},
    rtmp_server::{RtmpServer, StallingProxy, free_port},
    stage::Stage,
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
    assert!(stage.program.keyframe_requests.load(Ordering::Relaxed) > 0);

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
    let (_, _, playlist) = stage.request("GET", "/hls/room/index.m3u8", "").await;
    let playlist = String::from_utf8(playlist.to_vec()).unwrap();
    let segment = playlist.lines().last().unwrap();
    let init = playlist.split('"').nth(1).unwrap();
    let table = [
        ("index.m3u8", "application/vnd.apple.mpegurl", "no-cache"),
        (init, "video/mp4", "public, max-age=3600, immutable"),
        (
            segment,
            "video/iso.segment",
            "public, max-age=3600, immutable",
        ),
    ];
    for (file, media_type, cache) in table {
        let path = format!("/hls/room/{file}");
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
    for offset in &probe.offsets {
        assert!(offset.abs() < 0.1, "{:?}", probe.offsets);
    }
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
        assert_eq!(destination.state, DestinationState::Retrying, "{url}");
        assert!(!destination.last_error.as_ref().unwrap().contains("hush"));
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
    let after = stage.wait_live(&job).await;
    assert_ne!(after.worker_pid, before.worker_pid);
    assert_eq!(after.destinations[0].code, Some(FailureCode::WorkerDied));
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
    let _broadcaster = stage.broadcast(large);
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}]))
        .await;
    let pid = stage.wait_live(&job).await.worker_pid.unwrap();
    sleep(secs(2)).await;
    let before = ProcessCost::of(pid);
    sleep(secs(20)).await;
    let after = ProcessCost::of(pid);
    let job = stage.end(&job).await;
    println!(
        "worker, 720p30 H.264 to one RTMP destination at {} kbit/s: {:.1} % of a core, {} MB resident",
        job.destinations[0].bytes * 8 / 1000 / 23,
        (after.ticks - before.ticks) as f64 / 20.0,
        after.resident_kb / 1024
    );
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
