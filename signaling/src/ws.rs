//! `/ws/{room}`: drives one [`Session`] over a WebSocket.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{
        Path, State,
        ws::{
            CloseFrame, Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection,
        },
    },
    response::Response,
    routing::any,
};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use sfu::{PeerId, RoomId};
use tokio::{
    sync::mpsc,
    time::{sleep, sleep_until, timeout},
};
use tracing::{Instrument, info_span};

use crate::{
    Problem, Service,
    auth::Member,
    clock::unix_seconds,
    directory::{Owner, Seat, SessionId},
    outbox::{Outbox, Waiting},
    protocol::{ErrorCode, IceCredentials, ServerMessage, close_code},
    session::{Action, BrokenFrame, Session},
    token::returning_claims,
    turn::ice_servers,
};

pub(crate) fn routes() -> Router<Service> {
    Router::new().route("/ws/{room}", any(upgrade))
}

async fn upgrade(
    State(service): State<Service>,
    Path(slug): Path<String>,
    request: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = request.map_err(|rejection| {
        let detail = format!(
            "This is the address of a WebSocket: {}",
            rejection.body_text()
        );
        Problem::new(ErrorCode::BadMessage, detail)
    })?;
    service.check_capacity()?;
    let limit = service.config().max_body_bytes;
    let upgrade = upgrade.max_message_size(limit).max_frame_size(limit);
    Ok(upgrade.on_upgrade(move |socket| async move {
        let id = service.directory().arrive();
        let span = info_span!("session", room = %slug);
        let work = service
            .tasks()
            .track_future(drive(&service, id, slug, socket));
        work.instrument(span).await;
    }))
}

/// Drives a session until its socket closes.
async fn drive(service: &Service, id: SessionId, slug: String, socket: WebSocket) {
    let (outbox, waiting) = Outbox::new();
    let (sink, stream) = socket.split();
    let (ended, inbox) = mpsc::channel(ENDED_LIMIT);
    let mut driver = Driver {
        service,
        id,
        slug,
        session: Session::new(Instant::now()),
        outbox,
        ended,
        entered: None,
    };
    let goodbye = tokio::select! {
        goodbye = driver.read(stream, inbox) => goodbye,
        () = write(sink, waiting) => false,
    };
    let peers = service.directory().leave(id, goodbye, Instant::now());
    service.close_peers(peers).await;
    tracing::debug!(goodbye, "session ended");
}

struct Driver<'a> {
    service: &'a Service,
    id: SessionId,
    slug: String,
    session: Session,
    outbox: Outbox,
    ended: mpsc::Sender<(PeerId, &'static str)>,
    entered: Option<(RoomId, Arc<Member>)>,
}

impl Driver<'_> {
    /// Returns whether the page said goodbye. After telling the socket to close it waits to be dropped.
    async fn read(
        &mut self,
        mut stream: SplitStream<WebSocket>,
        mut inbox: mpsc::Receiver<(PeerId, &'static str)>,
    ) -> bool {
        loop {
            let due = self.session.poll_timeout();
            let actions = tokio::select! {
                frame = stream.next() => match frame {
                    Some(Ok(Message::Text(text))) => self.session.handle_text(&text, Instant::now()),
                    Some(Ok(Message::Binary(_))) => self.session.handle_binary(Instant::now()),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                        self.session.handle_sign_of_life(Instant::now());
                        Vec::new()
                    }
                    // An answer to our own closing is no goodbye: the page may come back for its media.
                    Some(Ok(Message::Close(_))) => {
                        return !self.session.is_closed() && !self.outbox.has_given_up();
                    }
                    Some(Err(error)) => match broken(error) {
                        Some(broken) => self.session.handle_broken(broken),
                        None => return false,
                    },
                    // Nothing can be read any more, and the reason is still to be sent.
                    None if self.session.is_closed() => std::future::pending().await,
                    None => return false,
                },
                Some((peer, reason)) = inbox.recv() => self.session.handle_media_closed(peer, reason),
                () = sleep_until(due.into()) => self.session.handle_timeout(Instant::now()),
            };
            self.execute(actions).await;
        }
    }

    async fn execute(&mut self, actions: Vec<Action>) {
        let mut actions = std::collections::VecDeque::from(actions);
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(message) => self.send(&message),
                Action::Admit { token, name } => {
                    let admission = self.admit(token.as_deref(), name.as_deref()).await;
                    actions.extend(self.session.handle_admission(admission));
                }
                Action::Enter(member) => self.enter(&member),
                Action::Negotiate(offer) => {
                    let Some((room, member)) = self.entered.clone() else {
                        continue;
                    };
                    let owner = Owner::Session(self.id);
                    let role = offer.role;
                    let answer = self.service.negotiate(room, member, owner, offer).await;
                    let outcome = answer.map(|answer| (answer.peer, answer.sdp));
                    actions.extend(self.session.handle_negotiated(role, outcome));
                }
                Action::ClosePeer(peer) => self.service.close_peers([peer]).await,
                Action::Stop(peer) => self.service.stop_peer(peer).await,
                Action::Finish => {
                    if let Some((room, member)) = self.entered.clone() {
                        self.service.finish(room, &member).await;
                    }
                }
                Action::SetPaused(paused) => self.set_paused(paused),
                Action::RestartIce {
                    media,
                    peer,
                    fragment,
                } => {
                    let ice = match peer {
                        Some(peer) => self
                            .service
                            .restart_ice(peer, fragment)
                            .await
                            .ok()
                            .flatten(),
                        None => None,
                    };
                    let ice = ice.map(|ice| IceCredentials {
                        ufrag: ice.ufrag,
                        pwd: ice.pwd,
                    });
                    self.send(&ServerMessage::IceRestarted { media, ice });
                }
                Action::Limit(peer, layer) => self.service.limit(peer, layer).await,
                Action::SetLayers { heights, screen } => self.set_layers(&heights, screen),
                Action::Ping => self.outbox.ping(),
                Action::Close { code, reason } => self.outbox.close(code, reason),
            }
        }
    }

    fn send(&self, message: &ServerMessage) {
        if let ServerMessage::Error { code, message } = message {
            Problem::new(*code, message).count();
        }
        self.outbox.push(message);
    }

    async fn admit(&mut self, token: Option<&str>, name: Option<&str>) -> Result<Member, Problem> {
        let service = self.service;
        let claims = token
            .map(|token| service.keys().verify(token, unix_seconds()))
            .transpose()?;
        let member = service.admit(claims.as_ref(), &self.slug, name)?;
        let room = service.room(&self.slug, member.makes_rooms()).await?;
        self.entered = Some((room, Arc::new(member.clone())));
        Ok(member)
    }

    fn enter(&mut self, member: &Member) {
        let Some((room, _)) = self.entered else {
            return;
        };
        let now = unix_seconds();
        let seat = Seat {
            outbox: self.outbox.clone(),
            ended: self.ended.clone(),
            egress: member.grants.egress,
        };
        let servers = ice_servers(self.service.config(), &member.identity, now);
        let guest_token = returning_claims(member, &self.slug, now)
            .map(|claims| self.service.keys().sign(&claims));
        let adopted =
            self.service
                .directory()
                .enter(self.id, room, member, seat, servers, guest_token);
        for (role, peer) in adopted {
            self.session.adopt(role, peer);
        }
        metrics::counter!("fanlight_joins_total").increment(1);
        tracing::info!(identity = %member.identity, "joined");
    }

    fn set_layers(&self, heights: &[u32], screen: bool) {
        if let Some((room, member)) = &self.entered
            && let Some(room) = self.service.directory().room_mut(*room)
        {
            room.set_heights(member, heights);
            room.set_screen(member, screen);
        }
        self.service.changed().notify_one();
    }

    fn set_paused(&self, paused: bool) {
        let Some((room, member)) = &self.entered else {
            return;
        };
        let mut directory = self.service.directory();
        let outcome = directory
            .room_mut(*room)
            .map(|room| room.set_paused(member, paused));
        drop(directory);
        match outcome {
            Some(Err(problem)) => {
                let Problem { code, detail } = problem;
                self.send(&ServerMessage::Error {
                    code,
                    message: detail,
                });
            }
            Some(Ok(())) => self.service.changed().notify_one(),
            None => {}
        }
    }
}

/// Returns what was wrong with a message; `None` when it was the connection.
fn broken(error: axum::Error) -> Option<BrokenFrame> {
    let error = error.into_inner().downcast::<tungstenite::Error>().ok()?;
    // The rest is about the connection.
    if matches!(*error, tungstenite::Error::Capacity(_)) {
        Some(BrokenFrame::TooLong)
    } else if matches!(*error, tungstenite::Error::Utf8(_)) {
        Some(BrokenFrame::NotUtf8)
    } else {
        None
    }
}

/// Sends what waits until the socket is closed.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut waiting: Waiting) {
    let close = loop {
        let frame = tokio::select! {
            biased;
            () = waiting.too_slow.cancelled() => break too_slow(),
            frame = waiting.frames.recv() => frame,
        };
        match frame {
            Some(close @ Message::Close(_)) => break close,
            Some(frame) => {
                // A peer that takes nothing fills the outbox, which ends this wait.
                let sent = tokio::select! {
                    sent = sink.send(frame) => sent,
                    () = waiting.too_slow.cancelled() => break too_slow(),
                };
                if sent.is_err() {
                    return;
                }
            }
            None => return,
        }
    };
    // Whether it arrives or not, the socket is dropped afterwards.
    let _ = timeout(CLOSE_WITHIN, async {
        sink.send(close).await?;
        sink.close().await
    })
    .await;
    // A socket dropped with unread bytes is reset, which may overtake the reason.
    sleep(LINGER).await;
}

fn too_slow() -> Message {
    metrics::counter!("fanlight_sessions_closed_total", "reason" => "too slow").increment(1);
    Message::Close(Some(CloseFrame {
        code: close_code::TOO_SLOW,
        reason: "too slow".into(),
    }))
}

/// Ends of peers waiting for one session. When full, the session is closed as too slow.
const ENDED_LIMIT: usize = 8;
const CLOSE_WITHIN: Duration = Duration::from_secs(2);
const LINGER: Duration = Duration::from_millis(200);
