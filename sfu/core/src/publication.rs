//! One published track and its layers.

use std::time::Instant;

use crate::{Codec, MediaKind, PeerId, PublicationId, ladder::Rung, layer::Layer};

/// A track that a peer sends into its room.
#[derive(Debug)]
pub(crate) struct Publication {
    /// Its id.
    pub(crate) id: PublicationId,
    /// Who sends it.
    pub(crate) peer: PeerId,
    /// The codec of its packets.
    pub(crate) codec: Codec,
    /// Whether a packet came.
    pub(crate) published: bool,
    /// Whether the sender said that it stopped (RTCP BYE) and sent nothing since.
    pub(crate) stopped: bool,
    /// Its encodings, in the order of the offer.
    pub(crate) layers: Vec<Layer>,
    best: usize,
    ladder: Vec<Rung>,
}

impl Publication {
    /// Creates a publication with `layers` layers.
    pub(crate) fn new(
        id: PublicationId,
        peer: PeerId,
        codec: Codec,
        layers: usize,
        history_packets: usize,
    ) -> Self {
        let history_packets = match codec.kind() {
            MediaKind::Video => history_packets,
            MediaKind::Audio => history_packets.min(AUDIO_HISTORY),
        };
        let layer = || Layer::new(codec, history_packets);
        Self {
            id,
            peer,
            codec,
            published: false,
            stopped: false,
            layers: std::iter::repeat_with(layer).take(layers).collect(),
            best: 0,
            ladder: Vec::new(),
        }
    }

    /// Returns audio or video.
    pub(crate) fn kind(&self) -> MediaKind {
        self.codec.kind()
    }

    /// Returns whether a newcomer could start with it.
    pub(crate) fn is_ready(&self) -> bool {
        self.published && self.layers.iter().any(Layer::is_startable)
    }

    /// Returns the position of the layer that is forwarded.
    pub(crate) fn best_layer(&self) -> usize {
        self.best
    }

    #[expect(dead_code, reason = "the pacer and the allocation build on it")]
    /// Returns the qualities to choose from, by bitrate, the lowest first; empty while nothing flows.
    pub(crate) fn ladder(&self) -> &[Rung] {
        &self.ladder
    }

    /// Returns the layer that is forwarded.
    pub(crate) fn best(&self) -> Option<&Layer> {
        self.layers.get(self.best)
    }

    /// Returns the layer that is forwarded.
    pub(crate) fn best_mut(&mut self) -> Option<&mut Layer> {
        self.layers.get_mut(self.best)
    }

    /// Chooses the layer that is forwarded: the present one while it flows, unless another one has much
    /// more bitrate.
    pub(crate) fn choose(&mut self, now: Instant) {
        self.refresh_ladder(now);
        if self.layers.len() < 2 {
            return;
        }
        let present = self.best().filter(|layer| layer.is_flowing(now));
        let enough = present.map(|layer| layer.bitrate() + layer.bitrate() / 2);
        let richest = self
            .layers
            .iter()
            .enumerate()
            .filter(|(_, layer)| layer.is_flowing(now) && layer.is_startable())
            .max_by_key(|(_, layer)| layer.bitrate());
        if let Some((position, layer)) = richest
            && enough.is_none_or(|enough| layer.bitrate() > enough)
        {
            self.best = position;
        }
    }

    fn refresh_ladder(&mut self, now: Instant) {
        let flowing = (0..).zip(&self.layers).filter(|(_, l)| l.is_flowing(now));
        self.ladder.clear();
        self.ladder
            .extend(flowing.map(|(position, layer)| Rung::whole(position, layer.bitrate())));
        self.ladder.sort_by_key(|rung| rung.bitrate);
    }
}

/// Five seconds of 20 ms packets: audio is hardly ever asked for again.
const AUDIO_HISTORY: usize = 256;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        clock::{RemoteClock, ServerClock},
        layer::Arrival,
    };

    #[test]
    fn the_richest_flowing_layer_is_forwarded() {
        let t0 = Instant::now();
        let server = ServerClock::new(Duration::ZERO, t0);
        let mut remote = RemoteClock::default();
        let mut publication = Publication::new(PublicationId(1), PeerId(1), Codec::H264, 2, 64);
        let mut feed = |publication: &mut Publication, layer: usize, n: u16| {
            let mut payload = vec![0x65; 100 + layer * 900];
            payload[0] = 0x65;
            let packet = Arrival {
                seq: n,
                timestamp: u32::from(n) * 3000,
                marker: true,
                payload: &payload,
                ..Arrival::default()
            };
            let now = t0 + Duration::from_millis(u64::from(n) * 33);
            publication.layers[layer]
                .receive(&packet, server, &mut remote, now)
                .unwrap();
            publication.choose(now);
        };
        feed(&mut publication, 0, 0);
        assert_eq!(publication.best_layer(), 0);
        for n in 1..40 {
            feed(&mut publication, 0, n);
            feed(&mut publication, 1, n);
        }
        assert_eq!(publication.best_layer(), 1);
        for n in 40..80 {
            feed(&mut publication, 0, n);
        }
        assert_eq!(publication.best_layer(), 0, "the other one went silent");
    }
}
