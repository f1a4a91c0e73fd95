//! What is counted: over the life of an SFU, per room and per peer.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::{
    Codec, MediaKind, Role,
    ladder::Rung,
    layer::Layer,
    path::Local,
    peer::Peer,
    publication::Publication,
    subscription::{Repeated, Sent, Subscription},
};

/// Totals since the start, for metrics. Counters never decrease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Rooms with at least one peer.
    pub rooms: usize,
    /// Connected publishing peers.
    pub publishers: usize,
    /// Connected viewing peers.
    pub viewers: usize,
    /// Viewers whose path carries less than the best of what they are to see.
    pub viewers_limited: usize,
    /// Viewers of those who are sent no picture.
    pub viewers_paused: usize,
    /// RTP packets accepted from publishers.
    pub packets_in: u64,
    /// Bytes of those, headers included.
    pub bytes_in: u64,
    /// RTP packets sent to viewers.
    pub packets_out: u64,
    /// Bytes of those, headers included.
    pub bytes_out: u64,
    /// Packets that publishers sent and that never arrived, after retransmission.
    pub packets_lost: u64,
    /// Packets sent again to viewers.
    pub retransmitted: u64,
    /// Packets that viewers asked for and that were not kept any more.
    pub retransmit_missed: u64,
    /// Keyframe requests sent to publishers.
    pub keyframe_requests: u64,
    /// Changes of the quality that a viewer is sent of a video.
    pub layer_switches: u64,
    /// Times at which pictures were left out for a viewer, for want of room on its path.
    pub gaps: u64,
    /// Datagrams dropped, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// Connected peers whose way is UDP.
    pub peers_udp: usize,
    /// Connected peers whose way is TCP.
    pub peers_tcp: usize,
    /// Slots of connected viewers that a video is sent in, by the layer chosen (of SVC, the spatial one).
    pub slots_by_layer: [usize; 4],
    /// Connected viewers by what their path is thought to carry: at most each of [`ESTIMATE_STEPS`], and more. Those
    /// whose path is not known to limit anything are not among them.
    pub estimates: [usize; 6],
}

/// Upper bounds of the steps in which viewers' estimates are counted, bit/s.
pub const ESTIMATE_STEPS: [u64; 5] = [250_000, 500_000, 1_000_000, 2_000_000, 4_000_000];

impl Stats {
    /// Adds a connected peer to the gauges.
    pub(crate) fn add(&mut self, peer: &Peer) {
        match peer.transport.selected().map(|path| path.local) {
            Some(Local::Udp(_)) => self.peers_udp += 1,
            Some(Local::Tcp(_)) => self.peers_tcp += 1,
            None => {}
        }
        for (position, subscription) in peer.subscriptions.iter().enumerate() {
            let chosen = peer.allotment.chosen(position);
            let Some(rung) = chosen.filter(|_| subscription.kind == MediaKind::Video) else {
                continue;
            };
            let spatial = if rung.spatial == u8::MAX {
                0
            } else {
                rung.spatial
            };
            let layer = usize::from(rung.layer.max(spatial));
            if let Some(count) = self.slots_by_layer.get_mut(layer) {
                *count += 1;
            }
        }
        if let Some(estimate) = peer.flow.estimate().filter(|_| peer.has_views()) {
            let step = ESTIMATE_STEPS.partition_point(|step| *step < estimate);
            if let Some(count) = self.estimates.get_mut(step) {
                *count += 1;
            }
        }
    }
}

impl Stats {
    /// Adds those of another shard.
    pub fn merge(&mut self, other: &Self) {
        // By name, so that a new one is not forgotten.
        let Self {
            rooms,
            publishers,
            viewers,
            viewers_limited,
            viewers_paused,
            packets_in,
            bytes_in,
            packets_out,
            bytes_out,
            packets_lost,
            retransmitted,
            retransmit_missed,
            keyframe_requests,
            layer_switches,
            gaps,
            dropped,
            peers_udp,
            peers_tcp,
            slots_by_layer,
            estimates,
        } = other;
        self.rooms += rooms;
        self.publishers += publishers;
        self.viewers += viewers;
        self.viewers_limited += viewers_limited;
        self.viewers_paused += viewers_paused;
        self.packets_in += packets_in;
        self.bytes_in += bytes_in;
        self.packets_out += packets_out;
        self.bytes_out += bytes_out;
        self.packets_lost += packets_lost;
        self.retransmitted += retransmitted;
        self.retransmit_missed += retransmit_missed;
        self.keyframe_requests += keyframe_requests;
        self.layer_switches += layer_switches;
        self.gaps += gaps;
        self.peers_udp += peers_udp;
        self.peers_tcp += peers_tcp;
        let gauges = self.slots_by_layer.iter_mut().zip(slots_by_layer);
        gauges.for_each(|(total, count)| *total += count);
        let gauges = self.estimates.iter_mut().zip(estimates);
        gauges.for_each(|(total, count)| *total += count);
        for (reason, count) in dropped {
            match self.dropped.iter_mut().find(|(known, _)| known == reason) {
                Some((_, total)) => *total += count,
                None => self.dropped.push((reason, *count)),
            }
        }
    }
}

/// One room, for the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RoomStats {
    /// Whether media of a publisher is arriving.
    pub live: bool,
    /// Connected viewing peers.
    pub viewers: usize,
}

impl RoomStats {
    /// Adds those of another shard.
    pub fn merge(&mut self, other: &Self) {
        self.live |= other.live;
        self.viewers += other.viewers;
    }
}

/// One peer, for the API: what `getStats` is to a browser, seen from here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerStats {
    /// What it is for.
    pub role: Role,
    /// How long ago it joined.
    pub connected_for_ms: u64,
    /// Whether it has shaken hands.
    pub is_connected: bool,
    /// `udp` or `tcp`; `None` before it was heard of.
    pub path: Option<&'static str>,
    /// RTP packets received from it.
    pub packets_in: u64,
    /// Their bytes, headers included.
    pub bytes_in: u64,
    /// RTP packets sent to it, repeated ones included and padding not.
    pub packets_out: u64,
    /// Their bytes, headers included.
    pub bytes_out: u64,
    /// Packets it asked for again.
    pub nacked: u64,
    /// Packets sent to it again.
    pub retransmitted: u64,
    /// Keyframes it asked for.
    pub keyframe_requests: u64,
    /// Padding packets sent to it to see what its path carries.
    pub padding_out: u64,
    /// Probes of its path.
    pub probes: u32,
    /// Round-trip time, by its receiver reports, or by its answers to reference times if it publishes; by its handshake
    /// until then.
    pub rtt_ms: Option<f64>,
    /// Fraction lost by its last receiver report, 0 to 1.
    pub fraction_lost: f64,
    /// What its path carries, headers of all layers included; `None` while nothing limits it.
    pub estimate_bps: Option<u64>,
    /// What is sent to it, likewise.
    pub sending_bps: u64,
    /// How long packets wait on its path.
    pub queue_ms: f64,
    /// How long the pacer's debt lasts.
    pub pacing_backlog_ms: f64,
    /// What it sends and receives, in the order of its m-lines.
    pub tracks: Vec<TrackStats>,
}

/// One track of a peer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrackStats {
    /// Audio or video.
    pub kind: MediaKind,
    /// Whether the peer sends it.
    pub is_sent_by_peer: bool,
    /// What it is, or shows; `None` for a slot that shows nothing.
    pub publication: Option<u64>,
    /// The codec.
    pub codec: Option<Codec>,
    /// The SSRC of the stream that the server sends.
    pub ssrc: Option<u32>,
    /// The quality that is chosen for a slot; `None` for audio, and for a paused or empty slot.
    pub target: Option<RungStats>,
    /// What is forwarded, or the qualities that a publication has.
    pub rungs: Vec<RungStats>,
    /// The layers that the peer sends, in the order of its offer.
    pub layers: Vec<LayerStats>,
    /// Packets sent to the peer.
    pub packets: u32,
    /// Their payload bytes.
    pub payload_bytes: u32,
    /// How often what is forwarded of a publication changed to another quality.
    pub switches: u32,
    /// How often pictures were left out for want of room on its path.
    pub gaps: u32,
    /// Whether media is arriving from the publisher.
    pub is_flowing: bool,
}

/// How one RTP stream of a publisher arrives: audio, a video, or a simulcast layer of one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LayerStats {
    /// Its SSRC; `None` before anything came.
    pub ssrc: Option<u32>,
    /// RTP packets that came, each counted once; padding excepted.
    pub packets: u64,
    /// Their payload bytes.
    pub payload_bytes: u64,
    /// Those of them that had been lost, and came when they were asked for again.
    pub repaired: u64,
    /// Packets that did not come, not even then. Those of the last moments still may.
    pub lost: u64,
    /// By how much packets come earlier or later than others (RFC 3550 §6.4.1).
    pub jitter_ms: f64,
}

/// A quality of a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RungStats {
    /// The simulcast layer, 0 being the first of the offer.
    pub layer: u8,
    /// The highest spatial layer; `None` without SVC.
    pub spatial: Option<u8>,
    /// The highest temporal layer; `None` without layers within the stream.
    pub temporal: Option<u8>,
    /// What it takes, payload only.
    pub bitrate_bps: u64,
}

impl PeerStats {
    /// Puts together what is known of a peer.
    pub(crate) fn of(peer: &Peer, publications: &[Publication], now: Instant) -> Self {
        let (counters, flow) = (&peer.counters, &peer.flow);
        let (queue, backlog, probes) = flow.facts();
        let mine = publications.iter().filter(|p| p.peer == peer.id);
        let published = mine.map(TrackStats::of_publication);
        let received = peer.subscriptions.iter().enumerate();
        let received = received.map(|(position, subscription)| {
            let target = peer.allotment.chosen(position);
            TrackStats::of_subscription(subscription, target, publications)
        });
        let connected_for = now.saturating_duration_since(peer.joined_at);
        Self {
            role: peer.join.role,
            connected_for_ms: u64::try_from(connected_for.as_millis()).unwrap_or(u64::MAX),
            is_connected: peer.transport.is_connected(),
            path: peer.transport.selected().map(|path| match path.local {
                Local::Udp(_) => "udp",
                Local::Tcp(_) => "tcp",
            }),
            packets_in: counters.packets_in,
            bytes_in: counters.bytes_in,
            packets_out: counters.packets_out,
            bytes_out: counters.bytes_out,
            nacked: counters.nacked,
            retransmitted: counters.retransmitted,
            keyframe_requests: counters.keyframe_requests,
            padding_out: counters.padding_out,
            probes,
            rtt_ms: flow.rtt().map(millis),
            fraction_lost: f64::from(counters.fraction_lost) / 256.0,
            estimate_bps: flow.estimate(),
            sending_bps: flow.sending(),
            queue_ms: millis(queue),
            pacing_backlog_ms: millis(backlog),
            tracks: published.chain(received).collect(),
        }
    }
}

impl TrackStats {
    fn of_publication(publication: &Publication) -> Self {
        Self {
            kind: publication.kind(),
            is_sent_by_peer: true,
            publication: Some(publication.id.0),
            codec: Some(publication.codec),
            ssrc: None,
            target: None,
            rungs: publication.ladder().iter().map(RungStats::of).collect(),
            layers: publication.layers.iter().map(LayerStats::of).collect(),
            packets: 0,
            payload_bytes: 0,
            switches: 0,
            gaps: 0,
            is_flowing: publication.published && !publication.stopped,
        }
    }

    fn of_subscription(
        subscription: &Subscription,
        target: Option<Rung>,
        publications: &[Publication],
    ) -> Self {
        let shown = publications.iter().find(|p| subscription.shows(p.id));
        let (packets, payload_bytes) = subscription.counts();
        let (switches, gaps) = subscription.disturbances();
        Self {
            kind: subscription.kind,
            is_sent_by_peer: false,
            publication: shown.map(|publication| publication.id.0),
            codec: shown.map(|publication| publication.codec),
            ssrc: Some(subscription.stream.ssrc.0),
            target: target.as_ref().map(RungStats::of),
            rungs: subscription.current().iter().map(RungStats::of).collect(),
            layers: Vec::new(),
            packets,
            payload_bytes,
            switches,
            gaps,
            is_flowing: shown.is_some_and(|publication| !publication.stopped),
        }
    }
}

impl LayerStats {
    fn of(layer: &Layer) -> Self {
        let totals = layer.reception.totals();
        Self {
            ssrc: layer.ssrc.map(|ssrc| ssrc.0),
            packets: totals.packets,
            payload_bytes: totals.bytes,
            repaired: totals.repaired,
            lost: totals.lost,
            jitter_ms: millis(layer.reception.jitter()),
        }
    }
}

impl RungStats {
    fn of(rung: &Rung) -> Self {
        let layered = |level: u8| (rung.spatial != u8::MAX).then_some(level);
        Self {
            layer: rung.layer,
            spatial: layered(rung.spatial),
            temporal: layered(rung.temporal),
            bitrate_bps: rung.bitrate,
        }
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// What is counted about one peer.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// RTP packets received from it.
    pub(crate) packets_in: u64,
    /// Their bytes.
    pub(crate) bytes_in: u64,
    /// RTP packets sent to it, padding excepted.
    pub(crate) packets_out: u64,
    /// Their bytes.
    pub(crate) bytes_out: u64,
    /// Packets it asked for again.
    pub(crate) nacked: u64,
    /// Packets sent to it again.
    pub(crate) retransmitted: u64,
    /// Keyframes it asked for.
    pub(crate) keyframe_requests: u64,
    /// Padding packets sent to it.
    pub(crate) padding_out: u64,
    /// Of its last receiver report, in 256ths.
    pub(crate) fraction_lost: u8,
}

/// What was counted so far.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    /// All but the gauges and the drops.
    pub(crate) stats: Stats,
    dropped: BTreeMap<&'static str, u64>,
}

impl Totals {
    /// Counts something that was dropped. `reason` is one of a fixed set of words.
    pub(crate) fn drop(&mut self, reason: &'static str) {
        self.drop_many(reason, 1);
    }

    /// Counts several things that were dropped for the same reason.
    pub(crate) fn drop_many(&mut self, reason: &'static str, count: u64) {
        if count > 0 {
            *self.dropped.entry(reason).or_default() += count;
        }
    }

    /// Counts what was sent.
    pub(crate) fn sent(&mut self, sent: &Sent) {
        self.stats.packets_out += sent.packets;
        self.stats.bytes_out += sent.bytes;
        self.stats.layer_switches += sent.switches;
        self.stats.gaps += sent.gaps;
        self.drop_many("codec_unsupported", u64::from(sent.unsupported));
    }

    /// Counts what was sent again.
    pub(crate) fn repeated(&mut self, repeated: &Repeated) {
        self.stats.packets_out += repeated.sent;
        self.stats.bytes_out += repeated.bytes;
        self.stats.retransmitted += repeated.sent;
        self.stats.retransmit_missed += repeated.missed;
    }

    /// Returns a snapshot without the gauges.
    pub(crate) fn snapshot(&self) -> Stats {
        Stats {
            dropped: self.dropped.iter().map(|(k, v)| (*k, *v)).collect(),
            ..self.stats.clone()
        }
    }
}
