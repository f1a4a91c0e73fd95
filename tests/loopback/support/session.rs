//! A page's WebSocket, without the page.

use std::collections::VecDeque;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout_at};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

use super::{peer::Peer, server::Server, wait};

/// A signaling session.
pub(crate) struct Session {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    passed_over: VecDeque<Value>,
}

impl Session {
    /// Connects without joining.
    pub(crate) async fn connect(server: &Server, room: &str) -> Self {
        let (socket, _) = tokio_tungstenite::connect_async(server.websocket_url(room))
            .await
            .unwrap();
        Self {
            socket,
            passed_over: VecDeque::new(),
        }
    }

    /// Connects and joins, and returns the session with its `joined`.
    pub(crate) async fn join(
        server: &Server,
        room: &str,
        token: Option<&str>,
        name: Option<&str>,
    ) -> (Self, Value) {
        let mut session = Self::connect(server, room).await;
        let mut join = json!({ "type": "join" });
        if let Some(token) = token {
            join["token"] = token.into();
        }
        if let Some(name) = name {
            join["name"] = name.into();
        }
        session.send(&join).await;
        let joined = session.next("joined").await;
        (session, joined)
    }

    pub(crate) async fn send(&mut self, message: &Value) {
        self.send_text(&message.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// Offers a peer's media by `publish` or `watch`, and gives it the answer.
    pub(crate) async fn negotiate(&mut self, kind: &str, peer: &Peer) {
        self.send(&json!({ "type": kind, "sdp": peer.offer().await }))
            .await;
        let answer = self.next("answer").await;
        peer.accept(answer["sdp"].as_str().unwrap()).await;
    }

    /// Returns the next message of this type; the ones before it stay for later calls.
    pub(crate) async fn next(&mut self, kind: &str) -> Value {
        self.next_where(kind, |message| message["type"] == kind)
            .await
    }

    /// Returns the next message for which `wanted` holds.
    pub(crate) async fn next_where(
        &mut self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        if let Some(at) = self.passed_over.iter().position(&wanted) {
            return self.passed_over.remove(at).unwrap();
        }
        let deadline = tokio::time::Instant::now() + wait::PATIENCE;
        loop {
            let message = match timeout_at(deadline, self.socket.next()).await {
                Err(_) => panic!("no {what}; had: {:?}", self.passed_over),
                Ok(Some(Ok(Message::Text(text)))) => serde_json::from_str(&text).unwrap(),
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
                Ok(end) => panic!(
                    "session ended ({end:?}) before {what}; had: {:?}",
                    self.passed_over
                ),
            };
            if wanted(&message) {
                return message;
            }
            self.passed_over.push_back(message);
        }
    }

    /// Waits for the server to close, and returns its code and the messages before that.
    pub(crate) async fn closed(mut self) -> (u16, Vec<Value>) {
        let deadline = tokio::time::Instant::now() + wait::PATIENCE;
        loop {
            match timeout_at(deadline, self.socket.next()).await {
                Err(_) => panic!("the session stays open; had: {:?}", self.passed_over),
                Ok(Some(Ok(Message::Text(text)))) => {
                    self.passed_over
                        .push_back(serde_json::from_str(&text).unwrap());
                }
                Ok(Some(Ok(Message::Close(frame)))) => {
                    let code = frame.map_or(1005, |frame| frame.code.into());
                    return (code, self.passed_over.into());
                }
                Ok(Some(Ok(_))) => {}
                Ok(end) => panic!("closed without saying why: {end:?}"),
            }
        }
    }
}
