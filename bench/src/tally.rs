//! What viewers count.

use std::{ops::Range, time::Duration};

use crate::histogram::Histogram;

/// Counts over all viewers of a worker, since they were last taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Viewers whose media connection came up.
    pub(crate) connected: u64,
    /// Viewers whose data channel opened.
    pub(crate) channels: u64,
    /// Viewers that the server ended.
    pub(crate) closed: u64,
    /// RTP packets that arrived, whatever they are.
    pub(crate) packets: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Media packets that were sent, as far as sequence numbers tell.
    pub(crate) expected: u64,
    /// Media packets that never came, retransmissions included.
    pub(crate) lost: u64,
    /// Media packets that came by retransmission.
    pub(crate) repaired: u64,
    /// Packets that had come before, such as padding made of them.
    pub(crate) duplicates: u64,
    /// Sequence numbers asked for again.
    pub(crate) nacked: u64,
    /// Keyframe requests sent.
    pub(crate) keyframe_requests: u64,
    /// Transport-wide feedback packets sent.
    pub(crate) feedback: u64,
    /// From POST to the media connection.
    pub(crate) to_connected: Histogram,
    /// From POST to the first RTP packet.
    pub(crate) to_packet: Histogram,
    /// From POST to the first complete keyframe.
    pub(crate) to_keyframe: Histogram,
    /// From the publisher's send call until the packet is at the viewer's socket: the first packet of frames.
    pub(crate) packet_delay: Histogram,
    /// From the send call of a frame's last packet until the frame is complete at the viewer's socket.
    pub(crate) frame_delay: Histogram,
    /// Sending and completion of frames that came late, until it is known whose fault it was.
    late: Vec<(i64, i64)>,
    /// Frames that came late because the server's processor was taken away from it. They are in no histogram.
    pub(crate) excused: u64,
}

impl Tally {
    /// Adds another one.
    pub(crate) fn merge(&mut self, other: &Self) {
        let counts = [
            (&mut self.connected, other.connected),
            (&mut self.channels, other.channels),
            (&mut self.closed, other.closed),
            (&mut self.packets, other.packets),
            (&mut self.bytes, other.bytes),
            (&mut self.expected, other.expected),
            (&mut self.lost, other.lost),
            (&mut self.repaired, other.repaired),
            (&mut self.duplicates, other.duplicates),
            (&mut self.nacked, other.nacked),
            (&mut self.keyframe_requests, other.keyframe_requests),
            (&mut self.feedback, other.feedback),
        ];
        for (count, more) in counts {
            *count += more;
        }
        self.late.extend_from_slice(&other.late);
        self.excused += other.excused;
        for (histogram, more) in [
            (&mut self.to_connected, &other.to_connected),
            (&mut self.to_packet, &other.to_packet),
            (&mut self.to_keyframe, &other.to_keyframe),
            (&mut self.packet_delay, &other.packet_delay),
            (&mut self.frame_delay, &other.frame_delay),
        ] {
            histogram.merge(more);
        }
    }

    /// Counts a frame whose last packet was sent and whose last piece arrived at these times.
    pub(crate) fn frame(&mut self, sent: i64, complete: i64) {
        let delay = between(sent, complete);
        if delay < LATE || self.late.len() >= MAX_LATE {
            self.frame_delay.record(delay);
        } else {
            self.late.push((sent, complete));
        }
    }

    /// Takes late frames for what they are: excused if they were on their way during a pause, or so soon after one
    /// that what it had held up was still being done.
    pub(crate) fn settle(&mut self, pauses: &[Range<i64>]) {
        for (sent, complete) in std::mem::take(&mut self.late) {
            let explains = |pause: &Range<i64>| {
                let over = pause.end + (pause.end - pause.start);
                sent < over && complete > pause.start && complete < over
            };
            let is_excused = pauses.iter().any(explains);
            match is_excused {
                true => self.excused += 1,
                false => self.frame_delay.record(between(sent, complete)),
            }
        }
    }

    /// Returns the share of media packets that never came.
    #[expect(clippy::cast_precision_loss, reason = "counts of a run")]
    pub(crate) fn loss(&self) -> f64 {
        self.lost as f64 / self.expected.max(1) as f64
    }
}

/// Returns the time between two readings of the wall clock, zero when it went backwards.
pub(crate) fn between(earlier: i64, later: i64) -> Duration {
    Duration::from_nanos(u64::try_from(later - earlier).unwrap_or(0))
}

/// What comes sooner needs no excuse.
const LATE: Duration = Duration::from_millis(2);

/// Late frames that are kept; more of them have no excuse.
const MAX_LATE: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn only_frames_within_a_pause_are_excused() {
        let pauses = vec![Range {
            start: 100 * MS,
            end: 160 * MS,
        }];
        for (sent, complete, is_excused) in [
            (50, 95, false),
            (90, 165, true),
            (110, 161, true),
            (161, 210, true),
            (110, 230, false),
            (221, 230, false),
            (120, 121, false),
        ] {
            let mut tally = Tally::default();
            tally.frame(sent * MS, complete * MS);
            tally.settle(&pauses);
            assert_eq!(tally.excused, u64::from(is_excused), "{sent} to {complete}");
            assert_eq!(tally.frame_delay.len(), u64::from(!is_excused));
        }
    }
}
