//! What a worker costs.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::json;
use tokio::time::sleep;

use crate::{
    goal,
    support::{broadcaster::Sends, rtmp_server::RtmpServer, secs, stage::Stage},
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
