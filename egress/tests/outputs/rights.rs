//! Worker processes have no more rights than they need, and secrets stay where they belong.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use egress::status::{DestinationState, Job};
use rustix::{io::dup, process::geteuid};
use serde_json::json;

use crate::support::{
    broadcaster::Sends,
    log::Log,
    output,
    rtmp_server::RtmpServer,
    secs,
    srt_receiver::{SrtReceiver, free_udp_port},
    stage::Stage,
};

const KEY: &str = "stream-key-x7Qp2";
const STREAM_ID: &str = "stream-id-k9Wd4";
const PASSPHRASE: &str = "pass phrase m3Vz8";

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_has_few_rights() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    // What a careless parent of the server has left open.
    let stray = stage.path("stray").join("file");
    let inherited = dup(File::create(&stray).unwrap()).unwrap();
    let _broadcaster = stage.broadcast(Sends::obedient());
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": KEY}]))
        .await;
    let pid = stage.wait_live(&job).await.worker_pid.unwrap();
    drop(inherited);
    let process = Path::new("/proc").join(pid.to_string());
    let tasks: Vec<_> = fs::read_dir(process.join("task")).unwrap().collect();
    assert!(tasks.len() > 3);
    for task in tasks {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap().trim().to_owned()
        };
        let name = field("Name:");
        assert_eq!(field("NoNewPrivs:"), "1", "{name}");
        assert_eq!(field("Seccomp:"), "2", "{name}");
        assert_eq!(field("CapEff:"), "0000000000000000", "{name}");
        assert_eq!(field("CapPrm:"), "0000000000000000", "{name}");
        assert_eq!(field("Umask:"), "0077", "{name}");
    }
    let limits = fs::read_to_string(process.join("limits")).unwrap();
    let limit = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap()
            .split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(limit("Max core file size"), "0 0");
    assert_eq!(limit("Max open files"), "1024 1024");
    if geteuid().is_root() {
        let folder = fs::read_link(process.join("cwd")).unwrap();
        assert_eq!(folder, PathBuf::from("/"));
        for descriptor in fs::read_dir(process.join("fd")).unwrap() {
            let leads_to = fs::read_link(descriptor.unwrap().path()).unwrap();
            assert_ne!(leads_to, stray, "inherited");
        }
    } else {
        // Nor can others of the same user look: that is what not being dumpable means.
        for file in ["environ", "maps", "cwd"] {
            let error = fs::read(process.join(file)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{file}");
        }
    }
    assert!(!Log::text().contains("a right could not be given up"));
    stage.end(&job).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_appear_nowhere() {
    let mut stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let port = free_udp_port();
    let options = format!("passphrase={PASSPHRASE}");
    let _receiver = SrtReceiver::start(&stage.path("srt").join("a.ts"), port, &options);
    let _broadcaster = stage.broadcast(Sends::obedient());
    let srt = |port: u16| {
        json!({"type": "srt", "url": format!("srt://127.0.0.1:{port}"),
        "stream_id": STREAM_ID, "passphrase": PASSPHRASE})
    };
    let job = stage
        .start(json!([
            {"type": "rtmp", "url": server.url("live"), "key": KEY},
            {"type": "rtmp", "url": server.url("deny"), "key": KEY},
            srt(port),
            srt(free_udp_port()),
        ]))
        .await;
    let settled = |job: &Job| {
        let state = |at: usize| job.destinations[at].state;
        state(0) == DestinationState::Live
            && state(2) == DestinationState::Live
            && job.destinations[1].code.is_some()
            && job.destinations[3].code.is_some()
    };
    let (running, _) = stage.wait_for(&job, secs(20), settled).await;
    let pid = running.worker_pid.unwrap();
    let mut places = vec![(
        "the job's state".to_owned(),
        format!("{running:?}").into_bytes(),
    )];
    for path in [job.as_str(), "/api/rooms/room/egress"] {
        let (_, _, body) = stage.request("GET", path, "").await;
        places.push((path.to_owned(), body.to_vec()));
    }
    while let Ok(event) = stage.events.try_recv() {
        places.push(("an event".to_owned(), format!("{event:?}").into_bytes()));
    }
    for process in [pid, std::process::id()] {
        let process = Path::new("/proc").join(process.to_string());
        for file in ["cmdline", "environ", "comm"] {
            let file = process.join(file);
            match fs::read(&file) {
                Ok(text) => places.push((file.display().to_string(), text)),
                // Where even this user may not look, nobody finds a secret.
                Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
            }
        }
        for task in fs::read_dir(process.join("task")).unwrap().flatten() {
            let file = task.path().join("comm");
            // A thread may end meanwhile.
            places.push((
                file.display().to_string(),
                fs::read(&file).unwrap_or_default(),
            ));
        }
    }
    // A crash leaves nothing behind: no core dump here, there, or in the data folder.
    output("kill", &["-ABRT", &pid.to_string()]);
    stage.wait_for(&job, secs(8), |job| job.restarts == 1).await;
    for folder in [Path::new("/"), Path::new(".")] {
        let cores = fs::read_dir(folder).unwrap().flatten();
        let cores = cores.filter(|entry| entry.file_name().to_string_lossy().starts_with("core."));
        assert_eq!(cores.count(), 0, "a core dump in {}", folder.display());
    }
    for file in files(&stage.path("data")) {
        places.push((file.display().to_string(), fs::read(&file).unwrap()));
    }
    stage.end(&job).await;
    stage.stop().await;
    places.push(("the log".to_owned(), Log::text().into_bytes()));
    for (place, bytes) in places {
        let text = String::from_utf8_lossy(&bytes);
        for secret in [KEY, STREAM_ID, PASSPHRASE] {
            assert!(!text.contains(secret), "{secret} is in {place}");
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}
