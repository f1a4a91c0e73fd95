//! Recordings, and deaths of everybody who makes them.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    http,
    output::Output,
    peer::Peer,
    probe,
    server::{self, Server},
    source::Source,
    wait,
};

/// `FANLIGHT_TEST_KILLS=50 cargo test --test loopback recordings::killed -- --nocapture` for a long run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_servers_and_workers_lose_little_and_no_recording() {
    let kills = std::env::var("FANLIGHT_TEST_KILLS").map_or(3, |kills| kills.parse().unwrap());
    let mut random = Random::seeded();
    let source = Source::h264();
    let mut server = Server::start();
    let host = server.host("stage");
    let (path, folder) = {
        let output = Output::start(&server, "stage", &host, &json!([{"type": "recording"}])).await;
        let path = output.path();
        let job = path.rsplit_once("eg_").unwrap().1;
        let folder = format!("recordings/{job}/rec_{job}_1");
        (path.clone(), server.data_dir().join(folder))
    };
    let mut broadcaster = publish(&server, &source, &host).await;
    let (mut lost, mut unproved) = (Vec::new(), 0);
    for round in 0..kills {
        let output = Output::known(&server, &host, &path);
        let what = "a worker records";
        let running = |job: &Value| job["worker_pid"].is_u64();
        let job = output.job_where(wait::PATIENCE, what, running).await;
        // Some die while they start.
        if random.below(4) > 0 {
            output.destination(0, "live").await;
        }
        source
            .play(usize::try_from(random.below(300)).unwrap())
            .await;
        let is_live = output.job().await["destinations"][0]["state"] == "live";
        let pid = output.job().await["worker_pid"].as_u64();
        let pid = pid.unwrap_or(job["worker_pid"].as_u64().unwrap());
        let before = newest(&folder);
        let killed_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        if round % 2 == 0 {
            let setup = server.kill();
            gone(pid).await;
            if is_live {
                lost.push(killed_at.as_secs_f64() - end_of(&before.unwrap()).await);
            }
            server = setup.start();
            broadcaster = publish(&server, &source, &host).await;
        } else {
            server::kill_process(pid);
            gone(pid).await;
            if is_live {
                lost.push(killed_at.as_secs_f64() - end_of(&before.unwrap()).await);
            }
        }
        unproved += u64::from(!is_live);
        assert_eq!(recordings(&server, &host).await.len(), 1, "round {round}");
    }

    let output = Output::known(&server, &host, &path);
    output.destination(0, "live").await;
    source.play(100).await;
    output.end().await;
    drop(broadcaster);
    let recording = wait::within(Duration::from_secs(60), "it is ready", async || {
        let found = recordings(&server, &host).await.remove(0);
        match &found["state"] {
            state if state == "ready" => Ok(found),
            _ => Err(found),
        }
    })
    .await;
    eprintln!(
        "{kills} kills, {unproved} of them while nothing was recorded; lost, s: {lost:.2?}; most {:.2}",
        lost.iter().copied().fold(0.0, f64::max)
    );
    assert!(lost.iter().all(|lost| *lost <= 2.0), "{lost:?}");
    let mut length = 0.0;
    for file in recording["files"].as_array().unwrap() {
        let tracks = probe::probe(folder.join(file["name"].as_str().unwrap())).await;
        for codec in ["h264", "aac"] {
            let track = probe::track(&tracks, codec);
            track.assert_monotonic();
            length += track.duration() / 2.0;
        }
    }
    let files = recording["files"].as_array().map(Vec::len);
    eprintln!("{files:?} files, {length:.1} s");
    let names = names(&folder);
    assert!(
        !names
            .iter()
            .any(|name| name.starts_with("raw-") || name.ends_with(".part")),
        "{names:?}"
    );
    let jobs = self::names(&server.data_dir().join("egress/jobs"));
    assert!(jobs.is_empty(), "{jobs:?}");
    let id = recording["id"].as_str().unwrap();
    let request = http::client().delete(server.url(&format!("/api/rooms/stage/recordings/{id}")));
    let deleted = request.bearer_auth(&host).send().await.unwrap();
    assert_eq!(deleted.status(), StatusCode::NO_CONTENT);
    let shelf = server.data_dir().join("recordings");
    wait::within(Duration::from_secs(5), "its folder is gone", async || {
        let left = self::names(&shelf);
        wait::check(left.is_empty(), left)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outputs_without_a_recording_leave_no_folder_even_after_a_crash() {
    let server = Server::start();
    let host = server.host("stage");
    let shelf = server.data_dir().join("recordings");
    let output = Output::start(&server, "stage", &host, &json!([{"type": "hls"}])).await;
    let running = |job: &Value| job["worker_pid"].is_u64();
    let job = output.job_where(wait::PATIENCE, "it runs", running).await;
    let (path, pid) = (output.path(), job["worker_pid"].as_u64().unwrap());
    let setup = server.kill();
    gone(pid).await;
    let server = setup.start();
    let output = Output::known(&server, &host, &path);
    output
        .job_where(wait::PATIENCE, "it runs again", running)
        .await;
    output.end().await;
    wait::within(Duration::from_secs(5), "no folder is left", async || {
        let left = names(&shelf);
        wait::check(left.is_empty(), left)
    })
    .await;
}

async fn publish(server: &Server, source: &Source, host: &str) -> Peer {
    let broadcaster = Peer::publisher(server, source).await;
    broadcaster.whip(server, "stage", host).await;
    broadcaster
}

async fn recordings(server: &Server, host: &str) -> Vec<Value> {
    let request = http::client().get(server.url("/api/rooms/stage/recordings"));
    let response = request.bearer_auth(host).send().await.unwrap();
    let mut list = http::json(response, StatusCode::OK).await;
    list["recordings"]
        .as_array_mut()
        .unwrap()
        .drain(..)
        .collect()
}

async fn gone(pid: u64) {
    wait::within(Duration::from_secs(6), "the worker ends", async || {
        wait::check(!server::runs(pid), pid)
    })
    .await;
}

fn newest(folder: &Path) -> Option<PathBuf> {
    let raws = names(folder).into_iter().filter(|n| n.starts_with("raw-"));
    raws.max().map(|name| folder.join(name))
}

/// Returns until when (Unix seconds) a file can be played as it is.
async fn end_of(file: &Path) -> f64 {
    let name = file.file_name().unwrap().to_str().unwrap();
    let start: f64 = name.split('-').nth(2).unwrap().parse().unwrap();
    let tracks = probe::probe(file).await;
    let ends = ["h264", "aac"].map(|codec| probe::track(&tracks, codec).end());
    start / 1e6 + ends[0].min(ends[1])
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// xorshift64 with a printed seed.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let given = std::env::var("FANLIGHT_TEST_SEED").ok();
        let seed = given.map_or(now.as_secs() | 1, |seed| seed.parse().unwrap());
        eprintln!("FANLIGHT_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
