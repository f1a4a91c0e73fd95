//! What the API answers.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use egress::{
    Config, Scene, Sources as _, Tile,
    status::{DestinationState, Job},
};
use serde_json::{Value, json};
use sfu::{Codec, RoomId};
use tokio::time::sleep;

use crate::support::{
    broadcaster::{Sends, media_file},
    rtmp_server::RtmpServer,
    secs,
    stage::Stage,
};

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
        max_jobs: 8,
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
async fn what_needs_more_processor_time_than_there_is_is_refused() {
    let stage = Stage::with_config(Config {
        max_cpu_percent: 12,
        ..Config::default()
    });
    let jobs = "/api/rooms/room/egress";
    let composed = json!({"source": {"type": "stage"}, "destinations": [{"type": "hls"}]});
    let (status, problem) = refusal(&stage, "POST", jobs, &composed).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(problem["free"]["cpu_percent"], 12);
    assert_eq!(problem["needed"]["cpu_percent"], 49);
    assert_eq!(problem["instead"], Value::Null, "the stage is composed");
    // One picture need not be.
    let one = json!({"preset": "720p30", "destinations": [{"type": "hls"}]});
    let (_, problem) = refusal(&stage, "POST", jobs, &one).await;
    let through = json!({"preset": "pass_through", "cpu_percent": 6});
    assert_eq!(problem["instead"], through);
    let detail = problem["detail"].as_str().unwrap();
    for said in ["49 %", "12 %", "“pass_through” (6 %)"] {
        assert!(detail.contains(said), "{detail}");
    }
    let job = stage.start(json!([{"type": "hls"}])).await;
    let rtmp =
        |n: usize| json!({"type": "rtmp", "url": "rtmp://127.0.0.1:1/a", "key": n.to_string()});
    let seven = json!({"add": (0..7).map(rtmp).collect::<Vec<_>>()});
    let (status, problem) = refusal(&stage, "PATCH", &job, &seven).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let free = &problem["free"]["cpu_percent"];
    assert!(free.as_u64().unwrap() <= 6, "{problem}");
    assert_eq!(problem["instead"], Value::Null, "{problem}");
    let destinations = stage.job(&job).await.destinations.len();
    assert_eq!(destinations, 1, "nothing of it happened");
    // A worker that starts takes more than it does later.
    let started = Instant::now();
    let one = json!({"add": [rtmp(0)]}).to_string();
    while stage.request("PATCH", &job, one.clone()).await.0 != StatusCode::OK {
        assert!(started.elapsed() < secs(20), "one more never fits");
        sleep(Duration::from_millis(100)).await;
    }
    let added = |job: &Job| job.destinations.len() == 2;
    stage.wait_for(&job, secs(5), added).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_outputs_of_a_room_send_to_one_place_with_one_key() {
    let stage = Stage::new();
    let jobs = "/api/rooms/room/egress";
    let rtmp = |key: &str| json!({"type": "rtmp", "url": "rtmp://127.0.0.1:1/app", "key": key});
    let srt = |latency: u32, stream: &str| json!({"type": "srt", "url": "srt://127.0.0.1:1", "stream_id": stream, "latency_ms": latency});
    let first = stage
        .start(json!([rtmp("hush-a"), srt(200, "hush-s")]))
        .await;
    let refused = async |method: &str, path: &str, body: Value| {
        let (status, _, problem) = stage.request(method, path, body.to_string()).await;
        let problem: Value = serde_json::from_slice(&problem).unwrap();
        assert_eq!(status, StatusCode::CONFLICT, "{body}: {problem}");
        assert_eq!(problem["code"], "destination_duplicate");
        let detail = problem["detail"].as_str().unwrap();
        assert!(!detail.contains("hush"), "{detail}");
        detail.to_owned()
    };
    let detail = refused(
        "POST",
        jobs,
        json!({"destinations": [{"type": "hls"}, rtmp("hush-a")]}),
    )
    .await;
    let id = first.rsplit('/').next().unwrap();
    assert!(
        detail.contains("Destination 2") && detail.contains(id),
        "{detail}"
    );
    refused("POST", jobs, json!({"destinations": [srt(300, "hush-s")]})).await;
    // Also within one.
    let twice = json!({"destinations": [srt(200, "hush-t"), srt(300, "hush-t")]});
    refused("POST", jobs, twice).await;
    let second = stage
        .start(json!([rtmp("hush-b"), srt(200, "hush-t")]))
        .await;
    refused("PATCH", &second, json!({"add": [rtmp("hush-a")]})).await;
    let readdressed = format!("{second}/destinations/d1");
    refused("PATCH", &readdressed, json!({"key": "hush-a"})).await;
    let added = format!("{second}/destinations");
    refused("POST", &added, rtmp("hush-a")).await;
    assert_eq!(
        stage.job(&second).await.destinations.len(),
        2,
        "nothing of it happened"
    );
    // What another one does not send any more is free.
    let change = json!({"remove": ["d1"]}).to_string();
    let (status, _, _) = stage.request("PATCH", &first, change).await;
    assert_eq!(status, StatusCode::OK);
    let (status, _, _) = stage
        .request("POST", &added, rtmp("hush-a").to_string())
        .await;
    assert_eq!(status, StatusCode::CREATED);
    stage.end(&second).await;
    stage.start(json!([rtmp("hush-a")])).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_is_free_for_another_output() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let denied = json!({"type": "rtmp", "url": server.url("deny"), "key": "k"});
    let first = stage.start(json!([{"type": "hls"}, denied])).await;
    let given_up = |job: &Job| job.destinations[1].state == DestinationState::Failed;
    stage.wait_for(&first, secs(20), given_up).await;
    let second = stage.start(json!([denied])).await;
    // It is not tried again beside that one.
    let (status, _, problem) = stage.request("PATCH", &first, r#"{"retry": ["d2"]}"#).await;
    let problem: Value = serde_json::from_slice(&problem).unwrap();
    assert_eq!(status, StatusCode::CONFLICT, "{problem}");
    assert_eq!(problem["code"], "destination_duplicate");
    stage.end(&second).await;
    let (status, _, _) = stage.request("PATCH", &first, r#"{"retry": ["d2"]}"#).await;
    assert_eq!(status, StatusCode::OK);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_transcoded_or_recorded_apart_is_weighed_as_such() {
    let stage = Stage::with_config(Config {
        max_cpu_percent: 20,
        ..Config::default()
    });
    let jobs = "/api/rooms/room/egress";
    let tile = |lane: u32| Tile {
        video: Some(lane),
        audio: vec![lane + 100],
        ..Tile::default()
    };
    let three = Scene {
        tiles: (1..=3).map(tile).collect(),
        ..Scene::default()
    };
    stage.service.stage_changed(RoomId(1), three);
    let tracks = json!({"destinations": [{"type": "recording", "tracks": true}]});
    let (_, problem) = refusal(&stage, "POST", jobs, &tracks).await;
    assert_eq!(problem["needed"]["cpu_percent"], 21, "{problem}");
    stage.service.stage_changed(RoomId(1), Scene::default());

    let foreign = Sends {
        codec: Some(Codec::Vp9),
        ..Sends::default()
    };
    media_file(foreign);
    let broadcaster = stage.broadcast(foreign);
    on_air(&stage, Codec::Vp9).await;
    let hls = json!({"destinations": [{"type": "hls"}]});
    let (_, problem) = refusal(&stage, "POST", jobs, &hls).await;
    assert_eq!(problem["needed"]["cpu_percent"], 40, "{problem}");
    // Its sound is not transcoded, and H.264 is not.
    let sound = json!({"audio_only": true, "destinations": [{"type": "hls"}]});
    let (status, headers, _) = stage.request("POST", jobs, sound.to_string()).await;
    assert_eq!(status, StatusCode::CREATED);
    stage.end(headers["location"].to_str().unwrap()).await;
    drop(broadcaster);
    let _broadcaster = stage.broadcast(Sends::default());
    on_air(&stage, Codec::H264).await;
    stage.start(json!([{"type": "hls"}])).await;
    stage.stop().await;
}

/// Waits until the room has a keyframe in this codec.
async fn on_air(stage: &Stage, codec: Codec) {
    let deadline = Instant::now() + secs(20);
    loop {
        let snapshot = stage.program.snapshot(RoomId(1), None).await;
        if snapshot.is_some_and(|snapshot| snapshot.codec == codec) {
            return;
        }
        assert!(Instant::now() < deadline, "no keyframe in {codec:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Sends what does not fit; returns why.
async fn refusal(stage: &Stage, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
    let (status, _, problem) = stage.request(method, path, body.to_string()).await;
    let problem: Value = serde_json::from_slice(&problem).unwrap();
    assert_eq!(problem["code"], "egress_capacity", "{problem}");
    (status, problem)
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
