//! What the forwarding plane must know of an H.264 RTP payload (RFC 6184): where keyframes start.

/// Returns whether a payload contains the beginning of a keyframe: an SPS or an IDR slice as a single
/// NAL unit, inside a STAP-A, or as the first fragment of an FU-A.
pub(crate) fn starts_keyframe(payload: &[u8]) -> bool {
    let Some((&first, rest)) = payload.split_first() else {
        return false;
    };
    match first & TYPE {
        STAP_A => stap_has_keyframe(rest),
        FU_A => rest
            .first()
            .is_some_and(|header| header & FU_START != 0 && is_key(header & TYPE)),
        nal_type => is_key(nal_type),
    }
}

fn stap_has_keyframe(mut rest: &[u8]) -> bool {
    while let Some((&length, tail)) = rest.split_first_chunk::<2>() {
        if tail.first().is_some_and(|header| is_key(header & TYPE)) {
            return true;
        }
        let Some(next) = tail.get(usize::from(u16::from_be_bytes(length))..) else {
            return false;
        };
        rest = next;
    }
    false
}

fn is_key(nal_type: u8) -> bool {
    nal_type == IDR || nal_type == SPS
}

const TYPE: u8 = 0x1f;
const FU_START: u8 = 0x80;
const IDR: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keyframes_start_at_sps_or_idr() {
        let cases: [(&str, &[u8], bool); 12] = [
            ("empty", &[], false),
            ("single IDR", &[0x65, 1], true),
            ("single SPS", &[0x67, 0x42], true),
            ("single PPS", &[0x68, 0xce], false),
            ("single P slice", &[0x41, 1], false),
            (
                "STAP-A of SPS, PPS",
                &[0x78, 0, 2, 0x67, 1, 0, 1, 0x68],
                true,
            ),
            ("STAP-A of AUD, SPS", &[0x78, 0, 1, 9, 0, 1, 0x67], true),
            ("STAP-A of SEI", &[0x78, 0, 2, 6, 1], false),
            ("STAP-A cut off", &[0x78, 0], false),
            ("FU-A start of IDR", &[0x7c, 0x85, 1], true),
            ("FU-A middle of IDR", &[0x7c, 0x05, 1], false),
            ("FU-A cut off", &[0x7c], false),
        ];
        for (label, payload, expected) in cases {
            assert_eq!(starts_keyframe(payload), expected, "{label}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(payload in prop::collection::vec(any::<u8>(), 0..64)) {
            starts_keyframe(&payload);
        }
    }
}
