//! What a player expects of the packets of a stream, whoever sends it.

use super::viewer::Packet;

/// Asserts that a stream starts at a keyframe, that its timestamps go on where a picture ends and nowhere else, that
/// no packet of a publisher is missing or repeated, and that another publisher begins at a keyframe.
pub(crate) fn assert_continuous(packets: &[Packet]) {
    assert!(packets[0].starts_keyframe);
    for pair in packets.windows(2) {
        let (a, b) = (pair[0], pair[1]);
        let step = b.timestamp.wrapping_sub(a.timestamp).cast_signed();
        if a.publisher == b.publisher {
            assert_eq!(b.content, a.content + 1);
            assert_eq!(step > 0, a.marker, "{a:?} {b:?}");
            assert!(step >= 0);
        } else {
            assert!(b.starts_keyframe);
            assert!(step > 0);
        }
    }
}
