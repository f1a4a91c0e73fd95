//! A room's program in order and with presentation times, for a reader that does not speak WebRTC.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    Codec, MediaKind, ParticipantId, Pt, PublicationId, Ssrc, TapId, TapPacket,
    history::Packet,
    layer::{Layer, Urgency},
    publication::{Publication, Source},
    rewrite::{Rewrite, Rewritten, Start},
    sequence::low16,
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
    /// The room's program: whoever is featured or speaks.
    #[default]
    Program,
    /// One participant, whether they are shown or not: their voice, and their screen if they share one.
    Participant(ParticipantId),
}

/// Packets on their way to the readers of taps, at most [`QUEUE_LIMIT`]. When full, packets are dropped,
/// and video resumes at a keyframe.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    packets: VecDeque<(TapId, TapPacket)>,
}

/// One reader of a room's program. It walks through the history in order; a missing packet is waited for
/// as long as its retransmission is likely to come.
#[derive(Debug)]
pub(crate) struct Tap {
    /// Its id.
    pub(crate) id: TapId,
    source: TapSource,
    audio: Cursor,
    video: Cursor,
    unsupported: Option<PublicationId>,
    told_at: Option<Instant>,
}

/// What came of walking on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walked {
    /// Packets dropped because the queue was full.
    pub(crate) dropped: u64,
    /// Whether what is shown turned out to be in a codec that taps do not yield.
    pub(crate) unsupported: bool,
}

#[derive(Debug)]
struct Cursor {
    kind: MediaKind,
    source: Option<Source>,
    next: u64,
    stalled: Option<Instant>,
    rewrite: Rewrite,
    /// Timestamp and presentation of the newest packet.
    last: Option<(u32, Instant)>,
    keyframe: Option<u32>,
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
        Self {
            id,
            source,
            audio: Cursor::new(MediaKind::Audio),
            video: Cursor::new(MediaKind::Video),
            unsupported: None,
            told_at: None,
        }
    }

    /// Returns the publication that it reads.
    pub(crate) fn shows(
        &self,
        kind: MediaKind,
        stage: &Stage,
        now: Instant,
    ) -> Option<PublicationId> {
        match self.source {
            TapSource::Program => stage.get(View::Program(kind)),
            TapSource::Participant(participant) => stage.best_of(participant, kind, now),
        }
    }

    /// Puts what can be read of audio and video into `queue`. What was read before goes on until another
    /// publication can be begun.
    pub(crate) fn walk(
        &mut self,
        targets: [Option<&Publication>; 2],
        shown: &Shown<'_>,
        queue: &mut Queue,
        now: Instant,
    ) -> Walked {
        let mut walked = Walked::default();
        for (cursor, target) in [&mut self.audio, &mut self.video].into_iter().zip(targets) {
            let Some(publication) = target else {
                continue;
            };
            if !publication.codec.is_tapped() {
                let before = self.unsupported.replace(publication.id);
                walked.unsupported |= before != Some(publication.id);
                self.told_at = cursor.refuse(self.id, publication, self.told_at, queue, now);
            } else {
                cursor.begin_target(publication, now);
                cursor.walk(self.id, shown, queue, &mut walked, now);
            }
        }
        walked
    }

    /// Returns when [`Tap::walk`] wants to be called, whatever arrives.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let cursors = [&self.audio, &self.video];
        cursors.iter().filter_map(|cursor| cursor.deadline()).min()
    }
}

impl Cursor {
    fn new(kind: MediaKind) -> Self {
        Self {
            kind,
            source: None,
            next: 0,
            stalled: None,
            rewrite: Rewrite::new(0, 0),
            last: None,
            keyframe: None,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let hold = match self.kind {
            MediaKind::Audio => AUDIO_HOLD,
            MediaKind::Video => VIDEO_HOLD,
        };
        Some(self.stalled? + hold)
    }

    /// Tells the reader from time to time that what is to be read is in a codec that taps do not yield, unless
    /// it has had something else. Returns when it was told.
    fn refuse(
        &self,
        tap: TapId,
        publication: &Publication,
        told_at: Option<Instant>,
        queue: &mut Queue,
        now: Instant,
    ) -> Option<Instant> {
        let lately = |at: Instant| now.saturating_duration_since(at) < TELL_AGAIN;
        if self.last.is_some() || told_at.is_some_and(lately) || queue.is_full() {
            return told_at;
        }
        let packet = TapPacket {
            codec: publication.codec,
            presentation: now,
            keyframe: false,
            rtp: Bytes::new(),
        };
        queue.packets.push_back((tap, packet));
        Some(now)
    }

    /// Begins what is to be read, if it is something else and can be begun.
    fn begin_target(&mut self, publication: &Publication, now: Instant) {
        let target = Source::top_of(publication);
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

    fn walk(
        &mut self,
        tap: TapId,
        shown: &Shown<'_>,
        queue: &mut Queue,
        walked: &mut Walked,
        now: Instant,
    ) {
        let Some(source) = self.source else { return };
        let Some(publication) = shown.find(source.publication) else {
            return;
        };
        let Some(layer) = source.layer_of(publication) else {
            return;
        };
        while let Some(highest) = layer.highest().filter(|highest| *highest >= self.next) {
            let Some(packet) = layer.packet(self.next) else {
                if !self.pass_gap(layer, highest, now) {
                    return;
                }
                continue;
            };
            if queue.is_full() {
                walked.dropped += highest + 1 - self.next;
                self.next = highest + 1;
                // Audio resumes with the next packet, video at a keyframe.
                if self.kind == MediaKind::Video {
                    self.source = None;
                    layer.ask(Urgency::Now);
                }
                return;
            }
            self.next += 1;
            self.stalled = None;
            self.deliver(tap, &packet, publication.codec, queue);
        }
    }

    fn begin(&mut self, source: Source, first: u64, layer: &Layer, codec: Codec) {
        if let Some(packet) = layer.packet(first) {
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
    let [head, tail] = crate::subscription::split(packet, rewritten);
    for part in [head, tail] {
        rtp.put_slice(part);
    }
    rtp.freeze()
}

/// Several seconds of a rich stream, in case the driver is slow to read.
const QUEUE_LIMIT: usize = 4096;

/// How often a reader that never got any video is told that it is in a codec that taps do not yield.
const TELL_AGAIN: Duration = Duration::from_secs(1);

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
    };

    struct Fixture {
        video: Publication,
        tap: Tap,
        queue: Queue,
        remote: RemoteClock,
        t0: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                video: Publication::new(PublicationId(1), PeerId(1), Codec::H264, 1, 64),
                tap: Tap::new(TapId(9), TapSource::Program),
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
            let now = self.t0 + Duration::from_millis(ms);
            let server = ServerClock::new(Duration::ZERO, self.t0);
            self.video.published = true;
            self.video.layers[0]
                .receive(&packet, server, &mut self.remote, now)
                .unwrap();
            self.video.refresh(now);
        }

        fn walk(&mut self, ms: u64) -> Vec<(u16, u8, bool)> {
            let shown = Shown::new(std::slice::from_ref(&self.video));
            let now = self.t0 + Duration::from_millis(ms);
            self.tap
                .walk([None, Some(&self.video)], &shown, &mut self.queue, now);
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
    fn says_that_a_codec_is_not_for_it() {
        let mut f = Fixture::new();
        f.video = Publication::new(PublicationId(1), PeerId(1), Codec::Av1, 1, 64);
        for (ms, expected) in [(0, 1), (500, 0), (1000, 1)] {
            let shown = Shown::new(std::slice::from_ref(&f.video));
            let now = f.t0 + Duration::from_millis(ms);
            let walked = f
                .tap
                .walk([None, Some(&f.video)], &shown, &mut f.queue, now);
            assert_eq!(walked.unsupported, ms == 0, "counted once");
            let told: Vec<_> = std::iter::from_fn(|| f.queue.pop()).collect();
            assert_eq!(told.len(), expected, "{ms} ms");
            let is_empty = |(_, p): &(TapId, TapPacket)| p.codec == Codec::Av1 && p.rtp.is_empty();
            assert!(told.iter().all(is_empty));
        }
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
    fn a_full_queue_drops_and_resumes_at_a_keyframe() {
        let mut f = Fixture::new();
        let filler = TapPacket {
            codec: Codec::H264,
            presentation: f.t0,
            keyframe: false,
            rtp: Bytes::new(),
        };
        f.queue.packets.resize(QUEUE_LIMIT, (TapId(1), filler));
        f.receive(1, 0, &[0x65, 1], 0);
        let shown = Shown::new(std::slice::from_ref(&f.video));
        let walked = f
            .tap
            .walk([None, Some(&f.video)], &shown, &mut f.queue, f.t0);
        assert_eq!(walked.dropped, 1);
        f.video.layers[0].forwarded();
        assert!(f.video.layers[0].keyframes.poll_send(f.t0 + START));
        f.queue.remove(TapId(1));
        f.receive(2, 100, &[0x41, 2], 400);
        assert_eq!(f.walk(400), []);
        f.receive(3, 200, &[0x65, 3], 401);
        assert_eq!(f.walk(401), [(0, 3, true)]);
    }
}
