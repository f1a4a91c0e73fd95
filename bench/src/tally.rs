//! What viewers count.

use std::time::Duration;

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
