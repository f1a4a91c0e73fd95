//! How soon an output starts, and is back.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use egress::status::{DestinationState, Job};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    goal,
    support::{broadcaster::Sends, output, rtmp_server::RtmpServer, secs, stage::Stage},
};

/// From the request to media in the RTMP server's file.
pub(crate) async fn start(times: u64) {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::obedient());
    let mut took = Vec::new();
    for round in 0..times {
        // Not in step with the keyframes.
        sleep(Duration::from_millis(900 + 370 * round % 1000)).await;
        let started = Instant::now();
        let job = stage.start(one(&server, "k")).await;
        let recorded = usize::try_from(round).unwrap() + 1;
        while !has_media(&server.recordings(), recorded) {
            assert!(started.elapsed() < secs(10), "nothing has arrived");
            sleep(Duration::from_millis(5)).await;
        }
        took.push(started.elapsed());
        stage.end(&job).await;
    }
    print("start of a job to media at the RTMP server", took, 1.5);
    stage.stop().await;
}

/// From the RTMP server's return to live.
pub(crate) async fn away(seconds: u64) {
    let stage = Stage::new();
    let mut server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let job = stage.start(one(&server, "k")).await;
    stage.wait_live(&job).await;
    server.stop();
    sleep(secs(seconds)).await;
    server.resume();
    let live = |job: &Job| job.destinations[0].state == DestinationState::Live;
    let (_, took) = stage.wait_for(&job, secs(20), live).await;
    println!(
        "RTMP server back after {seconds} s: live again after {took:.2?} {}",
        goal(took.as_secs_f64(), 2.0)
    );
    stage.end(&job).await;
    stage.stop().await;
}

/// From the worker's death, at any moment, to live.
pub(crate) async fn kills(times: u64) {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::obedient());
    let mut job = stage.start(one(&server, "k")).await;
    let mut took = Vec::new();
    let mut pids = Vec::new();
    for round in 0..times {
        let running = stage.wait_live(&job).await;
        sleep(Duration::from_millis(137 * round % 2000)).await;
        let pid = running.worker_pid.unwrap();
        pids.push(pid);
        output("kill", &["-9", &pid.to_string()]);
        let back = |job: &Job| {
            let live = job.destinations[0].state == DestinationState::Live;
            live && job.worker_pid.is_some_and(|other| other != pid)
        };
        took.push(stage.wait_for(&job, secs(30), back).await.1);
        // A job waits longer after each crash in a row: that is not what is measured.
        if round % 2 == 1 {
            stage.end(&job).await;
            job = stage.start(one(&server, "k")).await;
        }
    }
    print("worker killed to live again", took, 3.0);
    stage.end(&job).await;
    stage.stop().await;
    let left = pids
        .iter()
        .filter(|pid| Path::new("/proc").join(pid.to_string()).exists());
    println!("workers left behind: {}", left.count());
}

fn one(server: &RtmpServer, key: &str) -> Value {
    json!([{"type": "rtmp", "url": server.url("live"), "key": key}])
}

fn has_media(recordings: &[std::path::PathBuf], count: usize) -> bool {
    let newest = recordings.last().and_then(|file| fs::metadata(file).ok());
    recordings.len() == count && newest.is_some_and(|file| file.len() > 1000)
}

fn print(what: &str, mut took: Vec<Duration>, goal_seconds: f64) {
    took.sort();
    let (middle, most) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "{what}, {} times: p50 {middle:.2?}, most {most:.2?} {}",
        took.len(),
        goal(most.as_secs_f64(), goal_seconds)
    );
}
