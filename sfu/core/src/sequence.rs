//! Wrapping RTP numbers and their extension to numbers that never wrap.

/// Where extension starts, so that numbers before the first one seen are representable.
pub(crate) const ORIGIN: u64 = 1 << 32;

/// Returns the number nearest to `reference` whose low 16 bits are `seq` (RFC 3550 A.1).
pub(crate) fn extend16(reference: u64, seq: u16) -> u64 {
    let delta = seq.wrapping_sub(low16(reference)).cast_signed();
    reference.wrapping_add_signed(i64::from(delta))
}

/// Returns the number nearest to `reference` whose low 32 bits are `timestamp`.
pub(crate) fn extend32(reference: u64, timestamp: u32) -> u64 {
    let delta = timestamp.wrapping_sub(low32(reference)).cast_signed();
    reference.wrapping_add_signed(i64::from(delta))
}

/// Returns the low 16 bits.
pub(crate) fn low16(number: u64) -> u16 {
    (number & 0xffff) as u16
}

/// Returns the low 32 bits.
pub(crate) fn low32(number: u64) -> u32 {
    (number & 0xffff_ffff) as u32
}

/// Returns whether timestamp `a` is later than `b`, by half of the number space.
pub(crate) fn is_later(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_takes_the_nearest() {
        let cases = [
            ("next", ORIGIN + 5, 6, ORIGIN + 6),
            ("same", ORIGIN + 5, 5, ORIGIN + 5),
            ("wrap up", ORIGIN + 0xffff, 0, ORIGIN + 0x1_0000),
            ("wrap down", ORIGIN + 0x1_0000, 0xffff, ORIGIN + 0xffff),
            ("below the origin", ORIGIN, 0xfffe, ORIGIN - 2),
        ];
        for (label, reference, seq, expected) in cases {
            assert_eq!(extend16(reference, seq), expected, "{label}");
        }
        assert_eq!(extend32(ORIGIN + 0xffff_fff0, 16), 2 * ORIGIN + 16);
        assert!(is_later(5, 0xffff_fff0) && !is_later(0xffff_fff0, 5) && !is_later(7, 7));
    }
}
