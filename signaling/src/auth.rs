//! Who somebody is and what they may do: token -> claims -> member.

use aws_lc_rs::digest;
use axum::http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use sfu::ParticipantId;

use crate::{
    Problem, Secret,
    protocol::{ErrorCode, Grants, NAME_LIMIT},
};

/// The room of a token that is valid in all of them.
pub(crate) const EVERY_ROOM: &str = "*";

/// What a token says about its bearer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Identity: the same in every session that shows this token.
    pub(crate) sub: String,
    /// Name shown in chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Room's slug, or `*` for all of them.
    pub(crate) room: String,
    /// What the bearer is called; what they may do is in the grants.
    #[serde(default)]
    pub(crate) role: Role,
    /// Send media as the host.
    #[serde(default)]
    pub(crate) publish: bool,
    /// Send media as a guest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) stage: bool,
    /// Receive media.
    #[serde(default)]
    pub(crate) subscribe: bool,
    /// Write in chat.
    #[serde(default)]
    pub(crate) chat: bool,
    /// Start, see and end outputs.
    #[serde(default)]
    pub(crate) egress: bool,
    /// Everything, in the token's room.
    #[serde(default)]
    pub(crate) admin: bool,
    /// Expiry, Unix seconds.
    pub(crate) exp: u64,
    /// Time of issue, Unix seconds.
    #[serde(default)]
    pub(crate) iat: u64,
    /// Whether it only keeps the identity of somebody who came without a token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) anonymous: bool,
    /// Whether it is for any number of people: each who shows it is somebody of their own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) invite: bool,
}

/// What the bearer of a token is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Runs the room.
    Host,
    /// Was invited on stage.
    Guest,
    /// Watches.
    #[default]
    Viewer,
}

/// One thing somebody may be allowed to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Send media as the host: run the room's stage.
    Publish,
    /// Send media, as the host or as a guest.
    Stage,
    /// Receive media.
    Subscribe,
    /// Write in chat.
    Chat,
    /// Start, see and end outputs.
    Egress,
    /// Create and change rooms, make tokens.
    Admin,
}

/// Somebody admitted to a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) identity: String,
    pub(crate) name: String,
    pub(crate) grants: Grants,
    /// Whether they came without a token of their own.
    pub(crate) anonymous: bool,
    /// Expiry of the invitation that this identity was made for, Unix seconds.
    pub(crate) invited_until: Option<u64>,
}

impl Member {
    /// Decides whether this member may do that.
    pub(crate) fn allow(&self, grant: Grant) -> Result<(), Problem> {
        let Grants {
            publish,
            stage,
            subscribe,
            chat,
            egress,
            admin,
        } = self.grants;
        let (granted, what) = match grant {
            Grant::Publish => (publish, "run this room's stage"),
            Grant::Stage => (publish || stage, "broadcast in this room"),
            Grant::Subscribe => (subscribe, "watch this room"),
            Grant::Chat => (chat, "write in this chat"),
            Grant::Egress => (egress, "use this room's outputs"),
            Grant::Admin => (admin, "administer this room"),
        };
        if granted {
            Ok(())
        } else if self.anonymous {
            Err(Problem::new(
                ErrorCode::TokenMissing,
                format!("A token is needed to {what}. Ask the owner for a link."),
            ))
        } else {
            Err(Problem::new(
                ErrorCode::NotAllowed,
                format!("This token does not allow to {what}. Ask the owner for another link."),
            ))
        }
    }

    /// Returns whether a room that does not exist is made for this member.
    pub(crate) fn makes_rooms(&self) -> bool {
        self.grants.publish || self.grants.admin
    }

    /// Returns this member's id in the SFU: the same for the same identity.
    pub(crate) fn participant(&self) -> ParticipantId {
        participant(&self.identity)
    }
}

/// Decides who the bearer of `claims` (or of none) is in the room with this slug, before it is looked up.
///
/// A token never takes away what everybody may do. `name` is a wish; a token's name wins over it,
/// unless it is the token of somebody who came without one.
pub(crate) fn admit(
    claims: Option<&Claims>,
    slug: &str,
    name: Option<&str>,
    guests_chat: bool,
    anonymous_identity: impl FnOnce() -> String,
) -> Result<Member, Problem> {
    check_slug(slug)?;
    let everybody = Grants {
        subscribe: true,
        chat: guests_chat,
        ..Grants::default()
    };
    let wish = name.and_then(clean_name);
    let Some(claims) = claims else {
        let identity = anonymous_identity();
        let name = wish.unwrap_or_else(|| guest_name(&identity));
        return Ok(Member {
            identity,
            name,
            grants: everybody,
            anonymous: true,
            invited_until: None,
        });
    };
    if claims.room != EVERY_ROOM && claims.room != slug {
        return Err(Problem::new(
            ErrorCode::TokenWrongRoom,
            format!("This token is for the room \"{}\".", claims.room),
        ));
    }
    let grants = Grants {
        publish: claims.publish || claims.admin,
        stage: claims.stage,
        subscribe: true,
        chat: claims.chat || claims.admin || everybody.chat,
        egress: claims.egress || claims.admin,
        admin: claims.admin,
    };
    let identity = if claims.invite {
        anonymous_identity()
    } else {
        claims.sub.clone()
    };
    let made_up = || {
        if grants.publish {
            "Host".to_owned()
        } else {
            guest_name(&identity)
        }
    };
    let given = claims.name.as_deref().and_then(clean_name);
    // Who came without a token may change the name at will.
    let chosen = if claims.anonymous {
        wish.or(given)
    } else {
        given.or(wish)
    };
    let name = chosen.unwrap_or_else(made_up);
    Ok(Member {
        identity,
        name,
        grants,
        anonymous: claims.anonymous,
        invited_until: claims.invite.then_some(claims.exp),
    })
}

/// Checks a room's name.
pub(crate) fn check_slug(slug: &str) -> Result<(), Problem> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if (1..=64).contains(&slug.len()) && slug.bytes().all(allowed) {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::RoomNameInvalid,
        "A room's name is 1 to 64 of a-z, 0-9 and -.",
    ))
}

/// Checks an identity: it is shown in logs, in TURN user names and to other members.
pub(crate) fn check_identity(identity: &str) -> Result<(), Problem> {
    let length = identity.chars().count();
    if (1..=64).contains(&length) && !identity.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::BadMessage,
        "An identity is 1 to 64 characters, without control characters.",
    ))
}

/// Returns the name as it may be shown; `None` when nothing is left of it.
pub(crate) fn clean_name(name: &str) -> Option<String> {
    let printable: String = name.chars().filter(|c| !is_hidden(*c)).collect();
    let cut: String = printable.trim().chars().take(NAME_LIMIT).collect();
    let name = cut.trim_end();
    (!name.is_empty()).then(|| name.to_owned())
}

/// Control characters, and those that reorder or hide text around them.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Returns the SFU's id for an identity: the start of its SHA-256.
pub fn participant(identity: &str) -> ParticipantId {
    let digest = digest::digest(&digest::SHA256, identity.as_bytes());
    let first = digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
    ParticipantId(u64::from_be_bytes(*first))
}

/// Signs and verifies tokens.
#[derive(Clone)]
pub(crate) struct Keys {
    sign: EncodingKey,
    verify: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(***)")
    }
}

impl Keys {
    /// Takes the shared secret.
    pub(crate) fn new(secret: &Secret) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // The clock is given to `verify`; that `exp` is there is checked by reading the claims.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        let secret = secret.expose().as_bytes();
        Self {
            sign: EncodingKey::from_secret(secret),
            verify: DecodingKey::from_secret(secret),
            validation,
        }
    }

    /// Signs claims.
    pub(crate) fn sign(&self, claims: &Claims) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.sign)
            .expect("claims are JSON and HMAC takes any key")
    }

    /// Returns what a token says, when this server's secret signed it and it is not expired.
    pub(crate) fn verify(&self, token: &str, now_unix: u64) -> Result<Claims, Problem> {
        let read = jsonwebtoken::decode::<Claims>(token, &self.verify, &self.validation);
        let claims = match read {
            Ok(data) => data.claims,
            Err(error) => return Err(unreadable(error.kind())),
        };
        if claims.exp <= now_unix {
            return Err(Problem::new(
                ErrorCode::TokenExpired,
                "This token has expired. Ask the owner for a new link.",
            ));
        }
        check_identity(&claims.sub)?;
        Ok(claims)
    }

    /// Verifies the bearer token of a request; `None` when there is none.
    pub(crate) fn verify_bearer(
        &self,
        headers: &HeaderMap,
        now_unix: u64,
    ) -> Result<Option<Claims>, Problem> {
        bearer(headers)?
            .map(|token| self.verify(token, now_unix))
            .transpose()
    }
}

/// Returns the bearer token of a request (RFC 6750 §2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return Ok(None);
    };
    let token = value.to_str().ok().and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token {
        Some(token) if !token.is_empty() => Ok(Some(token)),
        _ => Err(Problem::new(
            ErrorCode::TokenInvalid,
            "The Authorization header must be \"Bearer\" and a token.",
        )),
    }
}

fn unreadable(kind: &ErrorKind) -> Problem {
    // The enum is open, and every kind is the same refusal: only the advice differs.
    let detail = if matches!(kind, ErrorKind::InvalidSignature) {
        "This token was not made by this server."
    } else {
        "This token cannot be read."
    };
    Problem::new(ErrorCode::TokenInvalid, detail)
}

fn guest_name(identity: &str) -> String {
    format!("Guest-{}", 1000 + participant(identity).0 % 9000)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn tokens_that_do_not_hold_are_told_apart() {
        let keys = keys();
        let good = keys.sign(&claims());
        let (unsigned, _) = good.rsplit_once('.').unwrap();
        let (header, payload) = unsigned.split_once('.').unwrap();
        let encode = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
        let none = encode(r#"{"alg":"none","typ":"JWT"}"#);
        let rows = [
            ("good", good.clone(), None),
            (
                "expired",
                keys.sign(&Claims {
                    exp: NOW,
                    ..claims()
                }),
                Some(ErrorCode::TokenExpired),
            ),
            (
                "signature cut off",
                format!("{unsigned}."),
                Some(ErrorCode::TokenInvalid),
            ),
            (
                "alg none",
                format!("{none}.{payload}."),
                Some(ErrorCode::TokenInvalid),
            ),
            (
                "other key",
                other_keys().sign(&claims()),
                Some(ErrorCode::TokenInvalid),
            ),
            (
                "other algorithm",
                hs512(&claims()),
                Some(ErrorCode::TokenInvalid),
            ),
            (
                "no expiry",
                sign_json(r#"{"sub":"a","room":"*"}"#),
                Some(ErrorCode::TokenInvalid),
            ),
            (
                "negative expiry",
                sign_json(r#"{"sub":"a","room":"*","exp":-1}"#),
                Some(ErrorCode::TokenInvalid),
            ),
            (
                "empty identity",
                sign_json(r#"{"sub":"","room":"*","exp":9999999999}"#),
                Some(ErrorCode::BadMessage),
            ),
            (
                "payload changed",
                format!("{header}.{}.x", encode("{}")),
                Some(ErrorCode::TokenInvalid),
            ),
            (
                "not a token",
                "hello".to_owned(),
                Some(ErrorCode::TokenInvalid),
            ),
            ("empty", String::new(), Some(ErrorCode::TokenInvalid)),
        ];
        for (label, token, expected) in rows {
            let found = keys.verify(&token, NOW).err().map(|problem| problem.code);
            assert_eq!(found, expected, "{label}");
        }
    }

    #[test]
    fn grants_follow_the_token_and_what_everybody_may() {
        let viewer = Claims {
            publish: false,
            ..claims()
        };
        let rows = [
            ("nobody", None, true, "watch chat"),
            ("nobody, chat for members", None, false, "watch"),
            ("viewer", Some(viewer.clone()), true, "watch chat"),
            ("publisher", Some(claims()), false, "publish watch"),
            (
                "egress",
                Some(Claims {
                    egress: true,
                    ..viewer.clone()
                }),
                false,
                "watch egress",
            ),
            (
                "admin",
                Some(Claims {
                    admin: true,
                    ..viewer
                }),
                false,
                "publish watch chat egress admin",
            ),
        ];
        for (label, claims, guests_chat, expected) in rows {
            let member = admit(claims.as_ref(), "one", None, guests_chat, || "g".into()).unwrap();
            let words = [
                (Grant::Publish, "publish"),
                (Grant::Subscribe, "watch"),
                (Grant::Chat, "chat"),
                (Grant::Egress, "egress"),
                (Grant::Admin, "admin"),
            ];
            let found: Vec<_> = words
                .into_iter()
                .filter_map(|(grant, word)| member.allow(grant).is_ok().then_some(word))
                .collect();
            assert_eq!(found.join(" "), expected, "{label}");
        }
    }

    #[test]
    fn refusal_tells_the_nameless_to_bring_a_token() {
        let nobody = admit(None, "one", None, true, || "g".into()).unwrap();
        assert_eq!(
            nobody.allow(Grant::Publish).unwrap_err().code,
            ErrorCode::TokenMissing
        );
        let viewer = Claims {
            publish: false,
            ..claims()
        };
        let viewer = admit(Some(&viewer), "one", None, true, || "g".into()).unwrap();
        assert_eq!(
            viewer.allow(Grant::Publish).unwrap_err().code,
            ErrorCode::NotAllowed
        );
    }

    #[test]
    fn token_counts_in_its_room_only() {
        for (room, slug, expected) in [
            ("one", "one", None),
            ("*", "two", None),
            ("one", "two", Some(ErrorCode::TokenWrongRoom)),
            ("one", "Not A Room", Some(ErrorCode::RoomNameInvalid)),
            ("*", "*", Some(ErrorCode::RoomNameInvalid)),
        ] {
            let claims = Claims {
                room: room.into(),
                ..claims()
            };
            let found = admit(Some(&claims), slug, None, true, String::new).err();
            assert_eq!(
                found.map(|problem| problem.code),
                expected,
                "{room} in {slug}"
            );
        }
    }

    #[test]
    fn names_are_cleaned_and_the_tokens_wins() {
        let named = Claims {
            name: Some("Ann".into()),
            ..claims()
        };
        let nameless = Claims {
            anonymous: true,
            ..named.clone()
        };
        let rows = [
            ("token's name", Some(named), Some("Bob"), "Ann"),
            (
                "new wish of a guest",
                Some(nameless.clone()),
                Some("Bob"),
                "Bob",
            ),
            ("guest who comes back", Some(nameless), None, "Ann"),
            ("wish", Some(claims()), Some(" Bob\u{202e}\n "), "Bob"),
            ("none", Some(claims()), None, "Host"),
            ("empty wish", Some(claims()), Some(" \t"), "Host"),
        ];
        for (label, claims, wish, expected) in rows {
            let member = admit(claims.as_ref(), "one", wish, true, || "g".into()).unwrap();
            assert_eq!(member.name, expected, "{label}");
        }
        let long = admit(None, "one", Some(&"é".repeat(100)), true, || "g".into()).unwrap();
        assert_eq!(long.name.chars().count(), NAME_LIMIT);
        let guest = admit(None, "one", None, true, || "g".into()).unwrap();
        assert!(guest.name.starts_with("Guest-"), "{}", guest.name);
    }

    #[test]
    fn bearer_is_read_strictly() {
        for (value, expected) in [
            ("Bearer abc", Ok(Some("abc"))),
            ("bearer  abc ", Ok(Some("abc"))),
            ("Bearer", Err(())),
            ("Bearer ", Err(())),
            ("Basic abc", Err(())),
        ] {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            assert_eq!(bearer(&headers).map_err(|_| ()), expected, "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()), Ok(None));
    }

    fn keys() -> Keys {
        Keys::new(&Secret::new("0123456789abcdef"))
    }

    fn other_keys() -> Keys {
        Keys::new(&Secret::new("fedcba9876543210"))
    }

    fn claims() -> Claims {
        Claims {
            stage: false,
            sub: "ann".into(),
            name: None,
            room: "one".into(),
            role: Role::Host,
            publish: true,
            subscribe: true,
            chat: false,
            egress: false,
            admin: false,
            exp: NOW + 60,
            iat: NOW,
            anonymous: false,
            invite: false,
        }
    }

    fn hs512(claims: &Claims) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS512), claims, &keys().sign).unwrap()
    }

    fn sign_json(claims: &str) -> String {
        let claims: serde_json::Value = serde_json::from_str(claims).unwrap();
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &keys().sign).unwrap()
    }
}
