//! One RTP stream of a publisher: its headers, what its packets say, and what was sent.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

pub(super) const TWCC_ID: u8 = 3;
pub(super) const MID_ID: u8 = 4;
pub(super) const RID_ID: u8 = 5;
pub(super) const REPAIRED_RID_ID: u8 = 6;
pub(super) const LEVEL_ID: u8 = 7;
pub(super) const DESCRIPTOR_ID: u8 = 8;

pub(crate) struct Stream {
    /// Whether it is sent.
    pub(crate) enabled: bool,
    /// Keyframe requests received.
    pub(crate) requests: u32,
    pub(super) rid: Option<char>,
    pub(crate) packets_per_frame: u32,
    /// Of each packet.
    pub(super) body_len: usize,
    pub(super) wants_keyframe: bool,
    pub(super) last_keyframe: Option<Instant>,
    /// The last key picture.
    pub(super) key_picture: u32,
    pub(super) again: Vec<u16>,
    pub(super) ssrc: u32,
    pt: u8,
    rate: u32,
    pub(super) base: u32,
    seq: u16,
    rtx_seq: u16,
    content: u32,
    /// The dependency descriptor of the next packet.
    pub(super) descriptor: Vec<u8>,
    /// What every packet says besides, by the id of its header extension: see [`super::Publisher::CARRIED`].
    pub(crate) carried: Vec<(u8, Vec<u8>)>,
    sent: BTreeMap<u16, Vec<u8>>,
}

impl Stream {
    /// A stream that begins with this sequence number.
    pub(super) fn new(ssrc: u32, pt: u8, rate: u32, seq: u16) -> Self {
        Self {
            enabled: true,
            requests: 0,
            rid: None,
            packets_per_frame: 3,
            body_len: 100,
            wants_keyframe: true,
            last_keyframe: None,
            key_picture: 0,
            again: Vec::new(),
            ssrc,
            pt,
            rate,
            base: 0xffff_0000_u32.wrapping_add(ssrc.wrapping_mul(1_000_000)),
            seq,
            rtx_seq: 5,
            content: 0,
            descriptor: Vec::new(),
            carried: Vec::new(),
            sent: BTreeMap::new(),
        }
    }

    /// Returns its SSRC.
    pub(crate) fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Returns how many packets were sent, repeats and padding left out.
    pub(crate) fn count(&self) -> u64 {
        self.content.into()
    }

    /// Returns the sequence number of the next packet.
    pub(crate) fn seq(&self) -> u16 {
        self.seq
    }

    pub(super) fn retransmission(&mut self, seq: u16, transport_seq: u16) -> Option<Vec<u8>> {
        let mut packet = self.sent.get(&seq)?.clone();
        packet[1] = (packet[1] & 0x80) | (self.pt + 1);
        packet[2..4].copy_from_slice(&self.rtx_seq.to_be_bytes());
        self.rtx_seq = self.rtx_seq.wrapping_add(1);
        packet[8..12].copy_from_slice(&(self.ssrc + 1).to_be_bytes());
        let at = if packet[12] == 0x10 { 18 } else { 17 };
        packet[at..at + 2].copy_from_slice(&transport_seq.to_be_bytes());
        if self.rid.is_some() {
            packet[21] = REPAIRED_RID_ID << 4;
        }
        let end = 16 + 4 * usize::from(packet[15]);
        packet.splice(end..end, seq.to_be_bytes());
        Some(packet)
    }

    pub(super) fn timestamp(&self, captured: Instant, epoch: Instant) -> u32 {
        // Capture may be before the epoch by the delay.
        let since = captured + Duration::from_secs(1) - epoch;
        let ticks = since.as_micros() * u128::from(self.rate) / 1_000_000;
        self.base.wrapping_add(ticks as u32)
    }

    pub(super) fn body(
        &mut self,
        len: usize,
        id: u8,
        captured_ms: u32,
        ends: bool,
        (frame, [before, below]): (u32, [u32; 2]),
    ) -> Vec<u8> {
        let mut body = vec![id];
        body.extend(self.content.to_be_bytes());
        body.extend(captured_ms.to_be_bytes());
        body.push(u8::from(ends));
        for frame in [frame, before, below] {
            body.extend(frame.to_be_bytes());
        }
        body.resize(len, 0);
        self.content += 1;
        body
    }

    pub(super) fn packet(
        &mut self,
        marker: bool,
        timestamp: u32,
        transport: u16,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut packet = self.header(0x90, marker, timestamp, transport);
        packet.extend(payload);
        self.sent
            .insert(u16::from_be_bytes([packet[2], packet[3]]), packet.clone());
        packet
    }

    pub(super) fn padding(&mut self, timestamp: u32, transport: u16) -> Vec<u8> {
        let mut packet = self.header(0xb0, false, timestamp, transport);
        packet.extend([0; 99]);
        packet.push(100);
        self.sent
            .insert(u16::from_be_bytes([packet[2], packet[3]]), packet.clone());
        packet
    }

    fn header(&mut self, first: u8, marker: bool, timestamp: u32, transport: u16) -> Vec<u8> {
        let mut packet = vec![first, u8::from(marker) << 7 | self.pt];
        packet.extend(self.seq.to_be_bytes());
        self.seq = self.seq.wrapping_add(1);
        packet.extend(timestamp.to_be_bytes());
        packet.extend(self.ssrc.to_be_bytes());
        // A descriptor with a structure needs the form with two bytes for each header.
        let is_long = self.descriptor.len() > 16;
        let element = |id: u8, len: usize| match is_long {
            true => vec![id, len as u8],
            false => vec![id << 4 | (len - 1) as u8],
        };
        packet.extend(if is_long { [0x10, 0] } else { [0xbe, 0xde] });
        packet.extend([0, 0]);
        packet.extend(element(TWCC_ID, 2));
        packet.extend(transport.to_be_bytes());
        match self.rid {
            Some(rid) => packet.extend([MID_ID << 4, b'1', RID_ID << 4, rid as u8, 0]),
            None => packet.extend([0; 5]),
        }
        if !self.descriptor.is_empty() {
            packet.extend(element(DESCRIPTOR_ID, self.descriptor.len()));
            packet.extend(&self.descriptor);
        }
        for (id, value) in &self.carried {
            packet.extend(element(*id, value.len()));
            packet.extend(value);
        }
        packet.resize(packet.len().next_multiple_of(4), 0);
        packet[15] = ((packet.len() - 16) / 4) as u8;
        packet
    }
}
