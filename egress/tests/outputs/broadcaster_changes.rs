//! The broadcaster reloads, and changes resolution and codec.

use std::time::Instant;

use egress::status::{DestinationState, FailureCode, Job, JobState};
use serde_json::json;
use sfu::MediaKind;
use tokio::time::sleep;

use crate::{
    delivery::assert_in_step,
    support::{
        Probe,
        broadcaster::{Sends, media_file},
        output,
        rtmp_server::RtmpServer,
        secs,
        stage::Stage,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcaster_who_reloads_keeps_the_session_and_the_playlist() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let first = stage.broadcast(Sends::default());
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}, {"type": "hls"}]))
        .await;
    stage.wait_live(&job).await;
    stage.plays(&job, 0, 3).await;
    drop(first);
    let left = Instant::now();
    let silent = |job: &Job| !job.receiving;
    stage.wait_for(&job, secs(10), silent).await;
    sleep(secs(2)).await;
    let _second = stage.broadcast(Sends::default());
    let away = left.elapsed().as_secs_f64();
    stage.plays(&job, 0, 4).await;
    let (hls, playlist) = stage.download_hls("all.mp4").await;
    assert!(!playlist.contains("DISCONTINUITY\n"), "{playlist}");
    Probe::of(&hls).assert_sound(&["aac", "h264"]);
    let job = stage.end(&job).await;
    assert_eq!(job.destinations[0].last_error, None);
    assert_eq!(server.recordings().len(), 1);
    let probe = Probe::with_offsets(&server.recordings()[0]);
    probe.assert_sound(&["aac", "h264"]);
    assert_in_step(&probe);
    assert!(probe.length() > 8.0, "{}", probe.length());
    // The time without a picture is that without a broadcaster, and that of one keyframe; sound has none.
    let of = |codec: &str| {
        let at = probe.codecs.iter().position(|c| c == codec).unwrap();
        let pairs = probe.times[at].windows(2);
        let holes = pairs.filter(|pair| pair[1] - pair[0] > 0.05);
        holes.map(|pair| (pair[0], pair[1])).collect::<Vec<_>>()
    };
    assert_eq!(of("aac"), []);
    let holes = of("h264");
    let (first, last) = (holes[0].0, holes[holes.len() - 1].1);
    assert!(last - first < away + 1.0, "away for {away} s: {holes:?}");
    assert!(probe.longest_gap() < 2.0, "{}", probe.longest_gap());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_mutes_and_unmutes_stays_in_the_session_and_in_step() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::obedient());
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}, {"type": "hls"}]))
        .await;
    stage.wait_live(&job).await;
    stage.plays(&job, 0, 3).await;
    stage.program.mute(MediaKind::Audio, true);
    stage.plays(&job, 0, 4).await;
    let (hls, _) = stage.download_hls("muted.mp4").await;
    let muted = Probe::of(&hls);
    let ends = muted.times.iter().map(|times| times[times.len() - 1]);
    let ends: Vec<f64> = ends.collect();
    assert!((ends[0] - ends[1]).abs() < 1.0, "silence goes on: {ends:?}");
    stage.program.mute(MediaKind::Audio, false);
    stage.plays(&job, 0, 3).await;
    stage.program.mute(MediaKind::Video, true);
    // What is on its way still comes; then there are two pictures a second.
    let stands = |job: &Job| job.receiving && job.destinations[0].bitrate_bps < 300_000;
    let (standing, _) = stage.wait_for(&job, secs(20), stands).await;
    let frames = standing.destinations[0].frames;
    let shown = |job: &Job| job.destinations[0].frames >= frames + 3;
    stage.wait_for(&job, secs(10), shown).await;
    stage.program.mute(MediaKind::Video, false);
    stage.plays(&job, 0, 5).await;
    let (hls, playlist) = stage.download_hls("all.mp4").await;
    assert!(!playlist.contains("DISCONTINUITY\n"), "{playlist}");
    let hls = Probe::of(&hls);
    let ended = stage.end(&job).await;
    assert_eq!(ended.restarts, 0);
    for destination in &ended.destinations {
        assert_eq!(destination.past_failure, None);
        assert_eq!(destination.last_error, None);
    }
    assert_eq!(server.recordings().len(), 1);
    let mut probe = Probe::with_offsets(&server.recordings()[0]);
    for probe in [&hls, &probe] {
        probe.assert_sound(&["aac", "h264"]);
        let aac = probe.codecs.iter().position(|c| c == "aac").unwrap();
        let mut steps = probe.times[aac].windows(2).map(|pair| pair[1] - pair[0]);
        assert!(steps.all(|step| step < 0.05), "silence stands in");
        assert!(probe.longest_gap() < 2.5, "{}", probe.longest_gap());
    }
    // What came behind it all.
    probe.offsets.drain(..probe.offsets.len() - 4);
    assert_in_step(&probe);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_that_are_lost_cost_pictures_and_no_session() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::obedient());
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}]))
        .await;
    stage.wait_live(&job).await;
    stage.program.lose_one_in(40);
    stage.plays(&job, 0, 3).await;
    stage.program.lose_one_in(0);
    stage.plays(&job, 0, 3).await;
    let ended = stage.end(&job).await;
    assert_eq!(
        (ended.restarts, ended.destinations[0].dropped_frames),
        (0, 0)
    );
    assert_eq!(ended.destinations[0].past_failure, None);
    assert_eq!(server.recordings().len(), 1);
    let probe = Probe::with_offsets(&server.recordings()[0]);
    // Nothing goes out that a decoder stumbles over.
    probe.assert_sound(&["aac", "h264"]);
    assert_in_step(&probe);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_resolution_and_another_codec_reach_the_same_session() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let large = Sends {
        large: true,
        ..Sends::default()
    };
    let vp8 = Sends {
        codec: Some(sfu::Codec::Vp8),
        ..Sends::default()
    };
    media_file(large);
    media_file(vp8);
    let first = stage.broadcast(Sends::default());
    let job = stage
        .start(json!([{"type": "rtmp", "url": server.url("live"), "key": "k"}, {"type": "hls"}]))
        .await;
    stage.wait_live(&job).await;
    stage.plays(&job, 0, 3).await;
    drop(first);
    let second = stage.broadcast(large);
    stage.plays(&job, 0, 4).await;
    drop(second);
    let _third = stage.broadcast(vp8);
    stage.plays(&job, 0, 5).await;
    let (_, playlist) = stage.download_hls("all.mp4").await;
    assert_eq!(playlist.matches("#EXT-X-MAP").count(), 3, "{playlist}");
    assert_eq!(
        playlist.matches("#EXT-X-DISCONTINUITY\n").count(),
        2,
        "{playlist}"
    );
    let ended = stage.end(&job).await;
    assert_eq!(ended.destinations[0].last_error, None);
    assert_eq!(server.recordings().len(), 1);
    let recording = &server.recordings()[0];
    Probe::of(recording).assert_sound(&["aac", "h264"]);
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
            recording.to_str().unwrap(),
        ],
    );
    let widths = frames.lines().map(|line| line.trim_matches(','));
    let mut widths: Vec<_> = widths.filter(|width| !width.is_empty()).collect();
    widths.dedup();
    assert_eq!(widths, ["640", "1280", "640"]);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codec_that_cannot_be_read_is_waited_out() {
    let stage = Stage::without("av1dec");
    let server = RtmpServer::start(&stage.path("server"));
    let av1 = Sends {
        codec: Some(sfu::Codec::Av1),
        ..Sends::default()
    };
    media_file(av1);
    let first = stage.broadcast(av1);
    let job = stage
        .start(json!([
            {"type": "rtmp", "url": server.url("live"), "key": "k"}, {"type": "hls"}, {"type": "recording"}
        ]))
        .await;
    let all = |state: DestinationState| {
        move |job: &Job| job.destinations.iter().all(|d| d.state == state)
    };
    let waits = |job: &Job| job.receiving && all(DestinationState::Retrying)(job);
    let (waiting, _) = stage.wait_for(&job, secs(20), waits).await;
    for destination in &waiting.destinations {
        assert_eq!(destination.code, Some(FailureCode::CodecUnsupported));
        let advice = destination.last_error.as_deref().unwrap();
        assert!(
            advice.contains("AV1") && advice.contains("H.264"),
            "{advice}"
        );
    }
    assert_eq!(
        (waiting.state, waiting.receiving),
        (JobState::Running, true)
    );
    // While there is nobody, nothing is wrong with what they send.
    drop(first);
    stage
        .wait_for(&job, secs(10), all(DestinationState::Connecting))
        .await;
    let second = stage.broadcast(av1);
    stage
        .wait_for(&job, secs(10), all(DestinationState::Retrying))
        .await;
    drop(second);
    let _third = stage.broadcast(Sends::default());
    let live = stage.wait_live(&job).await;
    for destination in &live.destinations {
        assert_eq!(destination.code, None);
        let past = destination.past_failure.as_ref().map(|past| past.code);
        assert_eq!(past, Some(FailureCode::CodecUnsupported));
    }
    let ended = stage.plays(&job, 0, 3).await;
    assert_eq!(ended.restarts, 0);
    stage.end(&job).await;
    assert_eq!(server.recordings().len(), 1);
    Probe::with_offsets(&server.recordings()[0]).assert_sound(&["aac", "h264"]);
    stage.stop().await;
}
