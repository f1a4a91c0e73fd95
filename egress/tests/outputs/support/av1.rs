//! AV1 into RTP (the AV1 RTP payload format, §4), for which GStreamer 1.22 has no element.

/// Returns the RTP packets of a temporal unit, each with a header whose numbers are still to be set.
pub(crate) fn packets(unit: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    let obus = obus(unit);
    let is_key = obus.iter().any(|obu| obu[0] >> 3 & 0xf == SEQUENCE_HEADER);
    for obu in &obus {
        let count = obu.chunks(ROOM).count();
        for (n, part) in obu.chunks(ROOM).enumerate() {
            let mut aggregation = 0x10;
            if n > 0 {
                aggregation |= 0x80;
            }
            if n + 1 < count {
                aggregation |= 0x40;
            }
            if is_key && packets.is_empty() {
                aggregation |= 0x08;
            }
            let mut packet = vec![0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, aggregation];
            packet.extend(part);
            packets.push(packet);
        }
    }
    if let Some(last) = packets.last_mut() {
        last[1] |= 0x80;
    }
    packets
}

/// Returns the OBUs of a temporal unit without sizes, and without the delimiter.
fn obus(mut unit: &[u8]) -> Vec<Vec<u8>> {
    let mut obus = Vec::new();
    while let Some((&header, rest)) = unit.split_first() {
        let extension = usize::from(header >> 2 & 1);
        let (mut length, mut at) = (0, extension);
        for n in 0.. {
            let byte = rest[at];
            at += 1;
            length |= usize::from(byte & 0x7f) << (7 * n);
            if byte & 0x80 == 0 {
                break;
            }
        }
        if header >> 3 & 0xf != TEMPORAL_DELIMITER {
            let mut obu = vec![header & !0x02];
            obu.extend(&rest[..extension]);
            obu.extend(&rest[at..at + length]);
            obus.push(obu);
        }
        unit = &rest[at + length..];
    }
    obus
}

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
/// Bytes of an OBU in one packet.
const ROOM: usize = 1180;
