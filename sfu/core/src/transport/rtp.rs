//! RTP headers (RFC 3550 §5.1) and their extensions (RFC 8285), read totally and written fixed.

use super::{reader::Reader, sdp::ExtensionIds};
use crate::{Pt, Ssrc};

/// A decrypted RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtp<'a> {
    /// Marker bit.
    pub marker: bool,
    /// Payload type.
    pub pt: Pt,
    /// Sequence number.
    pub seq: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Source.
    pub ssrc: Ssrc,
    /// The `mid` header extension (RFC 9143), if present.
    pub mid: Option<&'a str>,
    /// The `rtp-stream-id` header extension (RFC 8852), if present.
    pub rid: Option<&'a str>,
    /// The `repaired-rtp-stream-id` header extension (RFC 8852), if present.
    pub repaired_rid: Option<&'a str>,
    /// The transport-wide sequence number, if present.
    pub transport_seq: Option<u16>,
    /// The header extensions that are forwarded.
    pub carried: Carried<'a>,
    /// The payload without padding; empty for a padding-only packet.
    pub payload: &'a [u8],
}

/// Header extension values that travel on from the publisher to its viewers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried<'a> {
    /// Voice activity and level (RFC 6464): the whole byte.
    pub audio_level: Option<u8>,
    /// Absolute capture time, 8 or 16 bytes.
    pub abs_capture_time: Option<&'a [u8]>,
    /// Least and most playout delay, 12 bits each.
    pub playout_delay: Option<[u8; 3]>,
    /// The dependency descriptor (AV1 RTP specification, appendix A).
    pub dependency_descriptor: Option<&'a [u8]>,
}

impl<'a> Rtp<'a> {
    /// Joins a header with its decrypted payload. `None` when the padding is longer than the payload.
    pub(super) fn new(
        header: &Header,
        head: &'a [u8],
        payload: &'a [u8],
        ids: &ExtensionIds,
    ) -> Option<Self> {
        let padding = match (header.has_padding, payload.last()) {
            (true, Some(&count)) => usize::from(count),
            (true, None) => return None,
            (false, _) => 0,
        };
        let mut rtp = Self {
            marker: header.marker,
            pt: header.pt,
            seq: header.seq,
            timestamp: header.timestamp,
            ssrc: header.ssrc,
            mid: None,
            rid: None,
            repaired_rid: None,
            transport_seq: None,
            carried: Carried::default(),
            payload: payload.get(..payload.len().checked_sub(padding)?)?,
        };
        if let Some(profile) = header.extension_profile {
            let start = head.len().checked_sub(header.extension_len)?;
            rtp.read_extensions(profile, head.get(start..)?, ids);
        }
        Some(rtp)
    }

    fn read_extensions(&mut self, profile: u16, block: &'a [u8], ids: &ExtensionIds) {
        let mut reader = Reader::new(block);
        while let Some((id, value)) = read_extension(profile, &mut reader) {
            if id == 0 {
                continue;
            }
            if id == ids.mid {
                self.mid = std::str::from_utf8(value).ok();
            } else if id == ids.rid {
                self.rid = std::str::from_utf8(value).ok();
            } else if id == ids.repaired_rid {
                self.repaired_rid = std::str::from_utf8(value).ok();
            } else if id == ids.transport_cc {
                self.transport_seq = Reader::new(value).u16();
            } else if id == ids.audio_level {
                self.carried.audio_level = value.first().copied();
            } else if id == ids.abs_capture_time {
                self.carried.abs_capture_time = Some(value).filter(|v| matches!(v.len(), 8 | 16));
            } else if id == ids.playout_delay {
                self.carried.playout_delay = value.first_chunk().copied();
            } else if id == ids.dependency_descriptor {
                self.carried.dependency_descriptor = Some(value);
            }
        }
    }
}

/// The header of an RTP packet to be sent.
#[derive(Clone, Copy, Debug)]
pub struct SendHeader {
    /// Marker bit.
    pub marker: bool,
    /// Payload type.
    pub pt: Pt,
    /// Extended sequence number: the upper 16 bits are the rollover counter (RFC 3711 §3.3.1).
    pub seq: u32,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Source.
    pub ssrc: Ssrc,
    /// Bytes of padding behind the payload, the last of which says how many they are (RFC 3550 §5.1).
    pub padding: u8,
}

impl SendHeader {
    pub(super) const LEN: usize = 12;

    /// Writes the fixed header.
    pub(super) fn to_bytes(self, has_extensions: bool) -> [u8; Self::LEN] {
        let [_, _, s0, s1] = self.seq.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [c0, c1, c2, c3] = self.ssrc.0.to_be_bytes();
        let marker = u8::from(self.marker) << 7;
        let pt = marker | (self.pt.0 & 0x7f);
        let mut first = VERSION_2;
        first |= u8::from(self.padding > 0) << 5;
        first |= u8::from(has_extensions) << 4;
        [first, pt, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3]
    }

    /// Returns the rollover counter.
    pub(super) fn roc(self) -> u32 {
        self.seq >> 16
    }
}

/// What a packet to be sent carries between its fixed header and its payload (RFC 8285).
///
/// Only what the peer negotiated an id for is written; nothing negotiated is nothing written. The one-byte
/// form is taken unless a value is longer than it can say.
#[derive(Clone, Copy, Debug)]
pub(super) struct SendExtensions<'a> {
    ids: &'a ExtensionIds,
    transport_seq: Option<[u8; 2]>,
    carried: &'a Carried<'a>,
    has_long: bool,
    /// Of the values with their ids and lengths, without padding.
    len: usize,
}

impl<'a> SendExtensions<'a> {
    pub(super) fn new(
        ids: &'a ExtensionIds,
        transport_seq: Option<u16>,
        carried: &'a Carried<'a>,
    ) -> Self {
        let mut this = Self {
            ids,
            transport_seq: transport_seq.map(u16::to_be_bytes),
            carried,
            has_long: false,
            len: 0,
        };
        let (mut count, mut len, mut longest) = (0, 0, 0);
        for (_, value) in this.values() {
            count += 1;
            len += value.len();
            longest = longest.max(value.len());
        }
        this.has_long = longest > LONGEST_SHORT;
        this.len = len + count * if this.has_long { 2 } else { 1 };
        this
    }

    /// Returns the length of the whole block; 0 when there is nothing to write.
    pub(super) fn len(&self) -> usize {
        match self.len {
            0 => 0,
            len => BLOCK_HEAD_LEN + len.next_multiple_of(4),
        }
    }

    /// Writes the block into zeros of its length.
    pub(super) fn write(&self, out: &mut [u8]) -> Option<()> {
        if self.len == 0 {
            return Some(());
        }
        let words = u16::try_from(self.len.div_ceil(4)).ok()?.to_be_bytes();
        let (head, mut rest) = out.split_first_chunk_mut::<BLOCK_HEAD_LEN>()?;
        let form = match self.has_long {
            true => TWO_BYTE_FORM,
            false => ONE_BYTE_FORM,
        };
        let ([f0, f1], [w0, w1]) = (form.to_be_bytes(), words);
        *head = [f0, f1, w0, w1];
        for (id, value) in self.values() {
            let len = u8::try_from(value.len()).ok()?;
            if self.has_long {
                let (start, after) = rest.split_first_chunk_mut()?;
                *start = [id, len];
                rest = after;
            } else {
                let (start, after) = rest.split_first_mut()?;
                *start = id << 4 | (len - 1);
                rest = after;
            }
            let (to, after) = rest.split_at_mut_checked(value.len())?;
            to.copy_from_slice(value);
            rest = after;
        }
        Some(())
    }

    fn values(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let carried = self.carried;
        let playout_delay = carried.playout_delay.as_ref().map(<[u8; 3]>::as_slice);
        let transport_seq = self.transport_seq.as_ref().map(<[u8; 2]>::as_slice);
        let values = [
            (self.ids.transport_cc, transport_seq),
            (self.ids.audio_level, Some(carried.audio_level.as_slice())),
            (self.ids.abs_capture_time, carried.abs_capture_time),
            (self.ids.playout_delay, playout_delay),
            (
                self.ids.dependency_descriptor,
                carried.dependency_descriptor,
            ),
        ];
        values.into_iter().filter_map(|(id, value)| {
            let value = value.filter(|value| !value.is_empty() && value.len() <= LONGEST)?;
            (id != 0).then_some((id, value))
        })
    }
}

/// What of a header is readable before decryption.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) marker: bool,
    pub(super) pt: Pt,
    pub(super) seq: u16,
    pub(super) timestamp: u32,
    pub(super) ssrc: Ssrc,
    /// Length of everything in front of the payload.
    pub(super) len: usize,
    has_padding: bool,
    extension_profile: Option<u16>,
    /// Length of the extensions, which are the header's last bytes.
    extension_len: usize,
}

impl Header {
    pub(super) fn parse(datagram: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(datagram);
        let (first, second) = (reader.u8()?, reader.u8()?);
        if first & 0xc0 != VERSION_2 {
            return None;
        }
        let seq = reader.u16()?;
        let (timestamp, ssrc) = (reader.u32()?, reader.u32()?);
        let _csrcs = reader.take(usize::from(first & 0x0f) * 4)?;
        let (mut extension_profile, mut extension_len) = (None, 0);
        if first & 0x10 != 0 {
            extension_profile = Some(reader.u16()?);
            extension_len = usize::from(reader.u16()?) * 4;
            reader.take(extension_len)?;
        }
        Some(Self {
            marker: second & 0x80 != 0,
            pt: Pt(second & 0x7f),
            seq,
            timestamp,
            ssrc: Ssrc(ssrc),
            len: datagram.len() - reader.rest().len(),
            has_padding: first & 0x20 != 0,
            extension_profile,
            extension_len,
        })
    }
}

/// Reads one extension of either form; id 0 is padding. `None` at the end or where it makes no sense.
fn read_extension<'a>(profile: u16, reader: &mut Reader<'a>) -> Option<(u8, &'a [u8])> {
    let first = reader.u8()?;
    if profile == ONE_BYTE_FORM {
        let id = first >> 4;
        match (id, first) {
            (_, 0) => Some((0, &[])),
            (15, _) => None,
            _ => Some((id, reader.take(usize::from(first & 0x0f) + 1)?)),
        }
    } else if profile & 0xfff0 == TWO_BYTE_FORM {
        match first {
            0 => Some((0, &[])),
            id => Some((id, reader.vec8()?)),
        }
    } else {
        None
    }
}

const VERSION_2: u8 = 0x80;
const ONE_BYTE_FORM: u16 = 0xbede;
const TWO_BYTE_FORM: u16 = 0x1000;

/// The form's name and the length in words.
const BLOCK_HEAD_LEN: usize = 4;

/// The longest value in the one-byte form, and in the two-byte form.
const LONGEST_SHORT: usize = 16;
const LONGEST: usize = 255;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const IDS: ExtensionIds = ExtensionIds {
        mid: 4,
        rid: 10,
        repaired_rid: 11,
        transport_cc: 3,
        audio_level: 0,
        abs_capture_time: 0,
        playout_delay: 0,
        dependency_descriptor: 0,
    };

    #[test]
    fn both_extension_forms_are_read() {
        for (label, profile, block) in [
            (
                "one byte",
                ONE_BYTE_FORM,
                &[0x40, b'0', 0xa0, b'h', 0, 0xb0, b'r', 0x31, 1, 2, 0x50, 9][..],
            ),
            (
                "two bytes",
                TWO_BYTE_FORM,
                &[
                    4, 1, b'0', 10, 1, b'h', 0, 11, 1, b'r', 3, 2, 1, 2, 99, 0, 0, 0, 0, 0,
                ],
            ),
        ] {
            let packet = packet(0x90, Some((profile, block)), b"payload");
            let rtp = read(&packet).unwrap();
            assert_eq!(rtp.mid, Some("0"), "{label}");
            assert_eq!(rtp.rid, Some("h"), "{label}");
            assert_eq!(rtp.repaired_rid, Some("r"), "{label}");
            assert_eq!(rtp.transport_seq, Some(0x0102), "{label}");
            assert_eq!(rtp.payload, b"payload", "{label}");
        }
    }

    #[test]
    fn padding_is_removed() {
        for (label, payload, expected) in [
            ("some", &b"ab\0\0\x03"[..], Some(&b"ab"[..])),
            ("nothing but padding", b"\0\0\x03", Some(b"")),
            ("longer than the payload", b"\0\x03", None),
            ("no count", b"", None),
        ] {
            let packet = packet(0xa0, None, payload);
            assert_eq!(read(&packet).map(|rtp| rtp.payload), expected, "{label}");
        }
    }

    #[test]
    fn truncated_headers_are_refused() {
        let whole = packet(0x91, Some((ONE_BYTE_FORM, &[0; 4])), b"");
        for len in 0..whole.len() {
            assert!(Header::parse(&whole[..len]).is_none(), "{len}");
        }
        assert!(Header::parse(&[0x40; 12]).is_none());
    }

    #[test]
    fn written_headers_read_back() {
        let sent = SendHeader {
            marker: true,
            pt: Pt(96),
            seq: 0x0002_fffe,
            timestamp: 0x0102_0304,
            ssrc: Ssrc(0xa0b0_c0d0),
            padding: 0,
        };
        let header = Header::parse(&sent.to_bytes(false)).unwrap();
        assert!(header.marker);
        assert_eq!((header.pt, header.seq), (Pt(96), 0xfffe));
        assert_eq!((header.timestamp, header.ssrc), (0x0102_0304, sent.ssrc));
        assert_eq!((header.len, sent.roc()), (12, 2));
    }

    #[test]
    fn the_common_block_has_one_length_and_none_is_nothing() {
        let none = Carried::default();
        let ids = ExtensionIds {
            transport_cc: 3,
            ..ExtensionIds::default()
        };
        for (label, ids, seq, len) in [
            ("nothing negotiated", ExtensionIds::default(), Some(7), 0),
            ("nothing to say", ids, None, 0),
            ("transport-wide", ids, Some(7), 8),
        ] {
            let block = SendExtensions::new(&ids, seq, &none);
            assert_eq!(block.len(), len, "{label}");
        }
    }

    proptest! {
        #[test]
        fn written_extensions_read_back(
            transport_seq in prop::option::of(any::<u16>()),
            audio_level in prop::option::of(any::<u8>()),
            capture in prop::option::of(any::<[u8; 16]>()),
            playout_delay in prop::option::of(any::<[u8; 3]>()),
            descriptor in prop::option::of(prop::collection::vec(any::<u8>(), 1..256)),
            negotiated: [bool; 5],
        ) {
            let id = |n: usize| negotiated[n] as u8 * (n as u8 + 3);
            let ids = ExtensionIds {
                transport_cc: id(0),
                audio_level: id(1),
                abs_capture_time: id(2),
                playout_delay: id(3),
                dependency_descriptor: id(4),
                ..ExtensionIds::default()
            };
            let carried = Carried {
                audio_level,
                abs_capture_time: capture.as_ref().map(|bytes| &bytes[..8]),
                playout_delay,
                dependency_descriptor: descriptor.as_deref(),
            };
            let block = SendExtensions::new(&ids, transport_seq, &carried);
            let mut bytes = vec![0; block.len()];
            block.write(&mut bytes).unwrap();
            let sent = SendHeader {
                marker: true,
                pt: Pt(96),
                seq: 1,
                timestamp: 2,
                ssrc: Ssrc(3),
                padding: 0,
            };
            let mut packet = sent.to_bytes(!bytes.is_empty()).to_vec();
            packet.extend(&bytes);
            packet.extend(b"payload");
            let header = Header::parse(&packet).unwrap();
            let (head, payload) = packet.split_at(header.len);
            let rtp = Rtp::new(&header, head, payload, &ids).unwrap();
            prop_assert_eq!(rtp.payload, b"payload");
            prop_assert_eq!(rtp.transport_seq, transport_seq.filter(|_| negotiated[0]));
            let expected = Carried {
                audio_level: carried.audio_level.filter(|_| negotiated[1]),
                abs_capture_time: carried.abs_capture_time.filter(|_| negotiated[2]),
                playout_delay: carried.playout_delay.filter(|_| negotiated[3]),
                dependency_descriptor: carried.dependency_descriptor.filter(|_| negotiated[4]),
            };
            prop_assert_eq!(rtp.carried, expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            one_byte in any::<bool>(),
        ) {
            let _ = read(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = *first & 0x3f | VERSION_2;
            }
            let form = if one_byte { ONE_BYTE_FORM } else { TWO_BYTE_FORM };
            if let Some(profile) = bytes.get_mut(12..14) {
                profile.copy_from_slice(&form.to_be_bytes());
            }
            if let Some(rtp) = read(&bytes) {
                prop_assert!(rtp.payload.len() <= bytes.len());
            }
        }
    }

    fn read(packet: &[u8]) -> Option<Rtp<'_>> {
        let header = Header::parse(packet)?;
        let (head, payload) = packet.split_at(header.len);
        Rtp::new(&header, head, payload, &IDS)
    }

    fn packet(first: u8, extension: Option<(u16, &[u8])>, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![first, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
        packet.extend(vec![0; usize::from(first & 0x0f) * 4]);
        if let Some((profile, block)) = extension {
            packet.extend(profile.to_be_bytes());
            packet.extend(u16::try_from(block.len() / 4).unwrap().to_be_bytes());
            packet.extend(block);
        }
        packet.extend(payload);
        packet
    }
}
