//! The VP9 payload descriptor (RFC 9628 §4.2).

use crate::{
    frame::{Frame, Qualities},
    picture::Picture,
};

/// What a payload descriptor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Whether this is the first packet of a key picture.
    pub(crate) starts_keyframe: bool,
    /// Where the packet stands.
    pub(crate) frame: Frame,
    /// Its numbers. Ids keep their gaps, because pictures name those they refer to by distance.
    pub(crate) picture: Picture,
}

impl Descriptor {
    /// Reads a descriptor; `None` when it is cut off.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let mut picture = Picture::default();
        let (&first, mut rest) = payload.split_first()?;
        let has = |bit: u8| first & bit != 0;
        let mut at = 1;
        let mut byte = || {
            let (&byte, tail) = rest.split_first()?;
            rest = tail;
            at += 1;
            Some((byte, at - 1))
        };
        if has(PICTURE_ID) {
            let (high, id_at) = byte()?;
            picture.id_at = id_at;
            picture.has_long_id = high & 0x80 != 0;
            picture.id = Some(match picture.has_long_id {
                true => u16::from_be_bytes([high & 0x7f, byte()?.0]),
                false => u16::from(high),
            });
        }
        let mut layers = None;
        if has(LAYER_INDICES) {
            layers = Some(Layers::new(byte()?.0));
            if !has(FLEXIBLE) {
                let (tl0, tl0_at) = byte()?;
                picture.tl0 = Some(tl0);
                picture.tl0_at = tl0_at;
            }
        }
        let is_lowest = layers.is_none_or(|layers| layers.spatial == 0);
        let starts_keyframe = !has(PREDICTED) && has(BEGINS) && is_lowest;
        let mut frame = Frame {
            starts: has(BEGINS),
            ..Frame::whole(starts_keyframe, has(ENDS))
        };
        if let Some(layers) = layers {
            layers.describe(has(NOT_FOR_UPPER), &mut frame);
        }
        Some(Self {
            starts_keyframe,
            frame,
            picture,
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Layers {
    temporal: u8,
    spatial: u8,
    /// Whether later pictures of upper temporal layers do not depend on such before this one.
    switches_up: bool,
}

impl Layers {
    fn new(byte: u8) -> Self {
        Self {
            temporal: byte >> 5,
            switches_up: byte & 0x10 != 0,
            spatial: byte >> 1 & 7,
        }
    }

    fn describe(self, is_not_for_upper: bool, frame: &mut Frame) {
        let upper = Qualities::from_temporal(self.temporal);
        let own = Qualities::of_spatial(self.spatial);
        frame.spatial = self.spatial;
        frame.temporal = self.temporal;
        frame.needed = upper.and(match is_not_for_upper {
            true => own,
            false => Qualities::from_spatial(self.spatial),
        });
        let is_keyframe = frame.switch == Qualities::ALL;
        if !is_keyframe {
            frame.decodable = frame.needed;
            if self.switches_up {
                frame.switch = own.and(upper);
            }
        }
    }
}

/// Bits of the first byte.
const PICTURE_ID: u8 = 0x80;
const PREDICTED: u8 = 0x40;
const LAYER_INDICES: u8 = 0x20;
const FLEXIBLE: u8 = 0x10;
const BEGINS: u8 = 0x08;
const ENDS: u8 = 0x04;
const NOT_FOR_UPPER: u8 = 0x01;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::picture::Shift;

    #[test]
    fn key_pictures_start_at_the_lowest_layer() {
        let cases: [(&str, &[u8], Option<bool>); 7] = [
            ("empty", &[], None),
            ("no layers", &[0x08, 0], Some(true)),
            ("predicted", &[0x48, 0], Some(false)),
            ("not its beginning", &[0x00, 0], Some(false)),
            ("lowest of some", &[0xa8, 0x81, 2, 0x00, 7], Some(true)),
            ("upper layer", &[0xa8, 0x81, 2, 0x03, 7], Some(false)),
            ("cut off", &[0xa8, 0x81, 2, 0x00], None),
        ];
        for (label, payload, expected) in cases {
            let descriptor = Descriptor::parse(payload);
            assert_eq!(descriptor.map(|d| d.starts_keyframe), expected, "{label}");
        }
    }

    #[test]
    fn layers_are_needed_by_those_above() {
        let frame = |first: u8, layers: u8| {
            let payload = [first | LAYER_INDICES | FLEXIBLE | PREDICTED, layers];
            Descriptor::parse(&payload).unwrap().frame
        };
        let (low, high) = (Qualities::one(0, 2), Qualities::one(1, 2));
        let lowest = frame(BEGINS, 0x00);
        assert!(lowest.needed.meets(low) && lowest.needed.meets(high));
        assert!(!lowest.switch.meets(low), "no switching point");
        let alone = frame(BEGINS | NOT_FOR_UPPER, 0x00);
        assert!(alone.needed.meets(low) && !alone.needed.meets(high));
        let upper = frame(ENDS, 0x53);
        assert_eq!((upper.spatial, upper.temporal), (1, 2));
        assert!((upper.ends, upper.starts) == (true, false));
        assert!(upper.needed.meets(high) && !upper.needed.meets(low));
        assert!(!upper.needed.meets(Qualities::one(1, 1)));
        let up = frame(BEGINS, 0x12);
        assert!(up.switch.meets(high) && up.decodable.meets(Qualities::one(1, 0)));
        assert!(!up.decodable.meets(low));
    }

    #[test]
    fn numbers_continue_over_a_switch() {
        let last = Descriptor::parse(&[0xa8, 0xff, 0xff, 0, 255]).unwrap();
        let payload = [0xa8, 0x80, 0x09, 0x12, 40, 99];
        let first = Descriptor::parse(&payload).unwrap().picture;
        let new = Shift::continuing(&last.picture, &first).apply(&first);
        let written = first.write(&payload, &new);
        assert_eq!(written.as_slice(), &[0xa8, 0x80, 0x00, 0x12, 0, 99]);
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
