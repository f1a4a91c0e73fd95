//! What is forwarded, when, and to whom.

use std::time::{Duration, Instant};

use super::{Sfu, TICK};
use crate::{Event, Outgoing, RelayMessage, RoomId, room::Sinks, timers::Owner};

impl Sfu {
    /// Forwards what arrived since the last call and returns everything to be sent; clear it afterwards.
    pub fn flush(&mut self, now: Instant) -> &mut Outgoing {
        while self.flush_part(Duration::ZERO, now) {}
        &mut self.out
    }

    /// Returns everything that is to be sent; clear it afterwards.
    pub fn outgoing(&mut self) -> &mut Outgoing {
        &mut self.out
    }

    /// Like [`Sfu::flush`], but lets the beginnings of video frames and audio wait for what follows them, for
    /// `hold` at most, so that each viewer gets several packets at once. The end of a picture ends the wait, and so
    /// does the end of a spatial layer that some viewer gets as the last.
    ///
    /// Returns when a part of the viewers was served, so that it is sent while it is in the processor's caches,
    /// and whether there is more: send [`Sfu::outgoing`] and call again then, before anything else is handled.
    pub fn flush_part(&mut self, hold: Duration, now: Instant) -> bool {
        if self.due.is_empty() {
            self.find_due(hold, now);
        }
        let full = self.out.len() + PART;
        while let Some(id) = self.due.front().copied() {
            if !self.walk(id, full, now) {
                return true;
            }
            self.due.pop_front();
            if self.out.len() >= full {
                return true;
            }
        }
        if self.touched.is_empty() {
            self.waiting = 0;
        }
        self.greet_with_reports(now);
        let mut paced = std::mem::take(&mut self.paced);
        paced.drain(..).for_each(|id| self.reschedule(id, now));
        self.paced = paced;
        false
    }

    /// Notes of which rooms nothing is to wait any more.
    fn find_due(&mut self, hold: Duration, now: Instant) {
        self.held_until = None;
        let mut touched = std::mem::take(&mut self.touched);
        touched.retain(|id| {
            let Some(room) = self.rooms.get(id) else {
                return false;
            };
            let until = room.held.until(hold).filter(|until| now < *until);
            let Some(until) = until else {
                self.due.push_back(*id);
                return false;
            };
            let earliest = self.held_until.map_or(until, |at| at.min(until));
            self.held_until = Some(earliest);
            true
        });
        self.touched = touched;
    }

    /// Serves viewers of a room until there are `full` datagrams. Returns whether all were served.
    fn walk(&mut self, id: RoomId, full: usize, now: Instant) -> bool {
        let Some(room) = self.rooms.get_mut(&id) else {
            return true;
        };
        let mut sinks = Sinks {
            out: &mut self.out,
            taps: &mut self.tap_queue,
            totals: &mut self.totals,
            began: &mut self.began,
            relayed: &mut self.outbound,
            paced: &mut self.paced,
        };
        if room.touched {
            room.touched = false;
            room.held.clear();
            if room.stage.arrange(now) {
                room.concern_all();
                for viewer in room.viewers() {
                    if let Some(viewer) = self.peers.get_mut(*viewer) {
                        viewer.open_slots(&room.stage, &mut self.rng, now);
                    }
                }
                // Its home tells.
                if room.inlet.is_none() {
                    self.events.push_back(room.stage_event(id));
                }
            }
            room.begin_walk(id, &mut sinks, now);
        }
        if !room.walk(&mut self.peers, &mut sinks, full, now) {
            return false;
        }
        room.end_walk();
        let home = room.inlet.as_ref().map(|inlet| inlet.home);
        let events = &mut self.events;
        room.look_at_demand(&self.peers, now, |event| match (home, event) {
            (
                Some(home),
                Event::LayersWanted {
                    publication,
                    wanted,
                    ..
                },
            ) => {
                let wanted = RelayMessage::LayersWanted {
                    room: id,
                    publication,
                    wanted,
                };
                sinks.relayed.push_back((home, wanted));
            }
            (_, event) => events.push_back(event),
        });
        room.ask(id, &mut self.peers, &mut sinks, now);
        let at = room.poll_timeout(now).map(|at| at.max(now + TICK));
        self.timers
            .schedule(Owner::Room(id), &mut room.scheduled, at);
        true
    }

    /// Returns how many packets wait to be forwarded, at most.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Sends sender reports to viewers who have just begun to receive something, so that they can play
    /// audio and video in step from the start.
    fn greet_with_reports(&mut self, now: Instant) {
        let mut began = std::mem::take(&mut self.began);
        for id in began.drain(..) {
            if let Some(peer) = self.peers.get_mut(id)
                && let Some(room) = self.rooms.get(&peer.join.room)
            {
                peer.send_sender_reports(&room.publications, self.clock, &mut self.out, now);
            }
            self.reschedule(id, now);
        }
        self.began = began;
    }

    /// Makes the next flush serve everybody of a room.
    pub(super) fn touch(&mut self, id: RoomId) {
        self.note(id);
        self.revisit(id);
    }

    /// Makes the next flush look at a room, and serve who waits there.
    pub(super) fn revisit(&mut self, id: RoomId) {
        self.list(id);
        if let Some(room) = self.rooms.get_mut(&id) {
            room.held.hurry();
        }
    }

    /// Like [`Sfu::touch`], but what arrived may wait.
    pub(super) fn note(&mut self, id: RoomId) {
        self.list(id);
        if let Some(room) = self.rooms.get_mut(&id) {
            room.concern_all();
        }
    }

    fn list(&mut self, id: RoomId) {
        if let Some(room) = self.rooms.get_mut(&id)
            && !room.touched
        {
            room.touched = true;
            self.touched.push(id);
        }
    }
}

/// About as many datagrams are made before they are sent. Together with what is needed to make and to send them
/// they fit into a processor's own cache, and the first ones need not wait for the last ones.
const PART: usize = 96;
