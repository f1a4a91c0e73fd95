//! Jobs that compose: whatever happens to who sends or to one destination, what goes out has no gap.

use egress::{
    Config, Layout, Scene, Tile,
    status::{DestinationState, Job},
};
use serde_json::{Value, json};
use sfu::{Codec, RoomId};
use tokio::time::sleep;

use crate::{
    delivery::assert_in_step,
    support::{
        Probe,
        broadcaster::{Picture, Sends, media_file},
        output,
        proxy::{Fault, Proxy},
        rtmp_server::RtmpServer,
        secs,
        stage::Stage,
    },
};

/// Sets the stage: the first of `lanes` is large.
fn set(stage: &Stage, lanes: &[u32]) {
    let tile = |lane: &u32| Tile {
        video: Some(*lane),
        audio: vec![*lane],
        name: format!("Person {lane}"),
        ..Tile::default()
    };
    let scene = Scene {
        layout: Layout::Speaker,
        tiles: lanes.iter().map(tile).collect(),
        main: lanes.first().copied(),
        ..Scene::default()
    };
    stage.service.stage_changed(RoomId(1), scene);
}

fn small() -> Value {
    json!({"width": 640, "height": 360, "frame_rate": 30, "bitrate_bps": 1_000_000})
}

/// Somebody else on stage, who is seen and not heard.
fn other() -> Sends {
    Sends {
        lane: 2,
        picture: Picture::Pattern,
        no_audio: true,
        ..Sends::obedient()
    }
}

fn flash(lane: u32) -> Sends {
    Sends {
        lane,
        ..Sends::obedient()
    }
}

/// Asserts that nothing that happened can be told from what went out.
fn assert_whole(server: &RtmpServer, at_least: f64) {
    let recordings = server.recordings();
    assert_eq!(recordings.len(), 1, "one session");
    let probe = Probe::with_offsets(&recordings[0]);
    probe.assert_sound(&["aac", "h264"]);
    let (gap, length) = (probe.longest_gap(), probe.length());
    println!("{length} s, the longest gap {gap} s");
    let steps = probe.times.iter().flat_map(|times| times.windows(2));
    let holes = steps.filter(|pair| pair[1] - pair[0] > 0.05).count();
    // A machine that is busy with other things leaves out the odd picture.
    assert!(holes <= 3 && gap < 0.5, "{holes} gaps, one of {gap} s");
    assert!(length > at_least, "{length} s");
    assert_in_step(&probe);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_one_destination_of_a_composed_job_does_the_others_lose_no_frame() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let mut away = RtmpServer::start(&stage.path("away"));
    let proxy = Proxy::start(away.port);
    media_file(other());
    let _people = [stage.broadcast(flash(1)), stage.broadcast(other())];
    set(&stage, &[1, 2]);
    let job = stage
        .start_composed(
            &small(),
            json!([
                {"type": "rtmp", "url": proxy.url(), "key": "faulty"},
                {"type": "rtmp", "url": server.url("live"), "key": "sound"},
                {"type": "hls"},
            ]),
        )
        .await;
    stage.wait_live(&job).await;
    let gone = |job: &Job| job.destinations[0].state != DestinationState::Live;
    for fault in [Fault::Reset, Fault::Stall] {
        proxy.set(fault);
        let (_, took) = stage.wait_for(&job, secs(20), gone).await;
        println!("{fault:?} noticed after {took:?}");
        proxy.set(Fault::None);
        stage.wait_live(&job).await;
    }
    away.stop();
    stage.wait_for(&job, secs(20), gone).await;
    away.resume();
    stage.wait_live(&job).await;
    let ended = stage.end(&job).await;
    assert_eq!(ended.restarts, 0);
    for destination in &ended.destinations[1..] {
        assert_eq!(destination.past_failure, None);
        assert_eq!(destination.dropped_frames, 0);
    }
    assert_whole(&server, 10.0);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_a_source_a_composed_output_has_no_gap() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let in_codec = |codec| Sends {
        codec: Some(codec),
        ..flash(3)
    };
    let large = Sends {
        large: true,
        ..flash(3)
    };
    let muted = Sends {
        no_audio: true,
        ..flash(3)
    };
    for sends in [other(), large]
        .into_iter()
        .chain([Codec::Vp8, Codec::Vp9, Codec::Av1].map(in_codec))
    {
        media_file(sends);
    }
    let _other = stage.broadcast(other());
    let first = stage.broadcast(flash(1));
    set(&stage, &[1, 2]);
    let rtmp = json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}]);
    let job = stage.start_composed(&small(), rtmp).await;
    stage.wait_live(&job).await;
    sleep(secs(4)).await;
    // A reload: another connection, and other publications.
    drop(first);
    set(&stage, &[2]);
    sleep(secs(1)).await;
    let mut now = stage.broadcast(flash(3));
    set(&stage, &[3, 2]);
    sleep(secs(3)).await;
    // In the same publication: sizes, codecs, silence.
    let changes = [
        ("another resolution", large),
        ("VP8", in_codec(Codec::Vp8)),
        ("VP9", in_codec(Codec::Vp9)),
        ("AV1", in_codec(Codec::Av1)),
        ("muted", muted),
        ("back", flash(3)),
    ];
    for (label, sends) in changes {
        drop(now);
        now = stage.broadcast(sends);
        sleep(secs(3)).await;
        println!("{label}: {:?}", stage.job(&job).await.state);
    }
    // One packet in thirty does not arrive.
    stage.program.lose_one_in(30);
    sleep(secs(4)).await;
    stage.program.lose_one_in(0);
    sleep(secs(3)).await;
    let ended = stage.end(&job).await;
    assert_eq!(ended.restarts, 0);
    assert_eq!(ended.destinations[0].dropped_frames, 0);
    assert_whole(&server, 30.0);
    // Each of them was seen and heard, so that beeps came with flashes nearly all the time.
    let offsets = Probe::with_offsets(&server.recordings()[0]).offsets.len();
    assert!(offsets > 18, "{offsets} beeps had their flash");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_composed_job_is_lowered_while_there_is_too_much_to_do_and_gets_back_what_it_had() {
    let stage = Stage::with_config(Config {
        max_cpu_percent: 35,
        ..Config::default()
    });
    let server = RtmpServer::start(&stage.path("server"));
    let crowd = |lane| Sends {
        lane,
        codec: Some(Codec::Vp9),
        large: true,
        no_audio: true,
        ..Sends::default()
    };
    media_file(crowd(2));
    let _first = stage.broadcast(flash(1));
    set(&stage, &[1]);
    let rtmp = json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}]);
    let job = stage.start_composed(&small(), rtmp).await;
    stage.wait_live(&job).await;
    assert_eq!(stage.job(&job).await.degraded, None);
    // More come than this machine is given time for.
    let lanes: Vec<u32> = (1..=6).collect();
    let others: Vec<_> = lanes[1..]
        .iter()
        .map(|lane| stage.broadcast(crowd(*lane)))
        .collect();
    set(&stage, &lanes);
    let lowered = |job: &Job| {
        let degraded = job.degraded.as_ref();
        degraded.is_some_and(|degraded| {
            let preset = degraded.preset.as_ref();
            preset.is_some_and(|preset| preset.frame_rate == 15)
        })
    };
    let (_, took) = stage.wait_for(&job, secs(60), lowered).await;
    println!("lowered after {took:?}");
    drop(others);
    set(&stage, &[1]);
    let back = |job: &Job| job.degraded.is_none();
    let (_, took) = stage.wait_for(&job, secs(120), back).await;
    println!("back after {took:?}");
    stage.plays(&job, 0, 3).await;
    let ended = stage.end(&job).await;
    assert_eq!(ended.restarts, 0);
    assert_eq!(ended.destinations[0].past_failure, None);
    let recordings = server.recordings();
    assert_eq!(recordings.len(), 1, "one session");
    let probe = Probe::with_offsets(&recordings[0]);
    probe.assert_sound(&["aac", "h264"]);
    let video = &probe.times[probe.codecs.iter().position(|c| c == "h264").unwrap()];
    let step = |pair: &[f64]| pair[1] - pair[0];
    let halved = video
        .windows(2)
        .filter(|pair| (step(pair) - 1.0 / 15.0).abs() < 0.01);
    assert!(halved.count() > 30, "half the frames");
    let last: Vec<f64> = video.windows(2).rev().take(30).map(step).collect();
    assert!(last.iter().all(|step| *step < 0.05), "{last:?}");
    println!("the longest gap: {} s", probe.longest_gap());
    assert!(probe.longest_gap() < 1.5, "{}", probe.longest_gap());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_codec_becomes_h264_where_nothing_is_composed() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let codecs = [Codec::Vp9, Codec::Av1, Codec::Vp8];
    let in_codec = |codec| Sends {
        codec: Some(codec),
        ..Sends::obedient()
    };
    for codec in codecs {
        media_file(in_codec(codec));
    }
    let rtmp = json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}]);
    let mut now = stage.broadcast(in_codec(codecs[0]));
    let job = stage.start(rtmp).await;
    stage.wait_live(&job).await;
    for codec in &codecs[1..] {
        stage.plays(&job, 0, 3).await;
        drop(now);
        now = stage.broadcast(in_codec(*codec));
    }
    stage.plays(&job, 0, 3).await;
    let ended = stage.end(&job).await;
    assert_eq!(ended.restarts, 0);
    assert_eq!(ended.destinations[0].last_error, None);
    let recordings = server.recordings();
    assert_eq!(recordings.len(), 1, "one session");
    let probe = Probe::with_offsets(&recordings[0]);
    probe.assert_sound(&["aac", "h264"]);
    assert_in_step(&probe);
    let frames = output(
        "ffprobe",
        &[
            "-v",
            "error",
            "-select_streams",
            "v",
            "-show_entries",
            "frame=width",
            "-of",
            "csv=p=0",
            recordings[0].to_str().unwrap(),
        ],
    );
    assert!(frames.lines().count() > 240, "{}", frames.lines().count());
    stage.stop().await;
}
