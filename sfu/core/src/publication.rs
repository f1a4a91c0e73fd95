//! One published track, its layers, and what they offer.

use std::time::{Duration, Instant};

use crate::{Codec, MediaKind, PeerId, PublicationId, ladder::Rung, layer::Layer, relay::Withheld};

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
    /// Whether nothing of it is to be forwarded now.
    pub(crate) is_quiet: bool,
    /// What its home knows to be paused, of a stream from elsewhere.
    pub(crate) withheld: Option<Withheld>,
    /// Its encodings, in the order of the offer.
    pub(crate) layers: Vec<Layer>,
    /// What is known of each layer besides itself.
    watches: Vec<Watch>,
    /// Since when the ranks have not been those of the bitrates.
    disorder: Option<Instant>,
    ladder: Vec<Rung>,
    refreshed: Option<Instant>,
}

/// One RTP stream of a publication, from one of its starts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The publication.
    pub(crate) publication: PublicationId,
    /// The position of the layer.
    pub(crate) layer: usize,
    /// The layer's epoch.
    pub(crate) epoch: u32,
}

/// Tells whether a layer stopped while the others go on.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    last_packet: Option<Instant>,
    /// Pictures of the other layers when the last packet came.
    others: u64,
    has_stopped: bool,
    /// Its place from the poorest to the richest.
    rank: usize,
}

impl Source {
    /// Returns a stream of a publication.
    pub(crate) fn of(publication: &Publication, layer: usize) -> Option<Self> {
        Some(Self {
            publication: publication.id,
            layer,
            epoch: publication.layers.get(layer)?.epoch,
        })
    }

    /// Returns the stream of the best quality.
    pub(crate) fn top_of(publication: &Publication) -> Option<Self> {
        Self::of(publication, usize::from(publication.top()?.layer))
    }

    /// Looks the layer up.
    pub(crate) fn layer_of(self, publication: &Publication) -> Option<&Layer> {
        let layer = publication.layers.get(self.layer);
        layer.filter(|layer| self.publication == publication.id && layer.epoch == self.epoch)
    }
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
        let watch = |rank| Watch {
            rank,
            ..Watch::default()
        };
        Self {
            id,
            peer,
            codec,
            published: false,
            stopped: false,
            is_quiet: false,
            withheld: None,
            layers: std::iter::repeat_with(layer).take(layers).collect(),
            watches: (0..layers).map(watch).collect(),
            disorder: None,
            ladder: Vec::new(),
            refreshed: None,
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

    /// Returns the qualities to choose from, by bitrate, the lowest first; empty while nothing flows.
    pub(crate) fn ladder(&self) -> &[Rung] {
        &self.ladder
    }

    /// Returns the best quality.
    pub(crate) fn top(&self) -> Option<Rung> {
        self.ladder.last().copied()
    }

    /// Returns the n-th layer from the top of all that were offered, if it flows and is measured.
    pub(crate) fn layer_from_top(&self, n: usize) -> Option<usize> {
        let position = self.offered_from_top(n)?;
        let mut flowing = self.ladder.iter().map(|rung| usize::from(rung.layer));
        flowing.any(|layer| layer == position).then_some(position)
    }

    /// Returns the n-th layer from the top of all that were offered, whether it flows or not.
    pub(crate) fn offered_from_top(&self, n: usize) -> Option<usize> {
        let rank = self.layers.len().checked_sub(n + 1)?;
        self.watches.iter().position(|watch| watch.rank == rank)
    }

    /// Returns how many sizes of its picture its sender can be told not to send: simulcast layers, or the spatial
    /// layers of its only stream. They are numbered in the order of the offer, and from the lowest.
    pub(crate) fn sizes(&self) -> usize {
        match &*self.layers {
            [only] => {
                let withheld = self.withheld.map_or(0, |(size, _)| size + 1);
                only.throughput()
                    .spatial_layers()
                    .len()
                    .max(withheld)
                    .max(1)
            }
            layers => layers.len(),
        }
    }

    /// Returns whether its sizes are layers within one stream, if it has several.
    pub(crate) fn is_svc(&self) -> bool {
        self.layers.len() == 1
    }

    /// Returns the sizes that a quality needs, a bit each.
    pub(crate) fn sizes_of(&self, rung: Rung) -> u8 {
        match self.layers.len() {
            1 if rung.is_whole() => u8::MAX,
            1 => (2 << rung.spatial) - 1,
            _ => 1 << rung.layer,
        }
    }

    /// Returns the size above the best quality that its sender has paused, and what it took before.
    pub(crate) fn paused(&self) -> Option<(usize, u64)> {
        let best = self.top()?;
        if let [only] = &*self.layers {
            let took = only.throughput().spatial_layers().iter().copied();
            let above = took.enumerate().skip(usize::from(best.spatial) + 1);
            let is_more = |(_, took): &(usize, u64)| *took > best.bitrate;
            let known = above.filter(is_more).min_by_key(|(_, took)| *took);
            return known.or(self.withheld.filter(is_more));
        }
        let took = self
            .layers
            .iter()
            .map(|layer| layer.throughput().total())
            .enumerate();
        let is_paused = |(position, bitrate): &(usize, u64)| {
            *bitrate > best.bitrate
                && !self
                    .ladder
                    .iter()
                    .any(|rung| usize::from(rung.layer) == *position)
        };
        took.filter(is_paused).min_by_key(|(_, bitrate)| *bitrate)
    }

    /// Returns the layer of the best quality; the first one while nothing flows.
    pub(crate) fn top_layer_mut(&mut self) -> Option<&mut Layer> {
        let position = self.top().map_or(0, |rung| usize::from(rung.layer));
        self.layers.get_mut(position)
    }

    /// Returns the quality on offer that is `wanted` or next to it: the richest that is no richer, else the
    /// poorest.
    pub(crate) fn nearest(&self, wanted: Rung) -> Option<Rung> {
        let same = self.ladder.iter().find(|rung| rung.is_same(wanted));
        let mut descending = self.ladder.iter().rev();
        let poorer = || descending.find(|rung| rung.bitrate <= wanted.bitrate);
        let nearest = same.or_else(poorer).or_else(|| self.ladder.first());
        nearest.copied()
    }

    /// Returns the quality to forward to those who do not read dependency descriptors: without them nobody can
    /// tell which spatial layers of AV1 belong together, so that only the lowest is of use.
    pub(crate) fn without_descriptor(&self, wanted: Rung) -> Rung {
        if self.codec != Codec::Av1 || wanted.is_whole() || wanted.spatial == 0 {
            return wanted;
        }
        let of_layer = self.ladder.iter().filter(|rung| rung.layer == wanted.layer);
        let lowest = of_layer.filter(|rung| rung.spatial == 0);
        lowest
            .max_by_key(|rung| rung.temporal)
            .copied()
            .unwrap_or(wanted)
    }

    /// Returns what to begin a stream with whose layers were not measured yet, so that nobody waits for that: all of
    /// it, for the quarter of a second that measuring takes, held back by the pacer alone. Nothing of AV1 for those who
    /// do not read dependency descriptors; see [`Publication::without_descriptor`].
    pub(crate) fn beginning(&self, reads_descriptors: bool) -> Option<Rung> {
        let is_of_use = reads_descriptors || self.codec != Codec::Av1;
        let [only] = &*self.layers else {
            return None;
        };
        let throughput = only.throughput();
        let is_new = throughput.is_layered() && throughput.total() == 0;
        (is_new && is_of_use).then(|| Rung::whole(0, 0))
    }

    /// Looks at what arrived, which layers flow, and what they take.
    pub(crate) fn refresh(&mut self, now: Instant) {
        self.layers.iter_mut().for_each(Layer::even_out);
        self.is_quiet = self.layers.iter().all(|layer| layer.arrived().is_empty());
        let changed = self.layers.len() > 1 && self.watch(now);
        let is_due = |at: Instant| now.saturating_duration_since(at) >= REFRESH;
        if changed || self.ladder.is_empty() || self.refreshed.is_none_or(is_due) {
            self.refreshed = Some(now);
            self.rank(now);
            self.build(now);
        }
    }

    /// Looks which layers stopped. Returns whether that changed.
    fn watch(&mut self, now: Instant) -> bool {
        let all: u64 = self.layers.iter().map(Layer::pictures).sum();
        let mut changed = false;
        for (layer, watch) in self.layers.iter().zip(&mut self.watches) {
            let others = all - layer.pictures();
            if layer.last_packet() != watch.last_packet {
                watch.last_packet = layer.last_packet();
                watch.others = others;
            }
            let silent = |at: Instant| now.saturating_duration_since(at) >= STOPPED;
            let has_stopped =
                others >= watch.others + STOPPED_PICTURES && watch.last_packet.is_some_and(silent);
            changed |= has_stopped != watch.has_stopped;
            watch.has_stopped = has_stopped;
        }
        changed
    }

    /// Ranks the layers by bitrate, once their order has been clearly wrong for a while: while a sender feels its way,
    /// its largest picture may get the least.
    fn rank(&mut self, now: Instant) {
        let lower = 0..self.layers.len();
        if !lower.clone().any(|low| self.is_overtaken(low, now)) {
            self.disorder = None;
            return;
        }
        let since = *self.disorder.get_or_insert(now);
        if now.saturating_duration_since(since) < OVERTAKEN {
            return;
        }
        self.disorder = None;
        for _ in lower.clone() {
            for low in lower.clone() {
                if self.is_overtaken(low, now) {
                    for watch in &mut self.watches {
                        watch.rank = match watch.rank {
                            rank if rank == low => low + 1,
                            rank if rank == low + 1 => low,
                            rank => rank,
                        };
                    }
                }
            }
        }
    }

    /// Returns whether the layer of this rank takes clearly more than the one above it, and both flow.
    fn is_overtaken(&self, low: usize, now: Instant) -> bool {
        let bitrate_of = |rank| {
            let position = self.watches.iter().position(|watch| watch.rank == rank)?;
            let watch = self.watches.get(position)?;
            let layer = self.layers.get(position)?;
            let flows = layer.is_flowing(now) && !watch.has_stopped;
            flows.then(|| layer.throughput().total())
        };
        let (below, above) = (bitrate_of(low), bitrate_of(low + 1));
        below
            .zip(above)
            .is_some_and(|(below, above)| above > 0 && below > above + above / 4)
    }

    fn build(&mut self, now: Instant) {
        self.ladder.clear();
        let is_measured = |layer: &Layer| layer.throughput().total() > 0;
        for rank in 0..self.layers.len() {
            let Some(position) = self.watches.iter().position(|w| w.rank == rank) else {
                continue;
            };
            let (Some(layer), Some(watch)) =
                (self.layers.get(position), self.watches.get(position))
            else {
                continue;
            };
            // A layer that has just begun is not measured yet; it is taken if there is nothing else.
            let counts = is_measured(layer) || !self.layers.iter().any(is_measured);
            if layer.is_flowing(now) && layer.is_startable() && !watch.has_stopped && counts {
                let position = u8::try_from(position).unwrap_or(u8::MAX);
                Rung::of_layer(position, layer.throughput(), &mut self.ladder);
            }
        }
        let mut least = 0;
        for rung in &mut self.ladder {
            least = rung.bitrate.max(least);
            rung.bitrate = least;
        }
    }
}

/// Five seconds of 20 ms packets: audio is hardly ever asked for again.
const AUDIO_HISTORY: usize = 256;

/// How often bitrates are looked at.
const REFRESH: Duration = Duration::from_millis(100);

/// How long the order of layers is wrong before they change places.
const OVERTAKEN: Duration = Duration::from_secs(2);

/// A layer has stopped when it is silent for this long while the others sent this many pictures.
const STOPPED: Duration = Duration::from_millis(150);
const STOPPED_PICTURES: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{RemoteClock, ServerClock},
        layer::Arrival,
    };

    struct Fixture {
        publication: Publication,
        server: ServerClock,
        remote: RemoteClock,
        t0: Instant,
    }

    impl Fixture {
        fn new(codec: Codec, layers: usize) -> Self {
            let t0 = Instant::now();
            Self {
                publication: Publication::new(PublicationId(1), PeerId(1), codec, layers, 64),
                server: ServerClock::new(Duration::ZERO, t0),
                remote: RemoteClock::default(),
                t0,
            }
        }

        /// Sends a frame of each of these layers; their payloads differ by 600 bytes.
        fn feed(&mut self, layers: &[usize], frames: std::ops::Range<u16>) {
            for n in frames {
                let now = self.t0 + Duration::from_millis(u64::from(n) * 33);
                for layer in layers {
                    let mut payload = vec![0; 100 + layer * 600];
                    payload[0] = 0x65;
                    self.receive(*layer, n, &payload, now);
                }
                self.publication.refresh(now);
            }
        }

        /// Sends frames of these sizes, one of each layer.
        fn feed_sizes(&mut self, sizes: &[usize], frames: std::ops::Range<u16>) {
            for n in frames {
                let now = self.t0 + Duration::from_millis(u64::from(n) * 33);
                for (layer, size) in sizes.iter().enumerate() {
                    let mut payload = vec![0; *size];
                    payload[0] = 0x65;
                    self.receive(layer, n, &payload, now);
                }
                self.publication.refresh(now);
            }
        }

        fn receive(&mut self, layer: usize, n: u16, payload: &[u8], now: Instant) {
            let packet = Arrival {
                seq: n,
                timestamp: u32::from(n) * 3000,
                marker: true,
                payload,
                ..Arrival::default()
            };
            self.publication.layers[layer]
                .receive(&packet, self.server, &mut self.remote, now)
                .unwrap();
        }

        fn layers(&self) -> Vec<u8> {
            self.publication.ladder().iter().map(|r| r.layer).collect()
        }
    }

    #[test]
    fn the_ladder_is_what_flows_by_bitrate() {
        let mut f = Fixture::new(Codec::H264, 3);
        f.publication.refresh(f.t0);
        assert_eq!(f.layers(), [0; 0]);
        f.feed(&[2], 0..1);
        assert_eq!(f.layers(), [2], "nothing else to start with");
        f.feed(&[0, 2], 1..40);
        assert_eq!(f.layers(), [0, 2]);
        let [low, high] = [0, 1].map(|n| f.publication.ladder()[n]);
        assert!(low.bitrate.abs_diff(24_000) < 3000, "{low:?}");
        assert!(high.bitrate.abs_diff(312_000) < 30_000, "{high:?}");
        f.feed(&[0, 1, 2], 40..60);
        assert_eq!(f.layers(), [0, 1, 2]);
        let between = Rung {
            bitrate: 200_000,
            ..Rung::whole(7, 0)
        };
        assert_eq!(f.publication.nearest(between).unwrap().layer, 1);
        assert_eq!(f.publication.nearest(high).unwrap().layer, 2);
    }

    #[test]
    fn a_layer_that_stops_is_gone_within_a_fifth_of_a_second() {
        let mut f = Fixture::new(Codec::H264, 2);
        f.feed(&[0, 1], 0..40);
        f.feed(&[0], 40..44);
        assert_eq!(f.layers(), [0, 1]);
        f.feed(&[0], 44..46);
        assert_eq!(f.layers(), [0]);
        f.feed(&[0, 1], 46..47);
        assert_eq!(f.layers(), [0, 1], "it is back");
    }

    #[test]
    fn layers_change_places_only_when_the_order_stays_wrong() {
        let mut f = Fixture::new(Codec::H264, 2);
        f.feed_sizes(&[800, 200], 0..45);
        assert_eq!(f.layers(), [0, 1], "1.5 s");
        f.feed_sizes(&[200, 800], 45..100);
        f.feed_sizes(&[800, 200], 100..150);
        assert_eq!(f.layers(), [0, 1], "it was right in between");
        f.feed_sizes(&[800, 200], 150..240);
        assert_eq!(f.layers(), [1, 0]);
        assert_eq!(f.publication.layer_from_top(1), Some(1));
    }

    #[test]
    fn layers_that_were_offered_the_other_way_round_are_all_sorted_at_once() {
        let mut f = Fixture::new(Codec::H264, 4);
        f.feed_sizes(&[1100, 700, 400, 100], 0..80);
        assert_eq!(f.layers(), [3, 2, 1, 0], "2.6 s");
    }

    #[test]
    fn a_layer_that_stopped_while_it_was_poor_keeps_its_place() {
        let mut f = Fixture::new(Codec::H264, 2);
        f.feed_sizes(&[800, 200], 0..40);
        f.feed_sizes(&[800], 40..200);
        assert_eq!(f.layers(), [0], "the other one has stopped");
        f.feed_sizes(&[200, 800], 200..240);
        assert_eq!(f.layers(), [0, 1]);
        assert_eq!(f.publication.layer_from_top(0), Some(1));
    }

    #[test]
    fn a_publisher_that_pauses_keeps_its_layers_for_a_while() {
        let mut f = Fixture::new(Codec::H264, 2);
        f.feed(&[0, 1], 0..40);
        f.publication.refresh(f.t0 + Duration::from_secs(5));
        assert_eq!(f.layers(), [0, 1]);
        f.publication.refresh(f.t0 + Duration::from_secs(7));
        assert_eq!(f.layers(), [0; 0]);
    }

    #[test]
    fn temporal_layers_are_rungs() {
        let mut f = Fixture::new(Codec::Vp8, 1);
        for n in 0..100_u16 {
            let now = f.t0 + Duration::from_millis(u64::from(n) * 33);
            let temporal = [0, 0x80, 0x40, 0x80][usize::from(n % 4)];
            let mut payload = vec![0x90, 0x20, temporal, u8::from(n > 0)];
            payload.resize(1000, 0);
            f.receive(0, n, &payload, now);
            f.publication.refresh(now);
        }
        let rungs: Vec<_> = f.publication.ladder().iter().collect();
        let qualities: Vec<_> = rungs.iter().map(|r| (r.spatial, r.temporal)).collect();
        assert_eq!(qualities, [(0, 0), (0, 1), (0, 2)]);
        assert!(rungs[0].bitrate.abs_diff(60_000) < 9000, "{:?}", rungs[0]);
        assert!(
            rungs[2].bitrate.abs_diff(240_000) < 30_000,
            "{:?}",
            rungs[2]
        );
    }
}
