//! Recordings on their way to a real S3 server when the server is killed.

use std::{fs, time::Duration};

use reqwest::StatusCode;
use serde_json::json;

use crate::{
    recordings::{publish, ready, recording_folder, recordings},
    support::{
        http,
        output::Output,
        probe,
        proxy::{Fault, Proxy},
        s3_server::{S3Server, SECRET, write_keys},
        server::Setup,
        source::Source,
        wait,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_while_it_uploads_finishes_the_upload_at_its_next_start() {
    let storage = S3Server::start().await;
    storage.make_bucket();
    let proxy = Proxy::start(storage.port);
    let keys = tempfile::tempdir().unwrap();
    let keys = keys.path().join("keys");
    write_keys(&keys, SECRET);
    let mut server = Setup::new()
        .config(&format!(
            "[egress.recording.s3]\nbucket = \"talks\"\nendpoint = \"http://127.0.0.1:{}\"\n\
             credentials_file = {keys:?}\ntimeout_seconds = 60",
            proxy.port
        ))
        .start();
    let host = server.host("stage");
    let source = Source::h264();
    let broadcaster = publish(&server, &source, &host).await;
    let output = Output::start(&server, "stage", &host, &json!([{"type": "recording"}])).await;
    output.destination(0, "live").await;
    output.moves(0, 120).await;
    proxy.set(Fault::Stall);
    let folder = recording_folder(&server, &output.path());
    output.end().await;
    drop(broadcaster);
    // Once in the middle of the file; once when the storage has it and the answer is on its way.
    wait::within(Duration::from_secs(30), "it is on its way", async || {
        let found = recordings(&server, &host).await;
        let uploading = found[0]["state"] == "uploading" && proxy.stalled() > 0;
        wait::check(uploading, found)
    })
    .await;
    assert!(storage.objects().is_empty());
    let local = fs::read(only_movie(&folder)).unwrap();
    let setup = server.kill();
    proxy.set(Fault::Slow);
    server = setup.start();
    wait::within(Duration::from_secs(30), "the storage has it", async || {
        let objects = storage.objects();
        wait::check(objects.len() == 1, objects)
    })
    .await;
    let setup = server.kill();
    proxy.set(Fault::None);
    server = setup.start();
    let recording = ready(&server, &host).await;
    let objects = storage.objects();
    assert_eq!((objects.len(), storage.parts()), (1, 0), "{objects:?}");
    assert!(fs::read(&objects[0]).unwrap() == local, "a byte differs");
    let tracks = probe::probe(&objects[0]).await;
    for codec in ["h264", "aac"] {
        let track = probe::track(&tracks, codec);
        track.assert_monotonic();
        assert!(track.duration() > 3.0, "{} s", track.duration());
    }
    wait::until("the local copy goes", async || {
        let left: Vec<_> = movies(&folder).collect();
        wait::check(left.is_empty(), left)
    })
    .await;
    let id = recording["id"].as_str().unwrap();
    let request = http::client().delete(server.url(&format!("/api/rooms/stage/recordings/{id}")));
    let deleted = request.bearer_auth(&host).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    wait::until("the object goes", async || {
        let left = storage.objects();
        wait::check(left.is_empty(), left)
    })
    .await;
}

fn movies(folder: &std::path::Path) -> impl Iterator<Item = std::path::PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.extension() == Some("mp4".as_ref()))
}

fn only_movie(folder: &std::path::Path) -> std::path::PathBuf {
    let mut found: Vec<_> = movies(folder).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}
