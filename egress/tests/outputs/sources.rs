//! What jobs send besides the whole program, and how they are changed and followed.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::{
    body::{Body, BodyDataStream},
    http::{Request, StatusCode},
};
use egress::{Caller, Config, status::JobList};
use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use crate::support::{
    Probe,
    broadcaster::{Sends, media_file},
    rtmp_server::RtmpServer,
    secs,
    stage::Stage,
};

const JOBS: &str = "/api/rooms/room/egress";

async fn refused(stage: &Stage, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
    let (status, _, problem) = stage.request(method, path, body.to_string()).await;
    let problem: Value = serde_json::from_slice(&problem).unwrap();
    (status, problem["code"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_picture_sends_sound_alone() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let body = json!({
        "audio_only": true,
        "destinations": [
            {"type": "rtmp", "url": server.url("live"), "key": "k"},
            {"type": "hls"},
        ],
    });
    let (status, headers, _) = stage.request("POST", JOBS, body.to_string()).await;
    assert_eq!(status, StatusCode::CREATED);
    let job = headers["location"].to_str().unwrap().to_owned();
    let shown = stage.wait_live(&job).await;
    assert!(shown.audio_only);
    sleep(secs(5)).await;
    let ended = stage.end(&job).await;
    assert_eq!(ended.destinations[0].last_error, None);
    let probe = Probe::of(&server.recordings()[0]);
    probe.assert_sound(&["aac"]);
    assert!(probe.length() > 4.0, "{}", probe.length());
    assert!(probe.longest_gap() <= 0.05, "{}", probe.longest_gap());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_together_is_refused() {
    let stage = Stage::new();
    let hls = json!([{"type": "hls"}]);
    let table = [
        (
            json!({"source": {"type": "stage"}, "preset": "pass_through"}),
            "preset_invalid",
        ),
        (json!({"layout": "grid"}), "preset_invalid"),
        (
            json!({"layout": "grid", "preset": "720p30"}),
            "preset_invalid",
        ),
        (
            json!({"preset": {"width": 641, "height": 360, "frame_rate": 30, "bitrate_bps": 1_000_000}}),
            "preset_invalid",
        ),
        (
            json!({"source": {"type": "participant", "identity": ""}}),
            "source_invalid",
        ),
        (
            json!({"source": {"type": "track", "identity": "ann", "track": "camera"}, "audio_only": true}),
            "source_invalid",
        ),
        (json!({"source": {"type": "nobody"}}), "bad_request"),
        (json!({"preset": "8k"}), "bad_request"),
    ];
    for (mut body, expected) in table {
        body["destinations"] = hls.clone();
        let (_, code) = refused(&stage, "POST", JOBS, body.clone()).await;
        assert_eq!(code, expected, "{body}");
    }
    let job = stage.start(hls).await;
    let (status, code) = refused(&stage, "PATCH", &job, json!({"preset": "720p30"})).await;
    assert_eq!(
        (status, code),
        (StatusCode::CONFLICT, "preset_fixed".into())
    );
    let (_, code) = refused(&stage, "PATCH", &job, json!({"layout": "grid"})).await;
    assert_eq!(code, "preset_invalid");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_as_events() {
    let stage = Stage::new();
    let job = stage.start(json!([{"type": "hls"}])).await;
    let request = Request::builder().uri(format!("{JOBS}/events"));
    let mut events = stage.stream(request.body(Body::empty()).unwrap()).await;
    let first = next_jobs(&mut events).await;
    assert!(job.ends_with(&first.jobs[0].id), "{first:?}");
    stage.end(&job).await;
    let over = |list: &JobList| list.jobs[0].state == egress::status::JobState::Ended;
    while !over(&next_jobs(&mut events).await) {}
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_end_with_the_right_to_see_them() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let stage = Stage::for_caller(Caller {
        until_unix_s: Some(now.as_secs() + 3),
        ..Caller::default()
    });
    let request = Request::builder().uri(format!("{JOBS}/events"));
    let mut events = stage.stream(request.body(Body::empty()).unwrap()).await;
    assert_eq!(next_jobs(&mut events).await.jobs, []);
    let end = timeout(secs(10), async { while events.next().await.is_some() {} }).await;
    end.expect("it ends");
    let ended = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(ended.as_secs() >= now.as_secs() + 3, "too early");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_is_ready_is_an_event_of_its_room_alone() {
    let stage = Stage::new();
    let _broadcaster = stage.broadcast(Sends::default());
    let request = || Request::builder().uri(format!("{JOBS}/events"));
    let mut events = stage.stream(request().body(Body::empty()).unwrap()).await;
    let mut elsewhere = stage
        .neighbour()
        .oneshot(request().body(Body::empty()).unwrap())
        .await
        .unwrap()
        .into_body()
        .into_data_stream();
    assert_eq!(next_jobs(&mut elsewhere).await.jobs, []);
    let job = stage.start(json!([{"type": "recording"}])).await;
    stage.wait_live(&job).await;
    stage.plays(&job, 0, 1).await;
    stage.end(&job).await;
    let ready = loop {
        let (name, data) = next_event(&mut events).await;
        if name == "recording_ready" {
            break data["recording"].clone();
        }
    };
    let (_, _, list) = stage.request("GET", "/api/rooms/room/recordings", "").await;
    let list: Value = serde_json::from_slice(&list).unwrap();
    let listed = &list["recordings"][0];
    assert_eq!(
        (&ready["id"], &ready["state"]),
        (&listed["id"], &json!("ready"))
    );
    assert!(ready["files"][0]["url"].is_string(), "{ready}");
    // All were told at once. It may have been kept alive in between.
    while let Some(chunk) = elsewhere.next().now_or_never() {
        let chunk = chunk.unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&chunk).contains("recording_ready"));
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_has_a_picture_whatever_codec_it_is_in() {
    for codec in [sfu::Codec::Av1, sfu::Codec::Vp9, sfu::Codec::H264] {
        let stage = Stage::new();
        let sends = Sends {
            codec: Some(codec),
            ..Sends::default()
        };
        media_file(sends);
        let _broadcaster = stage.broadcast(sends);
        let made = async {
            loop {
                let path = "/api/rooms/room/thumbnail.jpg";
                let (status, headers, body) = stage.request("GET", path, "").await;
                if status == StatusCode::OK {
                    return (headers, body);
                }
                sleep(secs(1) / 10).await;
            }
        };
        let jpeg = timeout(secs(10), made).await;
        let (headers, jpeg) = jpeg.unwrap_or_else(|_| panic!("no picture of {codec:?}"));
        let known = format!("\"1\", W/{}", headers["etag"].to_str().unwrap());
        let again = Request::get("/api/rooms/room/thumbnail.jpg").header("if-none-match", known);
        let (status, again, _) = stage.send(again.body(Body::empty()).unwrap()).await;
        let is_known = status == StatusCode::NOT_MODIFIED;
        assert_eq!(is_known, again["etag"] == headers["etag"], "{codec:?}");
        let picture = image::load_from_memory(&jpeg).unwrap().to_luma8();
        assert_eq!(picture.dimensions(), (640, 360), "{codec:?}");
        // Every keyframe is in a flash.
        let luma: u64 = picture.pixels().map(|pixel| u64::from(pixel.0[0])).sum();
        assert!(luma / (640 * 360) > 200, "{codec:?}");
        stage.stop().await;
    }
}

/// Returns the next list of jobs of a stream of events.
async fn next_jobs(events: &mut BodyDataStream) -> JobList {
    let (name, data) = next_event(events).await;
    assert_eq!(name, "jobs");
    serde_json::from_value(data).unwrap()
}

async fn next_event(events: &mut BodyDataStream) -> (String, Value) {
    let next = timeout(secs(10), events.next()).await;
    let bytes = next.expect("an event within ten seconds").unwrap().unwrap();
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let field = |name| text.lines().find_map(|line| line.strip_prefix(name));
    let data = serde_json::from_str(field("data: ").unwrap()).unwrap();
    (field("event: ").unwrap().to_owned(), data)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_job_pauses_while_there_is_too_much_to_do() {
    let stage = Stage::with_config(Config {
        max_cpu_percent: 45,
        ..Config::default()
    });
    let heavy = Sends {
        codec: Some(sfu::Codec::Vp8),
        large: true,
        ..Sends::default()
    };
    media_file(heavy);
    let servers = ["one", "two"].map(|name| RtmpServer::start(&stage.path(name)));
    let light = stage.broadcast(Sends::default());
    let mut jobs = Vec::new();
    for server in &servers {
        let rtmp = json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}]);
        jobs.push(stage.start(rtmp).await);
        stage.wait_live(jobs.last().unwrap()).await;
    }
    // It has to be transcoded, by each of them.
    drop(light);
    let heavy = stage.broadcast(heavy);
    let paused = |job: &egress::status::Job| job.state == egress::status::JobState::Paused;
    let (newest, _) = stage.wait_for(&jobs[1], secs(30), paused).await;
    let degraded = newest.degraded.expect("it says why");
    assert_eq!(degraded.preset, None);
    let code = newest.destinations[0].code;
    assert_eq!(code, Some(egress::status::FailureCode::Overloaded));
    sleep(secs(4)).await;
    assert_eq!(stage.job(&jobs[0]).await.degraded, None);
    drop(heavy);
    let _light = stage.broadcast(Sends::default());
    let back = |job: &egress::status::Job| job.degraded.is_none();
    stage.wait_for(&jobs[1], secs(60), back).await;
    stage.wait_live(&jobs[1]).await;
    let ended = stage.end(&jobs[0]).await;
    assert_eq!(ended.destinations[0].last_error, None);
    assert!(servers[1].recordings().len() >= 2, "it began anew");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_sends_outlives_a_restart() {
    let stage = Stage::new();
    let body = json!({
        "source": {"type": "participant", "identity": "ann"},
        "audio_only": true,
        "destinations": [{"type": "hls"}],
    });
    let (_, headers, _) = stage.request("POST", JOBS, body.to_string()).await;
    let job = headers["location"].to_str().unwrap().to_owned();
    let before = stage.job(&job).await;
    let stage = stage.restart().await;
    let after = stage.job(&job).await;
    let wish = |job: &egress::status::Job| (job.source.clone(), job.audio_only, job.preset.clone());
    assert_eq!(wish(&after), wish(&before));
    let _broadcaster = stage.broadcast(Sends::default());
    stage.wait_live(&job).await;
    stage.stop().await;
}
