//! The media graph of one room: who publishes, who receives, fan-out.

mod requests;
mod walk;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    Codec, Event, MediaKind, ParticipantId, PeerId, PublicationId, Role, RoomId, Ssrc, TapId,
    TapSource, TapVideo,
    clock::{RemoteClock, ServerClock},
    demand::{Demand, Sight},
    held::{Held, Waiting},
    ingress::Route,
    layer::{Arrival, Layer},
    peers::Peers,
    publication::Publication,
    relay::{Inlet, Outlet},
    slot::{Owner, Shown, View},
    snapshot::Snapshot,
    stage::Stage,
    tap::Tap,
    timers::Scheduled,
    transport::Rtp,
};

pub(crate) use walk::Sinks;
use walk::Walk;

/// A room: exists while it has a peer or a tap.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// In the order of their ids.
    pub(crate) publications: Vec<Publication>,
    /// Whether something is to be forwarded or asked for.
    pub(crate) touched: bool,
    /// What arrived and was not forwarded yet.
    pub(crate) held: Held,
    /// Who else has viewers of it.
    pub(crate) outlet: Outlet,
    /// Where its publications come from, if not from publishers here.
    pub(crate) inlet: Option<Inlet>,
    /// Its timer.
    pub(crate) scheduled: Scheduled,
    publishers: Vec<PeerId>,
    viewers: Vec<PeerId>,
    taps: Vec<Tap>,
    /// Who is shown and heard.
    pub(crate) stage: Stage,
    demand: Demand,
    walk: Walk,
}

/// A publisher's packet, and where it belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard<'a> {
    /// The layer.
    pub(crate) route: Route,
    /// Whether the layer had another stream before.
    pub(crate) restart: bool,
    /// Whether its payload repeats audio (RED, RFC 2198).
    pub(crate) red: bool,
    /// The packet.
    pub(crate) packet: &'a Rtp<'a>,
}

/// A publication whose first packet has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    /// The publication.
    pub(crate) publication: PublicationId,
    /// Its codec.
    pub(crate) codec: Codec,
}

impl Room {
    /// Takes in a peer.
    pub(crate) fn join(&mut self, peer: PeerId, role: Role) {
        match role {
            Role::Publisher => self.publishers.push(peer),
            Role::Viewer => self.viewers.push(peer),
        }
    }

    /// Lets a peer go. Returns its publications that had been published.
    pub(crate) fn leave(&mut self, peer: PeerId) -> Vec<(PublicationId, MediaKind)> {
        self.publishers.retain(|id| *id != peer);
        let mut viewers = self.viewers.iter();
        if let Some(place) = viewers.position(|id| *id == peer) {
            self.viewers.remove(place);
            self.walk.left(place);
        }
        let (gone, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut self.publications)
            .into_iter()
            .partition(|publication| publication.peer == peer);
        self.publications = stay;
        for publication in &gone {
            self.stage.exit(publication.id);
            self.demand.forget(publication.id);
        }
        gone.iter()
            .filter(|publication| publication.published)
            .map(|publication| (publication.id, publication.kind()))
            .collect()
    }

    /// Takes in a publication of one of its publishers.
    pub(crate) fn publish(&mut self, publication: Publication, by: ParticipantId) {
        let same = |p: &&Publication| p.peer == publication.peer && p.kind() == publication.kind();
        let owner = Owner {
            participant: by,
            position: self.publications.iter().filter(same).count(),
        };
        self.stage.enter(&publication, owner);
        self.publications.push(publication);
    }

    /// Adds a tap.
    pub(crate) fn add_tap(&mut self, tap: TapId, source: TapSource) {
        self.taps.push(Tap::new(tap, source));
    }

    /// Removes a tap.
    pub(crate) fn remove_tap(&mut self, tap: TapId) {
        self.taps.retain(|t| t.id != tap);
    }

    /// Returns the event that tells what is shown.
    pub(crate) fn stage_event(&self, room: RoomId) -> Event {
        let (video, audio, program) = self.stage.layout();
        Event::Stage {
            room,
            video,
            audio,
            program,
        }
    }

    /// Returns whether nobody is left.
    pub(crate) fn is_empty(&self) -> bool {
        !self.has_peers() && self.taps.is_empty() && self.outlet.is_empty()
    }

    /// Returns whether it has a peer.
    pub(crate) fn has_peers(&self) -> bool {
        !self.publishers.is_empty() || !self.viewers.is_empty()
    }

    /// Returns whether it is one of the rooms of this SFU; one that is followed counts at its home.
    pub(crate) fn counts(&self) -> bool {
        self.inlet.is_none() && (self.has_peers() || !self.outlet.is_empty())
    }

    /// Returns a layer.
    pub(crate) fn layer_mut(
        &mut self,
        publication: PublicationId,
        layer: usize,
    ) -> Option<&mut Layer> {
        let mut publications = self.publications.iter_mut();
        let publication = publications.find(|p| p.id == publication)?;
        publication.layers.get_mut(layer)
    }

    /// Returns the layer that a stream carries.
    pub(crate) fn find_layer(&mut self, route: Route) -> Option<&mut Layer> {
        self.layer_mut(route.publication, route.layer)
    }

    /// Returns the publishing peers, oldest first.
    pub(crate) fn publishers(&self) -> &[PeerId] {
        &self.publishers
    }

    /// Returns the viewing peers, in the order in which they are served.
    pub(crate) fn viewers(&self) -> &[PeerId] {
        &self.viewers
    }

    /// Returns whether media is arriving; a peer that is silent though it lives is not live.
    pub(crate) fn is_live(&self, now: Instant) -> bool {
        let mut published = self.publications.iter().filter(|p| p.published);
        published.any(|p| !p.stopped && self.stage.is_flowing(p.id, now))
    }

    /// Takes a publisher's packet. Returns the publication if it is its first.
    pub(crate) fn receive(
        &mut self,
        heard: &Heard<'_>,
        remote: &mut RemoteClock,
        server: ServerClock,
        now: Instant,
    ) -> Result<Option<Published>, &'static str> {
        let Heard { route, packet, .. } = *heard;
        let mut publications = self.publications.iter_mut();
        let publication = publications
            .find(|p| p.id == route.publication)
            .ok_or("unknown_source")?;
        let layer = publication
            .layers
            .get_mut(route.layer)
            .ok_or("unknown_source")?;
        let mut arrival = Arrival {
            seq: packet.seq,
            timestamp: packet.timestamp,
            marker: packet.marker,
            payload: packet.payload,
            retransmitted: route.repair,
            red: heard.red,
            carried: packet.carried,
        };
        if route.repair {
            // RFC 4588 §4: the original sequence number comes first. Without it the packet is padding.
            let Some((original, payload)) = packet.payload.split_first_chunk() else {
                return Ok(None);
            };
            arrival.seq = u16::from_be_bytes(*original);
            arrival.payload = payload;
        } else if heard.restart {
            layer.restart();
        }
        let highest = layer.highest();
        let forward = layer
            .receive(&arrival, server, remote, now)
            .map_err(|refused| refused.reason())?;
        if !route.repair {
            layer.ssrc = Some(packet.ssrc);
        }
        if !forward {
            return Ok(None);
        }
        layer.stopped = false;
        let is_late = layer.highest() == highest;
        // Who follows the room may have viewers of any part of it.
        let ends = packet.marker || layer.ends_part(!self.outlet.is_empty());
        let waiting = Waiting {
            route,
            kind: publication.kind(),
            timestamp: packet.timestamp,
            ends,
            is_late,
        };
        self.held.arrived(&waiting, now);
        publication.stopped = false;
        let first = !publication.published;
        publication.published = true;
        if !route.repair {
            let level = packet.carried.audio_level;
            self.stage.hear(publication, level, now);
        }
        Ok(first.then_some(Published {
            publication: publication.id,
            codec: publication.codec,
        }))
    }

    /// Returns what viewers see and hear.
    pub(crate) fn shown(&self) -> Shown<'_> {
        self.stage.show(&self.publications)
    }

    /// Tells of the publications of which other sizes are wanted than before.
    pub(crate) fn look_at_demand(
        &mut self,
        peers: &Peers,
        now: Instant,
        mut tell: impl FnMut(Event),
    ) {
        if !self.demand.is_due(now) {
            return;
        }
        let viewers = self.viewers.iter().filter_map(|id| peers.get(*id));
        let receivers = viewers.filter(|p| p.transport.is_connected()).count();
        let tapped = self.taps.iter().filter(|tap| tap.has_video()).count();
        let receivers = receivers + tapped + self.outlet.followers();
        for publication in self.publications.iter().filter(|p| p.sizes() > 1) {
            let is_svc = publication.is_svc();
            let lowest = publication.ladder().first();
            let mut sight = Sight {
                // A stream with layers begins anew when one is added: not for every newcomer.
                receivers: if is_svc { receivers.min(1) } else { receivers },
                lowest: lowest.map_or(0, |rung| usize::from(rung.layer)),
                ..Sight::default()
            };
            if let Some((size, _)) = publication.withheld {
                sight.withheld = 1 << size;
            }
            let top = publication.top();
            let paused = publication.paused();
            let viewers = self.viewers.iter().filter_map(|id| peers.get(*id));
            for viewer in viewers {
                for subscription in &viewer.subscriptions {
                    let aim = subscription.aims_at(publication);
                    sight.aimed |= aim.map_or(0, |aim| publication.sizes_of(aim));
                    let is_content = aim.zip(top).is_some_and(|(aim, top)| {
                        aim.has_size_of(top) && viewer.allotment.wants_more_than(top)
                    });
                    // Where nobody knows what more would take, no probe can tell whether it would be carried.
                    sight.content |= is_content && (paused.is_none() || !viewer.flow.is_probed());
                    if let Some((size, bitrate)) = paused
                        && is_content
                        && viewer.allotment.carries(bitrate, top, &viewer.flow)
                    {
                        sight.carried |= 1 << size;
                    }
                }
            }
            for tap in &self.taps {
                let aimed = tap.aims_at(publication, &self.stage, now);
                // A stream is yielded with all of its own layers.
                sight.aimed |= if is_svc && aimed > 0 { u8::MAX } else { aimed };
            }
            if self.inlet.is_none() {
                // A stream with layers does not begin anew for who has not said what of it they want.
                let sent = top.filter(|_| is_svc).map(|top| publication.sizes_of(top));
                let otherwise = sent.unwrap_or(u8::MAX);
                sight.aimed |= self.outlet.wanted(publication.id, otherwise);
            }
            let sizes = publication.sizes();
            if let Some(wanted) = self.demand.look(publication.id, sizes, sight, now) {
                tell(Event::LayersWanted {
                    peer: publication.peer,
                    publication: publication.id,
                    wanted,
                });
            }
        }
    }

    /// Changes how much of the video a tap yields.
    pub(crate) fn set_tap_video(&mut self, tap: TapId, video: TapVideo) {
        if let Some(tap) = self.taps.iter_mut().find(|t| t.id == tap) {
            tap.set_video(video);
        }
    }

    /// Changes which layer a tap yields of each of its lanes.
    pub(crate) fn set_tap_layers(&mut self, tap: TapId, layers: BTreeMap<u32, usize>) {
        if let Some(tap) = self.taps.iter_mut().find(|t| t.id == tap) {
            tap.set_layers(layers);
        }
    }

    /// Returns the newest keyframe of the program, and whether a newer one was asked for because none came within
    /// `fresh`.
    pub(crate) fn snapshot(
        &mut self,
        fresh: Option<Duration>,
        now: Instant,
    ) -> (Option<Snapshot>, bool) {
        let view = View::Program(MediaKind::Video);
        let shown = self.stage.get(view);
        let mut publications = self.publications.iter();
        let publication = publications.find(|p| Some(p.id) == shown);
        let Some(publication) = publication.filter(|p| self.stage.is_flowing(p.id, now)) else {
            return (None, false);
        };
        let (id, codec) = (publication.id, publication.codec);
        let rungs = publication.ladder().iter().rev();
        let mut layers = rungs.filter_map(|r| publication.layers.get(usize::from(r.layer)));
        let snapshot = layers.find_map(|layer| Snapshot::of(layer, codec));
        let wanted = fresh.is_some_and(|fresh| {
            let is_fresh = |snapshot: &Snapshot| !snapshot.is_older(fresh, now);
            !snapshot.as_ref().is_some_and(is_fresh)
        });
        if wanted {
            self.request_keyframe(id);
        }
        (snapshot, wanted)
    }

    /// A publisher said that it stopped sending a stream.
    pub(crate) fn stop(&mut self, route: Route, ssrc: Ssrc) {
        let mut publications = self.publications.iter_mut();
        if let Some(publication) = publications.find(|p| p.id == route.publication)
            && let Some(layer) = publication.layers.get_mut(route.layer)
            && layer.ssrc == Some(ssrc)
        {
            layer.stopped = true;
            let mut sent = publication.layers.iter().filter(|l| l.ssrc.is_some());
            publication.stopped = sent.all(|layer| layer.stopped);
            if publication.stopped {
                self.stage.stop(publication.id);
            }
        }
    }

    /// Returns when [`Room::walk`] and [`Room::ask`] want to be called.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let layers = self.publications.iter().flat_map(|p| &p.layers);
        let layers = layers
            .filter(|layer| layer.ssrc.is_some())
            .flat_map(|layer| [layer.poll_timeout(), layer.keyframes.poll_timeout(now)]);
        let taps = self.taps.iter().map(Tap::poll_timeout);
        let room = self.walk.poll_timeout(now);
        layers.chain(taps).flatten().chain(room).min()
    }
}
