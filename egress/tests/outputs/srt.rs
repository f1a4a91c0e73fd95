//! SRT: MPEG-TS to a listener of ffmpeg's.

use std::net::{IpAddr, ToSocketAddrs as _};

use axum::http::StatusCode;
use egress::{
    Config,
    status::{DestinationState, FailureCode, Job},
};
use serde_json::json;

use crate::{
    delivery::assert_in_step,
    support::{
        Probe,
        broadcaster::Sends,
        secs,
        srt_receiver::{SrtReceiver, free_udp_port},
        stage::Stage,
    },
};

const PASSPHRASE: &str = "correct horse battery";

#[tokio::test(flavor = "multi_thread")]
async fn srt_carries_the_broadcast_encrypted() {
    let stage = Stage::new();
    let port = free_udp_port();
    let options = format!("passphrase={PASSPHRASE}");
    let receiver = SrtReceiver::start(&stage.path("srt").join("a.ts"), port, &options);
    let _broadcaster = stage.broadcast(Sends::default());
    let srt = json!({"type": "srt", "url": format!("srt://127.0.0.1:{port}"), "passphrase": PASSPHRASE,
        "stream_id": "publish:abcdefgh", "latency_ms": 200});
    let job = stage.start(json!([srt])).await;
    stage.wait_live(&job).await;
    let playing = stage.plays(&job, 0, 6).await;
    let during = playing.destinations[0].clone();
    let ended = stage.end(&job).await;
    let file = tokio::task::spawn_blocking(|| receiver.finish())
        .await
        .unwrap();
    assert!(
        during.frames > 150 && during.dropped_frames == 0,
        "{during:?}"
    );
    assert!(during.bitrate_bps > 100_000, "{during:?}");
    let unconfirmed = during.bytes - during.acknowledged_bytes;
    assert!(
        during.acknowledged_bytes > 0 && unconfirmed < 1 << 18,
        "{during:?}"
    );
    assert!(!format!("{during:?}").contains("abcdefgh"));
    assert_eq!(ended.destinations[0].state, DestinationState::Ended);
    let probe = Probe::with_offsets(&file);
    probe.assert_sound(&["aac", "h264"]);
    assert_in_step(&probe);
    assert!(probe.longest_gap() < 0.1, "{}", probe.longest_gap());
    assert!(probe.length() > 5.5, "{}", probe.length());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_comes_back_is_called_again_and_another_does_not_notice() {
    let stage = Stage::new();
    let folder = stage.path("srt");
    let (port, other) = (free_udp_port(), free_udp_port());
    let mut failing = SrtReceiver::start(&folder.join("a.ts"), port, "");
    let healthy = SrtReceiver::start(&folder.join("b.ts"), other, "");
    let _broadcaster = stage.broadcast(Sends::obedient());
    let srt = |port: u16| json!({"type": "srt", "url": format!("srt://127.0.0.1:{port}")});
    let job = stage.start(json!([srt(port), srt(other)])).await;
    stage.wait_live(&job).await;
    failing.kill();
    let away = |job: &Job| job.destinations[0].state == DestinationState::Retrying;
    let (noticed, took) = stage.wait_for(&job, secs(8), away).await;
    println!(
        "noticed after {took:?}: {:?}",
        noticed.destinations[0].last_error
    );
    assert_eq!(noticed.destinations[0].code, Some(FailureCode::Stalled));
    let back = SrtReceiver::start(&folder.join("c.ts"), port, "");
    let live = |job: &Job| job.destinations[0].state == DestinationState::Live;
    let (_, took) = stage.wait_for(&job, secs(10), live).await;
    println!("live again after {took:?}");
    stage.plays(&job, 0, 3).await;
    let ended = stage.end(&job).await;
    assert_eq!(
        (ended.restarts, &ended.destinations[1].last_error),
        (0, &None)
    );
    for receiver in [back, healthy] {
        let file = tokio::task::spawn_blocking(|| receiver.finish())
            .await
            .unwrap();
        let probe = Probe::of(&file);
        probe.assert_sound(&["aac", "h264"]);
        assert!(probe.longest_gap() < 0.1, "{}", probe.longest_gap());
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_is_called_at_one_address_of_its_name_after_the_other() {
    // On most machines that is ::1, where nobody listens, and then 127.0.0.1.
    let addresses = ("localhost", 1).to_socket_addrs().unwrap();
    let addresses: Vec<IpAddr> = addresses.map(|address| address.ip()).collect();
    let here = IpAddr::from([127, 0, 0, 1]);
    if addresses.first() == Some(&here) || !addresses.contains(&here) {
        println!("“localhost” has no other address before 127.0.0.1: not tested");
        return;
    }
    let stage = Stage::with_config(Config {
        connect_timeout_ms: 1000,
        ..Config::default()
    });
    let port = free_udp_port();
    let _receiver = SrtReceiver::start(&stage.path("srt").join("a.ts"), port, "");
    let _broadcaster = stage.broadcast(Sends::obedient());
    let srt = json!({"type": "srt", "url": format!("srt://localhost:{port}")});
    let job = stage.start(json!([srt])).await;
    let live = |job: &Job| job.destinations[0].state == DestinationState::Live;
    let (job, took) = stage.wait_for(&job, secs(20), live).await;
    println!("live after {took:?}");
    let past = job.destinations[0].past_failure.as_ref();
    assert_eq!(past.map(|past| past.code), Some(FailureCode::Timeout));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_receiver_is_said() {
    let stage = Stage::with_config(Config {
        connect_timeout_ms: 2000,
        ..Config::default()
    });
    let folder = stage.path("srt");
    let ports = [free_udp_port(), free_udp_port(), free_udp_port()];
    let locked = format!("passphrase={PASSPHRASE}");
    let _receivers = [
        SrtReceiver::start(&folder.join("a.ts"), ports[0], &locked),
        SrtReceiver::start(&folder.join("b.ts"), ports[1], ""),
    ];
    let _broadcaster = stage.broadcast(Sends::obedient());
    let table = [
        (
            ports[0],
            Some("a wrong passphrase"),
            FailureCode::PassphraseWrong,
        ),
        (
            ports[1],
            Some("an unwanted one"),
            FailureCode::PassphraseWrong,
        ),
        (ports[2], None, FailureCode::Timeout),
    ];
    let destinations = table.iter().map(|(port, passphrase, _)| {
        json!({"type": "srt", "url": format!("srt://127.0.0.1:{port}"), "passphrase": passphrase})
    });
    let job = stage.start(json!(destinations.collect::<Vec<_>>())).await;
    let settled = |job: &Job| {
        let mut codes = job.destinations.iter().zip(&table);
        codes.all(|(d, (_, _, code))| {
            let given_up = d.state == DestinationState::Failed;
            d.code == Some(*code) && given_up == (*code == FailureCode::PassphraseWrong)
        })
    };
    let (job, took) = stage.wait_for(&job, secs(15), settled).await;
    println!("all said after {took:?}");
    for destination in &job.destinations {
        let said = destination.last_error.as_ref().unwrap();
        println!("{said}");
        assert!(
            !said.contains("wrong pass") && !said.contains("unwanted one"),
            "{said}"
        );
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_srt_destinations_are_refused() {
    let stage = Stage::for_stranger();
    let table = [
        (
            json!({"type": "srt", "url": "srt://127.0.0.1:9000"}),
            "destination_url_invalid",
        ),
        (
            json!({"type": "srt", "url": "srt://example.com"}),
            "destination_url_invalid",
        ),
        (
            json!({"type": "srt", "url": "srt://example.com:9000", "passphrase": "short"}),
            "destination_key_invalid",
        ),
    ];
    for (destination, code) in table {
        let body = json!({"destinations": [destination]}).to_string();
        let (status, _, problem) = stage.request("POST", "/api/rooms/room/egress", body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
        let problem: serde_json::Value = serde_json::from_slice(&problem).unwrap();
        assert_eq!(problem["code"], code);
    }
    stage.stop().await;
}
