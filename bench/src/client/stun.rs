//! Connectivity checks (RFC 8445) of a controlling agent that nominates the first path that works.

use rtc_crypto::RTCCrypto;
use rtc_stun::{
    attributes::{
        ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType,
        RawAttribute,
    },
    fingerprint::FINGERPRINT,
    integrity::MessageIntegrity,
    message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId},
    textattrs::TextAttribute,
    xoraddr::XorMappedAddress,
};
use std::net::SocketAddr;

/// ICE credentials of one side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// The username fragment.
    pub(crate) ufrag: String,
    /// The password.
    pub(crate) pwd: String,
}

/// Returns a check of the remote side, which nominates the path that works.
pub(super) fn check(
    crypto: &dyn RTCCrypto,
    local: &Credentials,
    remote: &Credentials,
    transaction: u64,
    is_nominated: bool,
) -> Option<Vec<u8>> {
    let [a, b, c, d, e, f, g, h] = transaction.to_be_bytes();
    let username = format!("{}:{}", remote.ufrag, local.ufrag);
    let mut setters: Vec<Box<dyn Setter>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId([
            b'f', b'l', b'b', b'1', a, b, c, d, e, f, g, h,
        ])),
        Box::new(TextAttribute::new(ATTR_USERNAME, username)),
        Box::new(attribute(ATTR_PRIORITY, &PRIORITY.to_be_bytes())),
        Box::new(attribute(ATTR_ICE_CONTROLLING, &transaction.to_be_bytes())),
    ];
    if is_nominated {
        setters.push(Box::new(attribute(ATTR_USE_CANDIDATE, &[])));
    }
    let integrity =
        MessageIntegrity::new_short_term_integrity_with_provider(remote.pwd.clone(), crypto);
    setters.push(Box::new(integrity));
    setters.push(Box::new(FINGERPRINT));
    let mut message = Message::new();
    message.build(&setters).ok()?;
    Some(message.raw)
}

/// What a STUN message asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// The remote side has answered a check.
    Answer,
    /// The remote side checks, and this is the answer.
    Check(Vec<u8>),
}

/// Understands a STUN message from this source.
pub(super) fn receive(
    crypto: &dyn RTCCrypto,
    local: &Credentials,
    from: SocketAddr,
    datagram: &[u8],
) -> Option<Incoming> {
    let mut message = Message::new();
    message.unmarshal_binary(datagram).ok()?;
    if message.typ == BINDING_SUCCESS {
        return Some(Incoming::Answer);
    }
    if message.typ != BINDING_REQUEST {
        return None;
    }
    let setters: Vec<Box<dyn Setter>> = vec![
        Box::new(BINDING_SUCCESS),
        Box::new(message.transaction_id),
        Box::new(XorMappedAddress {
            ip: from.ip(),
            port: from.port(),
        }),
        Box::new(MessageIntegrity::new_short_term_integrity_with_provider(
            local.pwd.clone(),
            crypto,
        )),
        Box::new(FINGERPRINT),
    ];
    let mut answer = Message::new();
    answer.build(&setters).ok()?;
    Some(Incoming::Check(answer.raw))
}

fn attribute(kind: AttrType, value: &[u8]) -> RawAttribute {
    RawAttribute {
        typ: kind,
        length: u16::try_from(value.len()).unwrap_or(0),
        value: value.to_vec(),
    }
}

/// A peer-reflexive candidate's, RFC 8445 §5.1.2.1.
const PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;
