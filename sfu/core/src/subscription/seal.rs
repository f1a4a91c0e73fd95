//! Puts a packet into the form in which a viewer gets it.

use super::Subscription;
use crate::{
    Pt, Ssrc, dependency,
    flow::Sender,
    history::{MAX_DESCRIPTOR, Packet},
    red,
    rewrite::Rewritten,
    transport::{CodecPt, SendHeader},
};

impl Subscription {
    pub(super) fn seal(
        &self,
        packet: &Packet<'_>,
        rewritten: &Rewritten,
        codec: CodecPt,
        sender: &mut Sender<'_>,
    ) -> usize {
        let red = codec
            .red
            .filter(|_| packet.meta.is_red && !sender.is_narrow());
        let mut header = header(rewritten, red.unwrap_or(codec.pt), self.stream.ssrc);
        header.padding = packet.meta.padding;
        let payload = match packet.meta.is_red && red.is_none() {
            true => [&[], red::primary(packet.payload).unwrap_or_default()],
            false => split(packet, rewritten),
        };
        self.send(&header, packet, rewritten.frame_shift, payload, sender)
    }

    /// Sends audio and what was before it, so that one of two packets in a row may be lost.
    pub(super) fn seal_with(
        &self,
        before: &Packet<'_>,
        packet: &Packet<'_>,
        rewritten: &Rewritten,
        codec: CodecPt,
        sender: &mut Sender<'_>,
    ) -> usize {
        let ticks = packet.meta.timestamp.wrapping_sub(before.meta.timestamp);
        let mut buffer = [0; red::MAX_HEAD];
        let head = red::repeat(codec.pt, before.payload, ticks, &mut buffer);
        let (Some(pt), Some(head)) = (codec.red, head) else {
            return self.seal(packet, rewritten, codec, sender);
        };
        let header = header(rewritten, pt, self.stream.ssrc);
        let payload = [head, packet.payload];
        self.send(&header, packet, rewritten.frame_shift, payload, sender)
    }

    /// Sends a packet with its header extensions.
    pub(super) fn send(
        &self,
        header: &SendHeader,
        packet: &Packet<'_>,
        frame_shift: u16,
        payload: [&[u8]; 2],
        sender: &mut Sender<'_>,
    ) -> usize {
        let mut buffer = [0; MAX_DESCRIPTOR];
        let descriptor = match frame_shift == 0 || packet.descriptor.is_empty() {
            true => packet.descriptor,
            false => dependency::renumber(packet.descriptor, frame_shift, &mut buffer),
        };
        let carried = packet.meta.extensions.carried(descriptor);
        sender.send(header, self.stream.is_reported, &carried, payload)
    }
}

pub(super) fn header(rewritten: &Rewritten, pt: Pt, ssrc: Ssrc) -> SendHeader {
    SendHeader {
        marker: rewritten.marker,
        pt,
        seq: rewritten.seq,
        timestamp: rewritten.timestamp,
        ssrc,
        padding: 0,
    }
}

/// Returns the payload in two parts, the first one with other numbers than the publisher's, or empty.
pub(crate) fn split<'a>(packet: &Packet<'a>, rewritten: &'a Rewritten) -> [&'a [u8]; 2] {
    match &rewritten.head {
        Some(head) => {
            let head = head.as_slice();
            [head, packet.payload.get(head.len()..).unwrap_or_default()]
        }
        None => [&[], packet.payload],
    }
}
