//! The WebSocket of the pages: joining, refusals, and how it is closed.

use axum::http::Method;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use signaling::Config;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Message,
        protocol::frame::{
            Frame,
            coding::{Data, OpCode},
        },
    },
};
use tokio_util::sync::CancellationToken;

use crate::server::{HOUR, Server, request};

#[tokio::test]
async fn guest_joins_and_keeps_the_identity_when_coming_back() {
    let site = Site::start(Config::default()).await;
    site.server.token("one", "publish", HOUR).await;
    let mut page = site.open("one").await;
    page.say(&json!({"type": "join", "name": " Ann\n"})).await;
    let joined = page.hear().await;
    assert_eq!(
        (joined["type"].as_str(), joined["name"].as_str()),
        (Some("joined"), Some("Ann"))
    );
    assert_eq!(joined["grants"]["subscribe"], true);
    assert_eq!(joined["grants"]["publish"], false);
    assert_eq!(joined["room"]["slug"], "one");

    let mut again = site.open("one").await;
    again
        .say(&json!({"type": "join", "token": joined["guest_token"]}))
        .await;
    assert_eq!(again.hear().await["identity"], joined["identity"]);
    let mut other = site.open("one").await;
    other.say(&json!({"type": "join"})).await;
    assert_ne!(other.hear().await["identity"], joined["identity"]);

    page.say(&json!({"type": "publish", "sdp": "v=0"})).await;
    assert_eq!(page.hear().await["code"], "token_missing");
    page.say(&json!({"type": "ping"})).await;
    assert_eq!(
        page.hear().await["type"],
        "pong",
        "a refusal does not end the session"
    );
}

#[tokio::test]
async fn refused_join_says_why_and_closes() {
    let site = Site::start(Config::default()).await;
    let other = site.server.token("two", "publish", HOUR).await;
    let expired = site
        .server
        .token("one", "", std::time::Duration::ZERO)
        .await;
    for (label, room, token, code, close) in [
        ("no such room", "none", None, "room_unknown", 4404),
        ("bad name", "NONE", None, "room_name_invalid", 4404),
        ("garbage", "one", Some("garbage"), "token_invalid", 4401),
        ("expired", "one", Some(&*expired), "token_expired", 4401),
        ("other room", "one", Some(&*other), "token_wrong_room", 4403),
    ] {
        let mut page = site.open(room).await;
        page.say(&json!({"type": "join", "token": token})).await;
        assert_eq!(page.hear().await["code"], code, "{label}");
        assert_eq!(page.closed().await, close, "{label}");
    }
}

#[tokio::test]
async fn token_that_may_publish_makes_the_room() {
    let site = Site::start(Config::default()).await;
    let token = site.server.token("*", "publish egress", HOUR).await;
    let mut page = site.open("fresh").await;
    page.say(&json!({"type": "join", "token": token})).await;
    let joined = page.hear().await;
    assert_eq!(joined["room"]["slug"], "fresh");
    assert_eq!(joined["guest_token"], Value::Null);
    let room = site.server.service.find_room("fresh").await.unwrap();
    site.server
        .service
        .outputs_changed(room.id, json!([]), true);
    assert_eq!(page.hear().await["type"], "outputs");
    let told = page.hear().await;
    assert_eq!(
        (told["type"].as_str(), &told["room"]["hls"]),
        (Some("room"), &json!(true))
    );
}

#[tokio::test]
async fn everybody_with_an_invitation_is_a_guest_of_their_own() {
    let site = Site::start(Config::default()).await;
    let host = site.server.token("one", "publish", HOUR).await;
    let path = "/api/rooms/one/invites";
    // Nothing has to be said.
    let asked = request(Method::POST, path, Some(&host), None, "");
    let (status, _, body) = site.server.send(asked).await;
    assert_eq!(status, 201, "{body}");
    let invite: Value = serde_json::from_str(&body).unwrap();
    let link = invite["path"].as_str().unwrap();
    assert!(link.starts_with("/stage/one#token="), "{link}");

    let mut guests = Vec::new();
    for name in ["Bob", "Cid"] {
        let mut page = site.open("one").await;
        page.say(&json!({"type": "join", "token": invite["token"], "name": name}))
            .await;
        let joined = page.hear().await;
        assert_eq!(joined["name"], name);
        assert_eq!(joined["grants"]["stage"], true);
        assert_eq!(joined["grants"]["publish"], false);
        guests.push((page, joined));
    }
    assert_ne!(guests[0].1["identity"], guests[1].1["identity"]);
    let (page, joined) = &mut guests[0];
    page.say(&json!({"type": "publish", "sdp": "v=0"})).await;
    assert_eq!(page.hear().await["code"], "stage_closed", "nobody hosts");
    let mut again = site.open("one").await;
    again
        .say(&json!({"type": "join", "token": joined["guest_token"], "name": "Bobby"}))
        .await;
    let back = again.hear().await;
    assert_eq!(back["identity"], joined["identity"], "after a reload");
    assert_eq!(
        (&back["name"], &back["grants"]["stage"]),
        (&json!("Bobby"), &json!(true))
    );

    for (label, token) in [("nobody", None), ("guest", joined["guest_token"].as_str())] {
        let asked = request(Method::POST, path, token, Some("application/json"), "{}");
        let (status, _, body) = site.server.send(asked).await;
        assert!(status.is_client_error(), "{label}: {body}");
    }
}

#[tokio::test]
async fn participants_are_shown_to_who_runs_the_room() {
    let server = Server::start_with_media(Config::default()).await;
    let host = server.token("one", "publish", HOUR).await;
    let guest = server.token("one", "stage", HOUR).await;
    let get = |path: &str, token: &str| request(Method::GET, path, Some(token), None, "");
    for (label, path, token, status) in [
        ("host", "/api/rooms/one/participants", &host, 200),
        ("guest", "/api/rooms/one/participants", &guest, 403),
        (
            "nobody there",
            "/api/rooms/one/participants/x/stats",
            &host,
            404,
        ),
        (
            "not for guests",
            "/api/rooms/one/participants/x/stats",
            &guest,
            403,
        ),
    ] {
        let (found, _, body) = server.send(get(path, token)).await;
        assert_eq!(found, status, "{label}: {body}");
    }
}

#[tokio::test]
async fn nonsense_is_answered_and_closed_after_ten() {
    let site = Site::start(Config::default()).await;
    site.server.token("one", "", HOUR).await;
    let mut page = site.open("one").await;
    page.say(&json!({"type": "join"})).await;
    page.hear().await;
    for nonsense in [
        "{",
        "[]",
        "\"x\"",
        r#"{"type":"dance"}"#,
        "",
        "null",
        "1",
        "{}",
        "é",
        "\u{0}",
    ] {
        page.socket.send(Message::text(nonsense)).await.unwrap();
        assert_eq!(page.hear().await["code"], "bad_message", "{nonsense}");
    }
    assert_eq!(page.closed().await, 4400);
}

#[tokio::test]
async fn message_that_cannot_be_read_ends_its_session_alone_and_says_why() {
    let site = Site::start(Config::default()).await;
    site.server.token("one", "", HOUR).await;
    let mut other = site.open("one").await;
    let not_utf8 = Frame::message(&b"\xff\xfe"[..], OpCode::Data(Data::Text), true);
    for (label, message, code, close) in [
        (
            "too long",
            Message::text("x".repeat(200 * 1024)),
            "body_too_large",
            1009,
        ),
        ("not UTF-8", Message::Frame(not_utf8), "bad_message", 1007),
    ] {
        let mut page = site.open("one").await;
        page.say(&json!({"type": "join"})).await;
        page.hear().await;
        page.socket.send(message).await.unwrap();
        assert_eq!(page.hear().await["code"], code, "{label}");
        assert_eq!(page.closed().await, close, "{label}");
    }
    other.say(&json!({"type": "join"})).await;
    assert_eq!(other.hear().await["type"], "joined");
}

#[tokio::test]
async fn full_server_refuses_the_next_one() {
    let site = Site::start(Config {
        max_sessions: 1,
        ..Config::default()
    })
    .await;
    site.server.token("one", "", HOUR).await;
    let mut page = site.open("one").await;
    page.say(&json!({"type": "join"})).await;
    page.hear().await;
    let refused = connect_async(site.url("one")).await.unwrap_err();
    assert!(refused.to_string().contains("503"), "{refused}");
}

#[tokio::test]
async fn stopping_server_sends_pages_away_to_come_back() {
    let mut site = Site::start(Config::default()).await;
    site.server.token("one", "", HOUR).await;
    let mut page = site.open("one").await;
    page.say(&json!({"type": "join"})).await;
    page.hear().await;
    site.cancel.cancel();
    assert_eq!(page.closed().await, 1012);
    drop(page);
    // Signaling's own task ends by itself; the listener is the test's.
    site.tasks.join_next().await.unwrap().unwrap();
}

/// A served signaling service.
struct Site {
    server: Server,
    port: u16,
    cancel: CancellationToken,
    tasks: JoinSet<()>,
}

impl Site {
    async fn start(config: Config) -> Self {
        let server = Server::start(config).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let routes = server.routes();
        let cancel = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, routes).await.expect("it serves") });
        // The SFU's end of its queue is gone with it; here events never come.
        let (events, none) = tokio::sync::mpsc::channel(1);
        let (service, cancelled) = (server.service.clone(), cancel.clone());
        tasks.spawn(async move {
            let _open = events;
            service.run(none, cancelled).await;
        });
        Self {
            server,
            port,
            cancel,
            tasks,
        }
    }

    fn url(&self, room: &str) -> String {
        format!("ws://127.0.0.1:{}/ws/{room}", self.port)
    }

    async fn open(&self, room: &str) -> Page {
        Page {
            socket: connect_async(self.url(room)).await.expect("an upgrade").0,
        }
    }
}

struct Page {
    socket: WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>,
}

impl Page {
    async fn say(&mut self, message: &Value) {
        self.socket
            .send(Message::text(message.to_string()))
            .await
            .expect("a sound socket");
    }

    /// Returns the next message.
    async fn hear(&mut self) -> Value {
        loop {
            let message = self
                .socket
                .next()
                .await
                .expect("an open socket")
                .expect("a sound socket");
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).expect("JSON");
            }
            assert!(!message.is_close(), "closed: {message}");
        }
    }

    /// Returns the code that the socket is closed with.
    async fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self
                .socket
                .next()
                .await
                .expect("a close frame")
                .expect("a sound socket")
            {
                return frame.expect("a code").code.into();
            }
        }
    }
}
