//! What is forwarded, when, and to whom.

use std::time::{Duration, Instant};

use super::{Sfu, TICK};
use crate::{Event, Outgoing, RelayMessage, RoomId, room::Sinks, timers::Owner};

impl Sfu {
    /// Forwards what arrived since the last call and returns everything to be sent; clear it afterwards.
    pub fn flush(&mut self, now: Instant) -> &mut Outgoing {
        self.flush_held(Duration::ZERO, now)
    }

    /// Like [`Sfu::flush`], but lets the beginnings of video frames and audio wait for what follows them, for
    /// `hold` at most, so that each viewer gets several packets at once. A complete frame never waits.
    pub fn flush_held(&mut self, hold: Duration, now: Instant) -> &mut Outgoing {
        self.held_until = None;
        let mut touched = std::mem::take(&mut self.touched);
        touched.retain(|id| {
            let Some(room) = self.rooms.get_mut(id) else {
                return false;
            };
            let id = *id;
            if let Some(until) = room.held.until(hold).filter(|until| now < *until) {
                let earliest = self.held_until.map_or(until, |at| at.min(until));
                self.held_until = Some(earliest);
                return true;
            }
            room.held.clear();
            room.touched = false;
            if room.stage.arrange(now) {
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
            let mut sinks = Sinks {
                out: &mut self.out,
                taps: &mut self.tap_queue,
                totals: &mut self.totals,
                began: &mut self.began,
                relayed: &mut self.outbound,
                paced: &mut self.paced,
            };
            room.forward(id, &mut self.peers, &mut sinks, now);
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
            false
        });
        self.touched = touched;
        if self.touched.is_empty() {
            self.waiting = 0;
        }
        self.greet_with_reports(now);
        let mut paced = std::mem::take(&mut self.paced);
        paced.drain(..).for_each(|id| self.reschedule(id, now));
        self.paced = paced;
        &mut self.out
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

    /// Makes the next flush look at a room.
    pub(super) fn touch(&mut self, id: RoomId) {
        self.note(id);
        if let Some(room) = self.rooms.get_mut(&id) {
            room.held.hurry();
        }
    }

    /// Like [`Sfu::touch`], but what arrived may wait.
    pub(super) fn note(&mut self, id: RoomId) {
        if let Some(room) = self.rooms.get_mut(&id)
            && !room.touched
        {
            room.touched = true;
            self.touched.push(id);
        }
    }
}
