//! Audio that repeats itself (RED, RFC 2198): what a packet holds.

use crate::Pt;

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

/// Writes what goes in front of `payload`, audio of payload type `pt`, so that it repeats `old`, which is `ticks`
/// older. `None` when that does not fit.
pub(crate) fn repeat<'a>(
    pt: Pt,
    old: &[u8],
    ticks: u32,
    buffer: &'a mut [u8; MAX_HEAD],
) -> Option<&'a [u8]> {
    let len = u16::try_from(old.len()).ok().filter(|len| *len > 0)?;
    let ticks = u16::try_from(ticks)
        .ok()
        .filter(|t| (1..1 << 14).contains(t))?;
    let head = buffer.get_mut(..HEADERS + old.len())?;
    let (headers, block) = head.split_first_chunk_mut::<HEADERS>()?;
    let [high, low] = len.to_be_bytes();
    let [t_high, t_low] = (ticks << 2).to_be_bytes();
    *headers = [0x80 | pt.0, t_high, t_low | high, low, pt.0 & 0x7f];
    block.copy_from_slice(old);
    Some(head)
}

/// A header for the old block and one for the new, and 20 ms of stereo at 160 kbit/s.
pub(crate) const MAX_HEAD: usize = HEADERS + 400;
const HEADERS: usize = 5;

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

    #[test]
    fn what_is_repeated_is_read_back() {
        let mut buffer = [0; MAX_HEAD];
        let old = [7; 300];
        let mut packet = repeat(Pt(111), &old, 960, &mut buffer).unwrap().to_vec();
        packet.extend([1, 2, 3]);
        assert_eq!(packet[..5], [0x80 | 111, 0x0f, 0x01, 0x2c, 111]);
        assert_eq!(packet[5..305], old);
        assert_eq!(primary(&packet), Some(&[1, 2, 3][..]));
        for (label, len, ticks) in [
            ("nothing", 0, 960),
            ("too long", 401, 960),
            ("too old", 10, 1 << 14),
            ("the same", 10, 0),
        ] {
            assert_eq!(
                repeat(Pt(1), &vec![0; len], ticks, &mut buffer),
                None,
                "{label}"
            );
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
