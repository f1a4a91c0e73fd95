//! What is wrong is said, fast and in words that help.

use std::{
    net::ToSocketAddrs,
    time::{Duration, Instant},
};

use axum::http::StatusCode;
use egress::status::{DestinationState, FailureCode, Job};
use serde_json::json;

use crate::support::{
    broadcaster::Sends,
    rtmp_server::{RtmpServer, free_port},
    secs,
    stage::Stage,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_server_is_said_within_ten_seconds() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let closed = free_port();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = listener.local_addr().unwrap().port();
    let _broadcaster = stage.broadcast(Sends::default());
    let table = [
        (
            format!("rtmp://127.0.0.1:{closed}/live"),
            FailureCode::ConnectionRefused,
        ),
        (
            "rtmp://nosuch.invalid/live".to_owned(),
            FailureCode::HostNotFound,
        ),
        (server.url("deny"), FailureCode::Rejected),
        (server.url("nosuch"), FailureCode::Rejected),
        (
            format!("rtmp://127.0.0.1:{mute}/live"),
            FailureCode::Timeout,
        ),
        (
            format!("rtmps://127.0.0.1:{}/live", server.port),
            FailureCode::Timeout,
        ),
    ];
    let destinations: Vec<_> = table
        .iter()
        .map(|(url, _)| json!({"type": "rtmp", "url": url, "key": "hush-hush"}))
        .collect();
    let job = stage.start(json!(destinations)).await;
    let all_said = |job: &Job| job.destinations.iter().all(|d| d.code.is_some());
    let (job, took) = stage.wait_for(&job, secs(10), all_said).await;
    println!("all said after {took:?}");
    for (destination, (url, code)) in job.destinations.iter().zip(&table) {
        println!("{url}: {:?}", destination.last_error);
        assert_eq!(destination.code, Some(*code), "{url}");
        let given_up =
            destination.state == DestinationState::Failed && *code == FailureCode::Rejected;
        assert!(
            given_up || destination.state == DestinationState::Retrying,
            "{url}"
        );
        assert!(!destination.last_error.as_ref().unwrap().contains("hush"));
    }
    // nginx closes the connection in either case; when it does, tells what it did not like.
    let said = |place: usize| job.destinations[place].last_error.clone().unwrap();
    assert!(said(2).contains("Copy the key"), "{}", said(2));
    assert!(said(3).contains("the application “nosuch”"), "{}", said(3));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_answer_holds_up_no_end_and_gets_no_frames() {
    let stage = Stage::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = listener.local_addr().unwrap().port();
    let deaf = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let deaf_port = deaf.local_addr().unwrap().port();
    let _broadcaster = stage.broadcast(Sends::default());
    let job = stage
        .start(json!([
            {"type": "rtmp", "url": format!("rtmp://127.0.0.1:{mute}/live"), "key": "k"},
            {"type": "rtmp", "url": format!("rtmps://127.0.0.1:{mute}/live"), "key": "k"},
            {"type": "srt", "url": format!("srt://127.0.0.1:{deaf_port}")},
        ]))
        .await;
    let called = |job: &Job| job.receiving && job.destinations.iter().all(|d| d.attempt > 0);
    stage.wait_for(&job, secs(10), called).await;
    // All three have called by now: those two, and the third.
    listener.accept().unwrap();
    listener.accept().unwrap();
    deaf.recv(&mut [0; 1500]).unwrap();
    let asked = Instant::now();
    let ended = stage.end(&job).await;
    let took = asked.elapsed();
    assert!(took < Duration::from_millis(2500), "ended after {took:?}");
    for destination in &ended.destinations {
        assert_eq!((destination.frames, destination.bytes), (0, 0));
    }
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_others_refuses_or_renames() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let rtmp = |key: &str| json!({"type": "rtmp", "url": server.url("asked"), "key": key});
    let job = stage
        .start(json!([rtmp("refused"), rtmp("moved"), rtmp("welcome")]))
        .await;
    let settled = |job: &Job| {
        let states = job.destinations.iter().map(|d| d.state);
        states.eq([
            DestinationState::Failed,
            DestinationState::Live,
            DestinationState::Live,
        ])
    };
    let (settled, took) = stage.wait_for(&job, secs(15), settled).await;
    println!("all settled after {took:?}");
    assert_eq!(settled.destinations[0].code, Some(FailureCode::Rejected));
    stage.end(&job).await;
    let recordings = server.recordings();
    let named = |name: &str| {
        let mut names = recordings.iter().map(|file| file.file_name().unwrap());
        names.any(|file| file.to_string_lossy().starts_with(name))
    };
    assert!(named("elsewhere") && named("welcome"), "{recordings:?}");
    assert!(!named("refused"), "{recordings:?}");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_in_use_is_taken_over_when_it_is_free() {
    let stage = Stage::new();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    // One server by two names: it cannot be told that they are the same.
    let named = |host| server.url("live").replace("127.0.0.1", host);
    let rtmp = |host| json!([{"type": "rtmp", "url": named(host), "key": "k"}]);
    let first = stage.start(rtmp("localhost")).await;
    stage.wait_live(&first).await;
    let second = stage.start(rtmp("127.0.0.1")).await;
    let busy = |job: &Job| job.destinations[0].code == Some(FailureCode::AlreadyPublishing);
    let (waiting, _) = stage.wait_for(&second, secs(10), busy).await;
    assert_eq!(waiting.destinations[0].state, DestinationState::Retrying);
    println!("{:?}", waiting.destinations[0].last_error);
    stage.end(&first).await;
    let (_, took) = stage
        .wait_for(&second, secs(6), |job| {
            job.destinations[0].state == DestinationState::Live
        })
        .await;
    println!("live {took:?} after the other one ended");
    stage.end(&second).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_a_private_address_is_given_up_until_it_is_changed() {
    // Hardly any machine's name is on the internet; the other one is in every hosts file of Debian.
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut names = [hostname.trim(), "ip6-localhost"].into_iter();
    let is_of_loopback = |name: &&str| {
        let found = (*name, 1935).to_socket_addrs();
        found.is_ok_and(|mut all| all.all(|address| address.ip().is_loopback()))
    };
    let Some(here) = names.find(is_of_loopback) else {
        println!("no name resolves to this machine: not tested");
        return;
    };
    let mut stage = Stage::for_stranger();
    let server = RtmpServer::start(&stage.path("server"));
    let _broadcaster = stage.broadcast(Sends::default());
    let url = server.url("live").replace("127.0.0.1", here);
    let rtmp = json!({"type": "rtmp", "url": url, "key": "k"});
    let job = stage.start(json!([{"type": "hls"}, rtmp])).await;
    let last_is = |state: DestinationState, code: Option<FailureCode>| {
        move |job: &Job| {
            let last = job.destinations.last().unwrap();
            (last.state, last.code) == (state, code)
        }
    };
    let refused = last_is(DestinationState::Failed, Some(FailureCode::PrivateAddress));
    stage.wait_for(&job, secs(10), refused).await;
    let path = format!("{job}/destinations/d2");
    let change = r#"{"url":"rtmp://nowhere.invalid/live"}"#;
    let (status, _, body) = stage.request("PATCH", &path, change).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let elsewhere = last_is(DestinationState::Retrying, Some(FailureCode::HostNotFound));
    stage.wait_for(&job, secs(10), elsewhere).await;
    stage.hand_to_owner();
    let rtmp = json!({"type": "rtmp", "url": server.url("live"), "key": "k"});
    let change = json!({"remove": ["d3"], "add": [rtmp]}).to_string();
    let (status, _, body) = stage.request("PATCH", &job, change).await;
    assert_eq!(status, StatusCode::OK, "{body:?}");
    let live = stage.wait_live(&job).await;
    let ids = live.destinations.iter().map(|d| d.id.as_str());
    assert!(ids.eq(["d1", "d4"]), "{live:?}");
    stage.end(&job).await;
    stage.stop().await;
}
