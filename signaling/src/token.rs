//! Makes tokens, and keeps the secret that signs them.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use thiserror::Error;

use crate::{
    Config, Problem, Secret,
    auth::{self, Claims, EVERY_ROOM, Keys, Member, Role, check_identity, check_slug},
    clock::{unix_ms, unix_seconds},
    protocol::Grants,
    store::{Store, StoreError},
};

/// What a token is to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    /// Room's slug, or `*` for all of them.
    pub room: String,
    /// Who it is for; a new identity when absent.
    pub identity: Option<String>,
    /// Name shown in chat.
    pub name: Option<String>,
    /// What its bearer may do.
    pub grants: Grants,
    /// How long it is valid.
    pub ttl: Duration,
}

impl TokenRequest {
    /// Asks for a token that may do everything in every room. All owner's tokens are one identity, so that
    /// a new link takes over what an older one has started.
    pub fn owner(ttl: Duration) -> Self {
        let grants = Grants {
            publish: true,
            stage: false,
            subscribe: true,
            chat: true,
            egress: true,
            admin: true,
        };
        Self {
            room: EVERY_ROOM.to_owned(),
            identity: Some("owner".to_owned()),
            name: None,
            grants,
            ttl,
        }
    }
}

/// Why a token could not be made.
#[derive(Debug, Error)]
pub enum MintError {
    /// The room's name or the identity is not valid.
    #[error("{}", .0.detail)]
    Request(Problem),
    /// A setting is out of its range.
    #[error("signaling.{0}")]
    Config(&'static str),
    /// The secret cannot be read or made.
    #[error("cannot use the token secret in the data folder")]
    Secret(#[source] io::Error),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The room cannot be made.
    #[error("cannot make the room")]
    Room(#[source] sqlx::Error),
}

/// Makes a token with the secret of the server whose data folder this is, running or not. Makes the room
/// when there is none.
///
/// # Errors
/// See [`MintError`].
pub async fn mint_token(
    config: &Config,
    data_dir: &Path,
    request: TokenRequest,
) -> Result<String, MintError> {
    config.validate().map_err(MintError::Config)?;
    let claims = claims(request, unix_seconds()).map_err(MintError::Request)?;
    let secret = secret(config, data_dir).map_err(MintError::Secret)?;
    if claims.room != EVERY_ROOM {
        let store = Store::open(data_dir).await?;
        store
            .find_or_create_room(&claims.room, unix_ms())
            .await
            .map_err(MintError::Room)?;
        store.close().await;
    }
    Ok(Keys::new(&secret).sign(&claims))
}

/// Makes the claims of a token.
pub(crate) fn claims(request: TokenRequest, now_unix: u64) -> Result<Claims, Problem> {
    let TokenRequest {
        room,
        identity,
        name,
        grants,
        ttl,
    } = request;
    if room != EVERY_ROOM {
        check_slug(&room)?;
    }
    let identity = identity.unwrap_or_else(|| random_word("p-"));
    check_identity(&identity)?;
    let role = match grants {
        Grants { admin: true, .. } => Role::Host,
        Grants { publish: true, .. } | Grants { stage: true, .. } => Role::Guest,
        Grants { .. } => Role::Viewer,
    };
    Ok(Claims {
        sub: identity,
        name: name.as_deref().and_then(auth::clean_name),
        room,
        role,
        publish: grants.publish,
        stage: grants.stage,
        subscribe: grants.subscribe,
        chat: grants.chat,
        egress: grants.egress,
        admin: grants.admin,
        exp: now_unix.saturating_add(ttl.as_secs()),
        iat: now_unix,
        anonymous: false,
        invite: false,
    })
}

/// Makes the claims of an invitation to a room's stage.
pub(crate) fn invite_claims(room: &str, ttl: Duration, now_unix: u64) -> Claims {
    Claims {
        sub: random_word("invite-"),
        name: None,
        room: room.to_owned(),
        role: Role::Guest,
        publish: false,
        stage: true,
        subscribe: true,
        chat: true,
        egress: false,
        admin: false,
        exp: now_unix.saturating_add(ttl.as_secs()),
        iat: now_unix,
        anonymous: false,
        invite: true,
    }
}

/// Makes the claims that keep the identity of somebody who needs no token or came with an invitation; `None` for
/// everybody else, whose token does that.
pub(crate) fn returning_claims(member: &Member, room: &str, now_unix: u64) -> Option<Claims> {
    if member.anonymous {
        return Some(guest_claims(member, room, now_unix));
    }
    let exp = member.invited_until?;
    Some(Claims {
        sub: member.identity.clone(),
        exp,
        invite: false,
        ..invite_claims(room, Duration::ZERO, now_unix)
    })
}

/// Makes the claims that keep identity and name of somebody without a token. They allow nothing that everybody
/// is not allowed.
fn guest_claims(guest: &Member, room: &str, now_unix: u64) -> Claims {
    Claims {
        sub: guest.identity.clone(),
        name: Some(guest.name.clone()),
        room: room.to_owned(),
        role: Role::Viewer,
        publish: false,
        stage: false,
        subscribe: true,
        chat: false,
        egress: false,
        admin: false,
        exp: now_unix + GUEST_TTL.as_secs(),
        iat: now_unix,
        anonymous: true,
        invite: false,
    }
}

/// Returns the configured secret, or the one in the data folder, which is made when there is none.
pub(crate) fn secret(config: &Config, data_dir: &Path) -> io::Result<Secret> {
    if let Some(secret) = &config.token_secret {
        return Ok(secret.clone());
    }
    fs::create_dir_all(data_dir)?;
    let path = data_dir.join("secret");
    if let Some(secret) = read_secret(&path)? {
        return Ok(secret);
    }
    // Written whole under another name first: a second process sees all of it or nothing.
    let fresh = data_dir.join(random_word("secret-"));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(random_word("").as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&fresh, &path);
    fs::remove_file(&fresh)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    read_secret(&path)?.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// Returns the prefix and 128 random bits.
pub(crate) fn random_word(prefix: &str) -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
    format!("{prefix}{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

fn read_secret(path: &Path) -> io::Result<Option<Secret>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let secret = text.trim();
    if secret.len() < 16 {
        let reason = "the file `secret` holds fewer than 16 characters; delete it to get a new one";
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(Some(Secret::new(secret)))
}

const GUEST_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::protocol::ErrorCode;

    #[test]
    fn secret_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let first = secret(&Config::default(), &data_dir).unwrap();
        assert!(first.expose().len() >= 16);
        assert_eq!(secret(&Config::default(), &data_dir).unwrap(), first);
        let mode = fs::metadata(data_dir.join("secret"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(&data_dir).unwrap().count(),
            1,
            "nothing else is left"
        );

        let configured = Secret::new("configured secret");
        let config = Config {
            token_secret: Some(configured.clone()),
            ..Config::default()
        };
        assert_eq!(secret(&config, &data_dir).unwrap(), configured);
    }

    #[test]
    fn secret_that_was_cut_off_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "short\n").unwrap();
        let error = secret(&Config::default(), folder.path()).unwrap_err();
        assert!(error.to_string().contains("delete it"), "{error}");
    }

    #[tokio::test]
    async fn minted_token_is_of_this_data_folder_and_makes_the_room() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::default();
        let request = TokenRequest {
            room: "one".into(),
            name: Some("Ann".into()),
            identity: None,
            ..TokenRequest::owner(Duration::from_secs(60))
        };
        let token = mint_token(&config, folder.path(), request.clone())
            .await
            .unwrap();
        let keys = Keys::new(&secret(&config, folder.path()).unwrap());
        let claims = keys.verify(&token, unix_seconds()).unwrap();
        assert_eq!(
            (claims.room.as_str(), claims.name.as_deref()),
            ("one", Some("Ann"))
        );
        let expired = keys.verify(&token, unix_seconds() + 61).unwrap_err();
        assert_eq!(expired.code, ErrorCode::TokenExpired);
        let store = Store::open(folder.path()).await.unwrap();
        assert!(store.find_room("one").await.unwrap().is_some());

        let again = mint_token(&config, folder.path(), request).await.unwrap();
        let other = keys.verify(&again, unix_seconds()).unwrap();
        assert_ne!(claims.sub, other.sub, "two tokens are two identities");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let owner = TokenRequest::owner(Duration::from_secs(60));
        for (room, identity, expected) in [
            ("Not a room", None, ErrorCode::RoomNameInvalid),
            ("one", Some("".to_owned()), ErrorCode::BadMessage),
            ("one", Some("a\nb".to_owned()), ErrorCode::BadMessage),
            ("one", Some("x".repeat(65)), ErrorCode::BadMessage),
        ] {
            let request = TokenRequest {
                room: room.into(),
                identity,
                ..owner.clone()
            };
            assert_eq!(claims(request, 0).unwrap_err().code, expected, "{room}");
        }
    }
}
