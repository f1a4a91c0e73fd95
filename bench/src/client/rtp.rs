//! RTP headers (RFC 3550 §5.1, RFC 8285).

/// What is read of a header. Headers are not encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Payload type.
    pub(crate) pt: u8,
    /// Whether it ends a video frame.
    pub(crate) marker: bool,
    /// Sequence number.
    pub(crate) seq: u16,
    /// Timestamp.
    pub(crate) timestamp: u32,
    /// Source.
    pub(crate) ssrc: u32,
    /// Length of the whole header.
    pub(crate) len: usize,
    /// The two-byte value of the extension that was looked for.
    pub(crate) extension: Option<u16>,
}

impl Header {
    /// Parses a header and looks for an extension of two bytes with this id. `None` for anything that is not
    /// RTP (RFC 7983, RFC 5761).
    pub(crate) fn parse(datagram: &[u8], id: Option<u8>) -> Option<Self> {
        let (&[flags, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3], rest) =
            datagram.split_first_chunk::<12>()?;
        if flags >> 6 != 2 || (192..=223).contains(&second) {
            return None;
        }
        let sources = usize::from(flags & 0x0f) * 4;
        let mut rest = rest.get(sources..)?;
        let mut len = 12 + sources;
        let mut extension = None;
        if flags & 0x10 != 0 {
            let (&[p0, p1, n0, n1], body) = rest.split_first_chunk::<4>()?;
            let words = usize::from(u16::from_be_bytes([n0, n1]));
            rest = body.get(..words * 4)?;
            len += 4 + words * 4;
            extension = id.and_then(|id| find(rest, u16::from_be_bytes([p0, p1]), id));
        }
        Some(Self {
            pt: second & 0x7f,
            marker: second & 0x80 != 0,
            seq: u16::from_be_bytes([s0, s1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([c0, c1, c2, c3]),
            len,
            extension,
        })
    }
}

fn find(mut elements: &[u8], profile: u16, id: u8) -> Option<u16> {
    loop {
        let (&first, rest) = elements.split_first()?;
        if first == 0 {
            elements = rest;
            continue;
        }
        let (found, len, rest) = if profile == ONE_BYTE {
            (first >> 4, usize::from(first & 0x0f) + 1, rest)
        } else {
            let (&len, rest) = rest.split_first()?;
            (first, usize::from(len), rest)
        };
        let (value, rest) = rest.split_at_checked(len)?;
        if found == id {
            return value.first_chunk().map(|value| u16::from_be_bytes(*value));
        }
        elements = rest;
    }
}

/// Appends a header with one-byte extensions.
pub(crate) fn write_header(header: &Header, extensions: &[(u8, &[u8])], out: &mut Vec<u8>) {
    let extends = !extensions.is_empty();
    out.push(0x80 | u8::from(extends) << 4);
    out.push(header.pt | u8::from(header.marker) << 7);
    out.extend(header.seq.to_be_bytes());
    out.extend(header.timestamp.to_be_bytes());
    out.extend(header.ssrc.to_be_bytes());
    if extends {
        let len: usize = extensions.iter().map(|(_, value)| value.len() + 1).sum();
        let words = len.div_ceil(4);
        out.extend(ONE_BYTE.to_be_bytes());
        out.extend(u16::try_from(words).unwrap_or(u16::MAX).to_be_bytes());
        let end = out.len() + words * 4;
        for (id, value) in extensions {
            let len = u8::try_from(value.len().saturating_sub(1)).unwrap_or(15);
            out.push(id << 4 | len & 0x0f);
            out.extend_from_slice(value);
        }
        out.resize(end, 0);
    }
}

const ONE_BYTE: u16 = 0xbede;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_written() {
        let header = Header {
            pt: 96,
            marker: true,
            seq: 65_000,
            timestamp: 0xdead_beef,
            ssrc: 7,
            len: 12,
            extension: None,
        };
        let mut plain = Vec::new();
        write_header(&header, &[], &mut plain);
        assert_eq!(Header::parse(&plain, Some(3)), Some(header));
        let mut extended = Vec::new();
        write_header(&header, &[(9, b"0"), (3, &[1, 2])], &mut extended);
        let expected = Header {
            len: 24,
            extension: Some(0x102),
            ..header
        };
        assert_eq!(Header::parse(&extended, Some(3)), Some(expected));
        assert_eq!(Header::parse(&extended, Some(4)).unwrap().extension, None);
        for len in 0..extended.len() {
            assert_eq!(Header::parse(&extended[..len], Some(3)), None, "{len}");
        }
    }

    #[test]
    fn two_byte_extensions_are_read() {
        let mut datagram = vec![0x90, 96];
        datagram.extend([0; 10]);
        datagram.extend([0x10, 0, 0, 2, 0, 5, 1, 9, 3, 2, 4, 5]);
        assert_eq!(
            Header::parse(&datagram, Some(3)).unwrap().extension,
            Some(0x405)
        );
    }

    #[test]
    fn other_protocols_are_not_rtp() {
        for datagram in [[0x80, 200], [0x80, 205], [0x16, 0xfe], [0, 1]] {
            let mut datagram = datagram.to_vec();
            datagram.resize(20, 0);
            assert_eq!(Header::parse(&datagram, None), None, "{datagram:?}");
        }
    }
}
