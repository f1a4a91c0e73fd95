//! The VP8 payload descriptor (RFC 7741 §4.2): read it, and write it with other numbers.

/// The numbers of a payload descriptor that must be continuous over a change of the sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Length in bytes, 1 to 6.
    pub(crate) len: u8,
    /// Whether this is the first packet of a key frame.
    pub(crate) starts_keyframe: bool,
    /// Picture id of 15 bits (or 7, then [`Descriptor::long_picture_id`] is false).
    pub(crate) picture_id: Option<u16>,
    /// Whether the picture id has 15 bits.
    pub(crate) long_picture_id: bool,
    /// TL0PICIDX.
    pub(crate) tl0_picture: Option<u8>,
    /// KEYIDX, 5 bits.
    pub(crate) key_index: Option<u8>,
}

/// Longest descriptor.
pub(crate) const MAX_LEN: usize = 6;

impl Descriptor {
    /// Reads a descriptor; `None` when it is cut off or nothing follows it.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let mut at = Reader { payload, at: 0 };
        let first = at.byte()?;
        let mut this = Self::default();
        if first & 0x80 != 0 {
            let extension = at.byte()?;
            if extension & 0x80 != 0 {
                let high = at.byte()?;
                this.long_picture_id = high & 0x80 != 0;
                this.picture_id = Some(if this.long_picture_id {
                    u16::from_be_bytes([high & 0x7f, at.byte()?])
                } else {
                    u16::from(high)
                });
            }
            if extension & 0x40 != 0 {
                this.tl0_picture = Some(at.byte()?);
            }
            if extension & 0x30 != 0 {
                let byte = at.byte()?;
                if extension & 0x10 != 0 {
                    this.key_index = Some(byte & 0x1f);
                }
            }
        }
        this.len = at.at;
        let frame_tag = at.byte()?;
        let starts_first_partition = first & 0x17 == 0x10;
        this.starts_keyframe = starts_first_partition && frame_tag & 1 == 0;
        Some(this)
    }

    /// Writes the descriptor of `payload`, which this one was read from, with the numbers of `new` into
    /// `buffer`, and returns it.
    pub(crate) fn rewrite<'a>(
        &self,
        payload: &[u8],
        new: &Self,
        buffer: &'a mut [u8; MAX_LEN],
    ) -> &'a [u8] {
        let len = usize::from(self.len).min(MAX_LEN);
        for (to, from) in buffer.iter_mut().zip(payload.iter().take(len)) {
            *to = *from;
        }
        let mut fields = buffer.iter_mut().skip(2);
        if self.picture_id.is_some() {
            let [high, low] = new.picture_id.unwrap_or_default().to_be_bytes();
            if self.long_picture_id {
                put(fields.next(), high | 0x80);
            }
            put(
                fields.next(),
                if self.long_picture_id {
                    low
                } else {
                    low & 0x7f
                },
            );
        }
        if self.tl0_picture.is_some() {
            put(fields.next(), new.tl0_picture.unwrap_or_default());
        }
        if self.key_index.is_some()
            && let Some(byte) = fields.next()
        {
            *byte = *byte & 0xe0 | new.key_index.unwrap_or_default() & 0x1f;
        }
        buffer.get(..len).unwrap_or_default()
    }
}

/// What is added to the numbers of a stream so that they continue another one's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shift {
    picture_id: u16,
    tl0_picture: u8,
    key_index: u8,
}

impl Shift {
    /// Returns the shift that makes `first` follow `last`.
    pub(crate) fn continuing(last: &Descriptor, first: &Descriptor) -> Self {
        let follow = |last: Option<u8>, first: Option<u8>| match (last, first) {
            (Some(last), Some(first)) => last.wrapping_add(1).wrapping_sub(first),
            (_, _) => 0,
        };
        Self {
            picture_id: match (last.picture_id, first.picture_id) {
                (Some(last), Some(first)) => last.wrapping_add(1).wrapping_sub(first),
                (_, _) => 0,
            },
            tl0_picture: follow(last.tl0_picture, first.tl0_picture),
            key_index: follow(last.key_index, first.key_index),
        }
    }

    /// Returns the shifted numbers.
    pub(crate) fn apply(self, of: &Descriptor) -> Descriptor {
        let mask = if of.long_picture_id { 0x7fff } else { 0x7f };
        Descriptor {
            picture_id: of
                .picture_id
                .map(|id| id.wrapping_add(self.picture_id) & mask),
            tl0_picture: of.tl0_picture.map(|n| n.wrapping_add(self.tl0_picture)),
            key_index: of.key_index.map(|n| n.wrapping_add(self.key_index) & 0x1f),
            ..*of
        }
    }

    /// Returns whether it changes nothing.
    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
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

fn put(to: Option<&mut u8>, byte: u8) {
    if let Some(to) = to {
        *to = byte;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
    fn numbers_continue_over_a_switch() {
        let last = Descriptor::parse(&[0x90, 0xf0, 0xff, 0xff, 255, 0x3f, 0]).unwrap();
        let payload = [0x90, 0xf0, 0x80, 0x09, 40, 0x63, 0x00];
        let first = Descriptor::parse(&payload).unwrap();
        let new = Shift::continuing(&last, &first).apply(&first);
        let mut buffer = [0; MAX_LEN];
        let written = first.rewrite(&payload, &new, &mut buffer);
        assert_eq!(written, &[0x90, 0xf0, 0x80, 0x00, 0, 0x60]);
    }

    #[test]
    fn a_short_picture_id_stays_short() {
        let payload = [0x90, 0x80, 0x7f, 0x00];
        let first = Descriptor::parse(&payload).unwrap();
        let last = Descriptor {
            picture_id: Some(0x1234),
            long_picture_id: true,
            ..first
        };
        let new = Shift::continuing(&last, &first).apply(&first);
        let mut buffer = [0; MAX_LEN];
        assert_eq!(
            first.rewrite(&payload, &new, &mut buffer),
            &[0x90, 0x80, 0x35]
        );
    }

    proptest! {
        #[test]
        fn rewriting_without_a_shift_changes_nothing(
            payload in prop::collection::vec(any::<u8>(), 0..16)
        ) {
            if let Some(descriptor) = Descriptor::parse(&payload) {
                let mut buffer = [0; MAX_LEN];
                let same = Shift::default().apply(&descriptor);
                let written = descriptor.rewrite(&payload, &same, &mut buffer);
                prop_assert_eq!(written, &payload[..usize::from(descriptor.len)]);
            }
        }
    }
}
