//! Reads transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01,
//! §3.1), totally and without allocation.

use bytes::Bytes;

use super::reader::Reader;

/// A viewer's report on when packets arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArrivalReport {
    base: u16,
    count: usize,
    /// Microseconds on the viewer's clock, at most 2^24 times 64 ms.
    reference: i64,
    chunks: Bytes,
    deltas: Bytes,
}

impl ArrivalReport {
    /// Returns whether an RTCP packet is of this kind.
    pub(super) fn is(packet: &[u8]) -> bool {
        matches!(packet, [first, KIND, ..] if first & 0x1f == FORMAT)
    }

    /// Reads a whole RTCP packet. `None` when it is cut off; statuses beyond [`MAX_STATUSES`] are left out.
    pub(super) fn parse(packet: &Bytes) -> Option<Self> {
        let mut reader = Reader::new(packet);
        reader.take(12)?;
        let (base, count) = (reader.u16()?, usize::from(reader.u16()?));
        let reference = i64::from(reader.u24()?) * REFERENCE_MICROS;
        reader.u8()?;
        let start = packet.len() - reader.rest().len();
        let mut covered = 0;
        while covered < count {
            covered += Chunk::read(reader.u16()?).left;
        }
        let end = packet.len() - reader.rest().len();
        Some(Self {
            base,
            count: count.min(MAX_STATUSES),
            reference,
            chunks: packet.slice(start..end),
            deltas: packet.slice(end..),
        })
    }

    /// Returns each reported packet's number and when it arrived, if it did, in microseconds on the
    /// viewer's clock, which wraps at [`ArrivalReport::WRAP`].
    pub(crate) fn arrivals(&self) -> impl Iterator<Item = (u16, Option<i64>)> {
        let mut chunks = Reader::new(&self.chunks);
        let mut deltas = Reader::new(&self.deltas);
        let mut chunk = Chunk::default();
        let (mut seq, mut at) = (self.base, self.reference);
        (0..self.count).map_while(move |_| {
            while chunk.left == 0 {
                chunk = Chunk::read(chunks.u16()?);
            }
            let delta = match chunk.next() {
                1 => Some(i64::from(deltas.u8()?)),
                2 => Some(i64::from(deltas.u16()?.cast_signed())),
                _ => None,
            };
            let status = (seq, delta.map(|delta| at + delta * DELTA_MICROS));
            at = status.1.unwrap_or(at);
            seq = seq.wrapping_add(1);
            Some(status)
        })
    }

    /// Where the times of [`ArrivalReport::arrivals`] begin anew.
    pub(crate) const WRAP: i64 = REFERENCE_MICROS << 24;
}

/// A chunk of statuses: 0 is missing, 1 and 2 arrived, with a delta of one and two bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Chunk {
    left: usize,
    /// The next status is in the highest bits.
    bits: u16,
    /// The bits of a status.
    width: u32,
    /// The bits by which statuses follow each other; 0 in a run.
    step: u32,
}

impl Chunk {
    fn read(word: u16) -> Self {
        let (left, bits, width, step) = match word >> 14 {
            0 | 1 => (usize::from(word & 0x1fff), word << 1, 2, 0),
            2 => (14, word << 2, 1, 1),
            _ => (7, word << 2, 2, 2),
        };
        Self {
            left,
            bits,
            width,
            step,
        }
    }

    fn next(&mut self) -> u16 {
        self.left = self.left.saturating_sub(1);
        let status = self.bits >> (16 - self.width);
        self.bits <<= self.step;
        status
    }
}

const KIND: u8 = 205;
const FORMAT: u8 = 15;
const REFERENCE_MICROS: i64 = 64_000;
const DELTA_MICROS: i64 = 250;

/// Most statuses read of one report: what a fast path carries in a second.
const MAX_STATUSES: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    fn report(count: u16, tail: &[u8]) -> Bytes {
        let mut packet = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xff];
        packet.extend(count.to_be_bytes());
        packet.extend([0, 0, 2, 7]);
        packet.extend(tail);
        packet.into()
    }

    #[test]
    fn every_kind_of_chunk_is_read() {
        let ms = |n: i64| Some(128_000 + n * 250);
        let cases = [
            ("run", 3, &[0x20, 3, 1, 2, 3][..], vec![ms(1), ms(3), ms(6)]),
            ("one bit", 3, &[0xa8, 0, 4, 5], vec![ms(4), None, ms(9)]),
            (
                "two bits: small, missing, large, small",
                4,
                &[0xd2, 0x40, 4, 0xff, 0xff, 6],
                vec![ms(4), None, ms(3), ms(9)],
            ),
            ("cut off", 3, &[0x20, 3, 1], vec![ms(1)]),
        ];
        for (label, count, tail, expected) in cases {
            let read = ArrivalReport::parse(&report(count, tail)).unwrap();
            let arrivals: Vec<_> = read.arrivals().map(|(_, at)| at).collect();
            assert_eq!(arrivals, expected, "{label}");
        }
        let read = ArrivalReport::parse(&report(2, &[0x20, 2, 0, 0])).unwrap();
        let seqs: Vec<_> = read.arrivals().map(|(seq, _)| seq).collect();
        assert_eq!(seqs, [0xffff, 0]);
        assert_eq!(ArrivalReport::parse(&report(20, &[0x20, 3])), None);
    }
}
