//! What the forwarding plane must know of an AV1 RTP payload (AV1 RTP specification §4.4).

/// Returns whether a coded video sequence begins, which is where a keyframe does.
pub(crate) fn starts_sequence(payload: &[u8]) -> bool {
    payload
        .first()
        .is_some_and(|header| header & NEW_SEQUENCE != 0)
}

/// The N bit of the aggregation header.
const NEW_SEQUENCE: u8 = 0x08;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_begins_where_the_header_says_so() {
        for (label, payload, expected) in [
            ("empty", &[][..], false),
            ("new sequence", &[0x18, 0x0a], true),
            ("another frame", &[0x10, 0x32], false),
            ("continued", &[0x90, 0x32], false),
        ] {
            assert_eq!(starts_sequence(payload), expected, "{label}");
        }
    }
}
