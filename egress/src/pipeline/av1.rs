//! AV1 out of RTP (the AV1 RTP payload format, §4), for which the GStreamer of Debian 12 has no element.

/// Puts temporal units together. Feed it packets in order.
#[derive(Debug, Default)]
pub(crate) struct Depacketizer {
    unit: Vec<u8>,
    /// The beginning of an OBU that goes on in the next packet.
    fragment: Vec<u8>,
    next_seq: Option<u16>,
    /// Whether what comes can be decoded.
    in_step: bool,
    timestamp: u32,
}

/// A temporal unit in the low-overhead format (AV1 §5.2), every OBU with its size.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) data: Vec<u8>,
    pub(crate) keyframe: bool,
}

/// What came of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// More packets are needed.
    Pending,
    /// A unit is complete.
    Complete(Unit),
    /// A packet is missing, or was nonsense: nothing can be decoded until a keyframe.
    Lost,
}

impl Depacketizer {
    /// Takes in an RTP packet without header extensions.
    pub(crate) fn push(&mut self, rtp: &[u8]) -> Outcome {
        let Some((header, payload)) = Header::parse(rtp) else {
            return self.lose();
        };
        let expected = self.next_seq.replace(header.seq.wrapping_add(1));
        if expected.is_some_and(|expected| expected != header.seq) && self.in_step {
            return self.lose();
        }
        if header.timestamp != self.timestamp {
            self.timestamp = header.timestamp;
            self.unit.clear();
            self.fragment.clear();
        }
        let Some((aggregation, elements)) = payload.split_first() else {
            return Outcome::Pending;
        };
        let starts_sequence = aggregation & 0x08 != 0;
        self.in_step |= starts_sequence;
        if !self.in_step {
            return Outcome::Lost;
        }
        if self.take_elements(*aggregation, elements).is_none() {
            return self.lose();
        }
        if !header.marker {
            return Outcome::Pending;
        }
        let data = std::mem::take(&mut self.unit);
        if data.is_empty() {
            return Outcome::Pending;
        }
        let keyframe = obu_types(&data).any(|kind| kind == SEQUENCE_HEADER);
        Outcome::Complete(Unit { data, keyframe })
    }

    fn lose(&mut self) -> Outcome {
        self.in_step = false;
        self.unit.clear();
        self.fragment.clear();
        Outcome::Lost
    }

    /// Takes the OBU elements of one packet (§4.3, §4.4).
    fn take_elements(&mut self, aggregation: u8, mut rest: &[u8]) -> Option<()> {
        let continues = aggregation & 0x80 != 0;
        let goes_on = aggregation & 0x40 != 0;
        let count = aggregation >> 4 & 3;
        if !continues {
            self.fragment.clear();
        }
        let mut number = 0;
        while !rest.is_empty() {
            number += 1;
            // The last of a counted packet has no length.
            let element = if number == count {
                std::mem::take(&mut rest)
            } else {
                let (length, after) = leb128(rest)?;
                let (element, after) = after.split_at_checked(length)?;
                rest = after;
                element
            };
            let is_last = rest.is_empty();
            self.fragment.extend_from_slice(element);
            if self.fragment.len() + self.unit.len() > UNIT_LIMIT {
                return None;
            }
            if !(is_last && goes_on) {
                let obu = std::mem::take(&mut self.fragment);
                self.add(&obu)?;
            }
        }
        Some(())
    }

    /// Adds a whole OBU, giving it a size if it has none.
    fn add(&mut self, obu: &[u8]) -> Option<()> {
        let Some((&header, rest)) = obu.split_first() else {
            return Some(());
        };
        if matches!(header >> 3 & 0xf, TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            return Some(());
        }
        if self.unit.is_empty() {
            self.unit
                .extend_from_slice(&[TEMPORAL_DELIMITER << 3 | HAS_SIZE, 0]);
        }
        if header & HAS_SIZE != 0 {
            self.unit.extend_from_slice(obu);
            return Some(());
        }
        let extension = usize::from(header & HAS_EXTENSION != 0);
        let (extension, payload) = rest.split_at_checked(extension)?;
        self.unit.push(header | HAS_SIZE);
        self.unit.extend_from_slice(extension);
        put_leb128(payload.len(), &mut self.unit);
        self.unit.extend_from_slice(payload);
        Some(())
    }
}

struct Header {
    marker: bool,
    seq: u16,
    timestamp: u32,
}

impl Header {
    fn parse(rtp: &[u8]) -> Option<(Self, &[u8])> {
        let (&[_, m, s0, s1, t0, t1, t2, t3, _, _, _, _], payload) =
            rtp.split_first_chunk::<12>()?;
        let header = Self {
            marker: m & 0x80 != 0,
            seq: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        };
        Some((header, payload))
    }
}

/// Returns the types of the OBUs of a unit made here.
fn obu_types(mut data: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (&header, rest) = data.split_first()?;
        let rest = rest.get(usize::from(header & HAS_EXTENSION != 0)..)?;
        let (length, rest) = leb128(rest)?;
        data = rest.get(length..)?;
        Some(header >> 3 & 0xf)
    })
}

fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (n, byte) in bytes.iter().enumerate().take(5) {
        value |= usize::from(byte & 0x7f) << (7 * n);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(n + 1..)?));
        }
    }
    None
}

fn put_leb128(mut value: usize, to: &mut Vec<u8>) {
    loop {
        let low = u8::try_from(value & 0x7f).expect("seven bits fit");
        value >>= 7;
        if value == 0 {
            to.push(low);
            return;
        }
        to.push(low | 0x80);
    }
}

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;
const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;
/// More than a keyframe of any size that a room carries.
const UNIT_LIMIT: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rtp(seq: u16, timestamp: u8, marker: bool, payload: &[u8]) -> Vec<u8> {
        let [s0, s1] = seq.to_be_bytes();
        let mut packet = vec![0x80, 99 | u8::from(marker) << 7, s0, s1, 0, 0, 0, timestamp];
        packet.extend([0; 4]);
        packet.extend(payload);
        packet
    }

    const SEQUENCE: [u8; 3] = [SEQUENCE_HEADER << 3, 0xaa, 0xbb];
    const FRAME: [u8; 4] = [6 << 3, 1, 2, 3];

    #[test]
    fn obus_get_sizes_and_units_a_delimiter() {
        let mut depacketizer = Depacketizer::default();
        let payload = [&[0x28, 3][..], &SEQUENCE, &FRAME].concat();
        let expected = [0x12, 0, 0x0a, 2, 0xaa, 0xbb, 0x32, 3, 1, 2, 3];
        assert_eq!(
            depacketizer.push(&rtp(1, 1, true, &payload)),
            Outcome::Complete(Unit {
                data: expected.to_vec(),
                keyframe: true
            })
        );
    }

    #[test]
    fn fragments_are_joined() {
        let mut depacketizer = Depacketizer::default();
        let first = [&[0x68, 3][..], &SEQUENCE, &FRAME[..2]].concat();
        assert_eq!(
            depacketizer.push(&rtp(1, 1, false, &first)),
            Outcome::Pending
        );
        let second = [&[0x90][..], &FRAME[2..]].concat();
        let Outcome::Complete(unit) = depacketizer.push(&rtp(2, 1, true, &second)) else {
            panic!("not complete");
        };
        assert_eq!(unit.data[6..], [0x32, 3, 1, 2, 3]);
    }

    #[test]
    fn after_a_loss_only_a_new_sequence_helps() {
        let mut depacketizer = Depacketizer::default();
        let key = [&[0x18][..], &SEQUENCE].concat();
        let delta = [&[0x10][..], &FRAME].concat();
        assert_eq!(depacketizer.push(&rtp(1, 1, true, &delta)), Outcome::Lost);
        assert!(matches!(
            depacketizer.push(&rtp(2, 2, true, &key)),
            Outcome::Complete(_)
        ));
        assert!(matches!(
            depacketizer.push(&rtp(3, 3, true, &delta)),
            Outcome::Complete(_)
        ));
        assert_eq!(depacketizer.push(&rtp(5, 5, true, &delta)), Outcome::Lost);
        assert_eq!(depacketizer.push(&rtp(6, 6, true, &delta)), Outcome::Lost);
        assert!(matches!(
            depacketizer.push(&rtp(7, 7, true, &key)),
            Outcome::Complete(_)
        ));
    }

    proptest! {
        #[test]
        fn garbage_neither_panics_nor_grows(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..20)) {
            let mut depacketizer = Depacketizer::default();
            for packet in packets {
                depacketizer.push(&packet);
            }
            prop_assert!(depacketizer.unit.len() + depacketizer.fragment.len() < UNIT_LIMIT);
        }
    }
}
