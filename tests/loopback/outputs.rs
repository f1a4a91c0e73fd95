//! Outputs to a real RTMP server.

use std::{
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    http,
    output::{self, Output, rtmp},
    peer::Peer,
    probe::{self, Track, track},
    random::Random,
    rtmp::{FAILURE_SHOWN, RtmpServer, free_port},
    server::{self, Server, Setup},
    source::Source,
    wait,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_rtmp_servers_and_hls_at_once() {
    let server = Server::start();
    let source = Source::h264();
    let host = server.host("stage");
    let (mut first, second) = (RtmpServer::start().await, RtmpServer::start().await);
    let mut broadcaster = Peer::publisher(&server, &source).await;
    broadcaster.whip(&server, "stage", &host).await;
    let viewer = Peer::viewer(&server).await;
    viewer.whep(&server, "stage").await;
    viewer.receives("video/H264", 30).await;

    let destinations = json!([rtmp(&first, "key-a"), rtmp(&second, "key-b"), {"type": "hls"}]);
    let output = Output::start(&server, "stage", &host, &destinations).await;
    for at in 0..3 {
        output.destination(at, "live").await;
    }
    let live_at = Instant::now();
    let job = output.moves(1, 90).await;
    for destination in job["destinations"].as_array().unwrap() {
        assert!(
            destination["bytes"].as_u64().unwrap() > 50_000,
            "{destination}"
        );
        assert!(
            destination["bitrate_bps"].as_u64().unwrap() > 50_000,
            "{destination}"
        );
        assert_eq!(
            (&destination["code"], &destination["last_error"]),
            (&Value::Null, &Value::Null)
        );
    }
    assert_eq!(job["destinations"][0]["url"], first.url());

    // A reload: the RTMP sessions and the playlist go on.
    broadcaster.close().await;
    let again = Peer::publisher(&server, &source).await;
    again.whip(&server, "stage", &host).await;
    for at in 0..3 {
        output.moves(at, 60).await;
    }
    assert_eq!(
        (
            first.count("publish", "key-a"),
            second.count("publish", "key-b")
        ),
        (1, 1)
    );

    let outage = Instant::now();
    let job = survive_outage(&output, &mut first).await;
    for codec in ["video/H264", "audio/opus"] {
        source.assert_reached(&viewer.stream(codec).unwrap(), outage);
    }

    let ended_after = live_at.elapsed().as_secs_f64();
    output.end().await;
    first.reported("record_done", "key-a", 1).await;
    second.reported("record_done", "key-b", 1).await;
    assert_eq!(
        second.count("publish", "key-b"),
        1,
        "the other destination was undisturbed"
    );
    for key in ["key-a", "key-b"] {
        assert!(
            !job.to_string().contains(key) && !server.log().contains(key),
            "{key} was shown"
        );
    }

    let recording = second.recordings("key-b").pop().unwrap();
    let tracks = probe::probe(&recording).await;
    assert_recording(&tracks, ended_after);
    assert_in_step(&recording).await;
    let resumed = first.recordings("key-a").pop().unwrap();
    let tracks = probe::probe(&resumed).await;
    assert!(
        track(&tracks, "h264").packets[0].key,
        "a new session starts with a keyframe"
    );
    assert_in_step(&resumed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_told_and_the_worker_is_replaced() {
    let server = Server::start();
    let source = Source::vp8();
    let host = server.host("stage");
    let nginx = RtmpServer::start().await;
    let broadcaster = Peer::publisher(&server, &source).await;
    broadcaster.whip(&server, "stage", &host).await;
    let viewer = Peer::viewer(&server).await;
    viewer.whep(&server, "stage").await;
    viewer.receives("video/VP8", 30).await;

    let refused = format!("rtmp://127.0.0.1:{}/live", free_port());
    let destinations = json!([
        rtmp(&nginx, "good"),
        {"type": "rtmp", "url": refused, "key": "key-r"},
        rtmp(&nginx, "denied-key"),
    ]);
    let output = Output::start(&server, "stage", &host, &destinations).await;
    let failing = |d: &Value| d["state"] == "retrying" || d["state"] == "failed";
    let job = output
        .job_where(FAILURE_SHOWN, "both failures are shown", |job| {
            failing(&job["destinations"][1]) && failing(&job["destinations"][2])
        })
        .await;
    assert_eq!(
        job["destinations"][1]["code"], "connection_refused",
        "{job}"
    );
    assert_eq!(job["destinations"][2]["code"], "rejected", "{job}");
    for at in [1, 2] {
        let reason = job["destinations"][at]["last_error"]
            .as_str()
            .unwrap_or_default();
        assert!(reason.len() > 10, "{job}");
    }
    output.destination(0, "live").await;

    // The worker dies: another one takes its place.
    let pid = output.job().await["worker_pid"].as_u64().unwrap();
    let killed_at = Instant::now();
    server::kill_process(pid);
    let job = output
        .job_where(wait::PATIENCE, "a new worker is live", |job| {
            job["restarts"].as_u64() > Some(0)
                && job["worker_pid"].as_u64().is_some_and(|new| new != pid)
                && job["destinations"][0]["state"] == "live"
        })
        .await;
    assert_eq!(job["state"], "running");
    nginx.reported("publish", "good", 2).await;
    output.moves(0, 90).await;
    source.assert_reached(&viewer.stream("video/VP8").unwrap(), killed_at);

    let job = output.end().await;
    assert_eq!(job["worker_pid"], Value::Null);
    nginx.reported("record_done", "good", 2).await;
    let recording = nginx.recordings("good").pop().unwrap();
    let tracks = probe::probe(&recording).await;
    for codec in ["h264", "aac"] {
        track(&tracks, codec).assert_monotonic();
    }
    assert_in_step(&recording).await;
    for key in ["key-r", "denied-key"] {
        assert!(
            !job.to_string().contains(key) && !server.log().contains(key),
            "{key} was shown"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_requests_for_outputs_are_refused() {
    let server = Server::start();
    let host = server.host("stage");
    let one = |destination: Value| json!({"destinations": [destination]});
    let key = "k";
    for (what, body, code) in [
        (
            "no destination",
            json!({"destinations": []}),
            "destinations_empty",
        ),
        (
            "too many",
            json!({"destinations": vec![json!({"type": "rtmp", "url": "rtmp://127.0.0.1/a", "key": key}); 17]}),
            "destinations_too_many",
        ),
        (
            "http",
            one(json!({"type": "rtmp", "url": "http://example.org/live", "key": key})),
            "destination_url_invalid",
        ),
        (
            "no URL",
            one(json!({"type": "rtmp", "url": "live", "key": key})),
            "destination_url_invalid",
        ),
        (
            "no key",
            one(json!({"type": "rtmp", "url": "rtmp://example.org/live", "key": ""})),
            "destination_key_invalid",
        ),
        (
            "another type",
            one(json!({"type": "carrier-pigeon"})),
            "bad_request",
        ),
        (
            "an unknown field",
            one(json!({"type": "hls", "pigeon": 1})),
            "bad_request",
        ),
        ("no object", json!("hls"), "bad_request"),
    ] {
        let response = output::request(&server, "stage", Some(&host), &body).await;
        let status = response.status();
        assert!(status.is_client_error(), "{what}: {status}");
        http::assert_problem(response, status.as_u16(), code, what).await;
    }
    let huge = json!({"destinations": [{"type": "rtmp", "url": "rtmp://a/b", "key": "k".repeat(1 << 20)}]});
    let response = output::request(&server, "stage", Some(&host), &huge).await;
    http::assert_problem(response, 413, "body_too_large", "a huge body").await;

    let hls = one(json!({"type": "hls"}));
    let publisher = server.token("stage", &["--publish"]);
    let elsewhere = server.host("elsewhere");
    for (what, room, token, status, code) in [
        ("no token", "stage", None, 401, "token_missing"),
        ("no grant", "stage", Some(&*publisher), 403, "not_allowed"),
        (
            "another room's token",
            "stage",
            Some(&elsewhere),
            403,
            "token_wrong_room",
        ),
        (
            "unknown room",
            "nowhere",
            Some(server.owner()),
            404,
            "room_unknown",
        ),
    ] {
        let response = output::request(&server, room, token, &hls).await;
        http::assert_problem(response, status, code, what).await;
    }
    let unknown = http::client()
        .get(server.url("/api/rooms/stage/egress/nosuchjob"))
        .bearer_auth(&host)
        .send()
        .await
        .unwrap();
    http::assert_problem(unknown, 404, "egress_unknown", "an invented job").await;

    // A job may wait for its broadcaster; two playlists of one room would be one too many.
    let waiting = Output::start(&server, "stage", &host, &json!([{"type": "hls"}])).await;
    let second = output::request(&server, "stage", Some(&host), &hls).await;
    let status = second.status();
    assert_eq!(status, StatusCode::CONFLICT);
    http::assert_problem(second, 409, "hls_active", "a second playlist").await;
    let job = waiting.job().await;
    assert_eq!(
        (&job["receiving"], &job["destinations"][0]["state"]),
        (&false.into(), &"connecting".into())
    );
    waiting.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_owner_is_told_how_to_make_a_room_that_is_not_there() {
    let server = Server::start();
    let hls = json!({"destinations": [{"type": "hls"}]});
    let start = || output::request(&server, "nowhere", Some(server.owner()), &hls);
    let refused = start().await;
    assert_eq!(refused.status(), StatusCode::NOT_FOUND);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["code"], "room_unknown");
    // It is done as it is said.
    let detail = problem["detail"].as_str().unwrap();
    let (_, body) = detail.split_once("POST /api/rooms ").unwrap();
    let body: Value = serde_json::from_str(body.trim_end_matches('.')).unwrap();
    let made = http::client()
        .post(server.url("/api/rooms"))
        .bearer_auth(server.owner())
        .json(&body);
    assert_eq!(made.send().await.unwrap().status(), StatusCode::CREATED);
    assert_eq!(start().await.status(), StatusCode::CREATED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_end_when_the_token_does() {
    let server = Server::start();
    let host = server.host("stage");
    let output = Output::start(&server, "stage", &host, &json!([{"type": "hls"}])).await;
    let short = server.token("stage", &["--egress", "--ttl", "3s"]);
    let expires = server::claims(&short)["exp"].as_u64().unwrap();
    let events = http::client()
        .get(server.url("/api/rooms/stage/egress/events"))
        .bearer_auth(&short);
    let mut events = events.send().await.unwrap();
    let first = events.chunk().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&first).contains("event: jobs"));
    let rest = async { while events.chunk().await.unwrap().is_some() {} };
    tokio::time::timeout(wait::PATIENCE, rest).await.unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(now.as_secs() >= expires, "before the token");
    output.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_owner_sends_into_the_servers_own_network() {
    let server = Setup::new().public_targets().start();
    let host = server.host("stage");
    let here = json!({"type": "rtmp", "url": "rtmp://127.0.0.1:1/live", "key": "k"});
    let request = json!({"destinations": [here]});
    let refused = output::request(&server, "stage", Some(&host), &request).await;
    let code = "destination_url_invalid";
    let problem = http::assert_problem(refused, 422, code, "a host").await;
    let advice = problem["detail"].as_str().unwrap();
    assert!(advice.contains("allow_private_targets"), "{advice}");
    let admin = server.token("stage", &["--admin"]);
    let refused = output::request(&server, "stage", Some(&admin), &request).await;
    http::assert_problem(refused, 422, code, "one room's admin").await;

    let job = Output::start(&server, "stage", server.owner(), &request["destinations"]).await;
    job.destination(0, "retrying").await;
    assert_eq!(
        job.job().await["destinations"][0]["code"],
        "connection_refused"
    );
    let added = http::client()
        .post(server.url(&format!("{}/destinations", job.path())))
        .bearer_auth(&host)
        .json(&json!({"type": "srt", "url": "srt://localhost:9"}))
        .send();
    http::assert_problem(added.await.unwrap(), 422, code, "a host").await;
    job.end().await;
}

/// `FANLIGHT_TEST_KILLS=50 cargo test --test loopback outputs::a_killed -- --nocapture` for a long run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_leaves_no_worker_behind_and_takes_its_outputs_up_again() {
    let kills = std::env::var("FANLIGHT_TEST_KILLS").map_or(3, |kills| kills.parse().unwrap());
    let mut random = Random::new();
    let source = Source::h264();
    let nginx = RtmpServer::start().await;
    let mut server = Server::start();
    let host = server.host("stage");
    let broadcaster = Peer::publisher(&server, &source).await;
    broadcaster.whip(&server, "stage", &host).await;
    let destinations = json!([rtmp(&nginx, "key-a"), {"type": "hls"}]);
    let output = Output::start(&server, "stage", &host, &destinations).await;
    output.destination(0, "live").await;
    let mut path = output.path();
    drop(broadcaster);

    for round in 0..kills {
        let broadcaster = Peer::publisher(&server, &source).await;
        broadcaster.whip(&server, "stage", &host).await;
        let output = Output::known(&server, &host, &path);
        let job = output
            .job_where(wait::PATIENCE, "the job runs", |job| {
                job["worker_pid"].is_u64()
            })
            .await;
        let pid = job["worker_pid"].as_u64().unwrap();
        // Every third time it is live; else wherever it has got to.
        if round % 3 == 0 {
            output.destination(0, "live").await;
        } else {
            source.play(random.below(100)).await;
        }
        let hangs = round % 3 == 2;
        if hangs {
            server::stop_process(pid);
        }
        path = output.path();
        drop(broadcaster);
        let setup = server.kill();
        if !hangs {
            wait::within(Duration::from_secs(6), "the worker ends", async || {
                wait::check(!server::runs(pid), pid)
            })
            .await;
        }
        server = setup.start();
        wait::within(
            Duration::from_secs(2),
            "a hung worker is ended",
            async || wait::check(!server::runs(pid), pid),
        )
        .await;
    }

    let broadcaster = Peer::publisher(&server, &source).await;
    broadcaster.whip(&server, "stage", &host).await;
    let output = Output::known(&server, &host, &path);
    output.destination(0, "live").await;
    output.moves(0, 30).await;
    output.destination(1, "live").await;
    output.end().await;
    let key = std::fs::metadata(server.data_dir().join("egress/key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    assert!(!server.log().contains("key-a"), "the log tells the key");
    let left = std::fs::read_dir(server.data_dir().join("egress/jobs")).unwrap();
    assert_eq!(left.count(), 0, "an ended job is still recorded");
}

/// The first destination's server goes away and comes back: its destination follows, the second one's is
/// untouched. Returns the state during the outage.
async fn survive_outage(output: &Output<'_>, server: &mut RtmpServer) -> Value {
    server.stop();
    let job = output
        .job_where(FAILURE_SHOWN, "the lost server is shown", |job| {
            job["destinations"][0]["state"] == "retrying"
        })
        .await;
    let lost = &job["destinations"][0];
    assert!(
        lost["last_error"].as_str().is_some_and(|e| !e.is_empty()),
        "{lost}"
    );
    assert!(
        lost["next_try_at_ms"].as_u64().is_some() && !lost["code"].is_null(),
        "{lost}"
    );
    assert_eq!(job["destinations"][1]["state"], "live");
    server.resume().await;
    server.reported("publish", "key-a", 2).await;
    output.destination(0, "live").await;
    // Long enough for three beeps, of which the first may begin with the recording.
    output.moves(0, 120).await;
    job
}

/// H264 and AAC, complete and in order, for as long as the broadcast was live.
fn assert_recording(tracks: &[Track], live_for: f64) {
    let (video, audio) = (track(tracks, "h264"), track(tracks, "aac"));
    assert_eq!(tracks.len(), 2, "{tracks:?}");
    assert_eq!(
        (&video.info["width"], &video.info["height"]),
        (&320.into(), &180.into())
    );
    assert!(video.packets[0].key, "it starts with a keyframe");
    for track in [video, audio] {
        track.assert_monotonic();
        let (duration, codec) = (track.duration(), &track.codec);
        // It begins with the newest keyframe, which may be two seconds old.
        assert!(
            (-2.0..4.0).contains(&(duration - live_for)),
            "{codec}: {duration} of {live_for} s"
        );
        assert!(
            track.longest_gap() < 2.5,
            "{codec}: a gap of {} s",
            track.longest_gap()
        );
    }
    let apart = (video.end() - audio.end()).abs();
    assert!(apart < 0.5, "the streams end {apart} s apart");
}

/// Each beep is heard with its flash.
async fn assert_in_step(recording: &std::path::Path) {
    let (flashes, beeps) = probe::flashes_and_beeps(recording).await;
    let offset = probe::offset(&flashes, &beeps);
    assert!(
        offset.abs() < 0.1,
        "sound is off by {offset} s; flashes {flashes:?}, beeps {beeps:?}"
    );
}
