//! Real workers take pictures of a real stream.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, Request, StatusCode},
};
use egress::{
    Config, RecordingConfig,
    status::{
        DestinationState, DestinationStatus, FailureCode, Job, JobState, Thumbnail, ThumbnailList,
    },
};
use serde_json::{Value, json};
use tokio::time::sleep;
use tower::ServiceExt as _;

use crate::{
    recordings::{names, within},
    support::{
        Probe,
        broadcaster::{Picture, Sends},
        output,
        rtmp_server::RtmpServer,
        secs,
        stage::Stage,
    },
};

const JOBS: &str = "/api/rooms/room/egress";

#[tokio::test(flavor = "multi_thread")]
async fn pictures_come_at_their_interval_and_the_oldest_go() {
    let stage = Stage::new();
    let _broadcaster = stage.broadcast(Sends::default());
    let options = json!({"type": "thumbnails", "interval_seconds": 2, "width": 320, "keep": 3});
    let job = stage.start(json!([options])).await;
    let before = list(&stage, &job, "d1").await;
    assert_eq!(before, []);
    let taken = taken(&stage, &job, "d1", 5).await;
    let status = destination(&stage, &job, 0).await;
    assert_eq!(status.state, DestinationState::Live);
    assert_eq!(status.url, format!("{job}/thumbnails/d1"));
    assert!(status.frames >= 5 && status.bytes > 0 && status.dropped_frames == 0);

    let numbers: Vec<u64> = taken.iter().map(|picture| picture.number).collect();
    let last = numbers[0];
    assert_eq!(numbers, [last, last - 1, last - 2], "the newest first");
    for pair in taken.windows(2) {
        // There is a keyframe every two seconds.
        let apart = pair[0].taken_at_ms - pair[1].taken_at_ms;
        assert!((1500..=4500).contains(&apart), "{taken:?}");
    }
    for picture in &taken {
        let (status, headers, jpeg) = get(&stage, &picture.url, "").await;
        if status == StatusCode::NOT_FOUND {
            // On a slow machine it has gone meanwhile.
            continue;
        }
        assert_eq!(status, StatusCode::OK);
        assert_eq!(jpeg.len() as u64, picture.bytes);
        assert_eq!(headers["content-type"], "image/jpeg");
        let cache = headers["cache-control"].to_str().unwrap();
        assert!(cache.contains("immutable"), "{cache}");
        assert_eq!((picture.width, picture.height), (320, 180));
        // The broadcast flashes at every keyframe, and is dark between.
        let (size, luma) = look(&jpeg);
        assert_eq!(size, (320, 180));
        assert!(luma > 200, "{luma}");
        let tag = headers["etag"].to_str().unwrap();
        let (status, _, body) = get(&stage, &picture.url, tag).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
    }
    let (status, headers, jpeg) = get(&stage, &format!("{job}/thumbnails/d1/latest.jpg"), "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["cache-control"], "private, max-age=1");
    assert_eq!(look(&jpeg).0, (320, 180));
    let (status, _, body) = get(&stage, &format!("{job}/thumbnails/d1/1.jpg"), "").await;
    let unknown = (StatusCode::NOT_FOUND, "thumbnail_unknown".to_owned());
    assert_eq!((status, code(&body)), unknown);

    let ended = stage.end(&job).await;
    assert_eq!(ended.destinations[0].state, DestinationState::Ended);
    let folder = folder(&stage, &job);
    let kept = list(&stage, &job, "d1").await;
    assert_eq!((kept.len(), names(&folder).len()), (3, 3));
    for name in names(&folder) {
        let mode = fs::metadata(folder.join(name)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }
    // It is known no longer after that, and its pictures are swept away.
    let job_folder = folder.parent().unwrap().to_owned();
    let stage = stage.restart().await;
    within(secs(20), "the pictures are gone", || !job_folder.exists()).await;
    let (status, _, body) = get(&stage, &format!("{job}/thumbnails/d1"), "").await;
    let unknown = (StatusCode::NOT_FOUND, "egress_unknown".to_owned());
    assert_eq!((status, code(&body)), unknown);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyframe_is_asked_for_where_none_comes_and_not_too_often() {
    // Twice as often as pictures are taken, if anything else wanted them.
    let stage = Stage::with_config(Config {
        keyframe_interval_ms: 500,
        ..Config::default()
    });
    let _broadcaster = stage.broadcast(Sends::obedient());
    let options = json!({"type": "thumbnails", "interval_seconds": 1});
    let job = stage.start(json!([options])).await;
    taken(&stage, &job, "d1", 1).await;
    let asked = || {
        let requests = &stage.program.keyframe_requests;
        requests.load(std::sync::atomic::Ordering::Relaxed)
    };
    let (before, since) = (asked(), Instant::now());
    let pictures = taken(&stage, &job, "d1", 10).await;
    let (requests, passed) = (asked() - before, since.elapsed());
    // By themselves keyframes come every two seconds.
    let span = pictures[0].taken_at_ms - pictures[pictures.len() - 1].taken_at_ms;
    let gaps = pictures.len() as u64 - 1;
    assert!(span < gaps * 1600, "{gaps} pauses in {span} ms");
    assert!(requests > 0, "none was asked for");
    let most = passed.as_millis() / 900 + 1;
    assert!(
        u128::from(requests) <= most,
        "{requests} requests in {passed:?}"
    );
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_go_on_whoever_dies() {
    let stage = Stage::new();
    let _broadcaster = stage.broadcast(Sends::obedient());
    let options = json!({"type": "thumbnails", "interval_seconds": 1, "keep": 100});
    let job = stage.start(json!([options])).await;
    let first = taken(&stage, &job, "d1", 2).await;
    let (_, _, first_jpeg) = get(&stage, &first[0].url, "").await;
    let killed = stage.job(&job).await.worker_pid.unwrap();
    output("kill", &["-9", &killed.to_string()]);
    let gone = |job: &Job| job.worker_pid.is_some_and(|pid| pid != killed);
    stage.wait_for(&job, secs(20), gone).await;
    stage.wait_live(&job).await;
    let count = list(&stage, &job, "d1").await[0].number;
    taken(&stage, &job, "d1", count + 2).await;

    // What nobody knows any more goes with the restart.
    let forgotten = folder(&stage, "eg_0");
    fs::create_dir_all(&forgotten).unwrap();
    fs::write(forgotten.join("0000000001-1-640x360.jpg"), "picture").unwrap();
    let stage = stage.restart().await;
    stage.wait_live(&job).await;
    let forgotten = forgotten.parent().unwrap().to_owned();
    within(secs(20), "it is swept away", || !forgotten.exists()).await;
    let count = list(&stage, &job, "d1").await[0].number;
    let pictures = taken(&stage, &job, "d1", count + 2).await;
    let numbers: Vec<u64> = pictures.iter().rev().map(|p| p.number).collect();
    let all: Vec<u64> = (1..=pictures[0].number).collect();
    assert_eq!(numbers, all, "none is missing, none comes twice");
    let times: BTreeSet<u64> = pictures.iter().map(|p| p.taken_at_ms).collect();
    assert_eq!(times.len(), pictures.len(), "{pictures:?}");
    assert!(pictures.contains(&first[0]));
    let (_, _, again) = get(&stage, &first[0].url, "").await;
    assert_eq!(again, first_jpeg, "nothing was overwritten");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_or_unwritable_folder_says_what_to_do_and_hurts_no_other_output() {
    let stage = Stage::with_config(Config {
        recording: RecordingConfig {
            // No disk has so much.
            min_free_mb: 1 << 30,
            ..RecordingConfig::default()
        },
        ..Config::default()
    });
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let job = stage
        .start(json!([
            {"type": "rtmp", "url": server.url("live"), "key": "k"},
            {"type": "thumbnails", "interval_seconds": 1},
        ]))
        .await;
    let full = wait_held(&stage, &job, FailureCode::DiskFull).await;
    assert!(full.contains("free space"), "{full}");
    let folder = folder(&stage, &job).with_file_name("d2");
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "in the way").unwrap();
    let unwritable = wait_held(&stage, &job, FailureCode::Internal).await;
    assert!(
        unwritable.contains("egress/thumbnails of its data folder"),
        "{unwritable}"
    );
    stage.plays(&job, 0, 5).await;

    let stage = stage.restart_with(Config::default()).await;
    let [recording] = server.recordings().try_into().unwrap();
    let probe = Probe::of(&recording);
    probe.assert_sound(&["aac", "h264"]);
    assert!(probe.longest_gap() <= 0.05, "{}", probe.longest_gap());
    wait_held(&stage, &job, FailureCode::Internal).await;
    fs::remove_file(&folder).unwrap();
    let job_now = stage.wait_live(&job).await;
    let [rtmp, thumbnails] = &job_now.destinations[..] else {
        panic!("{job_now:?}");
    };
    let past = thumbnails.past_failure.as_ref().map(|past| past.code);
    assert_eq!(past, Some(FailureCode::Internal));
    assert_eq!((rtmp.dropped_frames, job_now.restarts), (0, 0));
    assert_eq!(taken(&stage, &job, "d2", 1).await[0].height, 360);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pictures_that_cannot_be_made_hurt_no_other_output() {
    let stage = Stage::without("jpegenc");
    let _broadcaster = stage.broadcast(Sends::obedient());
    let job = stage
        .start(json!([{"type": "hls"}, {"type": "thumbnails", "interval_seconds": 1}]))
        .await;
    let unreadable = wait_held(&stage, &job, FailureCode::Internal).await;
    assert!(unreadable.contains("cannot be decoded"), "{unreadable}");
    let during = stage.plays(&job, 0, 3).await;
    assert_eq!(during.state, JobState::Running);
    let [hls, thumbnails] = &during.destinations[..] else {
        panic!("{during:?}");
    };
    assert_eq!(hls.state, DestinationState::Live);
    assert_eq!((hls.dropped_frames, during.restarts), (0, 0));
    assert!(thumbnails.dropped_frames >= 3 && thumbnails.frames == 0);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_composed_job_has_pictures_of_what_it_composes() {
    let stage = Stage::new();
    let _broadcaster = stage.broadcast(Sends {
        lane: 1,
        picture: Picture::Pattern,
        ..Sends::obedient()
    });
    let options = json!({"type": "thumbnails", "interval_seconds": 2, "width": 160});
    let job = stage
        .start_composed(&json!("480p30"), json!([options]))
        .await;
    let [picture, ..] = &taken(&stage, &job, "d1", 2).await[..] else {
        panic!("none");
    };
    let (_, _, jpeg) = get(&stage, &picture.url, "").await;
    // 854x480.
    assert_eq!(look(&jpeg).0, (160, 90));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn options_out_of_range_and_unknown_pictures_are_refused() {
    let stage = Stage::new();
    let invalid = (
        StatusCode::UNPROCESSABLE_ENTITY,
        "thumbnails_options_invalid".to_owned(),
    );
    let (usual, sound) = (json!({}), json!({"audio_only": true}));
    let microphone = json!({"source": {"type": "track", "identity": "ann", "track": "microphone"}});
    for (wish, options) in [
        (&usual, json!({"interval_seconds": 0})),
        (&usual, json!({"interval_seconds": 3601})),
        (&usual, json!({"width": 100})),
        (&usual, json!({"keep": 10_001})),
        (&sound, json!({})),
        (&microphone, json!({})),
    ] {
        let mut destination = options;
        destination["type"] = "thumbnails".into();
        let mut body = wish.clone();
        body["destinations"] = json!([destination]);
        let (status, _, problem) = stage.request("POST", JOBS, body.to_string()).await;
        assert_eq!((status, code(&problem)), invalid, "{body}");
    }
    let twice = json!({"destinations": [{"type": "thumbnails"}, {"type": "thumbnails"}]});
    let (status, _, problem) = stage.request("POST", JOBS, twice.to_string()).await;
    let duplicate = (StatusCode::CONFLICT, "destination_duplicate".to_owned());
    assert_eq!((status, code(&problem)), duplicate);

    let job = stage
        .start(json!([{"type": "thumbnails"}, {"type": "hls"}]))
        .await;
    for (path, expected) in [
        (format!("{job}/thumbnails/d1/1.jpg"), "thumbnail_unknown"),
        (
            format!("{job}/thumbnails/d1/latest.jpg"),
            "thumbnail_unknown",
        ),
        (format!("{job}/thumbnails/d2"), "destination_unknown"),
        (format!("{job}/thumbnails/d01"), "destination_unknown"),
        (format!("{JOBS}/eg_0/thumbnails/d1"), "egress_unknown"),
    ] {
        let (status, _, problem) = get(&stage, &path, "").await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(code(&problem), expected, "{path}");
    }
    let elsewhere = format!("{job}/thumbnails/d1").replace("/room/", "/neighbour/");
    let request = Request::get(elsewhere).body(Body::empty()).unwrap();
    let answer = stage.neighbour().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frequent_pictures_count_among_what_fits() {
    let stage = Stage::with_config(Config {
        max_cpu_percent: 8,
        ..Config::default()
    });
    let body = |seconds| {
        let options = json!({"type": "thumbnails", "interval_seconds": seconds});
        json!({"destinations": [options]}).to_string()
    };
    let (status, _, problem) = stage.request("POST", JOBS, body(1)).await;
    let full = (
        StatusCode::SERVICE_UNAVAILABLE,
        "egress_capacity".to_owned(),
    );
    assert_eq!((status, code(&problem)), full);
    let (status, _, _) = stage.request("POST", JOBS, body(10)).await;
    assert_eq!(status, StatusCode::CREATED);
    stage.stop().await;
}

/// Waits until the second destination cannot do its work for this reason while the first one can; returns what it says.
async fn wait_held(stage: &Stage, job: &str, code: FailureCode) -> String {
    let held = |job: &Job| {
        let [first, second] = &job.destinations[..] else {
            return false;
        };
        let is_held = second.state == DestinationState::Retrying && second.code == Some(code);
        is_held && first.state == DestinationState::Live
    };
    let (job, _) = stage.wait_for(job, secs(60), held).await;
    job.destinations[1].last_error.clone().unwrap()
}

/// Waits until so many pictures were taken, and returns those that are kept, the newest first.
async fn taken(stage: &Stage, job: &str, destination: &str, count: u64) -> Vec<Thumbnail> {
    let started = Instant::now();
    loop {
        let pictures = list(stage, job, destination).await;
        if pictures
            .first()
            .is_some_and(|newest| newest.number >= count)
        {
            return pictures;
        }
        let waited = started.elapsed();
        assert!(waited < secs(30 + 5 * count), "still {pictures:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn list(stage: &Stage, job: &str, destination: &str) -> Vec<Thumbnail> {
    let (status, _, body) = get(stage, &format!("{job}/thumbnails/{destination}"), "").await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let list: ThumbnailList = serde_json::from_slice(&body).unwrap();
    list.thumbnails
}

async fn destination(stage: &Stage, job: &str, at: usize) -> DestinationStatus {
    // Counters come four times a second.
    let counted = |job: &Job| job.destinations[at].frames >= 5;
    let (job, _) = stage.wait_for(job, secs(10), counted).await;
    job.destinations[at].clone()
}

async fn get(stage: &Stage, path: &str, known: &str) -> (StatusCode, HeaderMap, Bytes) {
    let request = Request::get(path).header("if-none-match", known);
    stage.send(request.body("".into()).unwrap()).await
}

/// Returns the folder of the pictures of a job's first destination.
fn folder(stage: &Stage, job: &str) -> PathBuf {
    let job = job.rsplit_once('/').map_or(job, |(_, job)| job);
    let root = stage.path("data/egress");
    root.join("thumbnails").join(job).join("d1")
}

/// Decodes a picture; returns its size and how light it is.
fn look(jpeg: &[u8]) -> ((u32, u32), u64) {
    let picture = image::load_from_memory(jpeg).unwrap().to_luma8();
    let sum: u64 = picture.pixels().map(|pixel| u64::from(pixel.0[0])).sum();
    (
        picture.dimensions(),
        sum / u64::from(picture.width() * picture.height()),
    )
}

fn code(body: &[u8]) -> String {
    let problem: Value = serde_json::from_slice(body).unwrap();
    problem["code"].as_str().unwrap().to_owned()
}
