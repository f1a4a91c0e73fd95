//! [`Walk`]: who of a room is served by a flush.

use std::time::{Duration, Instant};

use super::Room;
use crate::{
    MediaKind, Outgoing, PeerId, RoomId, layer::Layer, peer::Warmth, peers::Peers, relay::Outbound,
    stats::Totals, tap::Queue,
};

/// Who is served by a flush, and who was already.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Whether it is about what arrived or changed: everybody is served. Else those who wait are.
    for_all: bool,
    /// How many were served.
    served: usize,
    /// Who could not be sent everything the last time because of their path.
    waiting: Vec<PeerId>,
    /// Who is served if not everybody.
    late: Vec<PeerId>,
}

/// Where [`Room::walk`] puts what it makes.
#[derive(Debug)]
pub(crate) struct Sinks<'a> {
    /// Datagrams.
    pub(crate) out: &'a mut Outgoing,
    /// Packets for taps.
    pub(crate) taps: &'a mut Queue,
    /// Counters.
    pub(crate) totals: &'a mut Totals,
    /// Viewers to whom something new is sent, and who need a sender report.
    pub(crate) began: &'a mut Vec<PeerId>,
    /// Messages for others who have viewers of the room.
    pub(crate) relayed: &'a mut Outbound,
    /// Viewers with a probe on its way or packets that wait for room: their timers change.
    pub(crate) paced: &'a mut Vec<PeerId>,
}

impl Walk {
    /// A viewer has left whose place in the room was this.
    pub(super) fn left(&mut self, place: usize) {
        if self.for_all && place < self.served {
            self.served -= 1;
        }
    }

    /// Returns when those who wait are to be served.
    pub(super) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        (!self.waiting.is_empty()).then(|| now + CATCH_UP)
    }
}

impl Room {
    /// Something arrived or changed: the next walk serves everybody.
    pub(crate) fn concern_all(&mut self) {
        self.walk.for_all = true;
    }

    /// Begins to forward what arrived since the last walk. Taps and other SFUs are served at once, so that these
    /// can begin as well.
    pub(crate) fn begin_walk(&mut self, id: RoomId, sinks: &mut Sinks<'_>, now: Instant) {
        self.walk.served = 0;
        self.walk.late.clear();
        if !self.walk.for_all {
            std::mem::swap(&mut self.walk.late, &mut self.walk.waiting);
        }
        self.walk.waiting.clear();
        for publication in &mut self.publications {
            publication.refresh(now);
            if self.walk.for_all {
                publication.layers.iter().for_each(Layer::forget_readers);
            }
        }
        self.outlet
            .tell(id, &self.publications, &self.stage, sinks.relayed, now);
        let shown = self.stage.show(&self.publications);
        for tap in &mut self.taps {
            let dropped = tap.walk(&self.stage, &shown, sinks.taps, now);
            sinks.totals.drop_many("tap_queue_full", dropped);
        }
    }

    /// Sends viewers what arrived, until there are `full` datagrams. Returns whether all were served.
    pub(crate) fn walk(
        &mut self,
        peers: &mut Peers,
        sinks: &mut Sinks<'_>,
        full: usize,
        now: Instant,
    ) -> bool {
        let shown = self.stage.show(&self.publications);
        let kinds = [MediaKind::Audio, MediaKind::Video].map(|kind| {
            let mut active = self.publications.iter().filter(|p| !p.is_quiet);
            active.any(|p| p.kind() == kind).then_some(kind)
        });
        let kinds = match kinds {
            [Some(_), Some(_)] => &[MediaKind::Audio, MediaKind::Video][..],
            [Some(_), None] => &[MediaKind::Audio],
            [None, Some(_)] => &[MediaKind::Video],
            [None, None] => &[],
        };
        let walk = &mut self.walk;
        let viewers = match walk.for_all {
            true => &self.viewers,
            false => &walk.late,
        };
        while let Some(id) = viewers.get(walk.served) {
            if sinks.out.len() >= full {
                return false;
            }
            for (ahead, warmth) in (1..).zip([Warmth::Lists, Warmth::Parts, Warmth::Own]) {
                let next = viewers.get(walk.served + ahead);
                if let Some(next) = next.and_then(|id| peers.get(*id)) {
                    next.warm(warmth, kinds);
                }
            }
            walk.served += 1;
            let Some(peer) = peers.get_mut(*id) else {
                continue;
            };
            let sent = peer.forward(&shown, sinks.out, now);
            sinks.totals.sent(&sent);
            if sent.waiting_for_room {
                walk.waiting.push(*id);
            }
            if sent.began {
                sinks.began.push(*id);
            }
            if peer.flow.poll_timeout().is_some() {
                sinks.paced.push(*id);
            }
        }
        true
    }

    /// Everybody was served. Who was last is first the next time, so that nobody always waits for all others; to
    /// each of them packets come a little later every time, which no receiver takes for jitter.
    pub(crate) fn end_walk(&mut self) {
        if std::mem::take(&mut self.walk.for_all) && !self.viewers.is_empty() {
            self.viewers.rotate_right(1);
        }
        let layers = self.publications.iter_mut().flat_map(|p| &mut p.layers);
        layers.for_each(|layer| layer.forwarded());
    }
}

/// How often viewers are looked after who could not be sent everything because of their path.
const CATCH_UP: Duration = Duration::from_millis(5);
