//! What kind of datagram arrived on the one port that all protocols share.

/// What kind of datagram this is (RFC 7983), by its first byte; RTCP by its second (RFC 5761).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// STUN, RFC 8489.
    Stun,
    /// DTLS, RFC 6347.
    Dtls,
    /// SRTP, RFC 3711.
    Rtp,
    /// SRTCP, RFC 3711.
    Rtcp,
}

impl Protocol {
    /// Tells what a datagram is; `None` for anything that a peer never sends.
    pub fn of(datagram: &[u8]) -> Option<Self> {
        match *datagram {
            [0..=3, _, ..] => Some(Self::Stun),
            [20..=63, _, ..] => Some(Self::Dtls),
            [128..=191, 192..=223, ..] => Some(Self::Rtcp),
            [128..=191, _, ..] => Some(Self::Rtp),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_the_protocol() {
        for (label, datagram, expected) in [
            ("binding request", &[0, 1][..], Some(Protocol::Stun)),
            ("client hello", &[22, 254], Some(Protocol::Dtls)),
            ("DTLS 1.3 unified header", &[0x2f, 0], Some(Protocol::Dtls)),
            ("RTP with marker", &[0x80, 0x80 | 96], Some(Protocol::Rtp)),
            ("sender report", &[0x80, 200], Some(Protocol::Rtcp)),
            ("feedback", &[0x8f, 205], Some(Protocol::Rtcp)),
            ("TURN channel data", &[0x40, 0], None),
            ("QUIC long header", &[0xc0, 0], None),
            ("one byte", &[0x80], None),
            ("nothing", &[], None),
        ] {
            assert_eq!(Protocol::of(datagram), expected, "{label}");
        }
    }
}
