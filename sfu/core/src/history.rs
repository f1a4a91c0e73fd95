//! The packets of one layer: shared by every viewer for retransmission and instant start.

use std::time::Instant;

use crate::{frame::Frame, picture::Picture, transport::Carried};

/// Longest payload that is kept and forwarded: more does not fit into a datagram of 1500 bytes.
pub(crate) const MAX_PAYLOAD: usize = 1500;

/// Longest dependency descriptor that is kept; the structure of three spatial and three temporal layers takes
/// some 90 bytes. A longer one is forwarded by nobody.
pub(crate) const MAX_DESCRIPTOR: usize = 132;

/// A ring of packets by index. Indices are consecutive over the packets that are forwarded.
///
/// The memory is taken once, at the first packet; the oldest packet gives way to the newest.
#[derive(Debug)]
pub(crate) struct History {
    slots: Vec<Slot>,
    payloads: Vec<u8>,
    capacity: u64,
    highest: Option<u64>,
}

/// What is known of a packet besides its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Meta {
    /// RTP timestamp as the publisher sent it.
    pub(crate) timestamp: u32,
    /// Marker bit.
    pub(crate) marker: bool,
    /// Whether a keyframe begins in it.
    pub(crate) keyframe: bool,
    /// When it arrived.
    pub(crate) received: Instant,
    /// When it is to be presented.
    pub(crate) presentation: Instant,
    /// Where it stands among frames and layers.
    pub(crate) frame: Frame,
    /// The numbers in its payload.
    pub(crate) picture: Option<Picture>,
    /// The frame number in its dependency descriptor.
    pub(crate) frame_number: Option<u16>,
    /// Whether the payload is audio with repetitions (RFC 2198).
    pub(crate) is_red: bool,
    /// Its header extensions.
    pub(crate) extensions: Extensions,
    /// Padding with which it is forwarded.
    pub(crate) padding: u8,
}

/// The header extensions of a packet that travel on, but for the dependency descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Extensions {
    audio_level: Option<u8>,
    playout_delay: Option<[u8; 3]>,
    abs_capture_time: [u8; 16],
    abs_capture_len: u8,
}

/// A kept packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    /// Its index in the layer.
    pub(crate) index: u64,
    /// What is known of it.
    pub(crate) meta: &'a Meta,
    /// Its payload; empty for padding that came too late to be left out.
    pub(crate) payload: &'a [u8],
    /// Its dependency descriptor; empty when it has none.
    pub(crate) descriptor: &'a [u8],
}

impl Extensions {
    /// Takes what is kept of a packet's extensions.
    pub(crate) fn of(carried: &Carried<'_>) -> Self {
        let mut this = Self {
            audio_level: carried.audio_level,
            playout_delay: carried.playout_delay,
            ..Self::default()
        };
        let capture = carried.abs_capture_time.unwrap_or_default();
        for (to, from) in this.abs_capture_time.iter_mut().zip(capture) {
            *to = *from;
            this.abs_capture_len += 1;
        }
        this
    }

    /// Returns them for sending, together with a dependency descriptor.
    pub(crate) fn carried<'a>(&'a self, descriptor: &'a [u8]) -> Carried<'a> {
        let capture = self
            .abs_capture_time
            .get(..usize::from(self.abs_capture_len));
        Carried {
            audio_level: self.audio_level,
            abs_capture_time: capture.filter(|value| !value.is_empty()),
            playout_delay: self.playout_delay,
            dependency_descriptor: Some(descriptor).filter(|value| !value.is_empty()),
        }
    }
}

/// Why a packet was not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejected {
    /// It was kept before.
    Duplicate,
    /// Its place was taken by a newer packet.
    TooOld,
    /// Its payload is longer than [`MAX_PAYLOAD`].
    TooLong,
}

#[derive(Debug)]
struct Slot {
    index: u64,
    len: usize,
    descriptor_len: usize,
    meta: Meta,
}

impl History {
    /// Creates a ring for `capacity` packets, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            slots: Vec::new(),
            payloads: Vec::new(),
            capacity: capacity.max(1) as u64,
            highest: None,
        }
    }

    /// Keeps a packet, and its dependency descriptor unless that is too long.
    pub(crate) fn insert(
        &mut self,
        index: u64,
        meta: Meta,
        payload: &[u8],
        descriptor: &[u8],
    ) -> Result<(), Rejected> {
        if payload.len() > MAX_PAYLOAD {
            return Err(Rejected::TooLong);
        }
        if self
            .highest
            .is_some_and(|highest| index + self.capacity <= highest)
        {
            return Err(Rejected::TooOld);
        }
        let descriptor = match descriptor.len() <= MAX_DESCRIPTOR {
            true => descriptor,
            false => &[],
        };
        self.reserve(meta);
        let place = self.place(index);
        let start = place * STRIDE;
        let end = start + payload.len() + descriptor.len();
        let (Some(slot), Some(bytes)) =
            (self.slots.get_mut(place), self.payloads.get_mut(start..end))
        else {
            return Err(Rejected::TooOld);
        };
        if slot.index == index {
            return Err(Rejected::Duplicate);
        }
        let (first, second) = bytes.split_at_mut(payload.len());
        first.copy_from_slice(payload);
        second.copy_from_slice(descriptor);
        *slot = Slot {
            index,
            len: payload.len(),
            descriptor_len: descriptor.len(),
            meta,
        };
        self.highest = self.highest.max(Some(index));
        Ok(())
    }

    /// Returns the packet with this index, if it is kept.
    pub(crate) fn get(&self, index: u64) -> Option<Packet<'_>> {
        let place = self.place(index);
        let slot = self.slots.get(place).filter(|slot| slot.index == index)?;
        let bytes = self.payloads.get(place * STRIDE..)?;
        let (payload, rest) = bytes.split_at_checked(slot.len)?;
        Some(Packet {
            index,
            meta: &slot.meta,
            payload,
            descriptor: rest.get(..slot.descriptor_len)?,
        })
    }

    /// Sets the padding of a packet.
    pub(crate) fn pad(&mut self, index: u64, padding: u8) {
        let place = self.place(index);
        if let Some(slot) = self.slots.get_mut(place).filter(|slot| slot.index == index) {
            slot.meta.padding = padding;
        }
    }

    /// Returns the highest index kept.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// Returns how many packets it can hold.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Forgets all packets and keeps the memory.
    pub(crate) fn clear(&mut self) {
        for slot in &mut self.slots {
            slot.index = EMPTY;
        }
        self.highest = None;
    }

    fn reserve(&mut self, meta: Meta) {
        if self.slots.is_empty() {
            let capacity = self.capacity_len();
            self.slots.resize_with(capacity, || Slot {
                index: EMPTY,
                len: 0,
                descriptor_len: 0,
                meta,
            });
            self.payloads = vec![0; capacity * STRIDE];
        }
    }

    fn place(&self, index: u64) -> usize {
        usize::try_from(index % self.capacity).unwrap_or_default()
    }

    fn capacity_len(&self) -> usize {
        usize::try_from(self.capacity).unwrap_or(1)
    }
}

const EMPTY: u64 = u64::MAX;
const STRIDE: usize = MAX_PAYLOAD + MAX_DESCRIPTOR;

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        let now = Instant::now();
        Meta {
            timestamp: 7,
            marker: false,
            keyframe: false,
            received: now,
            presentation: now,
            frame: Frame::whole(false, false),
            picture: None,
            frame_number: None,
            is_red: false,
            extensions: Extensions::default(),
            padding: 0,
        }
    }

    #[test]
    fn keeps_the_newest_in_any_order() {
        let mut history = History::new(4);
        for index in [10, 12, 11, 13, 14] {
            history.insert(index, meta(), &[index as u8], &[]).unwrap();
        }
        assert!(history.get(10).is_none(), "14 took its place");
        for index in 11..=14 {
            assert_eq!(history.get(index).unwrap().payload, &[index as u8]);
        }
        assert_eq!(history.highest(), Some(14));
        assert!(history.get(15).is_none());
    }

    #[test]
    fn rejects_duplicates_the_old_and_the_long() {
        let mut history = History::new(4);
        history.insert(10, meta(), &[], &[]).unwrap();
        let cases = [
            ("duplicate", 10, 1, Err(Rejected::Duplicate)),
            ("too long", 11, MAX_PAYLOAD + 1, Err(Rejected::TooLong)),
            ("too old", 6, 1, Err(Rejected::TooOld)),
            ("late", 7, 1, Ok(())),
            ("longest", 11, MAX_PAYLOAD, Ok(())),
        ];
        for (label, index, len, expected) in cases {
            let result = history.insert(index, meta(), &vec![0; len], &[]);
            assert_eq!(result, expected, "{label}");
        }
    }

    #[test]
    fn clear_forgets() {
        let mut history = History::new(4);
        history.insert(10, meta(), &[1], &[]).unwrap();
        history.clear();
        assert!(history.get(10).is_none());
        assert_eq!(history.highest(), None);
        history.insert(10, meta(), &[1], &[]).unwrap();
    }
}
