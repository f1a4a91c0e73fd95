//! Puts the packets of stamped frames together, to know when each was complete.

use std::collections::VecDeque;

use crate::stamp::Stamp;

/// The frames of one received stream that are not complete yet.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    open: VecDeque<Frame>,
}

#[derive(Debug)]
struct Frame {
    timestamp: u32,
    /// The stamp, and the number of the packet with it: the frame's first one.
    stamp: Option<(Stamp, u64)>,
    /// The number of the packet with the marker.
    end: Option<u64>,
    lowest: u64,
    count: u64,
    last_arrival: i64,
}

impl Frame {
    /// Returns the stamp once everything from it to the marker is there.
    fn complete(&self) -> Option<Stamp> {
        let ((stamp, first), end) = (self.stamp?, self.end?);
        (end - first + 1 == self.count).then_some(stamp)
    }
}

/// What a packet brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The stamp that it carries.
    pub(crate) stamp: Option<Stamp>,
    /// The stamp of the frame that it completes, and when its last packet arrived.
    pub(crate) complete: Option<(Stamp, i64)>,
}

/// One packet of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    /// Its extended sequence number.
    pub(crate) number: u64,
    /// Its timestamp.
    pub(crate) timestamp: u32,
    /// Whether it ends the frame.
    pub(crate) marker: bool,
    /// When it arrived.
    pub(crate) arrival: i64,
}

impl Frames {
    /// Notes a new packet. `stamp` is asked to look for a stamp only where there may be one.
    pub(crate) fn note(
        &mut self,
        packet: Packet,
        stamp: impl FnOnce() -> Option<Stamp>,
    ) -> Progress {
        let found = self
            .open
            .iter()
            .rposition(|frame| frame.timestamp == packet.timestamp);
        let place = found.unwrap_or_else(|| {
            if self.open.len() >= MAX_OPEN {
                self.open.pop_front();
            }
            self.open.push_back(Frame {
                timestamp: packet.timestamp,
                stamp: None,
                end: None,
                lowest: u64::MAX,
                count: 0,
                last_arrival: packet.arrival,
            });
            self.open.len() - 1
        });
        let Some(frame) = self.open.get_mut(place) else {
            return Progress::default();
        };
        let mut progress = Progress::default();
        if packet.number < frame.lowest && frame.stamp.is_none() {
            progress.stamp = stamp();
            frame.stamp = progress.stamp.map(|stamp| (stamp, packet.number));
        }
        frame.lowest = frame.lowest.min(packet.number);
        frame.count += 1;
        frame.last_arrival = frame.last_arrival.max(packet.arrival);
        if packet.marker {
            frame.end = Some(packet.number);
        }
        if let Some(stamp) = frame.complete() {
            progress.complete = Some((stamp, frame.last_arrival));
            self.open.remove(place);
        }
        progress
    }
}

/// A frame that is not complete after so many others never will be.
const MAX_OPEN: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_complete_with_its_last_packet() {
        let stamp = Stamp {
            sent: 1,
            frame: 2,
            is_key: true,
        };
        for order in [
            [10, 11, 12, 13],
            [13, 12, 11, 10],
            [10, 13, 11, 12],
            [11, 10, 13, 12],
        ] {
            let mut frames = Frames::default();
            let mut completed = Vec::new();
            for (at, number) in (0..).zip(order) {
                let packet = Packet {
                    number,
                    timestamp: 5,
                    marker: number == 13,
                    arrival: at,
                };
                let progress = frames.note(packet, || (number == 10).then_some(stamp));
                completed.extend(progress.complete.map(|complete| (at, complete)));
            }
            assert_eq!(completed, [(3, (stamp, 3))], "{order:?}");
            assert!(frames.open.is_empty());
        }
    }

    #[test]
    fn frames_without_stamps_or_packets_do_not_pile_up() {
        let mut frames = Frames::default();
        for number in 0..1000 {
            let packet = Packet {
                number: number * 2,
                timestamp: 0,
                marker: false,
                arrival: 0,
            };
            let timestamp = u32::try_from(number).unwrap();
            frames.note(
                Packet {
                    timestamp,
                    ..packet
                },
                || None,
            );
        }
        assert_eq!(frames.open.len(), MAX_OPEN);
    }
}
