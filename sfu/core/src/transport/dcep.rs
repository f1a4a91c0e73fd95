//! Data Channel Establishment Protocol (RFC 8832): the one question and its one answer.

use super::reader::Reader;

/// The answer to a [`Open`] (RFC 8832 §5.2).
pub(super) const ACK: &[u8] = &[2];

/// DATA_CHANNEL_OPEN (RFC 8832 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) label: String,
    pub(super) is_unordered: bool,
    pub(super) reliability: Reliability,
}

/// How long a message is worth sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reliability {
    Reliable,
    /// At most so many retransmissions.
    Retransmissions(u32),
    /// At most so many milliseconds.
    Lifetime(u32),
}

impl Open {
    /// Reads an OPEN message; `None` for an ACK and for anything that is no DCEP message.
    pub(super) fn parse(message: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(message);
        if reader.u8()? != OPEN {
            return None;
        }
        let (channel_type, _priority) = (reader.u8()?, reader.u16()?);
        let limit = reader.u32()?;
        let (label_len, protocol_len) = (reader.u16()?, reader.u16()?);
        let label = reader.take(label_len.into())?;
        let _protocol = reader.take(protocol_len.into())?;
        if label.len() > MAX_LABEL_LEN {
            return None;
        }
        Some(Self {
            label: String::from_utf8(label.to_vec()).ok()?,
            is_unordered: channel_type & UNORDERED != 0,
            reliability: match channel_type & !UNORDERED {
                0 => Reliability::Reliable,
                1 => Reliability::Retransmissions(limit),
                2 => Reliability::Lifetime(limit),
                _ => return None,
            },
        })
    }
}

const OPEN: u8 = 3;
const UNORDERED: u8 = 0x80;
const MAX_LABEL_LEN: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn open_messages_are_read() {
        for (label, channel_type, expected) in [
            ("reliable", 0, Some((false, Reliability::Reliable))),
            ("unordered", 0x80, Some((true, Reliability::Reliable))),
            ("rexmit", 1, Some((false, Reliability::Retransmissions(7)))),
            ("timed", 0x82, Some((true, Reliability::Lifetime(7)))),
            ("unknown", 3, None),
        ] {
            let parsed = Open::parse(&open(channel_type, b"chat"));
            let expected = expected.map(|(is_unordered, reliability)| Open {
                label: "chat".to_owned(),
                is_unordered,
                reliability,
            });
            assert_eq!(parsed, expected, "{label}");
        }
    }

    #[test]
    fn short_and_foreign_messages_are_refused() {
        let whole = open(0, b"chat");
        for len in 0..whole.len() {
            assert_eq!(Open::parse(&whole[..len]), None, "{len}");
        }
        assert_eq!(Open::parse(ACK), None);
        assert_eq!(Open::parse(&open(0, &[b'x'; 257])), None);
        assert_eq!(Open::parse(&open(0, &[0xff])), None);
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(message in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Open::parse(&message);
            let _ = Open::parse(&[&[OPEN][..], &message].concat());
        }
    }

    fn open(channel_type: u8, label: &[u8]) -> Vec<u8> {
        let mut message = vec![OPEN, channel_type, 0, 0, 0, 0, 0, 7];
        message.extend(u16::try_from(label.len()).unwrap().to_be_bytes());
        message.extend([0, 0]);
        message.extend(label);
        message
    }
}
