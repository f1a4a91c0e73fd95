//! ICE-lite (RFC 8445 §2.5): answers authentic checks, learns and moves the peer's address, never asks.

use std::time::{Duration, Instant};

use rtc_crypto::RTCCrypto;
use rtc_stun::{
    error_code::CODE_ROLE_CONFLICT,
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_ERROR, BINDING_SUCCESS, Message, Setter},
    xoraddr::XorMappedAddress,
};

use super::{PacketError, reader::Reader};
use crate::{Outgoing, Path};

/// The server's ICE credentials of one peer (RFC 8445 §5.3): at least 24 bits of ufrag, 128 of password.
#[derive(Clone)]
pub struct IceCredentials {
    /// The username fragment.
    pub ufrag: String,
    /// The password.
    pub pwd: String,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceCredentials")
            .field("ufrag", &self.ufrag)
            .finish_non_exhaustive()
    }
}

/// Returns the local username fragment of a STUN binding request, to find its peer, before any
/// authentication. `None` for anything else.
pub fn binding_request_ufrag(datagram: &[u8]) -> Option<&str> {
    BindingRequest::parse(datagram).map(|request| request.local_ufrag)
}

/// The paths to one peer and which of them is the selected one. That is needed to send, and comes first.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Ice {
    selected: Option<Path>,
    selected_heard: Instant,
    last_heard: Instant,
    /// Where authentic checks came from, the most recent last; at most [`MAX_PATHS`].
    paths: Vec<Path>,
    credentials: IceCredentials,
    /// Those of before a restart (RFC 8445 §9), until a check with the new ones came.
    previous: Option<IceCredentials>,
}

impl Ice {
    pub(super) fn new(credentials: IceCredentials, now: Instant) -> Self {
        Self {
            credentials,
            previous: None,
            paths: Vec::new(),
            selected: None,
            selected_heard: now,
            last_heard: now,
        }
    }

    pub(super) fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// Returns where to send to.
    pub(super) fn selected(&self) -> Option<Path> {
        self.selected
    }

    pub(super) fn last_heard(&self) -> Instant {
        self.last_heard
    }

    /// Answers a check. Unauthentic ones get no response: their source may be forged.
    pub(super) fn handle(
        &mut self,
        crypto: &dyn RTCCrypto,
        from: Path,
        datagram: &[u8],
        now: Instant,
        out: &mut Outgoing,
    ) -> Result<(), PacketError> {
        let request = BindingRequest::parse(datagram).ok_or(PacketError::Malformed)?;
        let credentials = self.credentials_of(request.local_ufrag);
        let Some(credentials) = credentials.filter(|_| request.has_integrity).cloned() else {
            return Err(PacketError::Unauthentic);
        };
        let mut message = Message::new();
        message
            .unmarshal_binary(datagram)
            .map_err(|_| PacketError::Malformed)?;
        MessageIntegrity::check(&mut message, credentials.pwd.as_bytes(), crypto)
            .map_err(|_| PacketError::Unauthentic)?;
        if request.has_fingerprint {
            FINGERPRINT
                .check(&message)
                .map_err(|_| PacketError::Malformed)?;
        }

        let respond = |class: &dyn Setter, attribute: &dyn Setter| {
            respond(crypto, &credentials.pwd, &message, class, attribute)
        };
        let answer = if request.is_controlled {
            respond(&BINDING_ERROR, &CODE_ROLE_CONFLICT)
        } else {
            if request.local_ufrag == self.credentials.ufrag {
                self.previous = None;
            }
            self.learn(from, request.nominates, now);
            // A socket for both families shows IPv4 sources mapped; the peer knows them as they are.
            let mapped = XorMappedAddress {
                ip: from.remote.ip().to_canonical(),
                port: from.remote.port(),
            };
            respond(&BINDING_SUCCESS, &mapped)
        };
        if let Some(answer) = answer {
            out.push(from, &answer.raw);
        }
        Ok(())
    }

    fn learn(&mut self, from: Path, nominates: bool, now: Instant) {
        self.last_heard = now;
        // A peer whose NAT gave it a new port repeats its checks without nominating again.
        let is_stale = now.saturating_duration_since(self.selected_heard) > SELECTED_SILENCE;
        if nominates || is_stale || self.selected.is_none_or(|selected| selected == from) {
            self.select(from, now);
        }
        self.paths.retain(|&path| path != from);
        if self.paths.len() >= MAX_PATHS {
            let oldest = self
                .paths
                .iter()
                .position(|&path| Some(path) != self.selected);
            self.paths.remove(oldest.unwrap_or(0));
        }
        self.paths.push(from);
    }

    /// Starts a new ICE session (RFC 8445 §9). Media stays on its path until the peer nominates another one;
    /// checks of the session before count until then.
    pub(super) fn restart(&mut self, credentials: IceCredentials) {
        self.previous = Some(std::mem::replace(&mut self.credentials, credentials));
    }

    /// Returns the username fragments that checks may be for: of this session, and of the one before.
    pub(super) fn ufrags(&self) -> impl Iterator<Item = &str> + Clone {
        let previous = self.previous.iter();
        std::iter::once(&self.credentials)
            .chain(previous)
            .map(|credentials| credentials.ufrag.as_str())
    }

    fn credentials_of(&self, ufrag: &str) -> Option<&IceCredentials> {
        let mut all = std::iter::once(&self.credentials).chain(&self.previous);
        all.find(|credentials| credentials.ufrag == ufrag)
    }

    /// Media or data of the peer came on a path on which authentic checks had come: that is where the peer
    /// sends. When the selected path is silent it has moved there, nominated or not.
    pub(super) fn heard(&mut self, from: Path, now: Instant) {
        if self.selected == Some(from) {
            self.selected_heard = now;
        } else if now.saturating_duration_since(self.selected_heard) > MEDIA_SILENCE
            && self.paths.contains(&from)
        {
            self.select(from, now);
        }
    }

    /// A path is gone for good: a connection was closed.
    pub(super) fn forget(&mut self, path: Path) {
        self.paths.retain(|known| *known != path);
        if self.selected == Some(path) {
            self.selected = self.paths.last().copied();
        }
    }

    fn select(&mut self, path: Path, now: Instant) {
        self.selected = Some(path);
        self.selected_heard = now;
    }
}

/// Makes a response (RFC 8489 §6.3.1).
fn respond(
    crypto: &dyn RTCCrypto,
    pwd: &str,
    request: &Message,
    class: &dyn Setter,
    attribute: &dyn Setter,
) -> Option<Message> {
    let integrity =
        MessageIntegrity::new_short_term_integrity_with_provider(pwd.to_owned(), crypto);
    let mut response = Message::new();
    let setters: [&dyn Setter; 5] = [
        &request.transaction_id,
        class,
        attribute,
        &integrity,
        &FINGERPRINT,
    ];
    response.write_header();
    setters
        .iter()
        .all(|setter| setter.add_to(&mut response).is_ok())
        .then_some(response)
}

/// What is read of a binding request before its authentication. Attributes behind MESSAGE-INTEGRITY
/// are not protected by it and count for nothing, FINGERPRINT excepted (RFC 8489 §14.5).
#[derive(Debug)]
struct BindingRequest<'a> {
    local_ufrag: &'a str,
    nominates: bool,
    is_controlled: bool,
    has_integrity: bool,
    has_fingerprint: bool,
}

impl<'a> BindingRequest<'a> {
    fn parse(datagram: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(datagram);
        let (kind, length) = (reader.u16()?, reader.u16()?);
        let cookie = reader.u32()?;
        let _transaction_id: [u8; 12] = reader.array()?;
        if kind != BINDING_REQUEST
            || cookie != MAGIC_COOKIE
            || usize::from(length) != reader.rest().len()
        {
            return None;
        }
        let mut local_ufrag = None;
        let (mut nominates, mut is_controlled) = (false, false);
        let (mut has_integrity, mut has_fingerprint) = (false, false);
        while !reader.is_empty() {
            let (attribute, length) = (reader.u16()?, usize::from(reader.u16()?));
            let value = reader.take(length)?;
            reader.take(length.next_multiple_of(4) - length)?;
            match attribute {
                FINGERPRINT_ATTRIBUTE => has_fingerprint = true,
                _ if has_integrity => {}
                USERNAME if local_ufrag.is_none() => {
                    let username = std::str::from_utf8(value).ok()?;
                    local_ufrag = Some(username.split_once(':')?.0);
                }
                MESSAGE_INTEGRITY => has_integrity = true,
                USE_CANDIDATE => nominates = true,
                ICE_CONTROLLED => is_controlled = true,
                _ => {}
            }
        }
        Some(Self {
            local_ufrag: local_ufrag?,
            nominates,
            is_controlled,
            has_integrity,
            has_fingerprint,
        })
    }
}

const BINDING_REQUEST: u16 = 0x0001;
const MAGIC_COOKIE: u32 = 0x2112_a442;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT_ATTRIBUTE: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;

/// A peer has one address per interface and server candidate; more are a flood.
const MAX_PATHS: usize = 8;

/// Media flows all the time, and a packet that was overtaken is not this late.
const MEDIA_SILENCE: Duration = Duration::from_secs(1);

/// Consent checks come every 5 s at most (RFC 7675 §5.1): after two missing ones another address wins.
const SELECTED_SILENCE: Duration = Duration::from_secs(12);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_local_fragment_is_found() {
        let username = attribute(USERNAME, b"local:remote");
        for (label, datagram, expected) in [
            (
                "request",
                request(std::slice::from_ref(&username)),
                Some("local"),
            ),
            (
                "after unknown attributes",
                request(&[attribute(0x24, &[1, 2, 3]), username.clone()]),
                Some("local"),
            ),
            (
                "behind the integrity",
                request(&[attribute(MESSAGE_INTEGRITY, &[0; 20]), username.clone()]),
                None,
            ),
            ("no colon", request(&[attribute(USERNAME, b"local")]), None),
            ("not text", request(&[attribute(USERNAME, b"\xff:a")]), None),
            ("no username", request(&[]), None),
        ] {
            assert_eq!(binding_request_ufrag(&datagram), expected, "{label}");
        }
        let whole = request(&[username]);
        for len in 0..whole.len() {
            assert_eq!(binding_request_ufrag(&whole[..len]), None, "{len}");
        }
    }

    #[test]
    fn attributes_behind_the_integrity_do_not_nominate() {
        let username = attribute(USERNAME, b"local:remote");
        let integrity = attribute(MESSAGE_INTEGRITY, &[0; 20]);
        let nomination = attribute(USE_CANDIDATE, &[]);
        let before = request(&[username.clone(), nomination.clone(), integrity.clone()]);
        let behind = request(&[username, integrity, nomination]);
        assert!(BindingRequest::parse(&before).unwrap().nominates);
        assert!(!BindingRequest::parse(&behind).unwrap().nominates);
    }

    #[test]
    fn a_silent_selected_path_is_replaced() {
        let t0 = Instant::now();
        let credentials = IceCredentials {
            ufrag: "local".to_owned(),
            pwd: "secret".to_owned(),
        };
        let mut ice = Ice::new(credentials, t0);
        let (first, second) = (path(1), path(2));
        ice.learn(first, true, t0);
        ice.learn(second, false, t0 + Duration::from_secs(11));
        assert_eq!(ice.selected(), Some(first));
        ice.learn(first, false, t0 + Duration::from_secs(12));
        ice.learn(second, false, t0 + Duration::from_secs(24));
        assert_eq!(ice.selected(), Some(first));
        ice.learn(second, false, t0 + Duration::from_secs(25));
        assert_eq!(ice.selected(), Some(second));
        assert_eq!(ice.last_heard(), t0 + Duration::from_secs(25));
    }

    #[test]
    fn passwords_are_not_printed() {
        let credentials = IceCredentials {
            ufrag: "local".to_owned(),
            pwd: "secret".to_owned(),
        };
        assert!(!format!("{credentials:?}").contains("secret"));
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_never_panic(
            attributes in prop::collection::vec((0..0x30_u16, prop::collection::vec(any::<u8>(), 0..9)), 0..5),
            cut in 0..60_usize,
        ) {
            let attributes: Vec<Vec<u8>> = attributes
                .iter()
                .map(|(kind, value)| attribute(*kind, value))
                .collect();
            let datagram = request(&attributes);
            let _ = binding_request_ufrag(&datagram);
            let _ = binding_request_ufrag(datagram.get(cut..).unwrap_or_default());
        }
    }

    fn request(attributes: &[Vec<u8>]) -> Vec<u8> {
        let attributes = attributes.concat();
        let mut datagram = BINDING_REQUEST.to_be_bytes().to_vec();
        datagram.extend(u16::try_from(attributes.len()).unwrap().to_be_bytes());
        datagram.extend(MAGIC_COOKIE.to_be_bytes());
        datagram.extend([7; 12]);
        datagram.extend(attributes);
        datagram
    }

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut attribute = kind.to_be_bytes().to_vec();
        attribute.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        attribute.extend(value);
        attribute.resize(attribute.len().next_multiple_of(4), 0);
        attribute
    }

    fn path(port: u16) -> Path {
        std::net::SocketAddr::from(([192, 0, 2, 1], port)).into()
    }
}
