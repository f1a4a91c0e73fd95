//! Whether sound stays with its picture, and memory where it is, over a long time.

use std::time::Instant;

use serde_json::json;
use tokio::time::sleep;

use crate::{
    cost::Cost,
    goal,
    support::{Probe, broadcaster::Sends, rtmp_server::RtmpServer, secs, stage::Stage},
};

/// Sends to RTMP and HLS for so many minutes.
pub(crate) async fn long(minutes: u64) {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}, {"type": "hls"}]))
        .await;
    let mut pid = stage.wait_live(&job).await.worker_pid.unwrap();
    let started = Instant::now();
    let mut before = Cost::of(pid);
    for minute in 1..=minutes {
        sleep(secs(minute * 60).saturating_sub(started.elapsed())).await;
        let running = stage.wait_live(&job).await.worker_pid.unwrap();
        if std::mem::replace(&mut pid, running) != running {
            println!("{minute} min: another worker");
            before = Cost::of(pid);
            continue;
        }
        let cost = Cost::of(pid);
        println!(
            "{minute} min: {:.1} % of a core, {:.1} MB",
            cost.percent_since(&before, 60),
            cost.resident_kb as f64 / 1024.0
        );
        before = cost;
    }
    let ended = stage.end(&job).await;
    println!("restarts: {}", ended.restarts);
    for destination in &ended.destinations {
        println!(
            "{:?}: {} frames, {} dropped, failures: {:?}",
            destination.r#type,
            destination.frames,
            destination.dropped_frames,
            destination.past_failure
        );
    }
    let recordings = server.recordings();
    println!("sessions at the RTMP server: {}", recordings.len());
    // Of several, after a fault, the longest tells most.
    let longest = recordings
        .iter()
        .max_by_key(|file| std::fs::metadata(file).unwrap().len());
    let probe = Probe::with_offsets(longest.unwrap());
    probe.assert_sound(&["aac", "h264"]);
    let offsets: Vec<f64> = probe.offsets.iter().map(|offset| offset * 1000.0).collect();
    let part = (offsets.len() / 10).clamp(1, 60);
    let (first, last) = (&offsets[..part], &offsets[offsets.len() - part..]);
    let (first, last) = (median(first), median(last));
    let drift = last - first;
    println!(
        "{:.0} s, longest gap {:.0} ms; sound behind picture: {first:.1} ms at first, {last:.1} ms at last {}, \
         drift {drift:.1} ms {}",
        probe.length(),
        probe.longest_gap() * 1000.0,
        goal(first.abs().max(last.abs()), 40.0),
        goal(drift.abs(), 20.0)
    );
    stage.stop().await;
}

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
