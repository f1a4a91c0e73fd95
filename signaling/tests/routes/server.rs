//! A signaling service in a folder of its own.

use std::time::Duration;

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode},
};
use signaling::{Config, Service, TokenRequest, mint_token, protocol::Grants};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A service and the folder that it lives in.
pub(crate) struct Server {
    pub(crate) service: Service,
    config: Config,
    folder: TempDir,
    /// Ends with the server.
    _tasks: JoinSet<()>,
}

impl Server {
    /// Starts one without media: the SFU behind it has stopped.
    pub(crate) async fn start(config: Config) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (_, sfu, _) = sfu::bind(&media()).expect("a free port");
        let opened = Service::open(config.clone(), folder.path(), sfu).await;
        Self {
            service: opened.expect("an empty folder"),
            config,
            folder,
            _tasks: JoinSet::new(),
        }
    }

    /// Starts one with media.
    pub(crate) async fn start_with_media(config: Config) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (driver, sfu, events) = sfu::bind(&media()).expect("a free port");
        let opened = Service::open(config.clone(), folder.path(), sfu).await;
        let service = opened.expect("an empty folder");
        let mut tasks = JoinSet::new();
        let cancel = CancellationToken::new();
        let (media_cancel, signaling) = (cancel.clone(), service.clone());
        tasks.spawn(async move { driver.run(media_cancel).await.expect("sound sockets") });
        tasks.spawn(async move { signaling.run(events, cancel).await });
        Self {
            service,
            config,
            folder,
            _tasks: tasks,
        }
    }

    /// Opens the same folder again.
    pub(crate) async fn start_again(&mut self) {
        let (_, sfu, _) = sfu::bind(&media()).expect("a free port");
        let opened = Service::open(self.config.clone(), self.folder.path(), sfu).await;
        self.service = opened.expect("a folder that was used");
    }

    pub(crate) fn routes(&self) -> Router {
        self.service.routes()
    }

    /// Mints a token; `grants` is some of the words publish, chat, egress, admin.
    pub(crate) async fn token(&self, room: &str, grants: &str, ttl: Duration) -> String {
        let has = |word| grants.split(' ').any(|grant| grant == word);
        let request = TokenRequest {
            room: room.to_owned(),
            identity: None,
            name: None,
            grants: Grants {
                publish: has("publish"),
                stage: has("stage"),
                subscribe: true,
                chat: has("chat"),
                egress: has("egress"),
                admin: has("admin"),
            },
            ttl,
        };
        mint_token(&self.config, self.folder.path(), request)
            .await
            .expect("a valid request")
    }

    /// Sends a request and returns status, headers and body.
    pub(crate) async fn send(&self, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
        let response = self.routes().oneshot(request).await.expect("routes answer");
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, 1 << 20).await.expect("a short body");
        (
            parts.status,
            parts.headers,
            String::from_utf8(body.into()).expect("text"),
        )
    }
}

/// Builds a request.
pub(crate) fn request(
    method: Method,
    path: &str,
    token: Option<&str>,
    content_type: Option<&str>,
    body: &str,
) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        builder = builder.header("authorization", format!("Bearer {token}"));
    }
    if let Some(content_type) = content_type {
        builder = builder.header("content-type", content_type);
    }
    builder
        .body(Body::from(body.to_owned()))
        .expect("parts are valid")
}

fn media() -> sfu::Config {
    sfu::Config {
        udp_port: 0,
        ..sfu::Config::default()
    }
}

/// Long enough for every test.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// The content type of offers.
pub(crate) const SDP: Option<&str> = Some("application/sdp");
