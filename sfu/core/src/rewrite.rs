//! Continuous sequence number, timestamp and picture id across changes of what is forwarded.

use std::time::Instant;

use crate::{
    history::Packet,
    sequence::{extend16, is_later, low32},
    vp8,
};

/// Numbers one outgoing stream. Every packet has one number for ever, so that sending it again under the
/// same SRTP index sends the same bytes.
#[derive(Debug)]
pub(crate) struct Rewrite {
    next_seq: u32,
    timestamp: u32,
    last: Option<Last>,
    segment: Option<Segment>,
}

/// The header fields of a packet as it goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// Extended sequence number.
    pub(crate) seq: u32,
    /// RTP timestamp.
    pub(crate) timestamp: u32,
    /// The VP8 numbers, when they differ from the publisher's.
    pub(crate) vp8: Option<vp8::Descriptor>,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    timestamp: u32,
    received: Instant,
    vp8: Option<vp8::Descriptor>,
}

/// A run of packets of one layer.
#[derive(Clone, Copy, Debug)]
struct Segment {
    first: u64,
    seq_shift: u32,
    timestamp_shift: u32,
    vp8: vp8::Shift,
}

impl Rewrite {
    /// Creates numbering that begins at random numbers (RFC 3550 §5.1).
    pub(crate) fn new(random_seq: u32, random_timestamp: u32) -> Self {
        Self {
            // The upper bits are the SRTP rollover counter, which begins at 0; the low half of the range
            // keeps the first wrap away from the first packets (RFC 3711 §3.3.1).
            next_seq: random_seq & 0x7fff,
            timestamp: random_timestamp,
            last: None,
            segment: None,
        }
    }

    /// Begins a run at `first`. The timestamp advances by the time since the last packet's arrival, at
    /// least one thirtieth of a second of `rate`.
    pub(crate) fn begin(&mut self, first: &Packet<'_>, rate: u32) {
        let timestamp = match self.last {
            None => self.timestamp,
            Some(last) => {
                let elapsed = first.meta.received.saturating_duration_since(last.received);
                let ticks = elapsed.as_micros() * u128::from(rate) / 1_000_000;
                let ticks = u32::try_from(ticks).unwrap_or(u32::MAX / 4);
                last.timestamp.wrapping_add(ticks.max(rate / 30))
            }
        };
        let vp8 = match (self.last.and_then(|last| last.vp8), first.meta.vp8) {
            (Some(last), Some(first)) => vp8::Shift::continuing(&last, &first),
            (_, _) => vp8::Shift::default(),
        };
        self.segment = Some(Segment {
            first: first.index,
            seq_shift: self.next_seq.wrapping_sub(low32(first.index)),
            timestamp_shift: timestamp.wrapping_sub(first.meta.timestamp),
            vp8,
        });
    }

    /// Returns a packet's fields; `None` for one before the run.
    pub(crate) fn apply(&mut self, packet: &Packet<'_>) -> Option<Rewritten> {
        let segment = self
            .segment
            .filter(|segment| packet.index >= segment.first)?;
        let meta = packet.meta;
        let rewritten = segment.rewrite(packet);
        if is_later(rewritten.seq.wrapping_add(1), self.next_seq) {
            self.next_seq = rewritten.seq.wrapping_add(1);
            self.last = Some(Last {
                timestamp: rewritten.timestamp,
                received: meta.received,
                vp8: meta.vp8.map(|descriptor| segment.vp8.apply(&descriptor)),
            });
        }
        Some(rewritten)
    }

    /// Returns the same fields as [`Rewrite::apply`] did for a packet of this run.
    pub(crate) fn repeat(&self, packet: &Packet<'_>) -> Option<Rewritten> {
        let segment = self.segment.filter(|s| packet.index >= s.first)?;
        Some(segment.rewrite(packet))
    }

    /// Leaves out a packet of this run which nobody saw: the ones behind it move up.
    pub(crate) fn leave_out(&mut self) {
        if let Some(segment) = &mut self.segment {
            segment.seq_shift = segment.seq_shift.wrapping_sub(1);
        }
    }

    /// Returns the index of the packet that went out with this sequence number in this run.
    pub(crate) fn find(&self, seq: u16) -> Option<u64> {
        let segment = self.segment?;
        let full = low32(extend16(u64::from(self.next_seq) + (1 << 32), seq));
        let behind = self.next_seq.wrapping_sub(full);
        let newest = self
            .next_seq
            .wrapping_sub(1)
            .wrapping_sub(segment.seq_shift);
        let length = newest.wrapping_sub(low32(segment.first));
        let back = behind.checked_sub(1).filter(|back| *back <= length)?;
        Some(segment.first + u64::from(length - back))
    }

    /// Returns what is added to the publisher's timestamps in this run.
    pub(crate) fn timestamp_shift(&self) -> u32 {
        self.segment.map_or(0, |segment| segment.timestamp_shift)
    }
}

impl Segment {
    fn rewrite(&self, packet: &Packet<'_>) -> Rewritten {
        let descriptor = packet.meta.vp8.filter(|_| !self.vp8.is_none());
        Rewritten {
            seq: low32(packet.index).wrapping_add(self.seq_shift),
            timestamp: packet.meta.timestamp.wrapping_add(self.timestamp_shift),
            vp8: descriptor.map(|descriptor| self.vp8.apply(&descriptor)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::history::Meta;

    fn meta(timestamp: u32, received: Instant, picture_id: u16) -> Meta {
        Meta {
            timestamp,
            marker: false,
            keyframe: false,
            received,
            presentation: received,
            vp8: Some(vp8::Descriptor {
                len: 4,
                picture_id: Some(picture_id),
                long_picture_id: true,
                ..vp8::Descriptor::default()
            }),
        }
    }

    fn packet(index: u64, meta: &Meta) -> Packet<'_> {
        Packet {
            index,
            meta,
            payload: &[],
        }
    }

    #[test]
    fn a_switch_is_seamless() {
        let t0 = Instant::now();
        let mut rewrite = Rewrite::new(0x7ffe, 1000);
        let first = meta(50_000, t0, 7);
        rewrite.begin(&packet(100, &first), 90_000);
        let out = rewrite.apply(&packet(100, &first)).unwrap();
        assert_eq!((out.seq, out.timestamp, out.vp8), (0x7ffe, 1000, None));
        let later = meta(53_000, t0 + Duration::from_millis(33), 8);
        let out = rewrite.apply(&packet(102, &later)).unwrap();
        assert_eq!((out.seq, out.timestamp), (0x8000, 4000));
        let out = rewrite.apply(&packet(101, &first)).unwrap();
        assert_eq!((out.seq, out.timestamp), (0x7fff, 1000), "reordered");

        let other = meta(9, t0 + Duration::from_millis(133), 30_000);
        rewrite.begin(&packet(5, &other), 90_000);
        let out = rewrite.apply(&packet(5, &other)).unwrap();
        assert_eq!((out.seq, out.timestamp), (0x8001, 4000 + 9000));
        assert_eq!(out.vp8.unwrap().picture_id, Some(9));
        assert_eq!(rewrite.apply(&packet(4, &other)), None, "before the run");
        assert_eq!(rewrite.repeat(&packet(5, &other)), Some(out));
    }

    #[test]
    fn a_switch_advances_at_least_a_frame() {
        let t0 = Instant::now();
        let mut rewrite = Rewrite::new(0, 0);
        let first = meta(0, t0, 0);
        rewrite.begin(&packet(0, &first), 90_000);
        rewrite.apply(&packet(0, &first));
        rewrite.begin(&packet(9, &first), 90_000);
        let out = rewrite.apply(&packet(9, &first)).unwrap();
        assert_eq!((out.seq, out.timestamp), (1, 3000));
    }

    #[test]
    fn finds_only_what_went_out_in_this_run() {
        let t0 = Instant::now();
        let mut rewrite = Rewrite::new(0x7ff0, 0);
        assert_eq!(rewrite.find(5), None);
        let any = meta(0, t0, 0);
        rewrite.begin(&packet(100, &any), 90_000);
        for index in 100..0x9000 {
            rewrite.apply(&packet(index, &any));
        }
        let newest = 0x7ff0 + 0x9000 - 100 - 1_u64;
        let cases = [
            ("newest", newest, Some(0x8fff)),
            ("one before", newest - 1, Some(0x8ffe)),
            ("not yet sent", newest + 1, None),
        ];
        for (label, seq, expected) in cases {
            assert_eq!(rewrite.find((seq & 0xffff) as u16), expected, "{label}");
        }
        rewrite.begin(&packet(50, &any), 90_000);
        rewrite.apply(&packet(50, &any));
        let seq = |n: u64| ((newest + n) & 0xffff) as u16;
        assert_eq!(rewrite.find(seq(1)), Some(50));
        assert_eq!(rewrite.find(seq(0)), None, "of the run before");
    }

    #[test]
    fn what_is_left_out_leaves_no_gap() {
        let t0 = Instant::now();
        let mut rewrite = Rewrite::new(10, 0);
        let any = meta(0, t0, 0);
        rewrite.begin(&packet(0, &any), 90_000);
        rewrite.apply(&packet(0, &any));
        rewrite.leave_out();
        assert_eq!(rewrite.apply(&packet(2, &any)).unwrap().seq, 11);
    }
}
