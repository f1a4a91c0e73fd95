//! What composing costs, against the encoder alone in the same run.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use egress::{Config, Layout, Scene, Tile};
use serde_json::json;
use sfu::RoomId;
use tokio::time::sleep;

use crate::{
    cost::Cost,
    goal,
    support::{
        broadcaster::{Picture, Sends, media_file},
        rtmp_server::RtmpServer,
        secs,
        stage::Stage,
    },
};

/// What is composed.
struct Case {
    label: &'static str,
    simulcast: bool,
    people: u32,
    layout: Layout,
    preset: &'static str,
}

/// The pictures of two people side by side and their sound to one RTMP server, then what else is weighed when a job
/// is admitted.
pub(crate) async fn compose(seconds: u64) {
    let two = Case {
        label: "two that send 720p and 360p",
        simulcast: true,
        people: 2,
        layout: Layout::Grid,
        preset: "720p30",
    };
    let alone = EncoderAlone::start(&raw_frames());
    measure(&two, seconds, Some(&alone)).await;
    let single = Case {
        label: "two that send 720p only",
        simulcast: false,
        ..two
    };
    measure(&single, seconds, Some(&alone)).await;
    drop(alone);
    for (preset, people) in [
        ("480p30", 2),
        ("480p30", 4),
        ("720p30", 1),
        ("720p30", 4),
        ("720p60", 2),
        ("720p60", 4),
        ("1080p30", 2),
        ("1080p30", 4),
        ("1080p60", 2),
        ("1080p60", 4),
    ] {
        let case = Case {
            label: "who send 720p and 360p",
            simulcast: true,
            people,
            layout: Layout::Grid,
            preset,
        };
        measure(&case, seconds.div_ceil(2), None).await;
    }
}

async fn measure(case: &Case, seconds: u64, alone: Option<&EncoderAlone>) {
    let stage = Stage::with_config(Config {
        // All that is asked for is measured.
        max_cpu_percent: 1000,
        ..Config::default()
    });
    let server = RtmpServer::start(&stage.path("server"));
    let lanes: Vec<u32> = (1..=case.people).collect();
    let broadcasters: Vec<_> = lanes
        .iter()
        .map(|lane| stage.broadcast(sends(*lane, case.simulcast)))
        .collect();
    stage
        .service
        .stage_changed(RoomId(1), scene(&lanes, case.layout));
    let rtmp = json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}]);
    let job = stage.start_composed(&json!(case.preset), rtmp).await;
    let pid = stage.wait_live(&job).await.worker_pid.unwrap();
    // The layers that fit have been found by then.
    sleep(secs(5)).await;
    let before = Cost::of(pid);
    let encoder_before = alone.map(EncoderAlone::cost);
    sleep(secs(seconds)).await;
    let after = Cost::of(pid);
    let encoder = alone.zip(encoder_before).map(|(alone, before)| {
        alone
            .cost()
            .thread_percent_since(&before, "encoder", seconds)
    });
    let percent = after.percent_since(&before, seconds);
    println!(
        "composed {}, {} {}: {percent:.1} % of a core, {} MB",
        case.preset,
        case.people,
        case.label,
        after.resident_kb / 1024
    );
    if let Some(encoder) = encoder {
        println!(
            "    x264 veryfast alone: {encoder:.1} % of a core; ratio {:.2} {}",
            percent / encoder,
            goal(percent / encoder, 1.35)
        );
        for (thread, percent) in after.threads_since(&before, seconds) {
            println!("    {thread}: {percent:.2} %");
        }
    }
    let ended = stage.end(&job).await;
    println!(
        "    frames dropped: {}",
        ended.destinations[0].dropped_frames
    );
    drop(broadcasters);
    stage.stop().await;
}

fn sends(lane: u32, simulcast: bool) -> Sends {
    let picture = if lane % 2 == 1 {
        Picture::Fractal
    } else {
        Picture::Pattern
    };
    Sends {
        lane,
        picture,
        large: true,
        simulcast,
        ..Sends::obedient()
    }
}

fn scene(lanes: &[u32], layout: Layout) -> Scene {
    let tile = |lane: &u32| Tile {
        video: Some(*lane),
        audio: vec![*lane],
        name: format!("Person {lane}"),
        ..Tile::default()
    };
    Scene {
        tiles: lanes.iter().map(tile).collect(),
        main: lanes.first().copied(),
        layout,
        ..Scene::default()
    }
}

/// Makes the frames that the two are composed into, uncompressed, unless they were made before; returns their folder.
fn raw_frames() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("two-side-by-side");
    if folder.exists() {
        return folder;
    }
    let small = |lane| {
        media_file(Sends {
            large: false,
            ..sends(lane, true)
        })
    };
    let filter = "color=c=0x141821:s=1280x720:r=30[back];[0:v]crop=628:352[one];[1:v]crop=628:352[two];\
                  [back][one]overlay=8:184[half];[half][two]overlay=644:184,format=yuv420p";
    let unfinished = folder.with_extension("unfinished");
    std::fs::create_dir_all(&unfinished).unwrap();
    let status = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-i"])
        .arg(small(1))
        .arg("-i")
        .arg(small(2))
        .args([
            "-filter_complex",
            filter,
            "-t",
            "10",
            "-f",
            "image2",
            "-c:v",
            "rawvideo",
        ])
        .arg(unfinished.join("%03d.yuv"))
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::rename(&unfinished, &folder).unwrap();
    folder
}

/// The encoder with the composer's settings, fed with frames from memory at their pace, over and over.
struct EncoderAlone {
    process: Child,
}

impl EncoderAlone {
    fn start(frames: &Path) -> Self {
        let description = format!(
            "multifilesrc location={}/%03d.yuv start-index=1 loop=true \
             ! rawvideoparse format=i420 width=1280 height=720 framerate=30/1 ! identity sync=true ! \
             queue name=encoder max-size-buffers=4 ! \
             x264enc tune=zerolatency speed-preset=veryfast threads=1 bitrate=3000 vbv-buf-capacity=1000 \
             key-int-max=60 option-string=scenecut=0:force-cfr=1 ! video/x-h264,profile=high ! \
             fakesink sync=false",
            frames.display()
        );
        let process = Command::new("gst-launch-1.0")
            .arg("-q")
            .args(description.split_whitespace())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { process }
    }

    fn cost(&self) -> Cost {
        Cost::of(self.process.id())
    }
}

impl Drop for EncoderAlone {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
