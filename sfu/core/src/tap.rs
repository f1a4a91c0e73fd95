//! A room's media in order and with presentation times, for a reader that does not speak WebRTC.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    Codec, MediaKind, ParticipantId, Pt, PublicationId, Ssrc, TapId, TapPacket,
    history::Packet,
    layer::{Layer, Urgency},
    publication::{Publication, Source},
    red,
    rewrite::{Rewrite, Rewritten, Start},
    sequence::{low16, low32},
    slot::{Shown, View},
    stage::Stage,
};

impl Codec {
    /// Returns the payload type of this codec in a [`TapPacket`].
    pub fn tap_pt(self) -> Pt {
        match self {
            Self::H264 => Pt(96),
            Self::Vp8 => Pt(97),
            Self::Vp9 => Pt(98),
            Self::Av1 => Pt(99),
            Self::Opus => Pt(111),
        }
    }
}

impl MediaKind {
    /// Returns the SSRC of this kind of media in a [`TapPacket`].
    pub fn tap_ssrc(self) -> Ssrc {
        match self {
            Self::Audio => Ssrc(1),
            Self::Video => Ssrc(2),
        }
    }
}

/// What a tap reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TapSource {
    /// The room's program: whoever is featured or speaks. Lane 0.
    #[default]
    Program,
    /// Everybody on stage: the video of every slot, and the audio of everybody, each publication in the lane that
    /// [`PublicationId::lane`] says.
    Stage,
    /// One participant, whether they are shown or not: their voice, and their screen if they share one. Lane 0.
    Participant(ParticipantId),
    /// One track of a participant: the n-th of its kind, in the order of their m-lines. Lane 0.
    Track {
        /// Whose.
        participant: ParticipantId,
        /// Audio or video.
        kind: MediaKind,
        /// Which of theirs, from 0 on.
        position: usize,
    },
}

/// How much of the video a tap yields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TapVideo {
    /// None: the reader wants sound only.
    None,
    /// The best layer there is.
    #[default]
    Best,
    /// Lane 0 as with [`TapVideo::Best`]; besides, lane n is the n-th simulcast layer from the top, from 1 on,
    /// and silent while that layer is. All count as wanted. Makes no difference to [`TapSource::Stage`].
    Layers,
}

impl PublicationId {
    /// Returns the lane in which [`TapSource::Stage`] yields this publication.
    pub fn lane(self) -> u32 {
        low32(self.0)
    }
}

/// Packets on their way to the readers of taps, at most [`QUEUE_LIMIT`]. When full, packets are dropped,
/// and video resumes at a keyframe.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    packets: VecDeque<(TapId, TapPacket)>,
}

/// One reader of a room's media. It walks through the history in order; a missing packet is waited for
/// as long as its retransmission is likely to come.
#[derive(Debug)]
pub(crate) struct Tap {
    /// Its id.
    pub(crate) id: TapId,
    source: TapSource,
    video: TapVideo,
    /// How many layers below the top the reader wants of a lane; 0 of those that are not listed.
    layers: BTreeMap<u32, usize>,
    lanes: Vec<Lane>,
}

/// One continuous stream that a tap yields.
#[derive(Debug)]
struct Lane {
    /// What the reader knows it by.
    number: u32,
    reads: Reads,
    cursor: Cursor,
}

/// What a lane reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reads {
    /// What the reader wants of what the tap shows of the lane's kind: the best layer, unless it said so.
    Best,
    /// That layer, counted from the top.
    Layer(usize),
    /// The same of this publication.
    Publication(PublicationId),
}

#[derive(Debug)]
struct Cursor {
    kind: MediaKind,
    lane: u32,
    source: Option<Source>,
    next: u64,
    stalled: Option<Instant>,
    rewrite: Rewrite,
    /// Timestamp and presentation of the newest packet.
    last: Option<(u32, Instant)>,
    keyframe: Option<u32>,
    /// Whether the newest packet is not the last of its picture.
    amid_picture: bool,
}

impl Queue {
    /// Returns the next packet.
    pub(crate) fn pop(&mut self) -> Option<(TapId, TapPacket)> {
        self.packets.pop_front()
    }

    /// Forgets the packets of one tap.
    pub(crate) fn remove(&mut self, tap: TapId) {
        self.packets.retain(|(id, _)| *id != tap);
    }

    fn is_full(&self) -> bool {
        self.packets.len() >= QUEUE_LIMIT
    }
}

impl Tap {
    /// Creates a tap that starts at the next keyframe.
    pub(crate) fn new(id: TapId, source: TapSource) -> Self {
        let mut tap = Self {
            id,
            source,
            video: TapVideo::default(),
            layers: BTreeMap::new(),
            lanes: Vec::new(),
        };
        tap.set_video(TapVideo::default());
        tap
    }

    /// Changes how much of the video it yields.
    pub(crate) fn set_video(&mut self, video: TapVideo) {
        self.video = video;
        self.lanes.retain(|lane| match lane.reads {
            Reads::Best => lane.cursor.kind == MediaKind::Audio || video != TapVideo::None,
            Reads::Layer(_) => video == TapVideo::Layers,
            Reads::Publication(_) => true,
        });
        if self.source == TapSource::Stage {
            return;
        }
        self.open(MediaKind::Audio, 0, Reads::Best);
        if video != TapVideo::None {
            self.open(MediaKind::Video, 0, Reads::Best);
        }
    }

    /// Changes which layer a lane's video is of: that many below the top. 0 for lanes that are not listed.
    pub(crate) fn set_layers(&mut self, layers: BTreeMap<u32, usize>) {
        self.layers = layers;
    }

    /// Returns whether it yields video.
    pub(crate) fn has_video(&self) -> bool {
        self.video != TapVideo::None
    }

    /// Returns which layers of a publication it wants, a bit each.
    pub(crate) fn aims_at(&self, publication: &Publication, stage: &Stage, now: Instant) -> u8 {
        let kind = publication.kind();
        if kind == MediaKind::Audio || self.video == TapVideo::None {
            return 0;
        }
        let below_top = |lane| self.layers.get(&lane).copied().unwrap_or(0);
        match (self.source, self.video) {
            (TapSource::Stage, _) if stage.is_shown(publication.id) => {
                aims(publication, below_top(publication.id.lane()))
            }
            (TapSource::Stage, _) => 0,
            (..) if self.shows(kind, stage, now) != Some(publication.id) => 0,
            (_, TapVideo::Layers) => (0..publication.layers.len()).fold(0, |all, n| all | 1 << n),
            (_, TapVideo::Best | TapVideo::None) => aims(publication, below_top(0)),
        }
    }

    /// Returns the publication that it reads; [`TapSource::Stage`] reads many.
    pub(crate) fn shows(
        &self,
        kind: MediaKind,
        stage: &Stage,
        now: Instant,
    ) -> Option<PublicationId> {
        match self.source {
            TapSource::Program => stage.get(View::Program(kind)),
            TapSource::Stage => None,
            TapSource::Participant(participant) => stage.best_of(participant, kind, now),
            TapSource::Track {
                participant,
                kind: of,
                position,
            } if of == kind => stage.nth_of(participant, kind, position),
            TapSource::Track { .. } => None,
        }
    }

    /// Puts what can be read into `queue`. What was read before goes on until another publication can be begun.
    /// Returns how many packets were dropped because the queue was full.
    pub(crate) fn walk(
        &mut self,
        stage: &Stage,
        shown: &Shown<'_>,
        queue: &mut Queue,
        now: Instant,
    ) -> u64 {
        let shows = [MediaKind::Audio, MediaKind::Video].map(|kind| self.shows(kind, stage, now));
        let [audio, video] = shows.map(|id| id.and_then(|id| shown.find(id)));
        self.open_lanes(video, stage);
        let mut dropped = 0;
        for lane in &mut self.lanes {
            let publication = match (lane.reads, lane.cursor.kind) {
                (Reads::Publication(id), _) => shown.find(id),
                (_, MediaKind::Audio) => audio,
                (_, MediaKind::Video) => video,
            };
            if let Some(publication) = publication {
                let below_top = self.layers.get(&lane.number).copied().unwrap_or(0);
                let target = lane.target(publication, below_top);
                lane.cursor.begin_target(publication, target, now);
                dropped += lane.cursor.walk(self.id, shown, queue, now);
            }
        }
        dropped
    }

    /// Returns when [`Tap::walk`] wants to be called, whatever arrives.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let lanes = self.lanes.iter();
        lanes.filter_map(|lane| lane.cursor.deadline()).min()
    }

    /// Opens the lanes of what has come, and forgets those of what has gone for good.
    fn open_lanes(&mut self, video: Option<&Publication>, stage: &Stage) {
        if self.source == TapSource::Stage {
            self.lanes.retain(|lane| match lane.reads {
                Reads::Publication(id) => stage.owner_of(id).is_some(),
                Reads::Best | Reads::Layer(_) => true,
            });
            let wants_video = self.video != TapVideo::None;
            for (id, kind) in stage.performing() {
                if kind == MediaKind::Audio || wants_video && stage.is_shown(id) {
                    self.open(kind, id.lane(), Reads::Publication(id));
                }
            }
        } else if self.video == TapVideo::Layers {
            let layers = video.map_or(0, |publication| publication.layers.len());
            for (number, from_top) in (1..).zip(1..layers) {
                self.open(MediaKind::Video, number, Reads::Layer(from_top));
            }
        }
    }

    fn open(&mut self, kind: MediaKind, number: u32, reads: Reads) {
        let is_same = |lane: &Lane| lane.cursor.kind == kind && lane.reads == reads;
        if !self.lanes.iter().any(is_same) {
            self.lanes.push(Lane {
                number,
                reads,
                cursor: Cursor::new(kind, number),
            });
        }
    }
}

impl Lane {
    /// Returns what it is to read of what is shown.
    fn target(&self, publication: &Publication, below_top: usize) -> Option<Source> {
        let layer = match self.reads {
            Reads::Best | Reads::Publication(_) => chosen(publication, below_top),
            Reads::Layer(from_top) => publication.layer_from_top(from_top),
        };
        Source::of(publication, layer?)
    }
}

/// Returns the layer that is `below_top` steps below the top of those that were offered; while it does not flow the
/// next richer one, and the best where there is none.
fn chosen(publication: &Publication, below_top: usize) -> Option<usize> {
    let wanted = below_top.min(publication.layers.len().saturating_sub(1));
    let mut richer = (0..=wanted).rev();
    let flowing = (below_top > 0).then(|| richer.find_map(|n| publication.layer_from_top(n)));
    let best = || Some(usize::from(publication.top()?.layer));
    flowing.flatten().or_else(best)
}

/// Returns the layers to ask for, a bit each: what is wanted, and what is read until that comes.
fn aims(publication: &Publication, below_top: usize) -> u8 {
    let wanted = below_top.min(publication.layers.len().saturating_sub(1));
    let wanted = (below_top > 0).then(|| publication.offered_from_top(wanted));
    let layers = [chosen(publication, below_top), wanted.flatten()];
    layers.into_iter().flatten().fold(0, |all, n| all | 1 << n)
}

impl Cursor {
    fn new(kind: MediaKind, lane: u32) -> Self {
        Self {
            kind,
            lane,
            source: None,
            next: 0,
            stalled: None,
            rewrite: Rewrite::new(0, 0),
            last: None,
            keyframe: None,
            amid_picture: false,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let hold = match self.kind {
            MediaKind::Audio => AUDIO_HOLD,
            MediaKind::Video => VIDEO_HOLD,
        };
        Some(self.stalled? + hold)
    }

    /// Begins what is to be read, if it is something else and can be begun.
    fn begin_target(&mut self, publication: &Publication, target: Option<Source>, now: Instant) {
        let Some(target) = target.filter(|target| self.source != Some(*target)) else {
            return;
        };
        let Some(layer) = target.layer_of(publication) else {
            return;
        };
        let oldest = match self.source {
            Some(source) if source.publication == target.publication => SWITCH,
            Some(_) | None => START,
        };
        match layer.starting_point(oldest, now) {
            Some(first) => self.begin(target, first, layer, publication.codec),
            None if self.kind == MediaKind::Audio || layer.is_keyframe_arriving() => {}
            None => layer.ask(Urgency::Now),
        }
    }

    fn walk(&mut self, tap: TapId, shown: &Shown<'_>, queue: &mut Queue, now: Instant) -> u64 {
        let Some(source) = self.source else { return 0 };
        let Some(publication) = shown.find(source.publication) else {
            return 0;
        };
        let Some(layer) = source.layer_of(publication) else {
            return 0;
        };
        while let Some(highest) = layer.highest().filter(|highest| *highest >= self.next) {
            let Some(packet) = layer.packet(self.next) else {
                if !self.pass_gap(layer, highest, now) {
                    return 0;
                }
                continue;
            };
            if queue.is_full() {
                let dropped = highest + 1 - self.next;
                self.next = highest + 1;
                // Audio resumes with the next packet, video at a keyframe.
                if self.kind == MediaKind::Video {
                    self.source = None;
                    layer.ask(Urgency::Now);
                }
                return dropped;
            }
            self.next += 1;
            self.stalled = None;
            self.deliver(tap, &packet, publication.codec, queue);
        }
        0
    }

    fn begin(&mut self, source: Source, first: u64, layer: &Layer, codec: Codec) {
        if let Some(packet) = layer.packet(first) {
            if std::mem::take(&mut self.amid_picture) {
                // A reader would take the half picture for a whole one.
                self.rewrite.break_off();
            }
            self.rewrite.begin(&Start {
                source,
                first: packet,
                live: None,
                rate: codec.clock_rate(),
                is_elastic: self.kind == MediaKind::Video,
            });
            self.source = Some(source);
            self.next = first;
            self.stalled = None;
            self.keyframe = None;
        }
    }

    /// Decides about a missing packet; returns whether to go on behind it.
    fn pass_gap(&mut self, layer: &Layer, highest: u64, now: Instant) -> bool {
        self.stalled.get_or_insert(now);
        let overdue = self.deadline().is_some_and(|deadline| now >= deadline);
        let overrun = highest - self.next >= layer.capacity();
        if !overdue && !overrun {
            return false;
        }
        let oldest = self
            .next
            .max((highest + 1).saturating_sub(layer.capacity()));
        let present = (oldest..=highest).find(|index| layer.packet(*index).is_some());
        self.next = present.unwrap_or(highest + 1);
        self.stalled = None;
        true
    }

    fn deliver(&mut self, tap: TapId, packet: &Packet<'_>, codec: Codec, queue: &mut Queue) {
        if packet.payload.is_empty() {
            self.rewrite.leave_out(packet.index, false);
            return;
        }
        let Some(rewritten) = self.rewrite.apply(packet, packet.meta.received) else {
            return;
        };
        let presentation = match self.last {
            Some((timestamp, at)) if timestamp == rewritten.timestamp => at,
            Some((_, at)) => packet.meta.presentation.max(at),
            None => packet.meta.presentation,
        };
        self.last = Some((rewritten.timestamp, presentation));
        self.amid_picture = self.kind == MediaKind::Video && !rewritten.marker;
        let keyframe = match self.kind {
            MediaKind::Audio => true,
            MediaKind::Video => {
                let new = self.keyframe != Some(rewritten.timestamp);
                packet.meta.keyframe && new
            }
        };
        if keyframe {
            self.keyframe = Some(rewritten.timestamp);
        }
        let packet = TapPacket {
            lane: self.lane,
            codec,
            presentation,
            keyframe,
            rtp: write(packet, &rewritten, codec),
        };
        queue.packets.push_back((tap, packet));
    }
}

/// Writes an RTP packet (RFC 3550 §5.1).
fn write(packet: &Packet<'_>, rewritten: &Rewritten, codec: Codec) -> Bytes {
    let mut rtp = BytesMut::with_capacity(12 + packet.payload.len());
    rtp.put_u8(0x80);
    rtp.put_u8(u8::from(rewritten.marker) << 7 | codec.tap_pt().0);
    rtp.put_u16(low16(u64::from(rewritten.seq)));
    rtp.put_u32(rewritten.timestamp);
    rtp.put_u32(codec.kind().tap_ssrc().0);
    let payload = match packet.meta.is_red {
        // Nothing is lost on the way to a reader: it gets the audio without what it repeats.
        true => [&[], red::primary(packet.payload).unwrap_or_default()],
        false => crate::subscription::split(packet, rewritten),
    };
    for part in payload {
        rtp.put_slice(part);
    }
    rtp.freeze()
}

/// Several seconds of a rich stream, in case the driver is slow to read.
const QUEUE_LIMIT: usize = 4096;

/// How long a missing video packet is waited for: the wait before the first request, two round trips.
const VIDEO_HOLD: Duration = Duration::from_millis(200);

/// Audio is not asked for again; this only sorts.
const AUDIO_HOLD: Duration = Duration::from_millis(60);

/// The oldest keyframe at which another layer is switched to: one that is just arriving, since a tap cannot
/// present pictures faster than they came.
const SWITCH: Duration = Duration::from_millis(50);

/// The oldest keyframe a tap starts with. Its audio starts at the live edge, so that an older picture would
/// be alone for that long.
const START: Duration = Duration::from_millis(300);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        PeerId,
        clock::{RemoteClock, ServerClock},
        layer::Arrival,
        slot::Owner,
    };

    struct Fixture {
        video: Publication,
        stage: Stage,
        tap: Tap,
        queue: Queue,
        remote: RemoteClock,
        t0: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let video = Publication::new(PublicationId(1), PeerId(1), Codec::H264, 1, 64);
            let (participant, position) = (ParticipantId(1), 0);
            let mut stage = Stage::default();
            stage.enter(
                &video,
                Owner {
                    participant,
                    position,
                },
            );
            let source = TapSource::Track {
                participant,
                kind: MediaKind::Video,
                position,
            };
            Self {
                video,
                stage,
                tap: Tap::new(TapId(9), source),
                queue: Queue::default(),
                remote: RemoteClock::default(),
                t0: Instant::now(),
            }
        }

        fn receive(&mut self, seq: u16, timestamp: u32, payload: &[u8], ms: u64) {
            let packet = Arrival {
                seq,
                timestamp,
                marker: true,
                payload,
                ..Arrival::default()
            };
            self.arrive(&packet, ms);
        }

        fn arrive(&mut self, packet: &Arrival<'_>, ms: u64) {
            let now = self.t0 + Duration::from_millis(ms);
            let server = ServerClock::new(Duration::ZERO, self.t0);
            self.video.published = true;
            self.video.layers[0]
                .receive(packet, server, &mut self.remote, now)
                .unwrap();
            self.video.refresh(now);
        }

        /// Walks with a full queue; returns how many packets were dropped.
        fn walk_full(&mut self, ms: u64) -> u64 {
            let filler = TapPacket {
                lane: 0,
                codec: Codec::H264,
                presentation: self.t0,
                keyframe: false,
                rtp: Bytes::new(),
            };
            self.queue.packets.resize(QUEUE_LIMIT, (TapId(1), filler));
            let shown = Shown::new(std::slice::from_ref(&self.video));
            let now = self.t0 + Duration::from_millis(ms);
            let dropped = self.tap.walk(&self.stage, &shown, &mut self.queue, now);
            self.video.layers[0].forwarded();
            self.queue.remove(TapId(1));
            dropped
        }

        fn walk(&mut self, ms: u64) -> Vec<(u16, u8, bool)> {
            let shown = Shown::new(std::slice::from_ref(&self.video));
            let now = self.t0 + Duration::from_millis(ms);
            self.tap.walk(&self.stage, &shown, &mut self.queue, now);
            self.video.layers[0].forwarded();
            std::iter::from_fn(|| self.queue.pop())
                .map(|(_, p)| {
                    let seq = u16::from_be_bytes([p.rtp[2], p.rtp[3]]);
                    (seq, p.rtp[13], p.keyframe)
                })
                .collect()
        }
    }

    #[test]
    fn starts_at_a_keyframe_and_keeps_order() {
        let mut f = Fixture::new();
        f.receive(1, 0, &[0x41, 1], 0);
        assert_eq!(f.walk(0), []);
        f.receive(2, 100, &[0x67, 2], 1);
        f.receive(3, 100, &[0x65, 3], 1);
        f.receive(5, 200, &[0x41, 5], 2);
        assert_eq!(f.walk(2), [(0, 2, true), (1, 3, false)]);
        f.receive(4, 200, &[0x41, 4], 3);
        assert_eq!(f.walk(3), [(2, 4, false), (3, 5, false)]);
    }

    #[test]
    fn yields_what_repeats_itself_once() {
        let mut f = Fixture::new();
        // One block header, whose bits also read as those of a keyframe, and two bytes.
        let packet = Arrival {
            seq: 1,
            marker: true,
            payload: &[0x65, 8, 9],
            red: true,
            ..Arrival::default()
        };
        f.arrive(&packet, 0);
        assert_eq!(f.walk(0), [(0, 9, true)]);
    }

    #[test]
    fn goes_on_when_a_packet_does_not_come() {
        let mut f = Fixture::new();
        f.receive(1, 0, &[0x65, 1], 0);
        f.receive(3, 0, &[0x41, 3], 1);
        assert_eq!(f.walk(1), [(0, 1, true)]);
        assert_eq!(
            f.tap.poll_timeout(),
            Some(f.t0 + Duration::from_millis(201))
        );
        assert_eq!(f.walk(200), []);
        assert_eq!(f.walk(201), [(2, 3, false)], "the gap shows");
        assert_eq!(f.tap.poll_timeout(), None);
    }

    #[test]
    fn late_padding_leaves_no_gap() {
        let mut f = Fixture::new();
        f.receive(1, 0, &[0x65, 1], 0);
        f.receive(3, 1, &[0x41, 3], 0);
        f.receive(2, 0, &[], 0);
        assert_eq!(f.walk(0), [(0, 1, true), (1, 3, false)]);
    }

    #[test]
    fn a_gap_shows_where_a_picture_breaks_off() {
        let mut f = Fixture::new();
        f.receive(1, 0, &[0x65, 1], 0);
        assert_eq!(f.walk(0), [(0, 1, true)]);
        f.receive(2, 100, &[0x41, 2], 1);
        assert_eq!(f.walk_full(1), 1);
        f.receive(3, 200, &[0x65, 3], 401);
        let amid_picture = Arrival {
            seq: 4,
            timestamp: 300,
            payload: &[0x41, 4],
            ..Arrival::default()
        };
        f.arrive(&amid_picture, 402);
        assert_eq!(f.walk(402), [(1, 3, true), (2, 4, false)], "none yet");
        f.receive(5, 300, &[0x41, 5], 403);
        assert_eq!(f.walk_full(403), 1);
        f.receive(6, 400, &[0x65, 6], 404);
        f.receive(7, 500, &[0x41, 7], 405);
        assert_eq!(f.walk(405), [(4, 6, true), (5, 7, false)], "3 is left out");
    }

    #[test]
    fn a_full_queue_drops_and_resumes_at_a_keyframe() {
        let mut f = Fixture::new();
        f.receive(1, 0, &[0x65, 1], 0);
        assert_eq!(f.walk_full(0), 1);
        assert!(f.video.layers[0].keyframes.poll_send(f.t0 + START));
        f.receive(2, 100, &[0x41, 2], 400);
        assert_eq!(f.walk(400), []);
        f.receive(3, 200, &[0x65, 3], 401);
        assert_eq!(f.walk(401), [(0, 3, true)]);
    }
}
