//! The follower's end: publications whose publishers are elsewhere.

use std::time::Instant;

use super::{Announced, RelayBatch, Relayed};
use crate::{
    PeerId, PublicationId, ShardId, Ssrc,
    clock::{RemoteClock, ServerClock},
    held::{Held, Waiting},
    ingress::Route,
    layer::Arrival,
    publication::Publication,
    stage::Stage,
};

/// Where a room's publications come from.
#[derive(Debug)]
pub(crate) struct Inlet {
    /// The SFU with the room's publishers.
    pub(crate) home: ShardId,
    /// One a publisher: what belongs to it is to stay in step.
    clocks: Vec<(PeerId, RemoteClock)>,
    streams: Vec<Stream>,
}

/// How far a layer of a publication has come.
#[derive(Clone, Copy, Debug)]
struct Stream {
    publication: PublicationId,
    layer: usize,
    /// Its epoch at home.
    epoch: u32,
    /// The number behind the highest.
    next: u16,
    /// Whether something may be missing that never comes.
    is_doubtful: bool,
}

/// What a room has of what happens at its home.
#[derive(Debug)]
pub(crate) struct Here<'a> {
    /// Its publications.
    pub(crate) publications: &'a mut Vec<Publication>,
    /// What is shown.
    pub(crate) stage: &'a mut Stage,
    /// What waits to be forwarded.
    pub(crate) held: &'a mut Held,
    /// How many packets a layer keeps.
    pub(crate) history_packets: usize,
}

impl Inlet {
    /// Creates an inlet through which nothing came yet.
    pub(crate) fn new(home: ShardId) -> Self {
        Self {
            home,
            clocks: Vec::new(),
            streams: Vec::new(),
        }
    }

    /// Takes in what happened at home.
    pub(crate) fn take(
        &mut self,
        batch: &RelayBatch,
        here: Here<'_>,
        server: ServerClock,
        now: Instant,
    ) {
        let Here {
            publications,
            stage,
            held,
            history_packets,
        } = here;
        if let Some(announced) = &batch.publications {
            self.resemble(announced, publications, stage, history_packets);
        }
        if let Some(scene) = &batch.scene {
            stage.follow(scene);
        }
        for report in &batch.reports {
            let mut all = publications.iter_mut();
            if let Some(publication) = all.find(|p| p.id == report.publication)
                && let Some(layer) = publication.layers.get_mut(report.layer)
            {
                let remote = clock_of(&mut self.clocks, publication.peer);
                layer
                    .clock
                    .handle_report(report.ntp_micros, report.timestamp, remote);
            }
        }
        if batch.is_beginning {
            self.streams.iter_mut().for_each(|s| s.is_doubtful = true);
        }
        for (packet, payload, carried) in batch.iter() {
            let mut all = publications.iter_mut();
            let Some(publication) = all.find(|p| p.id == packet.publication) else {
                continue;
            };
            let kind = publication.kind();
            let Some(layer) = publication.layers.get_mut(packet.layer) else {
                continue;
            };
            if self.begins_anew(packet) {
                layer.restart();
            }
            // Its reports are made at home; here it only says that there is a stream.
            layer.ssrc = Some(Ssrc(1));
            let arrival = Arrival {
                seq: packet.seq,
                timestamp: packet.timestamp,
                marker: packet.marker,
                payload,
                retransmitted: false,
                red: packet.is_red,
                carried,
            };
            let remote = clock_of(&mut self.clocks, publication.peer);
            let highest = layer.highest();
            // What came already is refused: a follower that begins anew gets some of it twice.
            if layer.receive(&arrival, server, remote, now) == Ok(true) {
                let route = Route {
                    publication: packet.publication,
                    layer: packet.layer,
                    repair: false,
                };
                let waiting = Waiting {
                    route,
                    kind,
                    timestamp: packet.timestamp,
                    ends: packet.marker || layer.ends_part(false),
                    is_late: layer.highest() == highest,
                };
                held.arrived(&waiting, now);
            }
        }
    }

    /// Makes the publications the same as at home.
    fn resemble(
        &mut self,
        announced: &[Announced],
        publications: &mut Vec<Publication>,
        stage: &mut Stage,
        history_packets: usize,
    ) {
        publications.retain(|p| {
            let stays = announced.iter().any(|a| a.id == p.id);
            if !stays {
                stage.exit(p.id);
            }
            stays
        });
        self.streams
            .retain(|stream| announced.iter().any(|a| a.id == stream.publication));
        self.clocks
            .retain(|(peer, _)| announced.iter().any(|a| a.peer == *peer));
        for one in announced {
            if !publications.iter().any(|p| p.id == one.id) {
                let publication =
                    Publication::new(one.id, one.peer, one.codec, one.layers, history_packets);
                stage.enter(&publication, one.owner);
                publications.push(publication);
            }
            let mut all = publications.iter_mut();
            if let Some(publication) = all.find(|p| p.id == one.id) {
                publication.published = one.published;
                publication.stopped = one.stopped;
                publication.withheld = one.withheld;
            }
        }
    }

    /// Returns whether a packet has nothing to do with what came before: another stream of the publisher, or
    /// the first one after a gap that nobody will fill.
    fn begins_anew(&mut self, packet: &Relayed) -> bool {
        let mut streams = self.streams.iter_mut();
        let place = (packet.publication, packet.layer);
        let Some(stream) = streams.find(|s| (s.publication, s.layer) == place) else {
            self.streams.push(Stream {
                publication: packet.publication,
                layer: packet.layer,
                epoch: packet.epoch,
                next: packet.seq.wrapping_add(1),
                is_doubtful: false,
            });
            return false;
        };
        let ahead = packet.seq.wrapping_sub(stream.next).cast_signed();
        let begins = stream.epoch != packet.epoch || stream.is_doubtful && ahead > 0;
        stream.epoch = packet.epoch;
        stream.is_doubtful = false;
        if begins || ahead >= 0 {
            stream.next = packet.seq.wrapping_add(1);
        }
        begins
    }
}

fn clock_of(clocks: &mut Vec<(PeerId, RemoteClock)>, peer: PeerId) -> &mut RemoteClock {
    let position = clocks.iter().position(|(known, _)| *known == peer);
    let position = position.unwrap_or_else(|| {
        clocks.push((peer, RemoteClock::default()));
        clocks.len() - 1
    });
    let (_, clock) = clocks
        .get_mut(position)
        .expect("it was found or has just been added");
    clock
}
