//! Time-limited TURN credentials, as coturn's `use-auth-secret` accepts them
//! (draft-uberti-behave-turn-rest).

use aws_lc_rs::hmac;
use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{Config, protocol::IceServer};

/// Returns the ICE servers for somebody: STUN as configured, TURN with credentials of their own.
pub fn ice_servers(config: &Config, identity: &str, now_unix: u64) -> Vec<IceServer> {
    let mut servers = Vec::new();
    if !config.stun_urls.is_empty() {
        servers.push(IceServer {
            urls: config.stun_urls.clone(),
            username: None,
            credential: None,
        });
    }
    if let (false, Some(secret)) = (config.turn.urls.is_empty(), &config.turn.secret) {
        let username = format!(
            "{}:{}",
            now_unix + config.turn.ttl_seconds,
            user_part(identity)
        );
        let key = hmac::Key::new(
            hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            secret.expose().as_bytes(),
        );
        let credential = BASE64_STANDARD.encode(hmac::sign(&key, username.as_bytes()));
        servers.push(IceServer {
            urls: config.turn.urls.clone(),
            username: Some(username),
            credential: Some(credential),
        });
    }
    servers
}

/// The identity goes into `Link` headers and coturn's log: letters, digits, `-`, `_` only.
fn user_part(identity: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    identity.chars().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Secret, config::Turn};

    #[test]
    fn credential_is_the_hmac_of_expiry_and_identity() {
        let config = Config {
            stun_urls: vec!["stun:stun.example.org".into()],
            turn: Turn {
                urls: vec!["turn:turn.example.org".into()],
                secret: Some(Secret::new("north")),
                ttl_seconds: 3600,
            },
            ..Config::default()
        };
        let servers = ice_servers(&config, "ann \"x\"", 1_800_000_000);
        assert_eq!(servers.len(), 2);
        assert_eq!(servers[0].username, None);
        assert_eq!(servers[1].username.as_deref(), Some("1800003600:ann__x_"));
        // printf '1800003600:ann__x_' | openssl dgst -sha1 -hmac north -binary | base64
        assert_eq!(
            servers[1].credential.as_deref(),
            Some("5Ieua/5Qsej6zYzqGOZ/xh/ftzk=")
        );
    }

    #[test]
    fn no_servers_without_configuration() {
        assert!(ice_servers(&Config::default(), "ann", 0).is_empty());
    }
}
