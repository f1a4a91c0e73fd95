//! What arrives is whole: every kind of broadcast, at RTMP and HLS.

use axum::http::{HeaderValue, Request, StatusCode};
use egress::{
    Config,
    status::{DestinationState, DestinationType, FailureCode, Job, JobState},
};
use serde_json::json;
use tokio::time::sleep;

use crate::support::{
    Probe, broadcaster::Sends, rtmp_server::RtmpServer, secs, stage::Stage, tls_front::TlsFront,
};

#[tokio::test(flavor = "multi_thread")]
async fn rtmp_and_hls_carry_the_broadcast() {
    let mut stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "secret-key"}, {"type": "hls"}]))
        .await;
    stage.wait_live(&job).await;
    let during = stage.plays(&job, 0, 8).await;
    assert!(during.receiving);
    let rtmp = &during.destinations[0];
    assert!(rtmp.frames >= 240 && rtmp.dropped_frames == 0, "{rtmp:?}");
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
    assert!(probe.longest_gap() <= 0.05, "{}", probe.longest_gap());

    let ended = stage.end(&job).await;
    assert_eq!(ended.state, JobState::Ended);
    assert_eq!(ended.restarts, 0);
    let (kind, state, _) = live;
    assert!(stage.service.gauges().contains(&(kind, state, 0)));
    let (_, playlist) = stage.download_hls("ended.mp4").await;
    assert!(playlist.ends_with("#EXT-X-ENDLIST\n"));
    assert!(server.error_log().contains("deleteStream"), "no proper end");
    let recordings = server.recordings();
    assert_eq!(recordings.len(), 1);
    let probe = Probe::with_offsets(&recordings[0]);
    probe.assert_sound(&["aac", "h264"]);
    assert!(probe.length() > 7.5, "{}", probe.length());
    assert!(probe.longest_gap() <= 0.05, "{}", probe.longest_gap());
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
        for known in [headers["etag"].clone(), HeaderValue::from_static("*")] {
            let request = Request::get(&path).header("if-none-match", known);
            let (status, _, _) = stage.send(request.body("".into()).unwrap()).await;
            // A playlist may have grown meanwhile.
            let is_grown = status == StatusCode::OK && file == "index.m3u8";
            assert!(status == StatusCode::NOT_MODIFIED || is_grown, "{file}");
        }
    }
}

pub(crate) fn assert_in_step(probe: &Probe) {
    assert!(probe.offsets.len() >= 3, "{:?}", probe.offsets);
    // A busy machine delays single beeps.
    let mut sizes: Vec<f64> = probe.offsets.iter().map(|offset| offset.abs()).collect();
    sizes.sort_by(f64::total_cmp);
    assert!(sizes[sizes.len() / 2] <= 0.04, "{:?}", probe.offsets);
    println!("sound behind picture, s: {:?}", probe.offsets);
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
    let playing = stage.plays(&job, 0, 4).await;
    let destination = playing.destinations[0].clone();
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
    stage.plays(&job, 0, 2).await;
    stage.end(&job).await;
    assert_eq!(server.recordings().len(), 1);
    Probe::of(&server.recordings()[0]).assert_sound(&["aac", "h264"]);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_broadcast_arrives() {
    let kinds = [
        (
            "VP8",
            Sends {
                codec: Some(sfu::Codec::Vp8),
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
