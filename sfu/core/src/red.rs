//! Audio that repeats itself (RED, RFC 2198): what a packet holds.

/// Returns the newest block of a payload, the audio that the packet is sent for; `None` when it is cut off.
pub(crate) fn primary(payload: &[u8]) -> Option<&[u8]> {
    let mut headers = payload;
    let mut repeated = 0;
    for _ in 0..=MAX_REPEATED {
        let (first, rest) = headers.split_first()?;
        if first & 0x80 == 0 {
            return rest.get(repeated..);
        }
        let ([_, high, low], rest) = rest.split_first_chunk()?;
        repeated += usize::from(u16::from_be_bytes([*high, *low]) & 0x3ff);
        headers = rest;
    }
    None
}

/// Most blocks in front of the newest one; browsers send up to 9.
const MAX_REPEATED: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_newest_block_is_the_last() {
        let one = [0x80 | 111, 0x0f, 0x00, 2, 111, 1, 2, 3, 4, 5];
        let two = [0xef, 0x1e, 0, 1, 0xef, 0x0f, 0, 2, 0x6f, 1, 2, 2, 3];
        for (label, payload, expected) in [
            ("alone", &[111, 9, 8][..], Some(&[9, 8][..])),
            ("one repeated", &one, Some(&[3, 4, 5])),
            ("two repeated", &two, Some(&[3])),
            ("nothing", &[], None),
            ("half a header", &[0x80, 0], None),
            ("too short", &one[..6], None),
            ("headers for ever", &[0x80; 200], None),
        ] {
            assert_eq!(primary(payload), expected, "{label}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(block) = primary(&bytes) {
                prop_assert!(bytes.ends_with(block));
            }
        }
    }
}
