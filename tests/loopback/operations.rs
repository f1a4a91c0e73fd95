//! What an operator relies on.

use std::{path::Path, time::Duration};

use reqwest::{StatusCode, header};
use serde_json::json;

use crate::support::{
    http,
    output::Output,
    peer::Peer,
    server::{self, Server, Setup, run},
    session::Session,
    source::Source,
    wait,
};

#[test]
fn the_servers_memory_never_becomes_a_file() {
    let server = Server::start();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let mut lines = limits.lines();
    let core = lines.find_map(|line| line.strip_prefix("Max core file size"));
    let core: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(core, ["0", "0", "bytes"], "soft and hard");
}

#[tokio::test]
#[expect(
    clippy::await_holding_lock,
    reason = "nobody but the log's reader waits for it, as is wanted"
)]
async fn a_log_that_nobody_reads_holds_up_nobody() {
    let server = Setup::new().verbose().start();
    let paused = server.pause_log();
    // A pipe takes 64 KB.
    for _ in 0..500 {
        let request = http::client().get(server.url("/healthz"));
        let response = request.timeout(wait::PATIENCE).send();
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    }
    drop(paused);
    let (_, _, log) = server.interrupt();
    assert!(log.len() > 65_536, "{} bytes were logged", log.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_metrics_tell_how_it_is() {
    let server = Server::start();
    for path in ["/healthz", "/readyz"] {
        let response = http::client().get(server.url(path)).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
    let source = Source::h264();
    let host = server.host("stage");
    let broadcaster = Peer::publisher(&server, &source).await;
    broadcaster.whip(&server, "stage", &host).await;
    let viewer = Peer::viewer(&server).await;
    viewer.whep(&server, "stage").await;
    viewer.receives("video/H264", 60).await;
    let output = Output::start(&server, "stage", &host, &json!([{"type": "hls"}])).await;
    output.destination(0, "live").await;
    for (name, labels, least) in [
        ("fanlight_rooms", "", 1.0),
        ("fanlight_publishers", "", 1.0),
        ("fanlight_viewers", "", 1.0),
        ("fanlight_rtp_packets_received_total", "", 100.0),
        ("fanlight_rtp_bytes_received_total", "", 10_000.0),
        ("fanlight_rtp_packets_sent_total", "", 60.0),
        ("fanlight_rtp_bytes_sent_total", "", 10_000.0),
        ("fanlight_rtp_packets_lost_total", "", 0.0),
        ("fanlight_egress_destinations", "state=\"live\"", 1.0),
    ] {
        let value = server.metric(name, labels).await;
        assert!(value.is_some_and(|v| v >= least), "{name} is {value:?}");
    }
    let metrics = http::client()
        .get(server.url("/metrics"))
        .send()
        .await
        .unwrap();
    assert_eq!(undocumented(&metrics.text().await.unwrap()), [""; 0]);
    let proxied = http::client()
        .get(server.url("/metrics"))
        .header("x-forwarded-for", "203.0.113.7")
        .send()
        .await
        .unwrap();
    assert_eq!(
        proxied.status(),
        StatusCode::UNAUTHORIZED,
        "metrics are not for everybody"
    );

    // Told to stop in the middle of a broadcast with an output.
    let (mut session, _) = Session::join(&server, "stage", None, None).await;
    session.send(&json!({"type": "ping"})).await;
    session.next("pong").await;
    let (_, took, log) = server.interrupt();
    assert!(took < Duration::from_secs(10), "stopping took {took:?}");
    let (code, _) = session.closed().await;
    assert_eq!(code, 1012, "pages are told to come back");
    broadcaster.ended().await;
    viewer.ended().await;
    assert!(
        !log.contains("did not finish in time") && !log.contains("panicked"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_else_may_read_what_the_server_keeps() {
    let server = Setup::new()
        .config("[egress.hls]\ndvr_seconds = 60")
        .start();
    let source = Source::h264();
    let host = server.host("stage");
    let broadcaster = Peer::publisher(&server, &source).await;
    broadcaster.whip(&server, "stage", &host).await;
    let both = json!([{"type": "recording"}, {"type": "hls"}]);
    let output = Output::start(&server, "stage", &host, &both).await;
    let kept = || {
        let mut kept = Vec::new();
        let mut folders = vec![server.data_dir()];
        while let Some(folder) = folders.pop() {
            for path in files(&folder) {
                folders.extend(path.is_dir().then(|| path.clone()));
                kept.push(path);
            }
        }
        kept
    };
    let check = || {
        for path in kept() {
            // Files come and go.
            let wanted = if path.is_dir() { 0o700 } else { 0o600 };
            if path.exists() {
                assert_eq!(server::mode(&path), wanted, "{}", path.display());
            }
        }
    };
    for what in ["recordings/", "rewind/", ".db"] {
        wait::until(what, async || {
            let kept = kept();
            let is_it = |path: &std::path::PathBuf| path.to_string_lossy().contains(what);
            let found = kept.iter().any(|path| path.is_file() && is_it(path));
            wait::check(found, kept)
        })
        .await;
    }
    check();
    output.end().await;
    wait::until("the recording is finished", async || {
        let kept = kept();
        wait::check(
            kept.iter()
                .any(|path| path.extension() == Some("mp4".as_ref())),
            kept,
        )
    })
    .await;
    check();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_rooms_chat_and_tokens() {
    let server = Server::start();
    let host = server.token("stage", &["--publish", "--chat", "--identity", "ann"]);
    let peer = Peer::viewer(&server).await;
    let (mut session, joined) = Session::join(&server, "stage", None, Some("Bob")).await;
    let guest = joined["guest_token"].as_str().unwrap().to_owned();
    let mut chat = peer.channel("chat").await;
    session.negotiate("watch", &peer).await;
    chat.send(&json!({"type": "say", "text": "remember me"}).to_string())
        .await;
    chat.next("own message", |m| m["message"]["text"] == "remember me")
        .await;
    let secrets: Vec<_> = files(&server.data_dir())
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("secret"))
        .collect();
    assert!(!secrets.is_empty(), "{:?}", files(&server.data_dir()));
    for secret in &secrets {
        assert_eq!(server::mode(secret), 0o600, "{}", secret.display());
    }

    // Once properly, once by a power cut.
    let (setup, ..) = server.interrupt();
    let server = setup.start();
    check_memory(&server, &host, &guest).await;
    let server = server.kill().start();
    check_memory(&server, &host, &guest).await;
}

async fn check_memory(server: &Server, host: &str, guest: &str) {
    let (_session, joined) = Session::join(server, "stage", Some(host), None).await;
    assert_eq!(
        (&joined["identity"], &joined["grants"]["publish"]),
        (&"ann".into(), &true.into())
    );
    let peer = Peer::viewer(server).await;
    let (mut session, joined) = Session::join(server, "stage", Some(guest), None).await;
    assert_eq!(joined["name"], "Bob");
    let mut chat = peer.channel("chat").await;
    session.negotiate("watch", &peer).await;
    let history = chat.next("history", |m| m["type"] == "history").await;
    assert_eq!(history["messages"][0]["text"], "remember me");
    assert_eq!(history["messages"][0]["name"], "Bob");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_with_a_certificate_of_its_own() {
    let server = Setup::new().self_signed().start();
    let health = http::client()
        .get(server.url("/healthz"))
        .send()
        .await
        .unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    let source = Source::start(None, true);
    let broadcaster = Peer::publisher(&server, &source).await;
    broadcaster
        .whip(&server, "stage", &server.host("stage"))
        .await;
    broadcaster.connected().await;
    let files = files(&server.data_dir());
    for key in files
        .iter()
        .filter(|path| path.extension().is_some_and(|e| e == "key"))
    {
        assert_eq!(server::mode(key), 0o600, "{}", key.display());
    }
}

#[test]
fn settings_are_shown_without_secrets_and_checked() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("fanlight.toml");
    let config = |toml: &str, env: &[(&str, &str)]| {
        std::fs::write(&file, toml).unwrap();
        let output = run(&["config", "--config", file.to_str().unwrap()], env);
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (works, shown) = config(
        "[signaling]\ntoken_secret = 'never to be seen'\n[media]\nudp_port = 7001\n",
        &[("FANLIGHT_HTTP__LISTEN", "127.0.0.1:8090")],
    );
    assert!(works, "{shown}");
    assert!(!shown.contains("never to be seen"), "{shown}");
    assert!(
        shown.contains("7001") && shown.contains("127.0.0.1:8090"),
        "{shown}"
    );
    for (what, toml, env, named) in [
        ("an unknown key", "[media]\ncolour = 1", &[][..], "colour"),
        ("an unknown section", "[colour]\nred = 1", &[], "colour"),
        (
            "an unknown variable",
            "",
            &[("FANLIGHT_MEDIA__COLOUR", "1")],
            "FANLIGHT_MEDIA__COLOUR is no setting",
        ),
        (
            "a wrong type",
            "[media]\nudp_port = 'high'",
            &[],
            "udp_port",
        ),
        (
            "out of range",
            "[egress]\nmax_destinations = 99",
            &[],
            "max_destinations",
        ),
        (
            "a short secret",
            "[signaling]\ntoken_secret = 'short'",
            &[],
            "token_secret",
        ),
        ("no TOML", "[media", &[], "fanlight.toml"),
    ] {
        let (works, text) = config(toml, env);
        assert!(!works, "{what} was taken: {text}");
        assert!(
            text.contains(named),
            "{what}: {named} is not named in {text}"
        );
    }
    let serve = run(&["serve", "--config", "/nowhere/fanlight.toml"], &[]);
    assert!(!serve.status.success(), "a missing file was taken");
    let unknown = run(&["--colour"], &[]);
    assert!(!unknown.status.success(), "an unknown flag was taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_pages_are_served_or_said_to_be_missing() {
    let server = Server::start();
    let page = http::client().get(server.url("/")).send().await.unwrap();
    let (status, kind) = (
        page.status(),
        http::header_text(&page, header::CONTENT_TYPE),
    );
    let text = page.text().await.unwrap();
    // The Rust tests also run where the pages have not been built.
    match status {
        StatusCode::OK => assert!(
            kind.starts_with("text/html") && text.contains("<script"),
            "{text}"
        ),
        StatusCode::SERVICE_UNAVAILABLE => assert!(text.contains("make run"), "{text}"),
        other => panic!("{other}: {text}"),
    }
    let asset = http::client()
        .get(server.url("/assets/none.js"))
        .send()
        .await
        .unwrap();
    assert_eq!(asset.status(), StatusCode::NOT_FOUND);
}

/// Returns the metrics that have no description, in themselves or among the documents.
fn undocumented(metrics: &str) -> Vec<&str> {
    let page = include_str!("../../docs/metrics.md");
    let types = metrics.lines().filter_map(|l| l.strip_prefix("# TYPE "));
    let names: Vec<&str> = types.filter_map(|l| l.split(' ').next()).collect();
    assert!(names.len() > 30, "{names:?}");
    let is_described = |name: &&str| {
        metrics.contains(&format!("# HELP {name} ")) && page.contains(&format!("`{name}`"))
    };
    names.into_iter().filter(|n| !is_described(n)).collect()
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}
