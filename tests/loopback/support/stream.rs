//! What a viewer received on one SSRC, and what can be said about it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rtc::rtp::Packet;

/// One received packet.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) at: Instant,
    /// Sequence number with its wraps counted.
    pub(crate) seq: i64,
    pub(crate) timestamp: u32,
    pub(crate) keyframe: bool,
}

/// Every packet of one SSRC, in the order of arrival.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Such as `video/H264`.
    pub(crate) codec: String,
    pub(crate) clock_rate: u32,
    pub(crate) packets: Vec<Received>,
}

impl Stream {
    pub(crate) fn new(codec: String, clock_rate: u32) -> Self {
        Self {
            codec,
            clock_rate,
            packets: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, packet: &Packet, at: Instant) {
        let wire = packet.header.sequence_number;
        let seq = self.packets.last().map_or(i64::from(wire), |last| {
            let low = u16::try_from(last.seq.rem_euclid(1 << 16)).unwrap();
            last.seq + i64::from(wire.wrapping_sub(low).cast_signed())
        });
        let keyframe = match self.codec.to_ascii_lowercase().as_str() {
            "video/h264" => h264_keyframe(&packet.payload),
            "video/vp8" => vp8_keyframe(&packet.payload),
            _ => false,
        };
        self.packets.push(Received {
            at,
            seq,
            timestamp: packet.header.timestamp,
            keyframe,
        });
    }

    /// Returns how many packets between the first and the last never came.
    pub(crate) fn missing(&self) -> usize {
        let seen: BTreeSet<i64> = self.packets.iter().map(|p| p.seq).collect();
        match (seen.first(), seen.last()) {
            (Some(first), Some(last)) => usize::try_from(last - first + 1).unwrap() - seen.len(),
            _ => 0,
        }
    }

    /// Returns whether the first frame in sequence is a keyframe.
    pub(crate) fn starts_with_keyframe(&self) -> bool {
        let Some(first) = self.packets.iter().min_by_key(|p| p.seq) else {
            return false;
        };
        self.packets
            .iter()
            .any(|p| p.timestamp == first.timestamp && p.keyframe)
    }

    /// Returns the longest time without a packet, counted from `since`.
    pub(crate) fn longest_gap(&self, since: Instant) -> Duration {
        let mut last = since;
        let mut longest = Duration::ZERO;
        for packet in self.packets.iter().filter(|p| p.at >= since) {
            longest = longest.max(packet.at - last);
            last = packet.at;
        }
        longest
    }

    /// Returns the packets that came after `since`.
    pub(crate) fn count_since(&self, since: Instant) -> usize {
        self.packets.iter().filter(|p| p.at >= since).count()
    }

    /// Panics unless timestamps never go back in sequence order, and none is farther ahead than the time
    /// that passed plus `slack` (the start comes in a burst from the server's memory).
    pub(crate) fn assert_continuous(&self, slack: Duration) {
        let mut packets = self.packets.clone();
        packets.sort_by_key(|p| p.seq);
        for pair in packets.windows(2) {
            let [before, after] = pair else {
                unreachable!("windows of two")
            };
            let ticks = after.timestamp.wrapping_sub(before.timestamp).cast_signed();
            assert!(
                ticks >= 0,
                "{} timestamp went back by {ticks}: {pair:?}",
                self.codec
            );
            let media = Duration::from_secs(ticks.unsigned_abs().into()) / self.clock_rate;
            let passed = after.at.saturating_duration_since(before.at);
            assert!(
                media <= passed + slack,
                "{} timestamp jumped {media:?} in {passed:?}: {pair:?}",
                self.codec
            );
        }
    }
}

/// RFC 6184: an IDR slice alone, in an aggregation (STAP-A), or at the start of a fragment (FU-A).
fn h264_keyframe(payload: &[u8]) -> bool {
    match payload.first().map(|b| b & 0x1f) {
        Some(5) => true,
        Some(24) => {
            let mut rest = &payload[1..];
            while let Some((&[high, low], tail)) = rest.split_first_chunk::<2>() {
                let size = usize::from(u16::from_be_bytes([high, low]));
                if tail.len() < size {
                    return false;
                }
                if tail.first().is_some_and(|b| b & 0x1f == 5) {
                    return true;
                }
                rest = &tail[size..];
            }
            false
        }
        Some(28) => payload.get(1).is_some_and(|b| b & 0x9f == 0x85),
        _ => false,
    }
}

/// RFC 7741: the first partition's first packet, with the inverse key frame flag cleared.
fn vp8_keyframe(payload: &[u8]) -> bool {
    let Some(&first) = payload.first() else {
        return false;
    };
    if first & 0x10 == 0 || first & 0x0f != 0 {
        return false;
    }
    let mut at = 1;
    if first & 0x80 != 0 {
        let Some(&extended) = payload.get(1) else {
            return false;
        };
        at += 1;
        if extended & 0x80 != 0 {
            at += if payload.get(at).is_some_and(|b| b & 0x80 != 0) {
                2
            } else {
                1
            };
        }
        at += usize::from(extended & 0x40 != 0);
        at += usize::from(extended & 0x30 != 0);
    }
    payload.get(at).is_some_and(|b| b & 1 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyframes_are_told_apart() {
        for (payload, expected) in [
            (vec![0x65, 0x88], true),
            (vec![0x41, 0x9a], false),
            (vec![24, 0, 2, 0x67, 0x42, 0, 1, 0x65], true),
            (vec![24, 0, 2, 0x67, 0x42, 0, 1, 0x41], false),
            (vec![28, 0x85, 1], true),
            (vec![28, 0x05, 1], false),
            (vec![], false),
        ] {
            assert_eq!(h264_keyframe(&payload), expected, "{payload:x?}");
        }
        for (payload, expected) in [
            (vec![0x10, 0x00], true),
            (vec![0x10, 0x01], false),
            (vec![0x00, 0x00], false),
            (vec![0x90, 0x80, 0x81, 0x02, 0x00], true),
            (vec![0x90, 0x80, 0x01, 0x01], false),
            (vec![0x90], false),
        ] {
            assert_eq!(vp8_keyframe(&payload), expected, "{payload:x?}");
        }
    }
}
