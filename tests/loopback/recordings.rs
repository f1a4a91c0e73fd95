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
    random::Random,
    server::{self, Server},
    session::Session,
    source::Source,
    wait,
};

/// `FANLIGHT_TEST_KILLS=50 cargo test --test loopback recordings::killed -- --nocapture` for a long run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_servers_and_workers_lose_little_and_no_recording() {
    let kills = std::env::var("FANLIGHT_TEST_KILLS").map_or(3, |kills| kills.parse().unwrap());
    let mut random = Random::new();
    let source = Source::h264();
    let mut server = Server::start();
    let host = server.host("stage");
    let path = Output::start(&server, "stage", &host, &json!([{"type": "recording"}]))
        .await
        .path();
    let folder = recording_folder(&server, &path);
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
        source.play(random.below(300)).await;
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
    let recording = ready(&server, &host).await;
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
async fn each_track_of_the_stage_has_files_of_its_own_on_one_clock() {
    let server = Server::start();
    let source = Source::h264();
    let host = server.token("stage", &["--publish", "--egress", "--identity", "ann"]);
    let guest = server.token("stage", &["--stage", "--identity", "bob", "--name", "Bob"]);
    let broadcaster = publish(&server, &source, &host).await;
    let second = publish(&server, &source, &guest).await;
    let asked = json!([{"type": "recording", "tracks": true}]);
    let output = Output::start(&server, "stage", &host, &asked).await;
    output.destination(0, "live").await;
    output.moves(0, 60).await;
    let job = output.job().await;
    server::kill_process(job["worker_pid"].as_u64().unwrap());
    let again = |new: &Value| {
        new["worker_pid"].is_u64()
            && new["worker_pid"] != job["worker_pid"]
            && new["destinations"][0]["state"] == "live"
    };
    let what = "a new worker records";
    output.job_where(wait::PATIENCE, what, again).await;
    output.moves(0, 120).await;
    output.end().await;
    drop((broadcaster, second));
    let recording = ready(&server, &host).await;
    assert_eq!(recording["files"].as_array().map(Vec::len), Some(1));

    let tracks = recording["tracks"].as_array().unwrap();
    let whose: Vec<_> = tracks
        .iter()
        .map(|t| format!("{} {}", t["identity"], t["track"]))
        .collect();
    for expected in ["ann", "bob"].into_iter().flat_map(|identity| {
        ["camera", "microphone"].map(|track| format!("\"{identity}\" \"{track}\""))
    }) {
        let found = whose.iter().filter(|whose| **whose == expected);
        assert_eq!(found.count(), 1, "{expected} in {whose:?}");
    }
    assert!(
        tracks.iter().any(|track| track["name"] == "Bob"),
        "{tracks:?}"
    );
    let folder = recording_folder(&server, &output.path());
    let mut seen = Vec::new();
    for track in tracks {
        let name = track["file"]["name"].as_str().unwrap();
        let found = probe::probe(folder.join(name)).await;
        let [only] = &found[..] else {
            panic!("{name}: {found:?}");
        };
        let sound = track["track"] == "microphone";
        assert_eq!(only.codec, if sound { "aac" } else { "h264" }, "{name}");
        only.assert_monotonic();
        assert!(only.duration() > 4.0, "{name}: {} s", only.duration());
        let start = track["file"]["started_at_ms"].as_f64().unwrap() / 1e3;
        let (flashes, beeps) = probe::flashes_and_beeps_of(folder.join(name), !sound, sound).await;
        let own = if sound { beeps } else { flashes };
        assert!(own.len() > 2, "{name}: {own:?}");
        let at: Vec<f64> = own.into_iter().map(|at| start + at).collect();
        seen.push((name.to_owned(), at));
    }
    // All show and play the same source, whose flashes and beeps come each second.
    let (_, first) = &seen[0];
    for (name, at) in &seen {
        let apart = |at: &f64| (at - first[1] + 0.5).rem_euclid(1.0) - 0.5;
        let mut apart: Vec<f64> = at.iter().map(apart).collect();
        apart.sort_by(f64::total_cmp);
        let median = apart[apart.len() / 2];
        assert!(median.abs() < 0.1, "{name} is {median:.3} s off: {seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_source_gives_the_tracks_that_it_says_and_hosts_are_told_when_it_is_ready() {
    let server = Server::start();
    let (beeps, steady) = (Source::h264(), Source::steady());
    let host = server.token("stage", &["--publish", "--egress", "--identity", "ann"]);
    let guest = server.token("stage", &["--stage", "--identity", "bob"]);
    let (mut session, _) = Session::join(&server, "stage", Some(&host), None).await;
    let _ann = publish(&server, &beeps, &host).await;
    let _bob = publish(&server, &steady, &guest).await;
    let track = |identity, track| json!({"type": "track", "identity": identity, "track": track});
    // What is wanted; the width of the picture; whether there is sound, and whether it beeps.
    let table = [
        (
            json!({"source": {"type": "participant", "identity": "bob"}}),
            Some(240),
            Some(false),
        ),
        (
            json!({"source": {"type": "participant", "identity": "ann"}, "audio_only": true}),
            None,
            Some(true),
        ),
        (json!({"source": track("bob", "camera")}), Some(240), None),
        (json!({"source": track("ann", "camera")}), Some(320), None),
        (
            json!({"source": track("ann", "microphone")}),
            None,
            Some(true),
        ),
        (
            json!({"source": track("bob", "microphone")}),
            None,
            Some(false),
        ),
    ];
    let mut outputs = Vec::new();
    for (wish, ..) in &table {
        let recording = json!([{"type": "recording"}]);
        let output = Output::start_as(&server, "stage", &host, wish.clone(), &recording).await;
        outputs.push(output);
    }
    wait::within(Duration::from_secs(40), "all record", async || {
        let found = recordings(&server, &host).await;
        let long = |r: &Value| r["duration_ms"].as_u64() > Some(4500);
        wait::check(found.len() == table.len() && found.iter().all(long), found)
    })
    .await;
    for (output, (wish, width, beeps)) in outputs.iter().zip(table) {
        output.end().await;
        let id = recording_id(&output.path());
        let is_it = |m: &Value| m["type"] == "recording_ready" && m["recording"]["id"] == id;
        let told = session.next_where("it is ready", is_it).await;
        assert_eq!(told["recording"]["state"], "ready", "{told}");
        let name = told["recording"]["files"][0]["name"].as_str().unwrap();
        let file = recording_folder(&server, &output.path()).join(name);
        let tracks = probe::probe(&file).await;
        let codecs: Vec<_> = tracks.iter().map(|track| track.codec.as_str()).collect();
        // A picture without sound has silence, as servers want it.
        let expected = width.map_or(&["aac"][..], |_| &["h264", "aac"]);
        assert_eq!(codecs, expected, "{wish}");
        for track in &tracks {
            track.assert_monotonic();
            assert!(track.duration() > 3.0, "{wish}: {} s", track.duration());
        }
        if let Some(width) = width {
            assert_eq!(tracks[0].info["width"], width, "{wish}");
        }
        let (_, heard) = probe::flashes_and_beeps_of(&file, false, true).await;
        let loudest = probe::loudest(&file).await;
        let is_right = match beeps {
            Some(true) => heard.len() >= 3 && loudest > -20.0,
            Some(false) => heard.len() <= 1 && loudest > -20.0,
            None => loudest < -60.0,
        };
        assert!(is_right, "{wish}: beeps {heard:?}, {loudest} dB");
    }
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

pub(crate) async fn publish(server: &Server, source: &Source, host: &str) -> Peer {
    let broadcaster = Peer::publisher(server, source).await;
    broadcaster.whip(server, "stage", host).await;
    broadcaster
}

pub(crate) async fn recordings(server: &Server, host: &str) -> Vec<Value> {
    let request = http::client().get(server.url("/api/rooms/stage/recordings"));
    let response = request.bearer_auth(host).send().await.unwrap();
    let mut list = http::json(response, StatusCode::OK).await;
    list["recordings"]
        .as_array_mut()
        .unwrap()
        .drain(..)
        .collect()
}

/// Waits until the only recording is ready.
pub(crate) async fn ready(server: &Server, host: &str) -> Value {
    wait::within(Duration::from_secs(60), "it is ready", async || {
        let found = recordings(server, host).await.remove(0);
        match &found["state"] {
            state if state == "ready" => Ok(found),
            _ => Err(found),
        }
    })
    .await
}

/// Returns where the recording of a job's first destination is.
pub(crate) fn recording_folder(server: &Server, job: &str) -> PathBuf {
    let id = recording_id(job);
    let job = job.rsplit_once("eg_").unwrap().1;
    server.data_dir().join(format!("recordings/{job}/{id}"))
}

/// Returns the id of the recording of a job's first destination.
fn recording_id(job: &str) -> String {
    let job = job.rsplit_once("eg_").unwrap().1;
    format!("rec_{job}_1")
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
    let tracks = tracks.iter().filter(|track| !track.packets.is_empty());
    start / 1e6 + tracks.map(probe::Track::end).fold(f64::INFINITY, f64::min)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}
