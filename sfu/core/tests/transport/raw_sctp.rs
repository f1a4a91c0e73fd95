//! SCTP packets written by hand, as only an attacker writes them.

use std::time::Duration;

use crate::{pair::Pair, support::client::CHROMIUM_ORDER};

/// A connected peer that speaks SCTP itself.
pub(crate) struct RawSctp {
    pub(crate) pair: Pair,
    tag: u32,
    /// The next TSN.
    pub(crate) tsn: u32,
}

impl RawSctp {
    /// Shakes hands (RFC 9260 §5.1).
    pub(crate) fn established() -> Self {
        let mut pair = Pair::connected(CHROMIUM_ORDER);
        pair.events();
        let mut raw = Self {
            pair,
            tag: 0,
            tsn: 1000,
        };
        raw.send(&[init(7, raw.tsn)]);
        raw.run();
        let answer = raw.pair.client.packets.pop().unwrap();
        assert_eq!(answer[12], 2, "INIT ACK");
        raw.tag = u32::from_be_bytes(answer[16..20].try_into().unwrap());
        let cookie = answer[32..]
            .windows(4)
            .position(|parameter| parameter[..2] == [0, 7])
            .map(|at| 32 + at)
            .unwrap();
        let len = usize::from(u16::from_be_bytes([answer[cookie + 2], answer[cookie + 3]]));
        let cookie = answer[cookie + 4..cookie + len].to_vec();
        raw.send(&[chunk(10, 0, &cookie)]);
        raw.run();
        let answer = raw.pair.client.packets.pop().unwrap();
        assert_eq!(answer[12], 11, "COOKIE ACK");
        raw.pair.memory.begin();
        raw
    }

    /// Sends one packet with these chunks.
    pub(crate) fn send(&mut self, chunks: &[Vec<u8>]) {
        let packet = packet(self.tag, chunks);
        self.pair.client.write(&packet, self.pair.now);
        let datagrams = self.pair.client.poll(self.pair.now);
        for datagram in datagrams {
            let _ = self.pair.send_to_server(&datagram);
        }
    }

    /// Sends a whole message.
    pub(crate) fn send_message(&mut self, stream: u16, sequence: u16, ppi: u32, payload: &[u8]) {
        let chunk = data(self.tsn, 3, stream, sequence, ppi, payload);
        self.tsn = self.tsn.wrapping_add(1);
        self.send(&[chunk]);
    }

    pub(crate) fn run(&mut self) {
        self.pair.run(Duration::from_millis(20), |_| true);
    }
}

/// A chunk (RFC 9260 §3.2), padded.
pub(crate) fn chunk(kind: u8, flags: u8, value: &[u8]) -> Vec<u8> {
    let mut chunk = vec![kind, flags];
    chunk.extend(u16::try_from(4 + value.len()).unwrap().to_be_bytes());
    chunk.extend(value);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

pub(crate) fn init(tag: u32, tsn: u32) -> Vec<u8> {
    let mut value = tag.to_be_bytes().to_vec();
    value.extend((1_u32 << 20).to_be_bytes());
    value.extend([0xff, 0xff, 0xff, 0xff]);
    value.extend(tsn.to_be_bytes());
    // FORWARD-TSN and RE-CONFIG are supported (RFC 3758 §3.1, RFC 5061 §4.2.7).
    value.extend([0xc0, 0, 0, 4, 0x80, 8, 0, 6, 192, 130, 0, 0]);
    chunk(1, 0, &value)
}

/// A DATA chunk; of `flags`, 2 begins and 1 ends a message.
pub(crate) fn data(
    tsn: u32,
    flags: u8,
    stream: u16,
    sequence: u16,
    ppi: u32,
    payload: &[u8],
) -> Vec<u8> {
    let mut value = tsn.to_be_bytes().to_vec();
    value.extend(stream.to_be_bytes());
    value.extend(sequence.to_be_bytes());
    value.extend(ppi.to_be_bytes());
    value.extend(payload);
    chunk(0, flags, &value)
}

fn packet(tag: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let mut packet = vec![0x13, 0x88, 0x13, 0x88];
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend(chunks.concat());
    let checksum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    packet
}

fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
