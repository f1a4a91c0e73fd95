//! One forwarded track: what a viewer receives in one slot.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    Codec, MediaKind, PublicationId, Ssrc,
    flow::Sender,
    history::Packet,
    layer::Layer,
    publication::Publication,
    rewrite::{Rewrite, Rewritten},
    rng::Rng,
    sequence::low16,
    transport::{Carried, CodecPt, SendHeader, SendStream},
    vp8,
};

/// One participant's receipt of whatever its slot shows.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// Audio or video.
    pub(crate) kind: MediaKind,
    /// What the viewer was told it receives.
    pub(crate) stream: SendStream,
    codecs: Vec<CodecPt>,
    source: Option<Source>,
    unsupported: Option<PublicationId>,
    rewrite: Rewrite,
    rtx_seq: u32,
    repeated: VecDeque<(u16, Instant)>,
    allowance: Allowance,
    packets: u32,
    octets: u32,
}

/// Where packets come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The publication.
    pub(crate) publication: PublicationId,
    /// The position of its layer.
    pub(crate) layer: usize,
    /// The layer's epoch.
    pub(crate) epoch: u32,
}

/// What one call sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Packets.
    pub(crate) packets: u64,
    /// Bytes, headers included.
    pub(crate) bytes: u64,
    /// Whether a new source was begun.
    pub(crate) began: bool,
    /// Whether it waits for a keyframe.
    pub(crate) waiting: bool,
    /// Whether the viewer turned out to lack the publication's codec.
    pub(crate) unsupported: bool,
}

/// The outcome of a request for retransmission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Repeated {
    /// Packets asked for.
    pub(crate) asked: u64,
    /// Packets sent again.
    pub(crate) sent: u64,
    /// Their bytes, headers included.
    pub(crate) bytes: u64,
    /// Packets not kept any more.
    pub(crate) missed: u64,
}

/// What a sender report says about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SenderState {
    /// The stream.
    pub(crate) ssrc: Ssrc,
    /// The RTP timestamp that is presented at the time of the report.
    pub(crate) timestamp: u32,
    /// Packets sent.
    pub(crate) packets: u32,
    /// Payload bytes sent.
    pub(crate) octets: u32,
}

impl Source {
    /// Returns the layer of a publication that is forwarded.
    pub(crate) fn best_of(publication: &Publication) -> Option<Self> {
        Some(Self {
            publication: publication.id,
            layer: publication.best_layer(),
            epoch: publication.best()?.epoch,
        })
    }

    /// Looks the layer up.
    pub(crate) fn layer_of(self, publication: &Publication) -> Option<&Layer> {
        let layer = publication.layers.get(self.layer);
        layer.filter(|layer| self.publication == publication.id && layer.epoch == self.epoch)
    }
}

impl Subscription {
    /// Creates a subscription for a viewer that can receive `codecs`.
    pub(crate) fn new(
        kind: MediaKind,
        stream: SendStream,
        codecs: Vec<CodecPt>,
        rng: &mut Rng,
    ) -> Self {
        Self {
            kind,
            stream,
            codecs,
            source: None,
            unsupported: None,
            rewrite: Rewrite::new(rng.next_u32(), rng.next_u32()),
            rtx_seq: rng.next_u32() & 0x7fff,
            repeated: VecDeque::new(),
            allowance: Allowance::default(),
            packets: 0,
            octets: 0,
        }
    }

    /// Sends what arrived of the publication that its slot shows.
    ///
    /// A new publication or layer is begun at a keyframe, from the history if that holds a recent one;
    /// until then the present layer goes on.
    pub(crate) fn forward(&mut self, publication: &Publication, sender: &mut Sender<'_>) -> Sent {
        let now = sender.now;
        let mut sent = Sent::default();
        let Some(codec) = self.find_codec(publication.codec) else {
            sent.unsupported = self.unsupported.replace(publication.id) != Some(publication.id);
            return sent;
        };
        let target = Source::best_of(publication);
        if let Some(target) = target.filter(|target| self.source != Some(*target))
            && let Some(layer) = target.layer_of(publication)
        {
            if let Some(first) = layer.starting_point(self.oldest_start(target), now)
                && let Some(packet) = layer.packet(first)
            {
                self.rewrite.begin(&packet, publication.codec.clock_rate());
                self.source = Some(target);
                sent.began = true;
                for index in first..=layer.highest().unwrap_or(first) {
                    self.send(layer, index, codec, sender, &mut sent);
                }
                return sent;
            }
            sent.waiting = self.kind == MediaKind::Video;
        }
        if let Some(layer) = self.source.and_then(|s| s.layer_of(publication)) {
            for index in layer.arrived() {
                self.send(layer, *index, codec, sender, &mut sent);
            }
        }
        sent
    }

    /// Sends packets again that the viewer misses: on the retransmission stream (RFC 4588) when there is
    /// one, else as they were.
    pub(crate) fn retransmit(
        &mut self,
        seqs: &[u16],
        publication: &Publication,
        sender: &mut Sender<'_>,
    ) -> Repeated {
        let now = sender.now;
        let mut repeated = Repeated::default();
        let layer = self.source.and_then(|s| s.layer_of(publication));
        let (Some(layer), Some(codec)) = (layer, self.find_codec(publication.codec)) else {
            return repeated;
        };
        for seq in seqs.iter().take(MAX_REPEATED) {
            repeated.asked += 1;
            if self.was_repeated(*seq, now) || !self.allowance.take(now) {
                continue;
            }
            let packet = self.rewrite.find(*seq).and_then(|i| layer.packet(i));
            let Some(packet) = packet else {
                repeated.missed += 1;
                continue;
            };
            let len = self.send_again(&packet, codec, sender);
            repeated.sent += u64::from(len > 0);
            repeated.bytes += len as u64;
        }
        repeated
    }

    /// Returns whether a keyframe request for this stream concerns `publication`.
    pub(crate) fn shows(&self, publication: PublicationId) -> bool {
        self.source.is_some_and(|s| s.publication == publication)
    }

    /// Returns what a sender report at `micros` says; `None` while nothing is sent.
    pub(crate) fn sender_state(
        &self,
        publication: &Publication,
        micros: i64,
    ) -> Option<SenderState> {
        let layer = self.source?.layer_of(publication)?;
        let timestamp = layer.clock.timestamp_at(micros)?;
        Some(SenderState {
            ssrc: self.stream.ssrc,
            timestamp: timestamp.wrapping_add(self.rewrite.timestamp_shift()),
            packets: self.packets,
            octets: self.octets,
        })
    }

    /// Returns how old a keyframe may be to begin with: whoever watches already must not see the past
    /// again.
    fn oldest_start(&self, target: Source) -> Duration {
        match self.source {
            Some(source) if source.publication == target.publication => SWITCH,
            Some(_) | None => INSTANT_START,
        }
    }

    fn find_codec(&self, codec: Codec) -> Option<CodecPt> {
        self.codecs.iter().find(|c| c.codec == codec).copied()
    }

    fn send(
        &mut self,
        layer: &Layer,
        index: u64,
        codec: CodecPt,
        sender: &mut Sender<'_>,
        sent: &mut Sent,
    ) {
        let Some(packet) = layer.packet(index) else {
            return;
        };
        let Some(rewritten) = self.rewrite.apply(&packet) else {
            return;
        };
        let len = self.seal(&packet, &rewritten, codec, sender);
        if len > 0 {
            self.packets = self.packets.wrapping_add(1);
            let octets = u32::try_from(packet.payload.len()).unwrap_or_default();
            self.octets = self.octets.wrapping_add(octets);
            sent.packets += 1;
            sent.bytes += len as u64;
        }
    }

    fn seal(
        &self,
        packet: &Packet<'_>,
        rewritten: &Rewritten,
        codec: CodecPt,
        sender: &mut Sender<'_>,
    ) -> usize {
        let header = SendHeader {
            marker: packet.meta.marker,
            pt: codec.pt,
            seq: rewritten.seq,
            timestamp: rewritten.timestamp,
            ssrc: self.stream.ssrc,
            padding: false,
        };
        let mut buffer = [0; vp8::MAX_LEN];
        let payload = split(packet, rewritten, &mut buffer);
        sender.send(&header, &Carried::default(), payload)
    }

    fn send_again(
        &mut self,
        packet: &Packet<'_>,
        codec: CodecPt,
        sender: &mut Sender<'_>,
    ) -> usize {
        let Some(rewritten) = self.rewrite.repeat(packet) else {
            return 0;
        };
        let Some(rtx) = codec.rtx else {
            return self.seal(packet, &rewritten, codec, sender);
        };
        let header = SendHeader {
            marker: packet.meta.marker,
            pt: rtx,
            seq: self.rtx_seq,
            timestamp: rewritten.timestamp,
            ssrc: self.stream.rtx_ssrc,
            padding: false,
        };
        self.rtx_seq = self.rtx_seq.wrapping_add(1);
        let mut buffer = [0; vp8::MAX_LEN];
        let [head, tail] = split(packet, &rewritten, &mut buffer);
        let mut prefixed = [0; 2 + vp8::MAX_LEN];
        let original = low16(u64::from(rewritten.seq)).to_be_bytes();
        for (to, from) in prefixed.iter_mut().zip(original.iter().chain(head)) {
            *to = *from;
        }
        let head = prefixed.get(..2 + head.len()).unwrap_or_default();
        sender.send(&header, &Carried::default(), [head, tail])
    }

    fn was_repeated(&mut self, seq: u16, now: Instant) -> bool {
        let recently = |at: Instant| now.saturating_duration_since(at) < REPEAT_GUARD;
        if self
            .repeated
            .iter()
            .any(|(s, at)| *s == seq && recently(*at))
        {
            return true;
        }
        if self.repeated.len() >= MAX_REPEATED {
            self.repeated.pop_front();
        }
        self.repeated.push_back((seq, now));
        false
    }
}

/// Limits what one viewer can make the server send again.
#[derive(Debug, Default)]
struct Allowance {
    since: Option<Instant>,
    used: u32,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let elapsed = |since| now.saturating_duration_since(since) >= ALLOWANCE_WINDOW;
        if self.since.is_none_or(elapsed) {
            self.since = Some(now);
            self.used = 0;
        }
        self.used += 1;
        self.used <= ALLOWANCE
    }
}

/// Returns the payload in two parts, the first one being a rewritten VP8 descriptor or empty.
pub(crate) fn split<'a>(
    packet: &Packet<'a>,
    rewritten: &Rewritten,
    buffer: &'a mut [u8; vp8::MAX_LEN],
) -> [&'a [u8]; 2] {
    match (&packet.meta.vp8, &rewritten.vp8) {
        (Some(from), Some(to)) => {
            let rest = packet.payload.get(usize::from(from.len)..);
            let head = from.rewrite(packet.payload, to, buffer);
            [head, rest.unwrap_or_default()]
        }
        (_, _) => [&[], packet.payload],
    }
}

/// The oldest keyframe a newcomer is started with. Publishers ignore requests for 300 ms after one; behind
/// that a fresh keyframe is nearly as fast as a longer burst, after which players lag until they have caught
/// up.
pub(crate) const INSTANT_START: Duration = Duration::from_secs(1);

/// The oldest keyframe at which another layer is switched to: one that is just arriving.
pub(crate) const SWITCH: Duration = Duration::from_millis(50);

/// Most packets sent again for one request.
const MAX_REPEATED: usize = 128;

/// Most packets sent again in [`ALLOWANCE_WINDOW`]: a fifth of a stream of 25 Mbit/s.
const ALLOWANCE: u32 = 500;
const ALLOWANCE_WINDOW: Duration = Duration::from_secs(1);

/// A second request this soon was sent before the answer to the first could arrive.
const REPEAT_GUARD: Duration = Duration::from_millis(20);
