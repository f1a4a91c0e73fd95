//! One forwarded track: what a viewer receives in one slot.

use std::time::{Duration, Instant};

use crate::{
    MediaKind, Pt, PublicationId, Ssrc, dependency,
    flow::Sender,
    history::{MAX_DESCRIPTOR, Packet},
    ladder::Rung,
    layer::{Layer, Urgency},
    picture::MAX_HEAD,
    publication::{Publication, Source},
    reading::{Reading, Step},
    red,
    repeat::{MAX_REPEATED, Repeats},
    rewrite::{Found, Rewrite, Rewritten, Start},
    rng::Rng,
    sequence::low16,
    slot::View,
    transport::{Carried, CodecPt, SendHeader, SendStream},
};

/// One participant's receipt of whatever its slot shows.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// Audio or video.
    pub(crate) kind: MediaKind,
    /// What its m-line shows.
    pub(crate) view: View,
    /// What the viewer was told it receives.
    pub(crate) stream: SendStream,
    codecs: Vec<CodecPt>,
    target: Target,
    reading: Option<Reading>,
    /// Whether it lost its place because it could not keep up.
    lagged: bool,
    unsupported: Option<PublicationId>,
    rewrite: Rewrite,
    rtx_seq: u32,
    repeats: Repeats,
    packets: u32,
    octets: u32,
    /// Changes of what is forwarded of a publication.
    switches: u32,
    /// Times at which the viewer could not be sent everything: pictures are missing.
    gaps: u32,
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
    /// Whether packets wait until the path has room.
    pub(crate) waiting_for_room: bool,
    /// Whether the viewer turned out to lack the publication's codec.
    pub(crate) unsupported: bool,
    /// Changes of quality.
    pub(crate) switches: u64,
    /// Pictures left out for want of room.
    pub(crate) gaps: u64,
}

impl Sent {
    /// Adds what another call sent.
    pub(crate) fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.began |= other.began;
        self.waiting_for_room |= other.waiting_for_room;
        self.unsupported |= other.unsupported;
        self.switches += other.switches;
        self.gaps += other.gaps;
    }
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

impl Repeated {
    /// Counts a packet of this length, none if it is 0.
    fn add(&mut self, len: usize) {
        self.sent += u64::from(len > 0);
        self.bytes += len as u64;
    }
}

impl Subscription {
    /// Creates a subscription for a viewer that can receive `codecs`. It aims at the best quality.
    pub(crate) fn new(view: View, stream: SendStream, codecs: Vec<CodecPt>, rng: &mut Rng) -> Self {
        Self {
            kind: view.kind(),
            view,
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

    /// Returns whether it has a stream for padding.
    pub(crate) fn can_pad(&self) -> bool {
        self.codecs.iter().any(|codec| codec.rtx.is_some())
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
            padding: true,
        };
        self.rtx_seq = self.rtx_seq.wrapping_add(1);
        sender.send(&header, &Carried::default(), [&PADDING, &[PADDING_LEN]])
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
            && self.find_codec(publication).is_some()
    }

    /// Returns the layer of a publication that it forwards or is about to.
    pub(crate) fn aims_at(&self, publication: &Publication) -> Option<u8> {
        let aim = match self.target {
            _ if !self.shows(publication.id) => None,
            Target::Top => publication.top(),
            Target::Rung(rung) => publication.nearest(rung),
            Target::Paused => None,
        };
        aim.map(|rung| rung.layer)
    }

    /// Its slot shows nothing.
    pub(crate) fn stop(&mut self) {
        self.reading = None;
    }

    /// Sends what arrived of the publication that its slot shows.
    ///
    /// A new publication or layer is begun at a keyframe, from the history if that holds a recent one;
    /// until then the present layer goes on. A newcomer is sent everything since the keyframe, as fast as
    /// the path has room, each picture dated by its sending, so that it stands at the live edge afterwards.
    pub(crate) fn forward(&mut self, publication: &Publication, sender: &mut Sender<'_>) -> Sent {
        let before = self.disturbances();
        let mut sent = self.advance(publication, sender);
        let (switches, gaps) = self.disturbances();
        sent.switches = u64::from(switches.wrapping_sub(before.0));
        sent.gaps = u64::from(gaps.wrapping_sub(before.1));
        sent
    }

    fn advance(&mut self, publication: &Publication, sender: &mut Sender<'_>) -> Sent {
        let mut sent = Sent::default();
        let Some(codec) = self.find_codec(publication) else {
            sent.unsupported = self.unsupported.replace(publication.id) != Some(publication.id);
            return sent;
        };
        let aim = match self.target {
            Target::Top => publication.top(),
            Target::Rung(rung) => publication.nearest(rung),
            Target::Paused => {
                let was_shown = self.reading.take().is_some();
                self.gaps = self.gaps.wrapping_add(u32::from(was_shown));
                return sent;
            }
        };
        let aim = aim.map(|aim| match sender.transport.has_dependency_descriptor() {
            true => aim,
            false => publication.without_descriptor(aim),
        });
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
                self.reading = Some(reading);
            }
        }
        sent
    }

    /// Sends packets again that the viewer misses: on the retransmission stream (RFC 4588) when there is
    /// one, else as they were.
    pub(crate) fn retransmit(
        &mut self,
        seqs: &[u16],
        publications: &[Publication],
        sender: &mut Sender<'_>,
    ) -> Repeated {
        let mut repeated = Repeated::default();
        for seq in seqs.iter().take(MAX_REPEATED) {
            repeated.asked += 1;
            let guard = sender.repeat_guard();
            let found = self.rewrite.find(*seq);
            if sender.is_congested() && found.is_some_and(|f| self.rewrite.is_passed(&f)) {
                continue;
            }
            if !sender.may_repeat() || !self.repeats.allow(*seq, guard, sender.now) {
                continue;
            }
            let Some(len) = found.and_then(|f| self.repeat(f, publications, sender)) else {
                repeated.missed += 1;
                continue;
            };
            repeated.add(len);
            sender.repeated(len);
            // Where much is lost, so are repeats, and the player waits for another round trip.
            if len > 0
                && sender.is_lossy()
                && let Some(again) = found.and_then(|f| self.repeat(f, publications, sender))
            {
                repeated.add(again);
                sender.repeated(again);
            }
        }
        repeated
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
        match layer.starting_point(self.oldest_start(publication), now) {
            Some(first) => sent.began = self.begin(target, aim, first, layer, now),
            None if self.kind == MediaKind::Audio || layer.is_keyframe_arriving() => {}
            None if self.lagged => layer.ask(Urgency::Sometime),
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

    fn find_codec(&self, publication: &Publication) -> Option<CodecPt> {
        let mut codecs = self.codecs.iter();
        codecs.find(|c| c.codec == publication.codec).copied()
    }

    /// Sends a packet again. Returns its length, `None` when it is not kept any more.
    fn repeat(
        &mut self,
        found: Found,
        publications: &[Publication],
        sender: &mut Sender<'_>,
    ) -> Option<usize> {
        let mut publications = publications.iter();
        let publication = publications.find(|p| p.id == found.source.publication)?;
        let layer = found.source.layer_of(publication)?;
        let packet = layer.packet(found.index)?;
        let age = sender.now.saturating_duration_since(packet.meta.received);
        if age > USEFUL {
            return Some(0);
        }
        let rewritten = self.rewrite.repeat(found, &packet)?;
        let codec = self.find_codec(publication)?;
        if codec.red.is_some() {
            // What it carried depended on the losses then.
            return Some(0);
        }
        let Some(rtx) = codec.rtx else {
            // The same SRTP index must never protect other bytes, and a transport-wide number is one.
            return match sender.transport.has_feedback() {
                true => Some(0),
                false => Some(self.seal(&packet, &rewritten, codec, sender)),
            };
        };
        let original = low16(u64::from(rewritten.seq));
        let resent = Rewritten {
            seq: self.rtx_seq,
            ..rewritten
        };
        let header = header(&resent, rtx, self.stream.rtx_ssrc);
        self.rtx_seq = self.rtx_seq.wrapping_add(1);
        let [head, tail] = split(&packet, &rewritten);
        let mut prefixed = [0; 2 + MAX_HEAD];
        let prefix = original.to_be_bytes();
        for (to, from) in prefixed.iter_mut().zip(prefix.iter().chain(head)) {
            *to = *from;
        }
        let head = prefixed.get(..2 + head.len()).unwrap_or_default();
        let payload = [head, tail];
        Some(send(
            &header,
            &packet,
            rewritten.frame_shift,
            payload,
            sender,
        ))
    }

    fn seal(
        &self,
        packet: &Packet<'_>,
        rewritten: &Rewritten,
        codec: CodecPt,
        sender: &mut Sender<'_>,
    ) -> usize {
        let red = codec
            .red
            .filter(|_| packet.meta.is_red && !sender.is_narrow());
        let header = header(rewritten, red.unwrap_or(codec.pt), self.stream.ssrc);
        let payload = match packet.meta.is_red && red.is_none() {
            true => [&[], red::primary(packet.payload).unwrap_or_default()],
            false => split(packet, rewritten),
        };
        send(&header, packet, rewritten.frame_shift, payload, sender)
    }

    /// Sends audio and what was before it, so that one of two packets in a row may be lost.
    fn seal_with(
        &self,
        before: &Packet<'_>,
        packet: &Packet<'_>,
        rewritten: &Rewritten,
        codec: CodecPt,
        sender: &mut Sender<'_>,
    ) -> usize {
        let ticks = packet.meta.timestamp.wrapping_sub(before.meta.timestamp);
        let mut buffer = [0; red::MAX_HEAD];
        let head = red::repeat(codec.pt, before.payload, ticks, &mut buffer);
        let (Some(pt), Some(head)) = (codec.red, head) else {
            return self.seal(packet, rewritten, codec, sender);
        };
        let header = header(rewritten, pt, self.stream.ssrc);
        let payload = [head, packet.payload];
        send(&header, packet, rewritten.frame_shift, payload, sender)
    }
}

/// A subscription and what it sends with.
struct Way<'a, 'b> {
    subscription: &'a mut Subscription,
    codec: CodecPt,
    sender: &'a mut Sender<'b>,
    sent: &'a mut Sent,
}

impl Way<'_, '_> {
    /// Sends what is to be sent. Returns whether the reading goes on.
    fn forward(&mut self, reading: &mut Reading, layer: &Layer, aim: &Rung) -> bool {
        reading.aim(aim, layer, self.sender.now);
        if !reading.is_direct() {
            self.send_late(reading, layer);
            return self.catch_up(reading, layer, aim);
        }
        for index in layer.arrived() {
            if *index >= reading.next {
                if !self.may_go() {
                    reading.behind = Some(self.sender.now);
                    self.sent.waiting_for_room = true;
                    return true;
                }
                reading.next = index + 1;
            }
            if let Some(packet) = layer.packet(*index) {
                self.send(&packet, layer);
            }
        }
        true
    }

    /// Sends what arrived of packets that were passed.
    fn send_late(&mut self, reading: &Reading, layer: &Layer) {
        let arrived = layer.arrived().iter();
        for index in arrived.filter(|index| **index < reading.next) {
            if let Some(packet) = layer.packet(*index)
                && packet.meta.frame.needed.meets(reading.rung.quality())
            {
                self.send(&packet, layer);
            }
        }
    }

    fn catch_up(&mut self, reading: &mut Reading, layer: &Layer, aim: &Rung) -> bool {
        let now = self.sender.now;
        loop {
            match reading.step(layer, aim, now) {
                Step::Send(packet) => {
                    let has_room = match reading.behind {
                        Some(_) => self.has_room(),
                        None => self.may_go(),
                    };
                    if !has_room {
                        reading.behind.get_or_insert(now);
                        self.sent.waiting_for_room = true;
                        return true;
                    }
                    let top = reading.top_spatial(layer);
                    let rewrite = &mut self.subscription.rewrite;
                    rewrite.end_pictures_at(top, packet.index);
                    self.send(&packet, layer);
                    reading.pass();
                }
                Step::LeaveOut { index, picture } => {
                    self.subscription.rewrite.leave_out(index, picture);
                }
                Step::Edge | Step::Wait => break,
                Step::Lost => {
                    self.subscription.lagged = true;
                    return false;
                }
            }
        }
        if reading.needs_keyframe(aim, now) {
            layer.ask(Urgency::Now);
        }
        // Whoever reached the edge may be served directly from here on.
        reading.aim(aim, layer, now);
        true
    }

    fn has_room(&mut self) -> bool {
        self.subscription.kind == MediaKind::Audio || self.sender.has_room()
    }

    fn may_go(&mut self) -> bool {
        self.subscription.kind == MediaKind::Audio || self.sender.may_go()
    }

    /// Returns the packet before this one, if it is audio to be repeated along with it: for those who lose
    /// packets and understand that, where the publisher does not repeat itself.
    fn to_repeat<'a>(&self, packet: &Packet<'_>, layer: &'a Layer) -> Option<Packet<'a>> {
        let is_plain = self.codec.red.is_some() && !packet.meta.is_red;
        let before = packet.index.checked_sub(1)?;
        let is_of_use = is_plain && self.sender.is_lossy() && !self.sender.is_narrow();
        let before = is_of_use.then(|| layer.packet(before)).flatten();
        before.filter(|before| !before.meta.is_red)
    }

    fn send(&mut self, packet: &Packet<'_>, layer: &Layer) {
        let before = self.to_repeat(packet, layer);
        let subscription = &mut *self.subscription;
        let Some(rewritten) = subscription.rewrite.apply(packet, self.sender.now) else {
            return;
        };
        let len = match before {
            Some(before) => {
                subscription.seal_with(&before, packet, &rewritten, self.codec, self.sender)
            }
            None => subscription.seal(packet, &rewritten, self.codec, self.sender),
        };
        if len > 0 {
            subscription.packets = subscription.packets.wrapping_add(1);
            let octets = u32::try_from(packet.payload.len()).unwrap_or_default();
            subscription.octets = subscription.octets.wrapping_add(octets);
            self.sent.packets += 1;
            self.sent.bytes += len as u64;
        }
    }
}

fn header(rewritten: &Rewritten, pt: Pt, ssrc: Ssrc) -> SendHeader {
    SendHeader {
        marker: rewritten.marker,
        pt,
        seq: rewritten.seq,
        timestamp: rewritten.timestamp,
        ssrc,
        padding: false,
    }
}

/// Sends a packet with its header extensions.
fn send(
    header: &SendHeader,
    packet: &Packet<'_>,
    frame_shift: u16,
    payload: [&[u8]; 2],
    sender: &mut Sender<'_>,
) -> usize {
    let extensions = &packet.meta.extensions;
    if frame_shift == 0 || packet.descriptor.is_empty() {
        return sender.send(header, &extensions.carried(packet.descriptor), payload);
    }
    let mut buffer = [0; MAX_DESCRIPTOR];
    let descriptor = dependency::renumber(packet.descriptor, frame_shift, &mut buffer);
    sender.send(header, &extensions.carried(descriptor), payload)
}

/// Returns the payload in two parts, the first one with other numbers than the publisher's, or empty.
pub(crate) fn split<'a>(packet: &Packet<'a>, rewritten: &'a Rewritten) -> [&'a [u8]; 2] {
    match &rewritten.head {
        Some(head) => {
            let head = head.as_slice();
            [head, packet.payload.get(head.len()..).unwrap_or_default()]
        }
        None => [&[], packet.payload],
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

/// A player that asks for older packets is better served by a keyframe, which it asks for too.
const USEFUL: Duration = Duration::from_secs(4);

/// The most padding that browsers send, and so take, in a packet; its last byte is its length.
const PADDING_LEN: u8 = 224;
const PADDING: [u8; PADDING_LEN as usize - 1] = [0; PADDING_LEN as usize - 1];
