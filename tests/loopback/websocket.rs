//! The pages' WebSocket, and chat over the data channel.

use std::{collections::BTreeSet, time::Duration};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{
    http,
    peer::Peer,
    server::{Server, Setup},
    session::Session,
    source::Source,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broadcast_with_viewers_and_chat() {
    let server = Server::start();
    let source = Source::h264();
    let token = server.token("stage", &["--publish", "--chat", "--name", "Ann"]);
    let (mut host, joined) = Session::join(&server, "stage", Some(&token), None).await;
    assert_eq!(joined["name"], "Ann");
    assert_eq!(joined["grants"]["publish"], true);
    assert_eq!(joined["grants"]["admin"], false);
    assert_eq!(joined["room"]["slug"], "stage");
    assert_eq!(
        (&joined["room"]["live"], &joined["room"]["viewers"]),
        (&false.into(), &0.into())
    );
    assert!(joined.get("guest_token").is_none(), "{joined}");

    let (mut guest, joined) = Session::join(&server, "stage", None, Some("  Bob ")).await;
    assert_eq!(joined["name"], "Bob");
    assert_eq!(joined["grants"]["publish"], false);
    assert_eq!(joined["grants"]["subscribe"], true);
    let guest_identity = joined["identity"].clone();
    let guest_token = joined["guest_token"].as_str().unwrap().to_owned();
    // The guest waits before anything is sent.
    let viewer = Peer::viewer(&server).await;
    let (mut viewer_chat, mut viewer_events) =
        (viewer.channel("chat").await, viewer.channel("events").await);
    guest.negotiate("watch", &viewer).await;
    viewer.connected().await;
    let history = viewer_chat
        .next("history", |m| m["type"] == "history")
        .await;
    assert_eq!(history["messages"], json!([]));

    let publisher = Peer::publisher(&server, &source).await;
    let mut host_chat = publisher.channel("chat").await;
    host.negotiate("publish", &publisher).await;
    viewer.receives("video/H264", 60).await;
    viewer.receives("audio/opus", 60).await;
    let live =
        |m: &Value| m["type"] == "room" && m["room"]["live"] == true && m["room"]["viewers"] == 1;
    let room = host.next_where("a live room with one viewer", live).await;
    assert!(
        room["room"]["live_since_ms"].as_u64().unwrap() > 1_700_000_000_000,
        "{room}"
    );
    guest.next_where("a live room with one viewer", live).await;
    viewer_events
        .next("a live room with one viewer", live)
        .await;

    host_chat
        .send(&json!({"type": "say", "text": " hello ", "nonce": "n1"}).to_string())
        .await;
    let said = |text: &'static str| {
        move |m: &Value| m["type"] == "message" && m["message"]["text"] == text
    };
    let own = host_chat.next("own message", said("hello")).await;
    assert_eq!(
        (&own["nonce"], &own["message"]["host"]),
        (&"n1".into(), &true.into())
    );
    let heard = viewer_chat.next("the host's message", said("hello")).await;
    assert_eq!(heard["message"]["name"], "Ann");
    assert!(heard.get("nonce").is_none(), "{heard}");
    viewer_chat
        .send(&json!({"type": "say", "text": "hi Ann"}).to_string())
        .await;
    let answer = host_chat.next("the guest's message", said("hi Ann")).await;
    assert_eq!(answer["message"]["identity"], guest_identity);
    assert_eq!(answer["message"]["host"], false);
    assert!(answer["message"]["id"].as_i64() > heard["message"]["id"].as_i64());

    // A newcomer sees what was said, and everybody sees the newcomer.
    let (mut third, _) = Session::join(&server, "stage", None, None).await;
    let newcomer = Peer::viewer(&server).await;
    let mut newcomer_chat = newcomer.channel("chat").await;
    third.negotiate("watch", &newcomer).await;
    let history = newcomer_chat
        .next("history", |m| m["type"] == "history")
        .await;
    let texts: Vec<&Value> = history["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["text"])
        .collect();
    assert_eq!(texts, ["hello", "hi Ann"]);
    host.next_where("two viewers", |m| m["room"]["viewers"] == 2)
        .await;
    viewer_events
        .next("two viewers", |m| m["room"]["viewers"] == 2)
        .await;
    third.send(&json!({"type": "stop"})).await;
    host.next_where("one viewer again", |m| m["room"]["viewers"] == 1)
        .await;

    host.send(&json!({"type": "set_paused", "paused": true}))
        .await;
    guest
        .next_where("a paused room", |m| m["room"]["paused"] == true)
        .await;
    host.send(&json!({"type": "stop"})).await;
    guest
        .next_where("a room off air", |m| {
            m["type"] == "room" && m["room"]["live"] == false
        })
        .await;

    drop(guest);
    assert_same_guest(&server, &guest_token, &guest_identity).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_has_limits_that_are_told() {
    let server = Setup::new()
        .config("[signaling.chat]\nguests = false")
        .start();
    let token = server.token("stage", &["--chat"]);
    let (mut session, _) = Session::join(&server, "stage", Some(&token), None).await;
    let peer = Peer::viewer(&server).await;
    let mut chat = peer.channel("chat").await;
    session.negotiate("watch", &peer).await;
    chat.next("history", |m| m["type"] == "history").await;

    for (what, text, code) in [
        ("too long", "é".repeat(501), "chat_too_long"),
        ("empty", " \n ".into(), "chat_empty"),
    ] {
        chat.send(&json!({"type": "say", "text": text, "nonce": what}).to_string())
            .await;
        let refused = chat.next(what, |m| m["type"] == "refused").await;
        assert_eq!(
            (&refused["code"], &refused["nonce"]),
            (&code.into(), &what.into())
        );
        assert!(
            refused["message"].as_str().is_some_and(|m| !m.is_empty()),
            "{refused}"
        );
    }
    for garbage in [
        "{",
        "[]",
        r#"{"type":"shout"}"#,
        r#"{"type":"say","text":1}"#,
    ] {
        chat.send(garbage).await;
        let refused = chat.next(garbage, |m| m["type"] == "refused").await;
        assert_eq!(refused["code"], "bad_message", "{garbage}");
    }
    let longest = "é".repeat(500);
    chat.send(&json!({"type": "say", "text": longest}).to_string())
        .await;
    chat.next("the longest message", |m| {
        m["message"]["text"] == longest.as_str()
    })
    .await;

    // Faster than anybody types.
    for number in 0..12 {
        chat.send(&json!({"type": "say", "text": number.to_string()}).to_string())
            .await;
    }
    let refused = chat
        .next("a refusal for haste", |m| m["type"] == "refused")
        .await;
    assert_eq!(refused["code"], "chat_rate_limited");
    let retry = refused["retry_after_ms"].as_u64().unwrap();
    assert!((1..=10_000).contains(&retry), "{refused}");
    // Whoever waits as told is heard.
    let rest = chat.rest(Duration::from_millis(retry)).await;
    let heard: BTreeSet<_> = rest
        .iter()
        .filter_map(|m| m["message"]["id"].as_i64())
        .collect();
    assert!((1..12).contains(&heard.len()), "{heard:?} of 12 were taken");
    chat.send(&json!({"type": "say", "text": "patient"}).to_string())
        .await;
    chat.next("the patient message", |m| m["message"]["text"] == "patient")
        .await;

    let (mut session, joined) = Session::join(&server, "stage", None, None).await;
    assert_eq!(joined["grants"]["chat"], false);
    let peer = Peer::viewer(&server).await;
    let mut chat = peer.channel("chat").await;
    session.negotiate("watch", &peer).await;
    chat.send(&json!({"type": "say", "text": "may I?"}).to_string())
        .await;
    let refused = chat.next("a refusal", |m| m["type"] == "refused").await;
    assert_eq!(refused["code"], "chat_not_allowed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_is_answered_and_the_session_goes_on() {
    let server = Server::start();
    server.host("stage");
    let (mut session, joined) = Session::join(&server, "stage", None, None).await;
    assert!(
        !joined["name"].as_str().unwrap().is_empty(),
        "a guest gets a name"
    );
    for garbage in [
        "",
        "{",
        "null",
        r#"{"type":"unheard_of"}"#,
        r#"{"type":"watch"}"#,
        r#"{"type":"ping","extra":1}"#,
    ] {
        session.send_text(garbage).await;
        let error = session.next("error").await;
        assert_eq!(error["code"], "bad_message", "{garbage}");
    }
    session.send(&json!({"type": "watch", "sdp": "v=0"})).await;
    assert_eq!(session.next("error").await["code"], "sdp_invalid");
    let publisher = Peer::viewer(&server).await;
    session
        .send(&json!({"type": "publish", "sdp": publisher.offer().await}))
        .await;
    assert_eq!(session.next("error").await["code"], "token_missing");
    session
        .send(&json!({"type": "candidate", "candidate": "", "sdp_mid": "0"}))
        .await;
    session.send(&json!({"type": "ping"})).await;
    session.next("pong").await;

    let expected = [
        ("nowhere", None, 4404, "room_unknown"),
        ("stage", Some("nonsense"), 4401, "token_invalid"),
    ];
    for (room, token, close_code, code) in expected {
        let mut session = Session::connect(&server, room).await;
        let mut join = json!({"type": "join"});
        if let Some(token) = token {
            join["token"] = token.into();
        }
        session.send(&join).await;
        let (closed_with, messages) = session.closed().await;
        assert_eq!(closed_with, close_code, "{room}: {messages:?}");
        assert_eq!(messages.last().unwrap()["code"], code, "{room}");
    }
    let elsewhere = server.host("elsewhere");
    let mut session = Session::connect(&server, "stage").await;
    session
        .send(&json!({"type": "join", "token": elsewhere}))
        .await;
    let (closed_with, messages) = session.closed().await;
    assert_eq!(
        (closed_with, &messages.last().unwrap()["code"]),
        (4403, &"token_wrong_room".into())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_and_tokens_are_made_over_the_api() {
    let server = Server::start();
    let api = |path: &str| server.url(&format!("/api/rooms{path}"));
    let create = async |slug: &str, token: &str| {
        let body = json!({"slug": slug, "title": "The Stage"});
        http::client()
            .post(api(""))
            .bearer_auth(token)
            .json(&body)
            .send()
            .await
            .unwrap()
    };
    let created = http::json(create("stage", server.owner()).await, StatusCode::CREATED).await;
    assert_eq!(
        (&created["slug"], &created["title"]),
        (&"stage".into(), &"The Stage".into())
    );
    let twice = create("stage", server.owner()).await;
    http::assert_problem(twice, 409, "room_exists", "the same name twice").await;
    for slug in ["", "UPPER", "a b", &"a".repeat(65)] {
        let wrong = create(slug, server.owner()).await;
        http::assert_problem(wrong, 400, "room_name_invalid", slug).await;
    }
    let host = server.host("stage");
    http::assert_problem(create("mine", &host).await, 403, "not_allowed", "no admin").await;

    let listed = http::client().get(api("")).send().await.unwrap();
    let listed = http::json(listed, StatusCode::OK).await;
    assert_eq!(listed["rooms"][0]["slug"], "stage");
    let unknown = http::client().get(api("/nowhere")).send().await.unwrap();
    http::assert_problem(unknown, 404, "room_unknown", "a room that is not").await;

    let asked = json!({"identity": "cam-1", "publish": true, "ttl_seconds": 600});
    let minted = http::client()
        .post(api("/stage/tokens"))
        .bearer_auth(server.owner())
        .json(&asked)
        .send();
    let minted = http::json(minted.await.unwrap(), StatusCode::CREATED).await;
    assert_eq!(minted["identity"], "cam-1");
    let (_session, joined) = Session::join(&server, "stage", minted["token"].as_str(), None).await;
    assert_eq!(joined["identity"], "cam-1");
    assert_eq!(
        (&joined["grants"]["publish"], &joined["grants"]["egress"]),
        (&true.into(), &false.into())
    );
    let refused = http::client()
        .post(api("/stage/tokens"))
        .bearer_auth(&host)
        .json(&asked)
        .send();
    http::assert_problem(
        refused.await.unwrap(),
        403,
        "not_allowed",
        "minting without admin",
    )
    .await;
}

/// A guest who comes back with the token they were given is the same.
async fn assert_same_guest(server: &Server, token: &str, identity: &Value) {
    let (_again, joined) = Session::join(server, "stage", Some(token), None).await;
    assert_eq!(
        (&joined["identity"], &joined["name"]),
        (identity, &"Bob".into())
    );
}
