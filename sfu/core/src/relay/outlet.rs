//! The home's end: who follows the room, and what they were told.

use std::{sync::Arc, time::Instant};

use super::{Announced, ClockReport, Outbound, RelayBatch, RelayMessage, Relayed};
use crate::{
    PublicationId, RoomId, ShardId,
    history::Packet,
    publication::Publication,
    sequence::low16,
    slot::Owner,
    stage::{Scene, Stage},
    subscription::INSTANT_START,
};

/// What a room tells the SFUs that follow it.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    /// At most one a shard.
    followers: Vec<Follower>,
    announced: Vec<Announced>,
    scene: Option<Scene>,
    reports: Vec<ClockReport>,
    /// The layers that followers want, a bit each, once they have said.
    wanted: Vec<(ShardId, PublicationId, u8)>,
}

#[derive(Clone, Copy, Debug)]
struct Follower {
    shard: ShardId,
    /// Whether it knows nothing yet, or missed something.
    is_new: bool,
}

impl Outlet {
    /// Tells somebody everything from now on, and first what is needed to begin.
    pub(crate) fn add(&mut self, shard: ShardId) {
        self.remove(shard);
        self.followers.push(Follower {
            shard,
            is_new: true,
        });
    }

    /// Somebody does not follow any more.
    pub(crate) fn remove(&mut self, shard: ShardId) {
        self.followers.retain(|follower| follower.shard != shard);
        self.wanted.retain(|(follower, ..)| *follower != shard);
    }

    /// Somebody missed something: it begins anew. Returns whether it follows.
    pub(crate) fn lost(&mut self, shard: ShardId) -> bool {
        let mut followers = self.followers.iter_mut();
        let follower = followers.find(|follower| follower.shard == shard);
        follower.map(|follower| follower.is_new = true).is_some()
    }

    /// A follower wants these layers of a publication and no others.
    pub(crate) fn want(&mut self, shard: ShardId, publication: PublicationId, layers: &[bool]) {
        let announced = &self.announced;
        self.wanted.retain(|(follower, id, _)| {
            let is_old = (*follower, *id) == (shard, publication);
            !is_old && announced.iter().any(|a| a.id == *id)
        });
        if self.followers.iter().any(|f| f.shard == shard) {
            let bits = (0..8).zip(layers).filter(|(_, wanted)| **wanted);
            let bits = bits.fold(0, |bits, (position, _)| bits | 1 << position);
            self.wanted.push((shard, publication, bits));
        }
    }

    /// Returns the layers of a publication that followers want, a bit each; `otherwise` of one that has not said.
    pub(crate) fn wanted(&self, publication: PublicationId, otherwise: u8) -> u8 {
        let wanted = |follower: &Follower| {
            let mut all = self.wanted.iter();
            let known = all.find(|(s, id, _)| (*s, *id) == (follower.shard, publication));
            known.map_or(otherwise, |(_, _, bits)| *bits)
        };
        self.followers.iter().fold(0, |bits, f| bits | wanted(f))
    }

    /// Returns how many follow.
    pub(crate) fn followers(&self) -> usize {
        self.followers.len()
    }

    /// Returns whether nobody follows.
    pub(crate) fn is_empty(&self) -> bool {
        self.followers.is_empty()
    }

    /// Tells what happened since the last call.
    pub(crate) fn tell(
        &mut self,
        room: RoomId,
        publications: &[Publication],
        stage: &Stage,
        out: &mut Outbound,
        now: Instant,
    ) {
        if self.followers.is_empty() {
            return;
        }
        let announced = publications
            .iter()
            .filter_map(|p| Some(Announced::of(p, stage.owner_of(p.id)?)));
        let changed = !announced.clone().eq(self.announced.iter().copied());
        if changed {
            self.announced = announced.collect();
        }
        let scene = stage.differs(self.scene.as_ref());
        if scene.is_some() {
            self.scene.clone_from(&scene);
        }
        if self.followers.iter().any(|follower| follower.is_new) {
            let batch = self.beginning(room, publications, now);
            self.send(batch, true, out);
        }
        if self.followers.iter().any(|follower| !follower.is_new) {
            let mut batch = self.continuation(room, publications, changed);
            batch.scene = scene;
            if !batch.is_empty() {
                self.send(batch, false, out);
            }
        }
        for follower in &mut self.followers {
            follower.is_new = false;
        }
        self.reports = reports(publications).collect();
    }

    /// Makes a batch for who knows nothing: all publications, and each layer from its newest keyframe.
    fn beginning(&self, room: RoomId, publications: &[Publication], now: Instant) -> RelayBatch {
        let mut batch = RelayBatch::new(room);
        batch.is_beginning = true;
        batch.publications = Some(self.announced.clone());
        batch.scene.clone_from(&self.scene);
        batch.reports = reports(publications).collect();
        for publication in publications {
            for (position, layer) in publication.layers.iter().enumerate() {
                let start = layer.starting_point(INSTANT_START, now);
                let Some(start) = start else { continue };
                for index in start..=layer.highest().unwrap_or(start) {
                    batch.add(publication, position, layer.epoch, layer.packet(index));
                }
            }
        }
        batch
    }

    /// Makes a batch for who knows everything up to the last one.
    fn continuation(
        &self,
        room: RoomId,
        publications: &[Publication],
        changed: bool,
    ) -> RelayBatch {
        let mut batch = RelayBatch::new(room);
        batch.publications = changed.then(|| self.announced.clone());
        batch.reports = reports(publications)
            .filter(|report| !self.reports.contains(report))
            .collect();
        for publication in publications {
            for (position, layer) in publication.layers.iter().enumerate() {
                for index in layer.arrived() {
                    batch.add(publication, position, layer.epoch, layer.packet(*index));
                }
            }
        }
        batch
    }

    fn send(&self, batch: RelayBatch, to_new: bool, out: &mut Outbound) {
        let batch = Arc::new(batch);
        let followers = self.followers.iter().filter(|f| f.is_new == to_new);
        out.extend(followers.map(|f| (f.shard, RelayMessage::News(Arc::clone(&batch)))));
    }
}

impl Announced {
    fn of(publication: &Publication, owner: Owner) -> Self {
        Self {
            id: publication.id,
            peer: publication.peer,
            owner,
            codec: publication.codec,
            layers: publication.layers.len(),
            published: publication.published,
            stopped: publication.stopped,
            withheld: publication.paused().filter(|_| publication.is_svc()),
        }
    }
}

impl RelayBatch {
    fn add(
        &mut self,
        publication: &Publication,
        layer: usize,
        epoch: u32,
        packet: Option<Packet<'_>>,
    ) {
        let Some(packet) = packet else { return };
        self.packets.push(Relayed {
            publication: publication.id,
            layer,
            epoch,
            // Indices leave no gaps for padding, and any 16 bits of them do.
            seq: low16(packet.index),
            timestamp: packet.meta.timestamp,
            marker: packet.meta.marker,
            is_red: packet.meta.is_red,
            extensions: packet.meta.extensions,
            payload: packet.payload.len(),
            descriptor: packet.descriptor.len(),
        });
        self.bytes.extend_from_slice(packet.payload);
        self.bytes.extend_from_slice(packet.descriptor);
    }
}

fn reports(publications: &[Publication]) -> impl Iterator<Item = ClockReport> {
    publications.iter().flat_map(|publication| {
        let layers = publication.layers.iter().enumerate();
        layers.filter_map(|(layer, state)| {
            let (ntp_micros, timestamp) = state.clock.report()?;
            Some(ClockReport {
                publication: publication.id,
                layer,
                ntp_micros,
                timestamp,
            })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Codec, PeerId, slot};

    #[test]
    fn a_layer_is_wanted_while_any_follower_may_want_it() {
        let mut outlet = Outlet::default();
        let [id, gone] = [1, 2].map(PublicationId);
        assert_eq!(outlet.wanted(id, 0xff), 0, "nobody follows");
        outlet.announced.push(Announced {
            id,
            peer: PeerId(1),
            owner: slot::Owner {
                participant: crate::ParticipantId(1),
                position: 0,
            },
            codec: Codec::H264,
            layers: 3,
            published: true,
            stopped: false,
            withheld: None,
        });
        let [a, b] = [1, 2].map(ShardId);
        outlet.add(a);
        assert_eq!(outlet.wanted(id, 0xff), 0xff, "it has not said");
        assert_eq!(outlet.wanted(id, 0b001), 0b001, "it is taken to want this");
        outlet.want(a, id, &[true, false, false]);
        assert_eq!(outlet.wanted(id, 0xff), 0b001);
        outlet.want(a, gone, &[true, true, true]);
        outlet.want(a, id, &[true, true, false]);
        assert_eq!((outlet.wanted(id, 0xff), outlet.wanted.len()), (0b011, 1));
        outlet.add(b);
        assert_eq!(outlet.wanted(id, 0xff), 0xff);
        outlet.want(b, id, &[true, false, false]);
        assert_eq!(outlet.wanted(id, 0xff), 0b011);
        outlet.remove(a);
        assert_eq!(outlet.wanted(id, 0xff), 0b001);
        outlet.want(a, id, &[true, true, true]);
        assert_eq!(outlet.wanted(id, 0xff), 0b001, "who left wants nothing");
    }
}
