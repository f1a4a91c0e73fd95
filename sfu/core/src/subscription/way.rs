//! What of a layer goes to a viewer now.

use super::{Sent, Subscription};
use crate::{
    MediaKind,
    flow::Sender,
    history::Packet,
    ladder::Rung,
    layer::{Layer, Urgency},
    reading::{Reading, Step},
    transport::CodecPt,
};

/// A subscription and what it sends with.
pub(super) struct Way<'a, 'b> {
    pub(super) subscription: &'a mut Subscription,
    pub(super) codec: CodecPt,
    pub(super) sender: &'a mut Sender<'b>,
    pub(super) sent: &'a mut Sent,
}

impl Way<'_, '_> {
    /// Sends what is to be sent. Returns whether the reading goes on.
    pub(super) fn forward(&mut self, reading: &mut Reading, layer: &Layer, aim: &Rung) -> bool {
        reading.aim(aim, layer, self.sender.now);
        if !reading.is_direct() {
            layer.note_reader(&reading.rung);
            layer.note_reader(aim);
            self.send_late(reading, layer);
            return self.catch_up(reading, layer, aim);
        }
        for index in layer.arrived() {
            if *index >= reading.next {
                if !self.may_go() {
                    reading.behind = Some(self.sender.now);
                    self.sent.waiting_for_room = true;
                    return true;
                }
                reading.next = index + 1;
            }
            if let Some(packet) = layer.packet(*index) {
                self.send(&packet, layer);
            }
        }
        true
    }

    /// Sends what arrived of packets that were passed.
    fn send_late(&mut self, reading: &Reading, layer: &Layer) {
        let arrived = layer.arrived().iter();
        for index in arrived.filter(|index| **index < reading.next) {
            if let Some(packet) = layer.packet(*index)
                && packet.meta.frame.needed.meets(reading.rung.quality())
            {
                self.send(&packet, layer);
            }
        }
    }

    fn catch_up(&mut self, reading: &mut Reading, layer: &Layer, aim: &Rung) -> bool {
        let now = self.sender.now;
        loop {
            match reading.step(layer, aim, now) {
                Step::Send(packet) => {
                    let has_room = match reading.behind {
                        Some(_) => self.has_room(),
                        None => self.may_go(),
                    };
                    if !has_room {
                        reading.behind.get_or_insert(now);
                        self.sent.waiting_for_room = true;
                        return true;
                    }
                    let top = reading.top_spatial(layer);
                    let rewrite = &mut self.subscription.rewrite;
                    rewrite.end_pictures_at(top, packet.index);
                    self.send(&packet, layer);
                    reading.pass();
                }
                Step::LeaveOut { index, picture } => {
                    self.subscription.rewrite.leave_out(index, picture);
                }
                Step::Edge | Step::Wait => break,
                Step::Lost => {
                    self.subscription.lagged = true;
                    return false;
                }
            }
        }
        if reading.needs_keyframe(aim, now) {
            layer.ask(match aim.spatial > reading.rung.spatial {
                true => Urgency::Soon,
                false => Urgency::Now,
            });
        }
        // Whoever reached the edge may be served directly from here on.
        reading.aim(aim, layer, now);
        true
    }

    fn has_room(&mut self) -> bool {
        self.subscription.kind == MediaKind::Audio || self.sender.has_room()
    }

    fn may_go(&mut self) -> bool {
        self.subscription.kind == MediaKind::Audio || self.sender.may_go()
    }

    /// Returns the packet before this one, if it is audio to be repeated along with it: for those who lose
    /// packets and understand that, where the publisher does not repeat itself.
    fn to_repeat<'a>(&self, packet: &Packet<'_>, layer: &'a Layer) -> Option<Packet<'a>> {
        let is_plain = self.codec.red.is_some() && !packet.meta.is_red;
        let before = packet.index.checked_sub(1)?;
        let is_of_use = is_plain && self.sender.is_lossy() && !self.sender.is_narrow();
        let before = is_of_use.then(|| layer.packet(before)).flatten();
        before.filter(|before| !before.meta.is_red)
    }

    fn send(&mut self, packet: &Packet<'_>, layer: &Layer) {
        let before = self.to_repeat(packet, layer);
        let subscription = &mut *self.subscription;
        let Some(rewritten) = subscription.rewrite.apply(packet, self.sender.now) else {
            return;
        };
        let len = match before {
            Some(before) => {
                subscription.seal_with(&before, packet, &rewritten, self.codec, self.sender)
            }
            None => subscription.seal(packet, &rewritten, self.codec, self.sender),
        };
        if len > 0 {
            subscription.packets = subscription.packets.wrapping_add(1);
            let octets = u32::try_from(packet.payload.len()).unwrap_or_default();
            subscription.octets = subscription.octets.wrapping_add(octets);
            self.sent.packets += 1;
            self.sent.bytes += len as u64;
        }
    }
}
