//! Recordings go to a real S3 server.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use axum::http::{Request, StatusCode};
use egress::{
    Config, RecordingConfig, S3Config,
    status::{Recording, RecordingState, StorageCode},
};
use serde_json::json;
use tokio::{runtime::Runtime, time::sleep};

use crate::{
    recordings::{assert_fast_start, download, folder_of, id_of, names, ready, recordings, within},
    support::{
        Probe,
        broadcaster::Sends,
        log::Log,
        proxy::{Fault, Proxy},
        s3_server::{KEY_ID, S3Server, SECRET, write_keys},
        secs,
        stage::Stage,
    },
};

fn heavy() -> Sends {
    Sends {
        heavy: true,
        ..Sends::default()
    }
}

/// Keys are looked for in `keys`.
fn config(port: u16, keys: &Path, change: impl FnOnce(&mut S3Config)) -> Config {
    let mut s3 = S3Config {
        bucket: "talks".to_owned(),
        endpoint: Some(format!("http://127.0.0.1:{port}")),
        prefix: "live/".to_owned(),
        credentials_file: Some(keys.to_owned()),
        timeout_seconds: 6,
        ..S3Config::default()
    };
    change(&mut s3);
    Config {
        recording: RecordingConfig {
            s3: Some(s3),
            ..RecordingConfig::default()
        },
        ..Config::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_leaves_while_it_is_made_and_faults_and_restarts_only_delay_it() {
    let server = S3Server::start().await;
    server.make_bucket();
    let keys = tempfile::tempdir().unwrap();
    let keys = keys.path().join("keys");
    write_keys(&keys, SECRET);
    let proxy = Proxy::start(server.port);
    let stage = Stage::with_config(config(proxy.port, &keys, |_| {}));
    let broadcaster = stage.broadcast(heavy());
    let job = stage.start(json!([{"type": "recording"}])).await;
    stage.wait_live(&job).await;
    let folder = folder_of(&stage, &id_of(&job));
    within(secs(40), "parts leave while it is recorded", || {
        server.parts() > 0
    })
    .await;
    let upload = upload_id(&folder);

    for fault in [Fault::Stall, Fault::Reset] {
        proxy.set(fault);
        let troubled =
            recording_where(&stage, "the trouble is told", |r| r.storage.is_some()).await;
        let trouble = troubled.storage.unwrap();
        assert_eq!(trouble.code, StorageCode::StorageUnreachable, "{fault:?}");
        assert_eq!(troubled.state, RecordingState::Recording);
        proxy.set(Fault::None);
        let there = server.parts();
        within(secs(60), "parts leave again", || server.parts() > there).await;
        recording_where(&stage, "the trouble is over", |r| r.storage.is_none()).await;
    }
    assert_eq!(upload_id(&folder), upload, "the same upload goes on");

    // The server is stopped in the middle of a part, and the output ends before all have left.
    let stalled = proxy.stalled();
    proxy.set(Fault::Stall);
    within(secs(40), "a part is on its way", || {
        proxy.stalled() > stalled
    })
    .await;
    let stage = stage.restart().await;
    stage.wait_live(&job).await;
    stage.plays(&job, 0, 2).await;
    drop(broadcaster);
    stage.end(&job).await;
    let state = |state| move |r: &Recording| r.state == state;
    let waiting =
        recording_where(&stage, "it is uploading", state(RecordingState::Uploading)).await;
    assert_eq!(upload_id(&folder), upload, "the same upload goes on");
    // Meanwhile it can be had from here.
    let before = download(&stage, &waiting.files[0].url).await;
    let before = fs::read(before).unwrap();
    proxy.set(Fault::None);
    let recording = ready(&stage).await;

    let object = format!("live/room/{}/{}", recording.id, recording.files[0].name);
    let objects = server.objects();
    assert!(
        objects.len() == 1 && objects[0].ends_with(&object),
        "{objects:?}"
    );
    assert_eq!(fs::read(&objects[0]).unwrap(), before, "not a byte differs");
    assert_eq!(server.parts(), 0);
    let left = names(&folder);
    let gone = |name: &String| !name.ends_with(".mp4") && !name.ends_with(".upload");
    assert!(left.iter().all(gone), "{left:?}");
    let file = download(&stage, &recording.files[0].url).await;
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_fast_start(&file);
    let probe = Probe::of(&file);
    probe.assert_sound(&["aac", "h264"]);
    assert_range(&stage, &recording).await;

    let path = format!("/api/rooms/room/recordings/{}", recording.id);
    proxy.set(Fault::Close);
    let (status, _, _) = stage.request("GET", &recording.files[0].url, "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let (status, _, _) = stage.request("DELETE", &path, "").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    // It is deleted there, too, once that is possible.
    let stage = stage.restart().await;
    proxy.set(Fault::None);
    within(secs(60), "the object is gone", || {
        server.objects().is_empty()
    })
    .await;
    let shelf = folder.parent().unwrap().parent().unwrap();
    within(secs(10), "the folder is gone", || names(shelf).is_empty()).await;
    stage.stop().await;
}

#[test]
fn an_upload_goes_on_after_a_death_in_the_middle_of_a_part() {
    let (lasting, mortal) = (Runtime::new().unwrap(), Runtime::new().unwrap());
    let server = lasting.block_on(S3Server::start());
    server.make_bucket();
    let keys = tempfile::tempdir().unwrap();
    let keys = keys.path().join("keys");
    write_keys(&keys, SECRET);
    let proxy = Proxy::start(server.port);
    let config = config(proxy.port, &keys, |s3| s3.keep_local = true);
    let (stage, job, broadcaster) = mortal.block_on(async {
        let stage = Stage::with_config(config);
        let broadcaster = stage.broadcast(heavy());
        let job = stage.start(json!([{"type": "recording"}])).await;
        within(secs(60), "parts leave", || server.parts() > 0).await;
        proxy.set(Fault::Stall);
        let on_its_way = || proxy.stalled() > 0;
        within(secs(60), "a part is on its way", on_its_way).await;
        (stage, job, broadcaster)
    });
    let folder = folder_of(&stage, &id_of(&job));
    let upload = upload_id(&folder);
    let _lasting = lasting.enter();
    let stage = stage.crash(mortal);
    proxy.set(Fault::None);
    let sent = server.parts();
    lasting.block_on(async {
        stage.wait_live(&job).await;
        within(secs(60), "parts leave again", || server.parts() > sent).await;
        assert_eq!(upload_id(&folder), upload, "the same upload goes on");
        drop(broadcaster);
        stage.end(&job).await;
        let recording = ready(&stage).await;
        assert_eq!(recording.storage, None);
        let objects = server.objects();
        assert_eq!((objects.len(), server.parts()), (1, 0), "{objects:?}");
        let local = fs::read(folder.join(&recording.files[0].name)).unwrap();
        assert!(fs::read(&objects[0]).unwrap() == local, "a byte differs");
        Probe::of(&objects[0]).assert_sound(&["aac", "h264"]);
        stage.stop().await;
    });
}

async fn assert_range(stage: &Stage, recording: &Recording) {
    let file = &recording.files[0];
    for (range, expected, length) in [
        ("bytes=4-7", format!("bytes 4-7/{}", file.bytes), 4),
        (
            "bytes=-5",
            format!("bytes {}-{}/{}", file.bytes - 5, file.bytes - 1, file.bytes),
            5,
        ),
    ] {
        let request = Request::builder().uri(&file.url).header("range", range);
        let (status, headers, body) = stage.send(request.body("".into()).unwrap()).await;
        assert_eq!(status, StatusCode::PARTIAL_CONTENT);
        assert_eq!(headers["content-range"], expected);
        assert_eq!(headers["content-type"], "video/mp4");
        assert_eq!(body.len(), length);
    }
    // Of what is passed on no version is known: whoever has a part of one gets the whole.
    let request = Request::builder()
        .uri(&file.url)
        .header("range", "bytes=4-7");
    let request = request.header("if-range", "\"another\"");
    let (status, _, body) = stage.send(request.body("".into()).unwrap()).await;
    let length = u64::try_from(body.len()).unwrap();
    assert_eq!((status, length), (StatusCode::OK, file.bytes));
    let beyond = format!("bytes={}-", file.bytes);
    let request = Request::builder().uri(&file.url).header("range", beyond);
    let (status, _, _) = stage.send(request.body("".into()).unwrap()).await;
    assert_eq!(status, StatusCode::RANGE_NOT_SATISFIABLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_keys_and_a_missing_bucket_are_told_and_nothing_is_lost() {
    let server = S3Server::start().await;
    let keys = tempfile::tempdir().unwrap();
    let keys = keys.path().join("keys");
    write_keys(&keys, "wrong-secret-key");
    let stage = Stage::with_config(config(server.port, &keys, |s3| {
        s3.keep_local = true;
        s3.redirect_links = true;
    }));
    let _broadcaster = stage.broadcast(Sends::default());
    let job = stage.start(json!([{"type": "recording"}])).await;
    stage.wait_live(&job).await;
    stage.plays(&job, 0, 2).await;
    stage.end(&job).await;
    let is = |code| move |r: &Recording| r.storage.as_ref().is_some_and(|s| s.code == code);
    let denied = is(StorageCode::StorageDenied);
    let recording = recording_where(&stage, "the keys are refused", denied).await;
    assert_eq!(recording.state, RecordingState::Uploading);
    let shown = serde_json::to_string(&recording).unwrap();
    // New keys need no restart.
    write_keys(&keys, SECRET);
    let missing = is(StorageCode::StorageBucketMissing);
    recording_where(&stage, "the bucket is missing", missing).await;
    server.make_bucket();
    let recording = ready(&stage).await;
    assert_eq!(recording.storage, None);
    for text in [shown, Log::text()] {
        for secret in [KEY_ID, SECRET, "wrong-secret-key"] {
            assert!(!text.contains(secret), "{secret} was shown");
        }
    }
    // It is in both places.
    let local = download(&stage, &recording.files[0].url).await;
    let objects = server.objects();
    assert_eq!(fs::read(&objects[0]).unwrap(), fs::read(&local).unwrap());

    let stage = stage.restart().await;
    let path = folder_of(&stage, &recording.id);
    let record = path.join("recording.json");
    let text = fs::read_to_string(&record).unwrap();
    stage_without_local_copy(&record, &text);
    fs::remove_file(path.join(&recording.files[0].name)).unwrap();
    let stage = stage.restart().await;
    let (status, headers, _) = stage.request("GET", &recording.files[0].url, "").await;
    assert_eq!(status, StatusCode::TEMPORARY_REDIRECT);
    let link = headers["location"].to_str().unwrap();
    assert!(!link.contains(SECRET), "{link}");
    let probe = Probe::of(Path::new(link));
    probe.assert_sound(&["aac", "h264"]);
    stage.stop().await;
}

/// Makes the record say what it says when files are not kept here.
fn stage_without_local_copy(record: &Path, text: &str) {
    assert!(text.contains("\"both\""), "{text}");
    fs::write(record, text.replace("\"both\"", "\"remote\"")).unwrap();
}

async fn recording_where(
    stage: &Stage,
    what: &str,
    holds: impl Fn(&Recording) -> bool,
) -> Recording {
    let started = Instant::now();
    loop {
        let [recording] = recordings(stage).await.try_into().unwrap();
        if holds(&recording) {
            return recording;
        }
        assert!(started.elapsed() < secs(60), "{what}: {recording:#?}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Returns what the storage calls the upload under way.
fn upload_id(folder: &Path) -> String {
    let notes = names(folder).into_iter();
    let notes: Vec<PathBuf> = notes
        .filter(|name| name.ends_with(".upload"))
        .map(|name| folder.join(name))
        .collect();
    assert_eq!(notes.len(), 1, "{notes:?}");
    let note: serde_json::Value = serde_json::from_slice(&fs::read(&notes[0]).unwrap()).unwrap();
    note["id"].as_str().unwrap().to_owned()
}
