//! The newest keyframe of what a room shows, for whoever wants a single picture of it.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Codec, MediaKind, history::Packet, layer::Layer, sequence::low16};

/// A keyframe.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What it is in.
    pub codec: Codec,
    /// Its RTP packets, in order and complete.
    pub packets: Vec<Bytes>,
    /// When it began to arrive.
    pub received: Instant,
}

impl Snapshot {
    /// Takes the newest keyframe of a layer; `None` when it is not, or no longer, kept as a whole.
    pub(crate) fn of(layer: &Layer, codec: Codec) -> Option<Self> {
        let first = layer.packet(layer.newest_keyframe()?)?;
        let (timestamp, received) = (first.meta.timestamp, first.meta.received);
        let mut packets = Vec::new();
        for index in first.index..=layer.highest()? {
            // With a packet missing it is of no use.
            let packet = layer.packet(index)?;
            if packet.meta.timestamp != timestamp {
                break;
            }
            packets.push(write(&packet, codec));
            if packet.meta.marker {
                return Some(Self {
                    codec,
                    packets,
                    received,
                });
            }
        }
        None
    }

    /// Returns whether it is older than that.
    pub(crate) fn is_older(&self, age: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.received) > age
    }
}

fn write(packet: &Packet<'_>, codec: Codec) -> Bytes {
    let mut rtp = BytesMut::with_capacity(12 + packet.payload.len());
    rtp.put_u8(0x80);
    rtp.put_u8(u8::from(packet.meta.marker) << 7 | codec.tap_pt().0);
    rtp.put_u16(low16(packet.index));
    rtp.put_u32(packet.meta.timestamp);
    rtp.put_u32(MediaKind::Video.tap_ssrc().0);
    rtp.put_slice(packet.payload);
    rtp.freeze()
}
