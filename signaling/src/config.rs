//! Signaling's part of the configuration.

use serde::{Deserialize, Serialize};

use crate::Secret;

/// People, rooms and tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Secret that signs tokens (HS256), at least 16 characters. Absent: generated once and kept in the
    /// data folder.
    pub token_secret: Option<Secret>,
    /// Most signaling sessions (WebSocket, WHIP, WHEP) at a time.
    pub max_sessions: usize,
    /// Most bytes of an HTTP body or a WebSocket message, 1024 to 1048576.
    pub max_body_bytes: usize,
    /// A broadcaster back within this many seconds goes on with the same broadcast.
    pub broadcast_grace_seconds: u64,
    /// Chat limits.
    pub chat: Chat,
    /// STUN servers for browsers, `stun:host:port`. Seldom needed: the server's own address is public.
    pub stun_urls: Vec<String>,
    /// The TURN server.
    pub turn: Turn,
}

/// Who may write in chat, and how much.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Chat {
    /// Whether everybody may write, without a token.
    pub guests: bool,
    /// Messages a participant may send at once before the interval counts, 1 to 100.
    pub burst: u32,
    /// Least milliseconds between messages, on average.
    pub interval_ms: u64,
    /// Messages shown to a newcomer, at most 500.
    pub history: usize,
    /// Messages kept per room.
    pub keep: usize,
}

/// A TURN server that shares a secret with this server (coturn's `use-auth-secret`).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Turn {
    /// `turn:host:port?transport=udp`, `turns:host:5349?transport=tcp`. Empty: no TURN.
    pub urls: Vec<String>,
    /// coturn's `static-auth-secret`.
    pub secret: Option<Secret>,
    /// How long credentials are valid. A relayed connection older than this cannot be renewed.
    pub ttl_seconds: u64,
}

impl Config {
    /// Checks the ranges.
    ///
    /// # Errors
    /// Says which setting is wrong, and what it may be.
    pub fn validate(&self) -> Result<(), &'static str> {
        let rules = [
            (
                self.token_secret
                    .as_ref()
                    .is_none_or(|s| s.expose().len() >= 16),
                "token_secret: at least 16 characters",
            ),
            (
                (1..=1_000_000).contains(&self.max_sessions),
                "max_sessions: 1 to 1000000",
            ),
            (
                (1024..=1024 * 1024).contains(&self.max_body_bytes),
                "max_body_bytes: 1024 to 1048576",
            ),
            (
                self.broadcast_grace_seconds <= 3600,
                "broadcast_grace_seconds: at most 3600",
            ),
            ((1..=100).contains(&self.chat.burst), "chat.burst: 1 to 100"),
            (
                self.chat.interval_ms <= 3_600_000,
                "chat.interval_ms: at most 3600000",
            ),
            (self.chat.history <= 500, "chat.history: at most 500"),
            (
                self.chat.keep >= self.chat.history,
                "chat.keep: at least chat.history",
            ),
            (
                self.stun_urls
                    .iter()
                    .all(|url| is_url(url, &["stun:", "stuns:"])),
                "stun_urls: each as stun:host:port",
            ),
            (
                self.turn
                    .urls
                    .iter()
                    .all(|url| is_url(url, &["turn:", "turns:"])),
                "turn.urls: each as turn:host:port?transport=udp",
            ),
            (
                self.turn.urls.is_empty()
                    || self
                        .turn
                        .secret
                        .as_ref()
                        .is_some_and(|secret| !secret.is_empty()),
                "turn.secret: needed with turn.urls; the static-auth-secret of the TURN server",
            ),
            (
                (60..=7 * 24 * 3600).contains(&self.turn.ttl_seconds),
                "turn.ttl_seconds: 60 to 604800",
            ),
        ];
        match rules.into_iter().find(|(kept, _)| !kept) {
            Some((_, rule)) => Err(rule),
            None => Ok(()),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            token_secret: None,
            max_sessions: 10_000,
            max_body_bytes: 128 * 1024,
            broadcast_grace_seconds: 10,
            chat: Chat::default(),
            stun_urls: Vec::new(),
            turn: Turn::default(),
        }
    }
}

impl Default for Chat {
    fn default() -> Self {
        Self {
            guests: true,
            burst: 5,
            interval_ms: 1500,
            history: 100,
            keep: 1000,
        }
    }
}

impl Default for Turn {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            secret: None,
            ttl_seconds: 12 * 3600,
        }
    }
}

/// Such a URL goes into a `Link` header within `<>`: nothing may end it early.
fn is_url(url: &str, schemes: &[&str]) -> bool {
    schemes
        .iter()
        .any(|scheme| url.len() > scheme.len() && url.starts_with(scheme))
        && url
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b'"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 6] = [
            ("token_secret", |c| {
                c.token_secret = Some(Secret::new("short"))
            }),
            ("max_body_bytes", |c| c.max_body_bytes = 10),
            ("chat.burst", |c| c.chat.burst = 0),
            ("turn.urls", |c| c.turn.urls = vec!["turn:a>b".into()]),
            ("turn.secret", |c| {
                c.turn.urls = vec!["turn:example.org".into()]
            }),
            ("stun_urls", |c| {
                c.stun_urls = vec!["https://example.org".into()]
            }),
        ];
        for (setting, spoil) in cases {
            let mut config = Config::default();
            spoil(&mut config);
            let error = config.validate().expect_err(setting);
            assert!(error.starts_with(setting), "{setting}: {error}");
        }
    }
}
