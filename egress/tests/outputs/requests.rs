//! What the API answers.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use egress::{Config, status::Job};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::support::{secs, stage::Stage};

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
    let (status, free) = refusal(&stage, "POST", jobs, &composed).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(free["cpu_percent"], 12);
    let job = stage.start(json!([{"type": "hls"}])).await;
    let rtmp =
        |n: usize| json!({"type": "rtmp", "url": "rtmp://127.0.0.1:1/a", "key": n.to_string()});
    let seven = json!({"add": (0..7).map(rtmp).collect::<Vec<_>>()});
    let (status, free) = refusal(&stage, "PATCH", &job, &seven).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(free["cpu_percent"].as_u64().unwrap() <= 6, "{free}");
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

/// Sends what does not fit; returns what is free.
async fn refusal(stage: &Stage, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
    let (status, _, problem) = stage.request(method, path, body.to_string()).await;
    let mut problem: Value = serde_json::from_slice(&problem).unwrap();
    assert_eq!(problem["code"], "egress_capacity", "{problem}");
    (status, problem["free"].take())
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
