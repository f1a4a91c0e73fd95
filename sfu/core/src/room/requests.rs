//! What a room asks its publishers for: keyframes and missing packets.

use std::time::Instant;

use super::{Room, walk::Sinks};
use crate::{
    Join, MediaKind, PublicationId, RelayMessage, RoomId, TapId,
    layer::Layer,
    peers::Peers,
    publication::Source,
    slot::View,
    subscription::{INSTANT_START, Subscription},
    transport::rtcp::Compound,
};

impl Room {
    /// Asks for a keyframe of what a view shows, unless a newcomer can be started from the history. Returns
    /// whether one was asked for. `reports` says whether it will tell what its path carries: then it begins low.
    pub(crate) fn prepare_start(&mut self, view: View, reports: bool, now: Instant) -> bool {
        let shown = self.stage.get(view);
        let mut publications = self.publications.iter_mut();
        let Some(publication) = publications.find(|p| Some(p.id) == shown) else {
            return false;
        };
        let first = match reports {
            true => publication.ladder().first().map(|r| usize::from(r.layer)),
            false => Source::top_of(publication).map(|top| top.layer),
        };
        let is_video = publication.kind() == MediaKind::Video;
        let layer = publication.layers.get_mut(first.unwrap_or_default());
        let can_start = |layer: &Layer| layer.starting_point(INSTANT_START, now).is_some();
        let Some(layer) = layer.filter(|layer| is_video && !can_start(layer)) else {
            return false;
        };
        layer.keyframes.request();
        true
    }

    /// Asks for a keyframe of everything that a tap reads.
    pub(crate) fn request_keyframe_for_tap(&mut self, tap: TapId, now: Instant) {
        let Some(tap) = self.taps.iter().find(|t| t.id == tap) else {
            return;
        };
        for publication in &mut self.publications {
            let aimed = tap.aims_at(publication, &self.stage, now);
            if aimed == 0 && tap.shows(MediaKind::Video, &self.stage, now) == Some(publication.id) {
                // Nothing flows yet.
                if let Some(layer) = publication.top_layer_mut().filter(|_| tap.has_video()) {
                    layer.keyframes.request();
                }
            }
            for (position, layer) in publication.layers.iter_mut().enumerate() {
                if aimed >> position & 1 == 1 {
                    layer.keyframes.request();
                }
            }
        }
    }

    pub(super) fn request_keyframe(&mut self, publication: PublicationId) {
        let mut publications = self.publications.iter_mut();
        if let Some(publication) = publications.find(|p| p.id == publication)
            && let Some(layer) = publication.top_layer_mut()
        {
            layer.keyframes.request();
        }
    }

    /// Asks for a keyframe of what a subscription receives, or would if it had not lost its place.
    pub(crate) fn request_keyframe_for(&mut self, subscription: &Subscription, join: &Join) {
        if subscription.kind != MediaKind::Video {
            return;
        }
        let shown = self.shown();
        let place = match subscription.source() {
            Some(source) => Some((source.publication, source.layer)),
            None => shown
                .get(subscription.view)
                .filter(|seen| join.sees(seen.participant))
                .and_then(|seen| {
                    let layer = subscription.wants_of(seen.publication)?;
                    Some((seen.publication.id, usize::from(layer)))
                }),
        };
        if let Some((publication, layer)) = place
            && let Some(layer) = self.layer_mut(publication, layer)
        {
            layer.keyframes.request();
        }
    }

    /// Sends publishers the requests that are due: for missing packets and for keyframes. Where they are
    /// elsewhere, their home takes care of what is missing.
    pub(crate) fn ask(
        &mut self,
        id: RoomId,
        peers: &mut Peers,
        sinks: &mut Sinks<'_>,
        now: Instant,
    ) {
        let mut wanted = Vec::new();
        for publication in &mut self.publications {
            let mut compound = Compound::default();
            for (position, layer) in (0..).zip(&mut publication.layers) {
                let Some(ssrc) = layer.ssrc else { continue };
                wanted.clear();
                let lost = layer.poll_missing(&mut wanted, now);
                let needs_keyframe = layer.keyframes.poll_send(now);
                if let Some(inlet) = &self.inlet {
                    if needs_keyframe {
                        let request = RelayMessage::Keyframe {
                            room: id,
                            publication: publication.id,
                            layer: position,
                        };
                        sinks.relayed.push_back((inlet.home, request));
                    }
                    continue;
                }
                sinks.totals.stats.packets_lost += lost;
                if !wanted.is_empty() {
                    compound.nack(ssrc, &wanted);
                }
                if needs_keyframe {
                    compound.keyframe(ssrc);
                    sinks.totals.stats.keyframe_requests += 1;
                }
            }
            if let Some(peer) = peers.get_mut(publication.peer) {
                peer.send(compound, sinks.out);
            }
        }
    }
}
