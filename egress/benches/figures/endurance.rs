//! Whether sound stays with its picture, and memory where it is, over a long time.

use std::path::{Path, PathBuf};

use egress::{
    Layout, Scene, Tile,
    status::{RecordingList, RecordingState},
};
use serde_json::json;
use sfu::RoomId;
use tokio::time::{Instant, sleep};

use crate::{
    cost::Cost,
    goal,
    support::{
        Probe,
        broadcaster::Sends,
        rtmp_server::RtmpServer,
        secs,
        srt_receiver::{SrtReceiver, free_udp_port},
        stage::Stage,
    },
};

/// One job passes a broadcast through to every type of destination, another composes it.
pub(crate) async fn long(minutes: u64) {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let port = free_udp_port();
    let receiver = SrtReceiver::start(&stage.path("srt").join("long.ts"), port, "");
    let _broadcaster = stage.broadcast(Sends::default());
    let _on_stage = stage.broadcast(Sends {
        lane: 1,
        ..Sends::obedient()
    });
    stage.service.stage_changed(RoomId(1), full_screen());
    let rtmp = |key: &str| json!({"type": "rtmp", "url": server.url("live"), "key": key});
    let all = json!([rtmp("passed"), {"type": "hls"}, {"type": "srt", "url": format!("srt://127.0.0.1:{port}")},
        {"type": "recording"}, {"type": "thumbnails"}]);
    let passed = stage.start(all).await;
    let both = json!([rtmp("composed"), {"type": "recording"}]);
    let composed = stage.start_composed(&json!("480p30"), both).await;
    let mut jobs = [
        Watched::new("passed through", passed, &stage).await,
        Watched::new("composed", composed, &stage).await,
    ];
    let started = Instant::now();
    for minute in 1..=minutes {
        sleep(secs(minute * 60).saturating_sub(started.elapsed())).await;
        for job in &mut jobs {
            job.say(minute, &stage).await;
        }
    }
    for job in &jobs {
        job.end(&stage).await;
    }
    let srt = tokio::task::spawn_blocking(|| receiver.finish());
    println!("sessions at the RTMP server: {}", server.recordings().len());
    for file in server.recordings() {
        say_file("RTMP", &file);
    }
    say_file("SRT", &srt.await.unwrap());
    for file in recordings(&stage).await {
        say_file("recording", &file);
    }
    stage.stop().await;
}

/// A job that is looked at once a minute.
struct Watched {
    label: &'static str,
    path: String,
    pid: u32,
    before: Cost,
}

impl Watched {
    async fn new(label: &'static str, path: String, stage: &Stage) -> Self {
        let pid = stage.wait_live(&path).await.worker_pid.unwrap();
        Self {
            label,
            path,
            pid,
            before: Cost::of(pid),
        }
    }

    async fn say(&mut self, minute: u64, stage: &Stage) {
        let label = self.label;
        let running = stage.wait_live(&self.path).await.worker_pid.unwrap();
        if std::mem::replace(&mut self.pid, running) != running {
            println!("{minute} min, {label}: another worker");
            self.before = Cost::of(running);
            return;
        }
        let cost = Cost::of(running);
        println!(
            "{minute} min, {label}: {:.1} % of a core, {:.1} MB",
            cost.percent_since(&self.before, 60),
            cost.resident_kb as f64 / 1024.0
        );
        self.before = cost;
    }

    async fn end(&self, stage: &Stage) {
        let ended = stage.end(&self.path).await;
        println!("{}: {} restarts", self.label, ended.restarts);
        for destination in &ended.destinations {
            println!(
                "    {:?}: {} frames, {} dropped, failures: {:?}",
                destination.r#type,
                destination.frames,
                destination.dropped_frames,
                destination.past_failure
            );
        }
    }
}

fn full_screen() -> Scene {
    let tile = Tile {
        video: Some(1),
        audio: vec![1],
        ..Tile::default()
    };
    Scene {
        tiles: vec![tile],
        main: Some(1),
        layout: Layout::Single,
        ..Scene::default()
    }
}

/// Returns the files of all recordings, once they are finished.
async fn recordings(stage: &Stage) -> Vec<PathBuf> {
    let list = loop {
        let (_, _, body) = stage.request("GET", "/api/rooms/room/recordings", "").await;
        let list: RecordingList = serde_json::from_slice(&body).unwrap();
        let mut states = list.recordings.iter().map(|recording| recording.state);
        if states.all(|state| state == RecordingState::Ready) {
            break list;
        }
        sleep(secs(1)).await;
    };
    let root = stage.path("data/recordings");
    let files = list.recordings.iter().flat_map(|recording| {
        let job = recording.id.trim_start_matches("rec_").split('_').next();
        let folder = root.join(job.unwrap()).join(&recording.id);
        let files = recording.files.iter();
        files.map(move |file| folder.join(&file.name))
    });
    files.collect()
}

fn say_file(label: &str, file: &Path) {
    let probe = Probe::with_offsets(file);
    probe.assert_sound(&["aac", "h264"]);
    let offsets: Vec<f64> = probe.offsets.iter().map(|offset| offset * 1000.0).collect();
    assert!(!offsets.is_empty(), "{label}: no flash has a beep");
    let part = (offsets.len() / 10).clamp(1, 60);
    let (first, last) = (&offsets[..part], &offsets[offsets.len() - part..]);
    let (first, last) = (median(first), median(last));
    let drift = last - first;
    println!(
        "{label}: {:.0} s, longest gap {:.0} ms; sound behind picture: {first:.1} ms at first, {last:.1} ms at last \
         {}, drift {drift:.1} ms {}",
        probe.length(),
        probe.longest_gap() * 1000.0,
        goal(first.abs().max(last.abs()), 40.0),
        goal(drift.abs(), 20.0)
    );
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
