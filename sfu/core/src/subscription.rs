//! One forwarded track: what a viewer receives in one slot.

mod repeat;
mod seal;
mod sent;
mod way;

use std::time::{Duration, Instant};

use crate::{
    MediaKind, PublicationId,
    flow::Sender,
    ladder::Rung,
    layer::{Layer, Urgency},
    publication::{Publication, Source},
    reading::Reading,
    repeat::Repeats,
    rewrite::{Rewrite, Start},
    rng::Rng,
    slot::View,
    transport::{Carried, CodecPt, SendHeader, SendStream},
};

pub(crate) use seal::split;
pub(crate) use sent::{Repeated, SenderState, Sent};
use way::Way;

/// One participant's receipt of whatever its slot shows. What every packet needs comes first, in neighbouring cache
/// lines.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Subscription {
    /// Audio or video.
    pub(crate) kind: MediaKind,
    /// What its m-line shows.
    pub(crate) view: View,
    /// The publication of which everything is forwarded as it comes: there is nothing to do while nothing comes.
    settled: Option<PublicationId>,
    /// What was last found in `codecs`.
    codec: Option<CodecPt>,
    /// What the viewer was told it receives.
    pub(crate) stream: SendStream,
    packets: u32,
    octets: u32,
    /// Changes of what is forwarded of a publication.
    switches: u32,
    /// Times at which the viewer could not be sent everything: pictures are missing.
    gaps: u32,
    target: Target,
    reading: Option<Reading>,
    rewrite: Rewrite,
    /// Whether it lost its place because it could not keep up.
    lagged: bool,
    codecs: Vec<CodecPt>,
    unsupported: Option<PublicationId>,
    rtx_seq: u32,
    repeats: Repeats,
}

/// What is to be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// The best there is.
    Top,
    /// This, or what is next to it.
    Rung(Rung),
    /// Nothing.
    Paused,
}

impl Subscription {
    /// Creates a subscription for a viewer that can receive `codecs`. It aims at the best quality.
    pub(crate) fn new(view: View, stream: SendStream, codecs: Vec<CodecPt>, rng: &mut Rng) -> Self {
        Self {
            kind: view.kind(),
            view,
            settled: None,
            codec: None,
            stream,
            codecs,
            target: Target::Top,
            reading: None,
            lagged: false,
            unsupported: None,
            rewrite: Rewrite::new(rng.next_u32(), rng.next_u32()),
            rtx_seq: rng.next_u32() & 0x7fff,
            repeats: Repeats::default(),
            packets: 0,
            octets: 0,
            switches: 0,
            gaps: 0,
        }
    }

    /// Says which quality to forward; `None` pauses. What is forwarded follows at the next keyframe or
    /// switching point.
    pub(crate) fn set_target(&mut self, target: Option<Rung>) {
        self.target = target.map_or(Target::Paused, Target::Rung);
    }

    /// Returns the quality that is being forwarded, with the bitrate it had when it was chosen.
    pub(crate) fn current(&self) -> Option<Rung> {
        self.reading.as_ref().map(|reading| reading.rung)
    }

    /// Returns whether it has a stream for padding, on which the viewer reports.
    pub(crate) fn can_pad(&self) -> bool {
        self.stream.is_reported && self.codecs.iter().any(|codec| codec.rtx.is_some())
    }

    /// Sends a packet of nothing but padding on the retransmission stream. Returns its length, 0 where there
    /// is no such stream.
    pub(crate) fn pad(&mut self, sender: &mut Sender<'_>) -> usize {
        let Some(rtx) = self.codecs.iter().find_map(|codec| codec.rtx) else {
            return 0;
        };
        let header = SendHeader {
            marker: false,
            pt: rtx,
            seq: self.rtx_seq,
            timestamp: 0,
            ssrc: self.stream.rtx_ssrc,
            padding: PADDING_LEN,
        };
        self.rtx_seq = self.rtx_seq.wrapping_add(1);
        sender.send(
            &header,
            self.stream.is_reported,
            &Carried::default(),
            [&[], &[]],
        )
    }

    /// Returns what was sent: packets and payload bytes.
    pub(crate) fn counts(&self) -> (u32, u32) {
        (self.packets, self.octets)
    }

    /// Returns how often the quality changed, and how often pictures were left out for want of room.
    pub(crate) fn disturbances(&self) -> (u32, u32) {
        (self.switches, self.gaps)
    }

    /// Returns the stream that is being forwarded.
    pub(crate) fn source(&self) -> Option<Source> {
        self.reading.as_ref().map(|reading| reading.source)
    }

    /// Returns whether a keyframe request for this stream concerns `publication`.
    pub(crate) fn shows(&self, publication: PublicationId) -> bool {
        self.source()
            .is_some_and(|source| source.publication == publication)
    }

    /// Returns whether it waits for the first keyframe of a publication while it sends another one.
    pub(crate) fn is_waiting_for(&self, publication: &Publication) -> bool {
        let source = self.source();
        source.is_some_and(|s| s.publication != publication.id)
            && self.codecs.iter().any(|c| c.codec == publication.codec)
    }

    /// Returns what of a publication it forwards or is about to.
    pub(crate) fn aims_at(&self, publication: &Publication) -> Option<Rung> {
        self.shows(publication.id)
            .then(|| self.aim(publication))
            .flatten()
    }

    /// Returns the layer of a publication that it would forward if its slot showed it.
    pub(crate) fn wants_of(&self, publication: &Publication) -> Option<u8> {
        let mut codecs = self.codecs.iter();
        let can = codecs.any(|codec| codec.codec == publication.codec);
        let aim = can.then(|| self.aim(publication)).flatten();
        aim.map(|rung| rung.layer)
    }

    /// Returns what is to be forwarded of a publication; `None` for nothing.
    fn aim(&self, publication: &Publication) -> Option<Rung> {
        match self.target {
            Target::Top => publication.top(),
            Target::Rung(rung) => publication.nearest(rung),
            Target::Paused => None,
        }
    }

    /// Reads what [`Subscription::forward`] will; see [`Peer::warm`](crate::peer::Peer::warm).
    pub(crate) fn warm(&self) -> u64 {
        let next = self.reading.as_ref().map_or(0, |reading| reading.next);
        next ^ u64::from(self.packets) ^ self.rewrite.warm()
    }

    /// Like [`Subscription::warm`], behind what that has read.
    pub(crate) fn warm_lists(&self) -> u64 {
        self.rewrite.warm_runs()
    }

    /// Its slot shows nothing.
    pub(crate) fn stop(&mut self) {
        self.settled = None;
        self.reading = None;
    }

    /// Sends what arrived of the publication that its slot shows.
    ///
    /// A new publication or layer is begun at a keyframe, from the history if that holds a recent one;
    /// until then the present layer goes on. A newcomer is sent everything since the keyframe, as fast as
    /// the path has room, each picture dated by its sending, so that it stands at the live edge afterwards.
    pub(crate) fn forward(&mut self, publication: &Publication, sender: &mut Sender<'_>) -> Sent {
        if publication.is_quiet && self.settled == Some(publication.id) {
            return Sent::default();
        }
        let before = self.disturbances();
        let mut sent = self.advance(publication, sender);
        let (switches, gaps) = self.disturbances();
        sent.switches = u64::from(switches.wrapping_sub(before.0));
        sent.gaps = u64::from(gaps.wrapping_sub(before.1));
        sent
    }

    fn advance(&mut self, publication: &Publication, sender: &mut Sender<'_>) -> Sent {
        let mut sent = Sent::default();
        self.settled = None;
        let Some(codec) = self.find_codec(publication) else {
            sent.unsupported = self.unsupported.replace(publication.id) != Some(publication.id);
            return sent;
        };
        if self.target == Target::Paused {
            let was_shown = self.reading.take().is_some();
            self.gaps = self.gaps.wrapping_add(u32::from(was_shown));
            return sent;
        }
        let reads_descriptors = sender.transport.has_dependency_descriptor();
        let aim = match self.aim(publication) {
            Some(aim) if reads_descriptors => Some(aim),
            Some(aim) => Some(publication.without_descriptor(aim)),
            None => publication.beginning(reads_descriptors),
        };
        self.approach(publication, aim, sender.now, &mut sent);
        let is_of_it = |reading: &mut Reading| reading.source.publication == publication.id;
        let Some(mut reading) = self.reading.take_if(is_of_it) else {
            return sent;
        };
        if let Some(layer) = reading.source.layer_of(publication) {
            let aim = aim.filter(|aim| usize::from(aim.layer) == reading.source.layer);
            let aim = aim.unwrap_or(reading.rung);
            let mut to = Way {
                subscription: self,
                codec,
                sender,
                sent: &mut sent,
            };
            let before = reading.rung;
            let goes_on = to.forward(&mut reading, layer, &aim);
            let is_other = !reading.rung.is_same(before);
            self.switches = self.switches.wrapping_add(u32::from(is_other));
            self.gaps = self.gaps.wrapping_add(u32::from(!goes_on));
            if goes_on && !self.skips(&reading, layer, sender.now) {
                self.settled = reading.is_direct().then_some(publication.id);
                self.reading = Some(reading);
            }
        }
        sent
    }

    /// Returns what a sender report at `micros` says; `None` while nothing is sent.
    pub(crate) fn sender_state(
        &self,
        publication: &Publication,
        micros: i64,
    ) -> Option<SenderState> {
        let layer = self.source()?.layer_of(publication)?;
        let timestamp = layer.clock.timestamp_at(micros)?;
        Some(SenderState {
            ssrc: self.stream.ssrc,
            timestamp: timestamp.wrapping_add(self.rewrite.timestamp_shift()),
            packets: self.packets,
            octets: self.octets,
        })
    }

    /// Begins what is aimed at, if it is another stream and can be begun.
    fn approach(
        &mut self,
        publication: &Publication,
        aim: Option<Rung>,
        now: Instant,
        sent: &mut Sent,
    ) {
        let Some(aim) = aim else { return };
        let Some(target) = Source::of(publication, usize::from(aim.layer)) else {
            return;
        };
        if self.source() == Some(target) {
            return;
        }
        let Some(layer) = target.layer_of(publication) else {
            return;
        };
        layer.note_reader(&aim);
        match layer.starting_point(self.oldest_start(publication), now) {
            Some(first) => sent.began = self.begin(target, aim, first, layer, now),
            None if self.kind == MediaKind::Audio || layer.is_keyframe_arriving() => {}
            None if self.lagged => layer.ask(Urgency::Sometime),
            None if self.climbs(publication, aim) => layer.ask(Urgency::Soon),
            None => layer.ask(Urgency::Now),
        }
    }

    fn begin(
        &mut self,
        source: Source,
        rung: Rung,
        first: u64,
        layer: &Layer,
        now: Instant,
    ) -> bool {
        let Some(packet) = layer.packet(first) else {
            return false;
        };
        let is_elastic = self.kind == MediaKind::Video;
        if let Some(before) = self
            .source()
            .filter(|s| s.publication == source.publication)
        {
            let is_switch = before.layer != source.layer;
            self.switches = self.switches.wrapping_add(u32::from(is_switch));
        }
        self.rewrite.begin(&Start {
            source,
            first: packet,
            live: layer.newest().filter(|_| is_elastic),
            rate: layer.clock_rate(),
            is_elastic,
        });
        self.reading = Some(Reading::new(source, rung, first, now));
        self.lagged = false;
        true
    }

    /// Returns how old a keyframe may be to begin with. Whoever watches the same publication goes on
    /// watching until there is a new one, unless what it watches has ended.
    fn oldest_start(&self, publication: &Publication) -> Duration {
        let goes_on = |source: Source| {
            let layer = source.layer_of(publication);
            let mut ladder = publication.ladder().iter();
            layer.is_some() && ladder.any(|rung| usize::from(rung.layer) == source.layer)
        };
        match self.source() {
            Some(source) if goes_on(source) => SWITCH,
            Some(_) | None => INSTANT_START,
        }
    }

    /// Returns whether it shows a poorer quality of a publication, which goes on.
    fn climbs(&self, publication: &Publication, to: Rung) -> bool {
        let place = |of: Rung| publication.ladder().iter().position(|r| r.is_same(of));
        let present = self.current().filter(|_| self.shows(publication.id));
        present
            .and_then(place)
            .is_some_and(|present| Some(present) < place(to))
    }

    /// Begins a newer keyframe when the reading is too far behind.
    fn skips(&mut self, reading: &Reading, layer: &Layer, now: Instant) -> bool {
        let late = |at: Instant| now.saturating_duration_since(at) > TOO_LATE;
        if !reading.behind.is_some_and(late) {
            return false;
        }
        let next = layer.packet(reading.next);
        if !next.is_some_and(|packet| late(packet.meta.received)) {
            return false;
        }
        let Some(first) = layer.keyframe_behind(reading.next) else {
            layer.ask(Urgency::Sometime);
            return false;
        };
        self.gaps = self.gaps.wrapping_add(1);
        self.begin(reading.source, reading.rung, first, layer, now)
    }

    fn find_codec(&mut self, publication: &Publication) -> Option<CodecPt> {
        let is_it = |codec: &CodecPt| codec.codec == publication.codec;
        if !self.codec.as_ref().is_some_and(is_it) {
            self.codec = self.codecs.iter().copied().find(is_it);
        }
        self.codec
    }
}

/// The oldest keyframe a newcomer is started with. The replay of two seconds takes about as long to send and to
/// decode as a new keyframe takes to come, and costs nobody else anything.
pub(crate) const INSTANT_START: Duration = Duration::from_secs(2);

/// The oldest keyframe at which another layer is switched to: for this long after one publishers ignore
/// requests for the next.
const SWITCH: Duration = Duration::from_millis(300);

/// Whoever is further behind the live edge, for as long, moves on to a newer keyframe.
const TOO_LATE: Duration = Duration::from_secs(1);

/// The most padding that browsers send, and so take, in a packet; its last byte is its length.
const PADDING_LEN: u8 = 224;
