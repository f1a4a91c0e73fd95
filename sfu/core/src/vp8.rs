//! The VP8 payload descriptor (RFC 7741 §4.2).

use crate::{
    frame::{Frame, Qualities},
    picture::Picture,
};

/// What a payload descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Whether this is the first packet of a key frame.
    pub(crate) starts_keyframe: bool,
    /// Where the packet stands; its end is not in the descriptor.
    pub(crate) frame: Frame,
    /// Its numbers.
    pub(crate) picture: Picture,
}

impl Descriptor {
    /// Reads a descriptor; `None` when it is cut off or nothing follows it.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let mut at = Reader { payload, at: 0 };
        let first = at.byte()?;
        let mut picture = Picture {
            is_gapless: true,
            ..Picture::default()
        };
        let mut temporal = None;
        if first & 0x80 != 0 {
            let extension = at.byte()?;
            if extension & 0x80 != 0 {
                picture.id_at = at.at;
                let high = at.byte()?;
                picture.has_long_id = high & 0x80 != 0;
                picture.id = Some(if picture.has_long_id {
                    u16::from_be_bytes([high & 0x7f, at.byte()?])
                } else {
                    u16::from(high)
                });
            }
            if extension & 0x40 != 0 {
                picture.tl0_at = at.at;
                picture.tl0 = Some(at.byte()?);
            }
            if extension & 0x30 != 0 {
                picture.key_index_at = at.at;
                let byte = at.byte()?;
                if extension & 0x10 != 0 {
                    picture.key_index = Some(byte & 0x1f);
                }
                if extension & 0x20 != 0 {
                    temporal = Some((byte >> 6, byte & 0x20 != 0));
                }
            }
        }
        let frame_tag = at.byte()?;
        let starts = first & 0x17 == 0x10;
        let starts_keyframe = starts && frame_tag & 1 == 0;
        let mut frame = Frame::whole(starts_keyframe, false);
        frame.starts = starts;
        if let Some((temporal, is_synced)) = temporal.filter(|_| !starts_keyframe) {
            frame.temporal = temporal;
            frame.needed = Qualities::from_temporal(temporal);
            frame.decodable = frame.needed;
            if is_synced && temporal > 0 {
                // Upper layers may use each other, so that they are entered one by one.
                frame.switch = Qualities::of_temporal(temporal);
                frame.decodable = Qualities::from_temporal(temporal - 1);
            }
        }
        Some(Self {
            starts_keyframe,
            frame,
            picture,
        })
    }
}

struct Reader<'a> {
    payload: &'a [u8],
    at: u8,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = self.payload.get(usize::from(self.at)).copied();
        self.at += 1;
        byte
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::picture::Shift;

    #[test]
    fn keyframes_are_first_partitions_of_key_frames() {
        let cases: [(&str, &[u8], Option<bool>); 8] = [
            ("empty", &[], None),
            ("descriptor only", &[0x10], None),
            ("key frame", &[0x10, 0x00], Some(true)),
            ("inter frame", &[0x10, 0x01], Some(false)),
            ("not the start", &[0x00, 0x00], Some(false)),
            ("second partition", &[0x11, 0x00], Some(false)),
            (
                "all fields",
                &[0x90, 0xf0, 0x81, 0x23, 7, 0x25, 0x00],
                Some(true),
            ),
            ("fields cut off", &[0x90, 0xf0, 0x81, 0x23, 7], None),
        ];
        for (label, payload, expected) in cases {
            let descriptor = Descriptor::parse(payload);
            assert_eq!(descriptor.map(|d| d.starts_keyframe), expected, "{label}");
        }
    }

    #[test]
    fn temporal_layers_are_entered_where_they_are_synced() {
        let (top, base) = (Qualities::one(0, 2), Qualities::one(0, 0));
        let middle = Qualities::one(0, 1);
        let packet = |byte: u8| Descriptor::parse(&[0x90, 0x20, byte, 1]).unwrap().frame;
        let lowest = packet(0x00);
        assert!(lowest.needed.meets(base) && lowest.needed.meets(top));
        assert!(!lowest.switch.meets(top));
        let synced = packet(0x60);
        assert_eq!(synced.temporal, 1);
        assert!(!synced.needed.meets(base) && synced.needed.meets(top));
        assert!(synced.switch.meets(middle) && synced.decodable.meets(base));
        assert!(!synced.switch.meets(top));
        assert!(!packet(0x40).switch.meets(middle), "not synced");
        assert!(!packet(0xa0).decodable.meets(base), "skips a layer");
        let key = Descriptor::parse(&[0x90, 0x20, 0, 0]).unwrap().frame;
        assert_eq!(key.switch, Qualities::ALL);
    }

    #[test]
    fn numbers_continue_over_a_switch() {
        let last = Descriptor::parse(&[0x90, 0xf0, 0xff, 0xff, 255, 0x3f, 0]).unwrap();
        let payload = [0x90, 0xf0, 0x80, 0x09, 40, 0x63, 0x00];
        let first = Descriptor::parse(&payload).unwrap().picture;
        let new = Shift::continuing(&last.picture, &first).apply(&first);
        let written = first.write(&payload, &new);
        assert_eq!(written.as_slice(), &[0x90, 0xf0, 0x80, 0x00, 0, 0x60]);
    }

    #[test]
    fn a_short_picture_id_stays_short() {
        let payload = [0x90, 0x80, 0x7f, 0x00];
        let first = Descriptor::parse(&payload).unwrap().picture;
        let last = Picture {
            id: Some(0x1234),
            has_long_id: true,
            ..first
        };
        let new = Shift::continuing(&last, &first).apply(&first);
        let written = first.write(&payload, &new);
        assert_eq!(written.as_slice(), &[0x90, 0x80, 0x35, 0x00]);
    }

    proptest! {
        #[test]
        fn rewriting_without_a_shift_changes_nothing(
            payload in prop::collection::vec(any::<u8>(), 0..16)
        ) {
            if let Some(descriptor) = Descriptor::parse(&payload) {
                let picture = descriptor.picture;
                let same = Shift::default().apply(&picture);
                let written = picture.write(&payload, &same);
                prop_assert!(payload.starts_with(written.as_slice()));
            }
        }
    }
}
