//! What stands in front of the SCTP library: one walk over the chunks of a decrypted packet.
//!
//! It refuses what costs the library memory or time without being of use to anybody honest.

use super::{PacketError, reader::Reader};

/// What a packet's sender did so far, as far as it matters for the limits.
#[derive(Debug, Default)]
pub(super) struct SctpGuard {
    /// Initiate tag and first TSN of the one association (RFC 9260 §3.3.2).
    init: Option<(u32, u32)>,
    /// Whether the association left its handshake: then INITs are late repetitions.
    is_established: bool,
    /// The highest TSN that the peer used.
    highest_tsn: u32,
    /// DATA chunks that the peer sent and that did not become messages yet.
    undelivered: u32,
}

impl SctpGuard {
    /// Checks a packet. What is refused must not reach the library.
    pub(super) fn check(&mut self, packet: &[u8]) -> Result<(), PacketError> {
        let mut is_empty = true;
        for chunk in Chunks::new(packet) {
            self.check_chunk(&chunk?)?;
            is_empty = false;
        }
        if is_empty {
            return Err(PacketError::Malformed);
        }
        Ok(())
    }

    /// Notes that a message of so many chunks was delivered.
    pub(super) fn deliver(&mut self, chunks: usize) {
        let chunks = u32::try_from(chunks).unwrap_or(u32::MAX);
        self.undelivered = self.undelivered.saturating_sub(chunks);
    }

    /// Looks at a packet that is sent: a SACK with the whole window open (RFC 9260 §3.3.4) tells that
    /// nothing is undelivered, whatever was abandoned on the way.
    pub(super) fn observe_sent(&mut self, packet: &[u8], whole_window: u32) {
        for chunk in Chunks::new(packet).flatten() {
            let mut value = Reader::new(chunk.value);
            if chunk.kind == SACK && value.u32().and(value.u32()) == Some(whole_window) {
                self.undelivered = 0;
            }
        }
    }

    fn check_chunk(&mut self, chunk: &Chunk<'_>) -> Result<(), PacketError> {
        let mut value = Reader::new(chunk.value);
        match chunk.kind {
            DATA => self.check_data(&mut value),
            INIT => self.check_init(&mut value),
            COOKIE_ECHO if self.init.is_some() => {
                self.is_established = true;
                Ok(())
            }
            ABORT | ERROR => check_causes(&mut value),
            FORWARD_TSN => self.check_forward_tsn(&mut value),
            SACK | HEARTBEAT | HEARTBEAT_ACK | SHUTDOWN | SHUTDOWN_ACK | SHUTDOWN_COMPLETE
            | COOKIE_ACK | RECONFIG => Ok(()),
            // The server never sends an INIT, and negotiates nothing else.
            _ => Err(PacketError::Malformed),
        }
    }

    fn check_init(&mut self, value: &mut Reader<'_>) -> Result<(), PacketError> {
        let tag = value.u32().ok_or(PacketError::Malformed)?;
        let _window_and_streams = value.take(8).ok_or(PacketError::Malformed)?;
        let first_tsn = value.u32().ok_or(PacketError::Malformed)?;
        if self.is_established || *self.init.get_or_insert((tag, first_tsn)) != (tag, first_tsn) {
            return Err(PacketError::OverBudget);
        }
        self.highest_tsn = first_tsn.wrapping_sub(1);
        Ok(())
    }

    fn check_data(&mut self, value: &mut Reader<'_>) -> Result<(), PacketError> {
        let tsn = value.u32().ok_or(PacketError::Malformed)?;
        let stream = value.u16().ok_or(PacketError::Malformed)?;
        let _sequence_and_protocol = value.take(6).ok_or(PacketError::Malformed)?;
        if self.init.is_none() || value.is_empty() {
            return Err(PacketError::Malformed);
        }
        if stream >= MAX_STREAMS {
            return Err(PacketError::OverBudget);
        }
        let ahead = self.ahead(tsn)?;
        if self.undelivered + ahead > MAX_UNDELIVERED {
            return Err(PacketError::OverBudget);
        }
        self.undelivered += ahead;
        self.highest_tsn = self.highest_tsn.wrapping_add(ahead);
        Ok(())
    }

    fn check_forward_tsn(&mut self, value: &mut Reader<'_>) -> Result<(), PacketError> {
        let tsn = value.u32().ok_or(PacketError::Malformed)?;
        if self.init.is_none() {
            return Err(PacketError::Malformed);
        }
        while let (Some(stream), Some(_sequence)) = (value.u16(), value.u16()) {
            if stream >= MAX_STREAMS {
                return Err(PacketError::OverBudget);
            }
        }
        let ahead = self.ahead(tsn)?;
        self.highest_tsn = self.highest_tsn.wrapping_add(ahead);
        Ok(())
    }

    /// Returns how far a TSN is ahead of the highest so far, 0 for an older one.
    fn ahead(&self, tsn: u32) -> Result<u32, PacketError> {
        let ahead = tsn.wrapping_sub(self.highest_tsn);
        let behind = self.highest_tsn.wrapping_sub(tsn);
        match (ahead <= MAX_TSN_DISTANCE, behind <= MAX_TSN_DISTANCE) {
            (true, _) => Ok(ahead),
            (false, true) => Ok(0),
            (false, false) => Err(PacketError::OverBudget),
        }
    }
}

/// Every cause must lie within its chunk (RFC 9260 §3.3.10).
fn check_causes(value: &mut Reader<'_>) -> Result<(), PacketError> {
    while !value.is_empty() {
        let _code = value.u16().ok_or(PacketError::Malformed)?;
        let length = usize::from(value.u16().ok_or(PacketError::Malformed)?);
        let content = length.checked_sub(4).ok_or(PacketError::Malformed)?;
        value.take(content).ok_or(PacketError::Malformed)?;
        let padding = length.next_multiple_of(4) - length;
        value.take(padding.min(value.rest().len()));
    }
    Ok(())
}

struct Chunk<'a> {
    kind: u8,
    value: &'a [u8],
}

/// The chunks of a packet (RFC 9260 §3.2). A broken one is an error and the last.
struct Chunks<'a> {
    reader: Reader<'a>,
}

impl<'a> Chunks<'a> {
    fn new(packet: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(packet.get(COMMON_HEADER_LEN..).unwrap_or_default()),
        }
    }

    fn read(&mut self) -> Option<Chunk<'a>> {
        let (kind, _flags) = (self.reader.u8()?, self.reader.u8()?);
        let length = usize::from(self.reader.u16()?);
        let value = self.reader.take(length.checked_sub(4)?)?;
        let padding = length.next_multiple_of(4) - length;
        self.reader.take(padding.min(self.reader.rest().len()))?;
        Some(Chunk { kind, value })
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Result<Chunk<'a>, PacketError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let chunk = self.read();
        if chunk.is_none() {
            self.reader = Reader::new(&[]);
        }
        Some(chunk.ok_or(PacketError::Malformed))
    }
}

/// Stream ids that a peer may use; channels come and go, so there are more than channels at a time.
pub(super) const MAX_STREAMS: u16 = 256;

const COMMON_HEADER_LEN: usize = 12;
const DATA: u8 = 0;
const INIT: u8 = 1;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_ACK: u8 = 5;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
const RECONFIG: u8 = 130;
const FORWARD_TSN: u8 = 192;

/// How far TSNs may lie apart: several times what fits into the receive window.
const MAX_TSN_DISTANCE: u32 = 4096;

/// Chunks kept for messages that are not complete or not their turn: twice what fits into the receive window when
/// they are full. The library limits their bytes, but one of a single byte costs it five hundred, and keeps the whole
/// packet that it came in.
const MAX_UNDELIVERED: u32 = 512;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn honest_packets_pass() {
        let mut guard = guard();
        for (label, chunk) in [
            ("data", chunk(DATA, &data(100, 1))),
            ("repeated data", chunk(DATA, &data(100, 1))),
            ("skipped data", chunk(DATA, &data(140, 1))),
            ("forward", chunk(FORWARD_TSN, &[0, 0, 0, 150, 0, 1, 0, 1])),
            ("heartbeat", chunk(HEARTBEAT, &[0, 1, 0, 8, 1, 2, 3, 4])),
            ("abort", chunk(ABORT, &[])),
            ("abort with cause", chunk(ABORT, &[0, 12, 0, 5, 9])),
            ("reset", chunk(RECONFIG, &[0, 13, 0, 16])),
        ] {
            assert_eq!(guard.check(&packet(&[chunk])), Ok(()), "{label}");
        }
    }

    #[test]
    fn hostile_packets_are_refused() {
        use PacketError::{Malformed, OverBudget};
        for (label, chunk, expected) in [
            ("length 0", vec![DATA, 3, 0, 0], Malformed),
            ("beyond the packet", vec![SACK, 0, 0, 9, 1], Malformed),
            ("unknown kind", chunk(77, &[]), Malformed),
            ("INIT ACK", chunk(2, &[0; 16]), Malformed),
            ("no user data", chunk(DATA, &data(100, 1)[..12]), Malformed),
            ("stream", chunk(DATA, &data(100, MAX_STREAMS)), OverBudget),
            ("TSN", chunk(DATA, &data(9000, 1)), OverBudget),
            ("forward", chunk(FORWARD_TSN, &[0, 1, 0, 0]), OverBudget),
            (
                "stream of forward",
                chunk(FORWARD_TSN, &[0, 0, 0, 100, 9, 9, 0, 0]),
                OverBudget,
            ),
            ("cause of 3", chunk(ABORT, &[0, 12, 0, 3]), Malformed),
            ("long cause", chunk(ERROR, &[0, 12, 0, 99]), Malformed),
            ("another INIT", init(8), OverBudget),
        ] {
            let refused = guard().check(&packet(&[chunk]));
            assert_eq!(refused, Err(expected), "{label}");
        }
        assert_eq!(guard().check(&[0; 12]), Err(Malformed));
        let early = SctpGuard::default().check(&packet(&[chunk(DATA, &data(1, 1))]));
        assert_eq!(early, Err(Malformed));
    }

    #[test]
    fn init_is_repeated_until_the_cookie_comes_back() {
        let mut guard = SctpGuard::default();
        assert_eq!(guard.check(&packet(&[init(7)])), Ok(()));
        assert_eq!(guard.check(&packet(&[init(7)])), Ok(()));
        assert_eq!(guard.check(&packet(&[chunk(COOKIE_ECHO, &[1])])), Ok(()));
        let late = guard.check(&packet(&[init(7)]));
        assert_eq!(late, Err(PacketError::OverBudget));
    }

    #[test]
    fn undelivered_chunks_are_limited() {
        let mut guard = guard();
        let send = |guard: &mut SctpGuard, count: u32| {
            (0..count)
                .filter(|_| {
                    let tsn = guard.highest_tsn.wrapping_add(1);
                    guard.check(&packet(&[chunk(DATA, &data(tsn, 1))])).is_ok()
                })
                .count()
        };
        assert_eq!(
            send(&mut guard, 5000),
            usize::try_from(MAX_UNDELIVERED).unwrap()
        );
        guard.deliver(10);
        assert_eq!(send(&mut guard, 5000), 10);
        guard.observe_sent(&packet(&[chunk(SACK, &[0, 0, 0, 1, 0, 0, 0, 9])]), 10);
        assert_eq!(send(&mut guard, 5000), 0);
        guard.observe_sent(&packet(&[chunk(SACK, &[0, 0, 0, 1, 0, 0, 0, 10])]), 10);
        assert_eq!(
            send(&mut guard, 5000),
            usize::try_from(MAX_UNDELIVERED).unwrap()
        );
    }

    proptest! {
        #[test]
        fn arbitrary_packets_never_panic(
            kinds in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..5),
            tail in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let mut guard = guard();
            let chunks: Vec<Vec<u8>> = kinds.iter().map(|(kind, value)| chunk(*kind, value)).collect();
            let mut packet = packet(&chunks);
            packet.extend(tail);
            let _ = guard.check(&packet);
            guard.observe_sent(&packet, 10);
        }
    }

    fn guard() -> SctpGuard {
        let mut guard = SctpGuard::default();
        guard.check(&packet(&[init(7)])).unwrap();
        guard.check(&packet(&[chunk(COOKIE_ECHO, &[1])])).unwrap();
        guard
    }

    fn init(tag: u8) -> Vec<u8> {
        chunk(INIT, &[0, 0, 0, tag, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 100])
    }

    fn data(tsn: u32, stream: u16) -> Vec<u8> {
        let mut value = tsn.to_be_bytes().to_vec();
        value.extend(stream.to_be_bytes());
        value.extend([0, 0, 0, 0, 0, 51, b'x']);
        value
    }

    fn chunk(kind: u8, value: &[u8]) -> Vec<u8> {
        let mut chunk = vec![kind, 3];
        chunk.extend(u16::try_from(4 + value.len()).unwrap().to_be_bytes());
        chunk.extend(value);
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        chunk
    }

    fn packet(chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut packet = vec![0; COMMON_HEADER_LEN];
        packet.extend(chunks.concat());
        packet
    }
}
