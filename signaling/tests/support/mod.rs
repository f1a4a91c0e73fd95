//! A signaling service in a folder of its own, without media: the SFU behind it has stopped.

use std::time::Duration;

use axum::Router;
use signaling::{Config, Service, TokenRequest, mint_token, protocol::Grants};
use tempfile::TempDir;
use tokio::sync::mpsc;

/// A service and the folder that it lives in.
pub(crate) struct Server {
    pub(crate) service: Service,
    config: Config,
    _events: mpsc::Receiver<sfu::Event>,
    folder: TempDir,
}

impl Server {
    pub(crate) async fn start(config: Config) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let media = sfu::Config {
            udp_port: 0,
            ..sfu::Config::default()
        };
        let (_, sfu, events) = sfu::bind(&media).expect("a free port");
        let service = Service::open(config.clone(), folder.path(), sfu)
            .await
            .expect("an empty folder");
        Self {
            service,
            config,
            _events: events,
            folder,
        }
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
}

/// Long enough for every test.
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
