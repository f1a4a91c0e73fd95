//! One encoding of a publication: its packets, what is missing of it, its clock and its keyframes.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use crate::{
    Codec, MediaKind, Ssrc, av1,
    clock::{RemoteClock, RtpClock, ServerClock},
    dependency::{self, Structure},
    frame::{Frame, Qualities},
    h264,
    history::{Extensions, History, MAX_PAYLOAD, Meta, Packet, Rejected},
    keyframe::KeyframeGate,
    ladder::Rung,
    nack::Missing,
    numbering::{Continuity, Numbering},
    picture::Picture,
    reception::Reception,
    red,
    replay::Live,
    sequence::is_later,
    throughput::Throughput,
    transport::Carried,
    vp8, vp9,
};

/// One RTP stream of a publisher.
#[derive(Debug)]
pub(crate) struct Layer {
    codec: Codec,
    /// Its SSRC, once a packet came.
    pub(crate) ssrc: Option<Ssrc>,
    /// Whether the sender said that it stopped (RTCP BYE) and sent nothing since.
    pub(crate) stopped: bool,
    /// Counts how often the stream was started anew; indices of two epochs have nothing in common.
    pub(crate) epoch: u32,
    /// When to ask for a keyframe.
    pub(crate) keyframes: KeyframeGate,
    /// What receiver reports say.
    pub(crate) reception: Reception,
    /// RTP time to server time.
    pub(crate) clock: RtpClock,
    numbering: Numbering,
    history: History,
    missing: Missing,
    arrived: Vec<u64>,
    group: Option<Group>,
    asked: Cell<Option<Urgency>>,
    /// The spatial layers with which pictures end for some readers before they do for all, a bit each.
    tops: Cell<u8>,
    last_packet: Option<Instant>,
    newest: Option<Live>,
    pictures: u64,
    throughput: Throughput,
    /// What dependency descriptors refer to, and the timestamp it came with.
    structure: Option<(Box<Structure>, u32)>,
}

/// How much a reader needs a keyframe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Urgency {
    /// It can wait.
    Sometime,
    /// It has a picture, and could have a better one.
    Soon,
    /// It waits.
    Now,
}

/// A packet as the publisher sent it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrival<'a> {
    /// Sequence number.
    pub(crate) seq: u16,
    /// RTP timestamp.
    pub(crate) timestamp: u32,
    /// Marker bit.
    pub(crate) marker: bool,
    /// Payload without padding.
    pub(crate) payload: &'a [u8],
    /// Whether it came on the retransmission stream.
    pub(crate) retransmitted: bool,
    /// Whether the payload repeats audio (RED, RFC 2198).
    pub(crate) red: bool,
    /// The header extensions that are forwarded.
    pub(crate) carried: Carried<'a>,
}

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It was there already.
    Duplicate,
    /// It came too late.
    TooOld,
    /// It is too long to be forwarded.
    TooLong,
    /// Its sequence number does not belong to the stream.
    Stray,
    /// Its repeated audio cannot be told from the new.
    Malformed,
}

impl Refused {
    /// Returns a stable word for metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Duplicate => "duplicate",
            Self::TooOld => "too_old",
            Self::TooLong => "too_long",
            Self::Stray => "stray_sequence",
            Self::Malformed => "malformed_red",
        }
    }
}

/// A keyframe and everything since.
#[derive(Clone, Copy, Debug)]
struct Group {
    start: u64,
    number: u64,
    timestamp: u32,
    received: Instant,
    /// Of payload since the start.
    bytes: u64,
    /// Whether nothing since the start was given up.
    intact: bool,
}

/// What a payload says about itself.
#[derive(Clone, Copy, Debug)]
struct Content {
    is_keyframe: bool,
    frame: Frame,
    picture: Option<Picture>,
    frame_number: Option<u16>,
}

impl Layer {
    /// Creates a layer that keeps `history_packets`.
    pub(crate) fn new(codec: Codec, history_packets: usize) -> Self {
        Self {
            codec,
            ssrc: None,
            stopped: false,
            epoch: 0,
            keyframes: KeyframeGate::default(),
            reception: Reception::new(codec.clock_rate()),
            clock: RtpClock::new(codec.clock_rate()),
            numbering: Numbering::default(),
            history: History::new(history_packets),
            missing: Missing::default(),
            arrived: Vec::new(),
            group: None,
            asked: Cell::new(None),
            tops: Cell::new(0),
            last_packet: None,
            newest: None,
            pictures: 0,
            throughput: Throughput::default(),
            structure: None,
        }
    }

    /// Takes a packet. Returns whether there is something to forward: not for padding.
    pub(crate) fn receive(
        &mut self,
        packet: &Arrival<'_>,
        server: ServerClock,
        remote: &mut RemoteClock,
        now: Instant,
    ) -> Result<bool, Refused> {
        if packet.payload.len() > MAX_PAYLOAD {
            return Err(Refused::TooLong);
        }
        if packet.retransmitted && self.last_packet.is_none() {
            return Err(Refused::TooOld);
        }
        match self.numbering.judge(packet.seq) {
            Continuity::Near => {}
            Continuity::Restarted if !packet.retransmitted => self.restart(),
            Continuity::Restarted | Continuity::Stray => return Err(Refused::Stray),
        }
        self.last_packet = Some(now);
        if packet.payload.is_empty()
            && let Some(gap) = self.numbering.leave_out(packet.seq)
        {
            self.open_gap(gap.start, gap.end, now);
            self.reception
                .record(gap.end, packet.timestamp, server.micros(now));
            return Ok(false);
        }
        match self.keep(packet, server, remote, now) {
            Ok(()) => Ok(true),
            // Publishers look for room on their path with packets that were sent before.
            Err(Refused::Duplicate | Refused::TooOld) if packet.retransmitted => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    fn keep(
        &mut self,
        packet: &Arrival<'_>,
        server: ServerClock,
        remote: &mut RemoteClock,
        now: Instant,
    ) -> Result<(), Refused> {
        let place = self.numbering.place(packet.seq).ok_or(Refused::TooOld)?;
        let arrival = server.micros(now);
        let presentation = self.clock.map(packet.timestamp, arrival, remote);
        if packet.red && red::primary(packet.payload).is_none() {
            return Err(Refused::Malformed);
        }
        let content = self.read(packet);
        let meta = Meta {
            timestamp: packet.timestamp,
            marker: packet.marker,
            keyframe: content.is_keyframe,
            received: now,
            presentation: server.instant(presentation),
            frame: content.frame,
            picture: content.picture,
            frame_number: content.frame_number,
            is_red: packet.red,
            extensions: Extensions::of(&packet.carried),
            padding: 0,
        };
        let descriptor = packet.carried.dependency_descriptor.unwrap_or_default();
        self.history
            .insert(place.index, meta, packet.payload, descriptor)
            .map_err(|rejected| match rejected {
                Rejected::Duplicate => Refused::Duplicate,
                Rejected::TooOld => Refused::TooOld,
                Rejected::TooLong => Refused::TooLong,
            })?;
        self.missing.close(place.number);
        self.reception
            .take(packet.payload.len(), packet.retransmitted);
        if let Some(from) = place.gap_from {
            self.open_gap(from, place.number, now);
        }
        if !packet.retransmitted {
            self.reception
                .record(place.number, packet.timestamp, arrival);
        }
        let is_newer = |newest: Live| is_later(packet.timestamp, newest.timestamp);
        if self.newest.is_none_or(is_newer) {
            self.newest = Some(Live {
                timestamp: packet.timestamp,
                received: now,
            });
            self.pictures += 1;
        }
        if self.codec.kind() == MediaKind::Video {
            if content.is_keyframe {
                self.extend_group(place.index, place.number, packet.timestamp, now);
            } else if self.group.is_none() {
                self.keyframes.request();
            }
        }
        if let Some(group) = &mut self.group {
            group.bytes += packet.payload.len() as u64;
        }
        self.throughput
            .add(packet.payload.len(), &content.frame, now);
        if (self.arrived.len() as u64) < self.history.capacity() {
            self.arrived.push(place.index);
        }
        Ok(())
    }

    fn read(&mut self, packet: &Arrival<'_>) -> Content {
        let payload = packet.payload;
        let whole = |is_keyframe| Content {
            is_keyframe,
            frame: Frame::whole(is_keyframe, packet.marker),
            picture: None,
            frame_number: None,
        };
        let mut content = match self.codec {
            Codec::Vp8 => vp8::Descriptor::parse(payload).map(|vp8| Content {
                frame: Frame {
                    ends: packet.marker,
                    ..vp8.frame
                },
                picture: Some(vp8.picture),
                ..whole(vp8.starts_keyframe)
            }),
            Codec::Vp9 => vp9::Descriptor::parse(payload).map(|vp9| Content {
                frame: vp9.frame,
                picture: Some(vp9.picture),
                ..whole(vp9.starts_keyframe)
            }),
            Codec::H264 => Some(whole(h264::starts_keyframe(payload))),
            Codec::Av1 => Some(whole(av1::starts_sequence(payload))),
            Codec::Opus => Some(whole(true)),
        }
        .unwrap_or_else(|| whole(false));
        let known = self.structure.as_ref().map(|(structure, _)| &**structure);
        let bytes = packet.carried.dependency_descriptor;
        let parsed = bytes.and_then(|bytes| dependency::Descriptor::parse(bytes, known));
        if let Some(descriptor) = parsed {
            content.frame_number = Some(descriptor.frame_number);
            content.frame = descriptor.frame;
            if content.is_keyframe {
                content.frame.switch = Qualities::ALL;
                content.frame.decodable = Qualities::ALL;
            }
            if let Some(structure) = descriptor.structure {
                self.learn(structure, packet.timestamp);
            }
        }
        content
    }

    /// Keeps a structure, unless it came so late that there is a newer one.
    fn learn(&mut self, structure: Box<Structure>, timestamp: u32) {
        let known_since = self.structure.as_ref().map(|(_, since)| *since);
        if known_since.is_none_or(|since| !is_later(since, timestamp)) {
            self.structure = Some((structure, timestamp));
        }
    }

    /// Returns the indices of the packets that arrived since [`Layer::forwarded`], in order of arrival;
    /// at most as many as are kept, and what comes beyond is left to retransmission.
    pub(crate) fn arrived(&self) -> &[u64] {
        &self.arrived
    }

    /// Gives packets that are a little shorter than the one behind them padding to be as long as that one: the
    /// kernel takes a run of equal datagrams in one piece. Browsers cut a frame into packets of which the later
    /// ones are a byte longer. To be called when the first of them was not forwarded yet.
    pub(crate) fn even_out(&mut self) {
        if self.codec.kind() == MediaKind::Audio {
            return;
        }
        let mut behind: Option<(u64, u32, usize)> = None;
        for index in self.arrived.iter().rev() {
            let Some(packet) = self.history.get(*index) else {
                continue;
            };
            let (timestamp, mut len) = (packet.meta.timestamp, packet.payload.len());
            if let Some((next, of, longer)) = behind
                && (next, of) == (index + 1, timestamp)
                && let Some(missing) = longer.checked_sub(len)
                && missing <= MAX_EVENED
                && len > 0
            {
                self.history
                    .pad(*index, u8::try_from(missing).unwrap_or_default());
                len = longer;
            }
            behind = Some((*index, timestamp, len));
        }
    }

    /// What arrived was forwarded; what readers asked for is wanted.
    pub(crate) fn forwarded(&mut self) {
        self.arrived.clear();
        match self.asked.take() {
            Some(Urgency::Now) => self.keyframes.request(),
            Some(Urgency::Soon) => self.keyframes.request_soon(),
            Some(Urgency::Sometime) => self.keyframes.request_sometime(),
            None => {}
        }
    }

    /// A reader needs a keyframe. It is asked for once all readers were served.
    pub(crate) fn ask(&self, urgency: Urgency) {
        self.asked.set(self.asked.get().max(Some(urgency)));
    }

    /// Returns a kept packet.
    pub(crate) fn packet(&self, index: u64) -> Option<Packet<'_>> {
        self.history.get(index)
    }

    /// Returns the RTP ticks per second.
    pub(crate) fn clock_rate(&self) -> u32 {
        self.codec.clock_rate()
    }

    /// Returns the highest index that arrived.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.history.highest()
    }

    /// Returns how many packets are kept.
    pub(crate) fn capacity(&self) -> u64 {
        self.history.capacity()
    }

    /// Returns where a receiver can start: for video the newest keyframe, if it is at most `max_age` old,
    /// nothing is lost since, and not too much followed; for audio anywhere.
    pub(crate) fn starting_point(&self, max_age: Duration, now: Instant) -> Option<u64> {
        if self.codec.kind() == MediaKind::Audio {
            return self.arrived.iter().min().copied();
        }
        let group = self.group.filter(|group| group.intact)?;
        let age = now.saturating_duration_since(group.received);
        let is_short = age <= max_age && group.bytes <= MAX_REPLAY;
        let is_kept = self.history.get(group.start).is_some();
        (is_short && is_kept && !self.may_begin_earlier(group)).then_some(group.start)
    }

    /// Returns where the newest keyframe starts, whatever became of what follows it.
    pub(crate) fn newest_keyframe(&self) -> Option<u64> {
        let group = self.group?;
        (!self.may_begin_earlier(group)).then_some(group.start)
    }

    /// Returns whether the beginning of a keyframe is arriving.
    pub(crate) fn is_keyframe_arriving(&self) -> bool {
        let group = self.group.filter(|group| group.intact);
        group.is_some_and(|group| self.may_begin_earlier(group))
    }

    /// Returns where the newest keyframe starts, if nothing is lost since and it is behind `index`.
    pub(crate) fn keyframe_behind(&self, index: u64) -> Option<u64> {
        let group = self.group.filter(|group| group.intact)?;
        (group.start > index).then_some(group.start)
    }

    /// Returns the newest picture's RTP timestamp, and when it came.
    pub(crate) fn newest(&self) -> Option<Live> {
        self.newest
    }

    /// Returns how many pictures came.
    pub(crate) fn pictures(&self) -> u64 {
        self.pictures
    }

    /// Returns when the last packet came.
    pub(crate) fn last_packet(&self) -> Option<Instant> {
        self.last_packet
    }

    /// Returns whether everything that the stream carries belongs to this quality.
    pub(crate) fn takes_all(&self, rung: &Rung) -> bool {
        !self.throughput.is_layered() || self.throughput.is_complete(rung.quality())
    }

    /// Returns the spatial layer whose end is the end of a picture for who gets this quality, if it is not the
    /// publisher's.
    pub(crate) fn top_spatial(&self, rung: &Rung) -> u8 {
        match rung.is_whole() || self.takes_all(rung) {
            true => u8::MAX,
            false => rung.spatial,
        }
    }

    /// All readers are served anew; each is noted again.
    pub(crate) fn forget_readers(&self) {
        self.tops.set(0);
    }

    /// Somebody gets this quality, or is about to.
    pub(crate) fn note_reader(&self, rung: &Rung) {
        let top = 1_u8.checked_shl(self.top_spatial(rung).into());
        self.tops.set(self.tops.get() | top.unwrap_or_default());
    }

    /// Returns whether the packet that came last completes a part of a picture, its lower spatial layers, that is
    /// everything for some reader, or for any if there are others. A late one does if an upper layer has begun.
    pub(crate) fn ends_part(&self, has_others: bool) -> bool {
        let tops = if has_others { u8::MAX } else { self.tops.get() };
        let last = self.arrived.last().filter(|_| tops > 0);
        let Some(packet) = last.and_then(|index| self.history.get(*index)) else {
            return false;
        };
        let frame = &packet.meta.frame;
        let above = tops.checked_shr(frame.spatial.into());
        let above = above.unwrap_or_default();
        let newest = self.highest().and_then(|highest| self.history.get(highest));
        let is_overtaken = newest.is_some_and(|newest| {
            let is_of_it = newest.meta.timestamp == packet.meta.timestamp;
            is_of_it && newest.meta.frame.spatial > frame.spatial
        });
        frame.ends && above & 1 != 0 || is_overtaken && above != 0
    }

    /// Returns what was measured.
    pub(crate) fn throughput(&self) -> &Throughput {
        &self.throughput
    }

    /// Returns whether the packet before the keyframe is missing: it may be the keyframe's first.
    fn may_begin_earlier(&self, group: Group) -> bool {
        let before = group.number.checked_sub(1);
        before.is_some_and(|before| self.missing.contains(before))
    }

    /// Returns whether a keyframe was ever seen (for audio: any packet).
    pub(crate) fn is_startable(&self) -> bool {
        match self.codec.kind() {
            MediaKind::Video => self.group.is_some(),
            MediaKind::Audio => self.highest().is_some(),
        }
    }

    /// Returns whether packets came lately.
    pub(crate) fn is_flowing(&self, now: Instant) -> bool {
        self.last_packet
            .is_some_and(|last| now.saturating_duration_since(last) < SILENCE)
    }

    /// Returns when [`Layer::poll_missing`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.missing.poll_timeout()
    }

    /// Puts the sequence numbers to ask for again into `wanted`. Returns how many were given up; then a
    /// keyframe is asked for, if one is needed to go on.
    pub(crate) fn poll_missing(&mut self, wanted: &mut Vec<u16>, now: Instant) -> u64 {
        self.missing.poll(wanted, now);
        let (lost, newest) = self.missing.take_lost();
        if let (Some(newest), Some(group)) = (newest, &mut self.group)
            && newest > group.number
            && group.intact
        {
            group.intact = false;
            self.keyframes.request();
        }
        lost
    }

    /// Starts the stream anew: another SSRC, or its numbers jumped.
    pub(crate) fn restart(&mut self) {
        self.epoch += 1;
        self.numbering = Numbering::default();
        self.history.clear();
        self.arrived.clear();
        self.missing.clear();
        self.group = None;
        self.newest = None;
        self.throughput.restart();
        self.structure = None;
        self.reception.restart();
        self.clock = RtpClock::new(self.codec.clock_rate());
    }

    fn open_gap(&mut self, from: u64, to: u64, now: Instant) {
        // Opus conceals losses, and browsers do not negotiate NACK for it.
        if self.codec.kind() == MediaKind::Video {
            self.missing.open(from, to, now);
        }
    }

    fn extend_group(&mut self, index: u64, number: u64, timestamp: u32, now: Instant) {
        match &mut self.group {
            Some(group) if group.timestamp == timestamp => {
                group.start = group.start.min(index);
                group.number = group.number.min(number);
            }
            Some(group) if !is_later(timestamp, group.timestamp) => {}
            Some(_) | None => {
                self.keyframes.arrived(now);
                self.group = Some(Group {
                    start: index,
                    number,
                    timestamp,
                    received: now,
                    bytes: 0,
                    intact: true,
                });
            }
        }
    }
}

/// Most bytes of a replay: what two seconds of a 720p stream take. For more a fresh keyframe is cheaper.
const MAX_REPLAY: u64 = 768 * 1024;

/// A layer that is silent for this long is not being sent any more. Screens that show nothing new are sent
/// once a second.
const SILENCE: Duration = Duration::from_secs(5);

/// The most padding that a packet gets to be as long as the one behind it.
const MAX_EVENED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixture {
        layer: Layer,
        server: ServerClock,
        remote: RemoteClock,
        t0: Instant,
    }

    impl Fixture {
        fn new(codec: Codec) -> Self {
            let t0 = Instant::now();
            Self {
                layer: Layer::new(codec, 64),
                server: ServerClock::new(Duration::ZERO, t0),
                remote: RemoteClock::default(),
                t0,
            }
        }

        fn receive(&mut self, seq: u16, timestamp: u32, payload: &[u8], at: u64) -> Outcome {
            self.take(seq, (timestamp, false), payload, at)
        }

        fn repeat(&mut self, seq: u16, timestamp: u32, payload: &[u8], at: u64) -> Outcome {
            self.take(seq, (timestamp, true), payload, at)
        }

        fn take(
            &mut self,
            seq: u16,
            (timestamp, retransmitted): (u32, bool),
            payload: &[u8],
            at: u64,
        ) -> Outcome {
            let packet = Arrival {
                seq,
                timestamp,
                marker: true,
                payload,
                retransmitted,
                ..Arrival::default()
            };
            let now = self.at(at);
            self.layer
                .receive(&packet, self.server, &mut self.remote, now)
        }

        fn at(&self, ms: u64) -> Instant {
            self.t0 + Duration::from_millis(ms)
        }
    }

    type Outcome = Result<bool, Refused>;

    const SPS: &[u8] = &[0x67, 1];
    const IDR: &[u8] = &[0x65, 1];
    const DELTA: &[u8] = &[0x41, 1];
    const AGE: Duration = Duration::from_secs(2);

    #[test]
    fn a_newcomer_starts_at_the_first_packet_of_the_newest_keyframe() {
        let mut f = Fixture::new(Codec::H264);
        assert_eq!(f.receive(1, 100, DELTA, 0), Ok(true));
        assert_eq!(f.layer.starting_point(AGE, f.at(0)), None);
        assert_eq!(f.receive(3, 200, IDR, 10), Ok(true));
        assert_eq!(f.receive(2, 200, SPS, 11), Ok(true), "reordered");
        assert_eq!(f.receive(4, 300, DELTA, 20), Ok(true));
        let start = f.layer.starting_point(AGE, f.at(20)).unwrap();
        assert_eq!(f.layer.packet(start).unwrap().payload, SPS);
        assert_eq!(f.layer.starting_point(AGE, f.at(2011)), None, "too old");
    }

    #[test]
    fn a_newcomer_is_not_sent_more_than_a_fresh_keyframe_would_cost() {
        let mut f = Fixture::new(Codec::H264);
        f.layer = Layer::new(Codec::H264, 1024);
        f.receive(0, 0, IDR, 0).unwrap();
        let mut delta = vec![0; 1200];
        delta[0] = DELTA[0];
        for seq in 1..=700 {
            f.receive(seq, u32::from(seq) * 90, &delta, u64::from(seq))
                .unwrap();
            let bytes = u64::from(seq) * 1200;
            let is_short = f.layer.starting_point(AGE, f.at(u64::from(seq))).is_some();
            assert!(is_short || bytes > MAX_REPLAY - 1200, "{bytes}");
            assert!(!is_short || bytes <= MAX_REPLAY, "{bytes}");
        }
        f.receive(701, 90_000, IDR, 1000).unwrap();
        assert!(f.layer.starting_point(AGE, f.at(1000)).is_some());
    }

    #[test]
    fn packets_of_a_frame_become_as_long_as_the_longest_behind_them() {
        let mut f = Fixture::new(Codec::H264);
        let lengths = [
            (100, 80, 0),
            (100, 1100, 1),
            (100, 1100, 1),
            (100, 1101, 0),
            (100, 700, 0),
            (200, 1099, 0),
            (300, 1100, 0),
        ];
        for (seq, (timestamp, len, _)) in (1..).zip(lengths) {
            f.receive(seq, timestamp, &vec![0x41; len], 0).unwrap();
        }
        f.layer.even_out();
        let arrived = f.layer.arrived().iter();
        let packets = arrived.map(|index| f.layer.packet(*index).unwrap());
        let found: Vec<_> = packets
            .map(|p| (p.meta.timestamp, p.payload.len(), p.meta.padding))
            .collect();
        assert_eq!(found, lengths);
    }

    #[test]
    fn a_lost_packet_makes_the_group_useless_and_asks_for_a_keyframe() {
        let mut f = Fixture::new(Codec::H264);
        f.receive(1, 100, IDR, 0).unwrap();
        f.receive(3, 200, DELTA, 10).unwrap();
        let mut lost = 0;
        for at in 0..100 {
            let mut wanted = Vec::new();
            lost += f.layer.poll_missing(&mut wanted, f.at(10 + at * 10));
            assert!(wanted.iter().all(|seq| *seq == 2));
        }
        assert_eq!(lost, 1);
        assert_eq!(f.layer.starting_point(AGE, f.at(1000)), None);
        assert!(f.layer.keyframes.poll_send(f.at(1000)));
    }

    #[test]
    fn audio_starts_anywhere_and_misses_nothing() {
        let mut f = Fixture::new(Codec::Opus);
        f.receive(1, 100, &[1], 0).unwrap();
        f.receive(5, 200, &[1], 0).unwrap();
        assert_eq!(f.layer.poll_timeout(), None);
        assert!(f.layer.starting_point(AGE, f.at(0)).is_some());
        f.layer.forwarded();
        assert_eq!(f.layer.starting_point(AGE, f.at(0)), None);
    }

    #[test]
    fn refuses_what_does_not_belong() {
        let mut f = Fixture::new(Codec::H264);
        f.receive(1000, 100, DELTA, 0).unwrap();
        f.receive(1100, 100, DELTA, 0).unwrap();
        let long = vec![0; MAX_PAYLOAD + 1];
        let cases: [(&str, u16, &[u8], Outcome); 6] = [
            ("duplicate", 1100, DELTA, Err(Refused::Duplicate)),
            ("too old", 1000, DELTA, Err(Refused::TooOld)),
            ("too long", 1101, &long, Err(Refused::TooLong)),
            ("stray", 30_000, DELTA, Err(Refused::Stray)),
            ("padding", 1101, &[], Ok(false)),
            ("late padding is a packet", 1099, &[], Ok(true)),
        ];
        for (label, seq, payload, expected) in cases {
            assert_eq!(f.receive(seq, 100, payload, 0), expected, "{label}");
        }
        assert_eq!(f.receive(30_001, 100, DELTA, 0), Err(Refused::Stray));
        assert_eq!(f.receive(30_002, 100, DELTA, 0), Ok(true), "started anew");
        assert_eq!(f.layer.epoch, 1);
    }

    #[test]
    fn what_is_repeated_without_need_is_no_fault() {
        let mut f = Fixture::new(Codec::H264);
        f.receive(1000, 100, DELTA, 0).unwrap();
        f.receive(1100, 100, DELTA, 0).unwrap();
        assert_eq!(f.repeat(1100, 100, DELTA, 1), Ok(false));
        assert_eq!(f.repeat(1000, 100, DELTA, 1), Ok(false));
        assert_eq!(f.repeat(1099, 100, DELTA, 1), Ok(true), "it was missing");
    }

    #[test]
    fn a_lower_spatial_layer_is_everything_for_who_gets_no_more() {
        /// Frames of two packets each, of two spatial layers.
        const PICTURE: [[u8; 2]; 4] = [[0x38, 0x00], [0x34, 0x00], [0x38, 0x02], [0x34, 0x02]];
        let lower = Rung {
            spatial: 0,
            temporal: 0,
            ..Rung::whole(0, 0)
        };
        let upper = Rung {
            spatial: 1,
            ..lower
        };
        type Case<'a> = (&'a str, &'a [Rung], bool, [usize; 4], [bool; 4]);
        #[rustfmt::skip]
        let cases: &[Case<'_>] = &[
            ("nobody", &[], false, [0, 1, 2, 3], [false; 4]),
            ("both layers", &[upper], false, [0, 1, 2, 3], [false; 4]),
            ("the lower one", &[upper, lower], false, [0, 1, 2, 3], [false, true, false, false]),
            ("others", &[], true, [0, 1, 2, 3], [false, true, false, true]),
            ("late", &[lower], false, [1, 2, 0, 3], [true, false, true, false]),
            ("late within the layer", &[lower], false, [1, 0, 2, 3], [true, false, false, false]),
        ];
        for &(label, readers, has_others, order, expected) in cases {
            let mut f = Fixture::new(Codec::Vp9);
            for (seq, payload) in (0..).zip(&PICTURE) {
                f.receive(seq, 100, payload, 0).unwrap();
            }
            readers
                .iter()
                .for_each(|reader| f.layer.note_reader(reader));
            let found = order.map(|place| {
                let seq = 4 + u16::try_from(place).unwrap();
                f.receive(seq, 200, &PICTURE[place], 33).unwrap();
                f.layer.ends_part(has_others)
            });
            assert_eq!(found, expected, "{label}");
            f.layer.forget_readers();
            assert!(!f.layer.ends_part(false), "{label}");
        }
    }

    #[test]
    fn what_arrived_is_bounded() {
        let mut f = Fixture::new(Codec::H264);
        for seq in 0..1000 {
            f.receive(seq, 100, DELTA, 0).unwrap();
        }
        assert_eq!(f.layer.arrived().len(), 64);
    }
}
