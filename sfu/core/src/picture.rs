//! The numbers of a payload descriptor that count pictures, and how they are made continuous.

/// The numbers that must be continuous over changes of what is forwarded, and where they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    /// Picture id of 15 bits (or 7, then [`Picture::has_long_id`] is false).
    pub(crate) id: Option<u16>,
    /// Whether the picture id has 15 bits.
    pub(crate) has_long_id: bool,
    /// TL0PICIDX.
    pub(crate) tl0: Option<u8>,
    /// KEYIDX, 5 bits.
    pub(crate) key_index: Option<u8>,
    /// Whether receivers expect no gap in the ids where pictures of upper temporal layers are left out.
    pub(crate) is_gapless: bool,
    /// Positions of the fields in the payload.
    pub(crate) id_at: u8,
    pub(crate) tl0_at: u8,
    pub(crate) key_index_at: u8,
}

/// The beginning of a payload with other numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    bytes: [u8; MAX_HEAD],
    len: u8,
}

/// No number stands behind this many bytes.
pub(crate) const MAX_HEAD: usize = 6;

/// What is added to the numbers of a stream so that they continue another one's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shift {
    id: u16,
    tl0: u8,
    key_index: u8,
}

impl Picture {
    /// Returns the beginning of `payload`, which this was read from, with the numbers of `new`.
    pub(crate) fn write(&self, payload: &[u8], new: &Self) -> Head {
        let mut head = Head {
            bytes: [0; MAX_HEAD],
            len: 0,
        };
        for (to, from) in head.bytes.iter_mut().zip(payload) {
            *to = *from;
            head.len += 1;
        }
        if self.id.is_some() {
            let [high, low] = new.id.unwrap_or_default().to_be_bytes();
            if self.has_long_id {
                head.put(self.id_at, high | 0x80);
                head.put(self.id_at + 1, low);
            } else {
                head.put(self.id_at, low & 0x7f);
            }
        }
        if self.tl0.is_some() {
            head.put(self.tl0_at, new.tl0.unwrap_or_default());
        }
        if self.key_index.is_some() {
            let place = head.bytes.get(usize::from(self.key_index_at));
            let upper = place.copied().unwrap_or_default() & 0xe0;
            let index = new.key_index.unwrap_or_default() & 0x1f;
            head.put(self.key_index_at, upper | index);
        }
        head
    }
}

impl Head {
    /// Returns its bytes, as many as they replace.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    fn put(&mut self, at: u8, byte: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(at)) {
            *place = byte;
        }
    }
}

impl Shift {
    /// Returns the shift that makes `first` follow `last`.
    pub(crate) fn continuing(last: &Picture, first: &Picture) -> Self {
        let follow = |last: Option<u8>, first: Option<u8>| match (last, first) {
            (Some(last), Some(first)) => last.wrapping_add(1).wrapping_sub(first),
            (_, _) => 0,
        };
        Self {
            id: match (last.id, first.id) {
                (Some(last), Some(first)) => last.wrapping_add(1).wrapping_sub(first),
                (_, _) => 0,
            },
            tl0: follow(last.tl0, first.tl0),
            key_index: follow(last.key_index, first.key_index),
        }
    }

    /// Returns the shifted numbers.
    pub(crate) fn apply(self, of: &Picture) -> Picture {
        let mask = if of.has_long_id { 0x7fff } else { 0x7f };
        Picture {
            id: of.id.map(|id| id.wrapping_add(self.id) & mask),
            tl0: of.tl0.map(|n| n.wrapping_add(self.tl0)),
            key_index: of.key_index.map(|n| n.wrapping_add(self.key_index) & 0x1f),
            ..*of
        }
    }

    /// A picture is left out: the ids behind it move up.
    pub(crate) fn leave_out(&mut self) {
        self.id = self.id.wrapping_sub(1);
    }

    /// Returns whether it changes nothing.
    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }
}
