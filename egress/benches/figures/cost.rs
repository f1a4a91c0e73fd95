//! What a worker costs.

use std::{collections::BTreeMap, fs, path::Path};

use egress::Config;
use serde_json::{Value, json};
use sfu::Codec;
use tokio::time::sleep;

use crate::{
    goal,
    support::{
        broadcaster::{Picture, Sends, media_file},
        rtmp_server::RtmpServer,
        secs,
        stage::Stage,
    },
};

/// Passes 720p30 through to one, two and five RTMP destinations.
pub(crate) async fn pass_through(seconds: u64) {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let large = Sends {
        large: true,
        ..Sends::default()
    };
    let _broadcaster = stage.broadcast(large);
    for destinations in [1, 2, 5] {
        let rtmp = |i| json!({"type": "rtmp", "url": server.url("live"), "key": format!("k{i}")});
        let list: Vec<_> = (0..destinations).map(rtmp).collect();
        let job = stage.start(json!(list)).await;
        let pid = stage.wait_live(&job).await.worker_pid.unwrap();
        sleep(secs(3)).await;
        let before = Cost::of(pid);
        let bytes = stage.job(&job).await.destinations[0].bytes;
        sleep(secs(seconds)).await;
        let after = Cost::of(pid);
        let bytes = stage.job(&job).await.destinations[0].bytes - bytes;
        stage.end(&job).await;
        let (percent, megabytes) = (
            after.percent_since(&before, seconds),
            after.resident_kb as f64 / 1024.0,
        );
        println!(
            "720p30 at {} kbit/s to {destinations} RTMP, with sound encoded: {percent:.2} % of a core {}, \
             {megabytes:.0} MB {}",
            bytes * 8 / 1000 / seconds,
            goal(percent, 5.0 + f64::from(destinations - 1)),
            goal(megabytes, 80.0)
        );
        for (thread, percent) in after.threads_since(&before, seconds) {
            println!("    {thread}: {percent:.2} %");
        }
    }
    stage.stop().await;
}

/// Sends 720p30 in each codec that has to be transcoded to one RTMP server.
pub(crate) async fn transcode(seconds: u64) {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1] {
        let stage = Stage::with_config(all_is_admitted());
        let server = RtmpServer::start(&stage.path("server"));
        let sends = lively(Some(codec));
        media_file(sends);
        let _broadcaster = stage.broadcast(sends);
        let rtmp = json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}]);
        let job = stage.start(rtmp).await;
        let percent = percent_of(&stage, &job, seconds).await;
        println!("720p30 in {codec:?} to one RTMP, transcoded: {percent:.1} % of a core");
        stage.stop().await;
    }
}

/// Records a picture in each codec, and then it and a sound in files of their own besides.
pub(crate) async fn tracks(seconds: u64) {
    for codec in [None, Some(Codec::Vp8), Some(Codec::Vp9), Some(Codec::Av1)] {
        let stage = Stage::with_config(all_is_admitted());
        let picture = Sends {
            no_audio: true,
            ..lively(codec)
        };
        let sound = Sends {
            lane: 1,
            no_video: true,
            ..Sends::default()
        };
        media_file(picture);
        let _picture = stage.broadcast(picture);
        let measure = async |options: Value| {
            let job = stage.start(json!([options])).await;
            percent_of(&stage, &job, seconds).await
        };
        let whole = measure(json!({"type": "recording"})).await;
        let apart = measure(json!({"type": "recording", "tracks": true})).await;
        println!(
            "720p30 in {codec:?} recorded: {whole:.1} % of a core, {apart:.1} % with its track"
        );
        let _sound = stage.broadcast(sound);
        let both = measure(json!({"type": "recording", "tracks": true})).await;
        println!("    {both:.1} % with that of a sound, too");
        stage.stop().await;
    }
}

/// 720p30 that moves.
fn lively(codec: Option<Codec>) -> Sends {
    Sends {
        large: true,
        codec,
        picture: Picture::Pattern,
        ..Sends::default()
    }
}

/// Returns what a job's worker uses once it is live, and ends it.
async fn percent_of(stage: &Stage, job: &str, seconds: u64) -> f64 {
    let pid = stage.wait_live(job).await.worker_pid.unwrap();
    sleep(secs(3)).await;
    let before = Cost::of(pid);
    sleep(secs(seconds)).await;
    let percent = Cost::of(pid).percent_since(&before, seconds);
    stage.end(job).await;
    percent
}

fn all_is_admitted() -> Config {
    Config {
        max_cpu_percent: 1000,
        ..Config::default()
    }
}

/// What a process has used so far.
pub(crate) struct Cost {
    /// User and system time, in 1/100 s.
    ticks: u32,
    /// The same of each thread.
    threads: BTreeMap<String, u32>,
    pub(crate) resident_kb: u64,
}

impl Cost {
    pub(crate) fn of(pid: u32) -> Self {
        let process = Path::new("/proc").join(pid.to_string());
        let status = fs::read_to_string(process.join("status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let tasks = fs::read_dir(process.join("task")).unwrap().flatten();
        Self {
            ticks: ticks(&process),
            threads: tasks
                .map(|task| {
                    let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                    let number = task.file_name().into_string().unwrap();
                    (format!("{} {number}", name.trim()), ticks(&task.path()))
                })
                .collect(),
            resident_kb: resident
                .and_then(|text| text.trim().trim_end_matches(" kB").parse().ok())
                .unwrap(),
        }
    }

    pub(crate) fn percent_since(&self, before: &Self, seconds: u64) -> f64 {
        f64::from(self.ticks - before.ticks) / seconds as f64
    }

    /// Returns what each thread used, with its name and number.
    pub(crate) fn threads_since(&self, before: &Self, seconds: u64) -> Vec<(String, f64)> {
        let used = self.threads.iter().map(|(thread, ticks)| {
            let ticks = ticks - before.threads.get(thread).unwrap_or(&0);
            (thread.clone(), f64::from(ticks) / seconds as f64)
        });
        used.filter(|(_, percent)| *percent > 0.0).collect()
    }

    /// Returns what the threads whose names begin so used.
    pub(crate) fn thread_percent_since(&self, before: &Self, name: &str, seconds: u64) -> f64 {
        let threads = self.threads_since(before, seconds).into_iter();
        let named = threads.filter(|(thread, _)| thread.starts_with(name));
        named.map(|(_, percent)| percent).sum()
    }
}

fn ticks(process: &Path) -> u32 {
    let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    let fields = fields.split_whitespace().skip(11).take(2);
    fields.map(|field| field.parse().unwrap_or(0)).sum()
}
