//! Where a subscription reads a layer's history, and which packet comes next.

use std::time::{Duration, Instant};

use crate::{
    frame::{Frame, Qualities},
    history::Packet,
    ladder::Rung,
    layer::Layer,
    publication::Source,
};

/// A cursor over one layer.
///
/// Whoever takes everything is served in order of arrival: a late packet's number is reserved. Whoever takes
/// only some layers is served in order of index, because the number of a packet depends on what is left out
/// before it.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The stream.
    pub(crate) source: Source,
    /// What is forwarded of it.
    pub(crate) rung: Rung,
    /// The first packet not dealt with.
    pub(crate) next: u64,
    /// Since when it is behind the live edge.
    pub(crate) behind: Option<Instant>,
    in_order: bool,
    gap: Option<Instant>,
    /// What is wanted, and since when, while that is not what is forwarded.
    wanted: Option<(Rung, Instant)>,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// A packet to be sent; [`Reading::pass`] it then.
    Send(Packet<'a>),
    /// A packet to be left out, which was passed.
    LeaveOut {
        /// Its index.
        index: u64,
        /// Whether a picture that is counted goes with it.
        picture: bool,
    },
    /// The packet is missing and may still come.
    Wait,
    /// Nothing more arrived.
    Edge,
    /// The packet was overwritten.
    Lost,
}

impl Reading {
    /// Begins at a keyframe.
    pub(crate) fn new(source: Source, rung: Rung, first: u64, now: Instant) -> Self {
        Self {
            source,
            rung,
            next: first,
            behind: Some(now),
            in_order: true,
            gap: None,
            wanted: None,
        }
    }

    /// Returns whether what arrives is to be sent as it comes: everything, and nothing is waiting.
    pub(crate) fn is_direct(&self) -> bool {
        !self.in_order && self.behind.is_none()
    }

    /// Says what is wanted of the stream.
    pub(crate) fn aim(&mut self, aim: &Rung, layer: &Layer, now: Instant) {
        let is_there = self.rung.is_same(*aim);
        self.in_order = !is_there || !layer.takes_all(&self.rung);
        match &mut self.wanted {
            _ if is_there => self.wanted = None,
            Some((wanted, _)) if wanted.is_same(*aim) => {}
            wanted => *wanted = Some((*aim, now)),
        }
    }

    /// Returns whether only a keyframe leads to what is wanted: upper spatial layers are entered there, and
    /// left where the lower ones are not sent in between.
    pub(crate) fn needs_keyframe(&self, aim: &Rung, now: Instant) -> bool {
        let Some((_, since)) = self.wanted else {
            return false;
        };
        let is_overdue = now.saturating_duration_since(since) >= SWITCHING_POINT;
        aim.spatial > self.rung.spatial || aim.spatial < self.rung.spatial && is_overdue
    }

    /// Returns the next step. What is forwarded changes towards `aim` where the stream allows it.
    pub(crate) fn step<'a>(&mut self, layer: &'a Layer, aim: &Rung, now: Instant) -> Step<'a> {
        loop {
            let Some(highest) = layer.highest().filter(|highest| *highest >= self.next) else {
                self.behind = None;
                return Step::Edge;
            };
            let Some(packet) = layer.packet(self.next) else {
                if highest - self.next >= layer.capacity() {
                    return Step::Lost;
                }
                if self.in_order && !self.is_overdue(now) {
                    return Step::Wait;
                }
                self.next += 1;
                continue;
            };
            self.gap = None;
            let frame = &packet.meta.frame;
            if self.in_order && frame.starts && !self.rung.is_same(*aim) {
                self.approach(aim, frame);
            }
            if self.in_order && !frame.needed.meets(self.rung.quality()) {
                let index = self.next;
                self.next += 1;
                let is_counted = packet.meta.picture.is_some_and(|p| p.is_gapless);
                let picture = frame.starts && is_counted;
                return Step::LeaveOut { index, picture };
            }
            return Step::Send(packet);
        }
    }

    /// The packet at the cursor was sent.
    pub(crate) fn pass(&mut self) {
        self.next += 1;
    }

    /// Returns the spatial layer whose end is the end of a picture for the receiver, if it is not the
    /// publisher's.
    pub(crate) fn top_spatial(&self, layer: &Layer) -> u8 {
        match self.rung.is_whole() || layer.takes_all(&self.rung) {
            true => u8::MAX,
            false => self.rung.spatial,
        }
    }

    fn is_overdue(&mut self, now: Instant) -> bool {
        let since = *self.gap.get_or_insert(now);
        now.saturating_duration_since(since) >= HOLD
    }

    /// Changes what is forwarded, if it can change with this frame.
    fn approach(&mut self, aim: &Rung, frame: &Frame) {
        let present = self.rung.quality();
        if !frame.decodable.meets(present) {
            return;
        }
        let is_lower = aim.spatial <= self.rung.spatial && aim.temporal <= self.rung.temporal;
        let fits = match is_lower {
            true => frame.needed.meets(aim.quality()),
            false => false,
        };
        if fits || frame.switch.meets(aim.quality()) {
            self.rung = *aim;
            return;
        }
        // Upper temporal layers may have to be entered one by one.
        let spatial = self.rung.spatial;
        if aim.spatial == spatial && aim.temporal > self.rung.temporal {
            let between = (self.rung.temporal + 1..aim.temporal).rev();
            let mut between = between.map(|temporal| (temporal, Qualities::one(spatial, temporal)));
            if let Some((temporal, _)) = between.find(|(_, one)| frame.switch.meets(*one)) {
                self.rung.temporal = temporal;
            }
        }
    }
}

/// Where a lower spatial layer can be entered without a keyframe, it can be with the next picture or the one
/// behind.
const SWITCHING_POINT: Duration = Duration::from_millis(100);

/// How long a missing packet is waited for by those who are served in order: the wait before the first request
/// and two round trips. Behind a packet that is missing nothing can be decoded.
const HOLD: Duration = Duration::from_millis(200);
