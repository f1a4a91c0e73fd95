//! One encoding of a publication: its packets, what is missing of it, its clock and its keyframes.

use std::time::{Duration, Instant};

use crate::{
    Codec, MediaKind, Ssrc,
    clock::{RemoteClock, RtpClock, ServerClock},
    h264,
    history::{History, MAX_PAYLOAD, Meta, Packet, Rejected},
    keyframe::KeyframeGate,
    nack::Missing,
    numbering::{Continuity, Numbering},
    reception::Reception,
    red,
    sequence::is_later,
    transport::Carried,
    vp8,
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
    last_packet: Option<Instant>,
    throughput: Throughput,
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
    /// Whether nothing since the start was given up.
    intact: bool,
}

#[derive(Debug, Default)]
struct Throughput {
    bytes: u64,
    since: Option<Instant>,
    bits_per_second: u64,
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
            last_packet: None,
            throughput: Throughput::default(),
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
        self.keep(packet, server, remote, now).map(|()| true)
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
        let descriptor = match self.codec {
            Codec::Vp8 => vp8::Descriptor::parse(packet.payload),
            Codec::H264 | Codec::Vp9 | Codec::Av1 | Codec::Opus => None,
        };
        let payload = match packet.red {
            true => red::primary(packet.payload).ok_or(Refused::Malformed)?,
            false => packet.payload,
        };
        let keyframe = match self.codec {
            Codec::Vp8 => descriptor.is_some_and(|d| d.starts_keyframe),
            Codec::H264 => h264::starts_keyframe(packet.payload),
            Codec::Vp9 | Codec::Av1 => starts_structure(packet.carried.dependency_descriptor),
            Codec::Opus => true,
        };
        let meta = Meta {
            timestamp: packet.timestamp,
            marker: packet.marker,
            keyframe,
            received: now,
            presentation: server.instant(presentation),
            vp8: descriptor,
        };
        self.history
            .insert(place.index, meta, payload)
            .map_err(|rejected| match rejected {
                Rejected::Duplicate => Refused::Duplicate,
                Rejected::TooOld => Refused::TooOld,
                Rejected::TooLong => Refused::TooLong,
            })?;
        self.missing.close(place.number);
        if let Some(from) = place.gap_from {
            self.open_gap(from, place.number, now);
        }
        if !packet.retransmitted {
            self.reception
                .record(place.number, packet.timestamp, arrival);
        }
        if self.codec.kind() == MediaKind::Video {
            if keyframe {
                self.extend_group(place.index, place.number, packet.timestamp, now);
            } else if self.group.is_none() {
                self.keyframes.request();
            }
        }
        self.throughput.add(packet.payload.len(), now);
        if (self.arrived.len() as u64) < self.history.capacity() {
            self.arrived.push(place.index);
        }
        Ok(())
    }

    /// Returns the indices of the packets that arrived since [`Layer::forwarded`], in order of arrival;
    /// at most as many as are kept, and what comes beyond is left to retransmission.
    pub(crate) fn arrived(&self) -> &[u64] {
        &self.arrived
    }

    /// What arrived was forwarded.
    pub(crate) fn forwarded(&mut self) {
        self.arrived.clear();
    }

    /// Returns a kept packet.
    pub(crate) fn packet(&self, index: u64) -> Option<Packet<'_>> {
        self.history.get(index)
    }

    /// Returns the highest index that arrived.
    pub(crate) fn highest(&self) -> Option<u64> {
        self.history.highest()
    }

    /// Returns how many packets are kept.
    pub(crate) fn capacity(&self) -> u64 {
        self.history.capacity()
    }

    /// Returns where a receiver can start: for video the newest keyframe, if it is at most `max_age` old
    /// and nothing is lost since; for audio anywhere.
    pub(crate) fn starting_point(&self, max_age: Duration, now: Instant) -> Option<u64> {
        if self.codec.kind() == MediaKind::Audio {
            return self.arrived.iter().min().copied();
        }
        let group = self.group.filter(|group| group.intact)?;
        let length = self.highest()?.saturating_sub(group.start);
        let fresh = now.saturating_duration_since(group.received) <= max_age;
        let kept = self.history.get(group.start).is_some();
        (fresh && kept && length < MAX_BURST).then_some(group.start)
    }

    /// Returns whether a keyframe was ever seen (for audio: any packet).
    pub(crate) fn is_startable(&self) -> bool {
        match self.codec.kind() {
            MediaKind::Video => self.group.is_some(),
            MediaKind::Audio => self.highest().is_some(),
        }
    }

    /// Returns whether packets came within the last second.
    pub(crate) fn is_flowing(&self, now: Instant) -> bool {
        self.last_packet
            .is_some_and(|last| now.saturating_duration_since(last) < SILENCE)
    }

    /// Returns the recent bitrate, bit/s.
    pub(crate) fn bitrate(&self) -> u64 {
        self.throughput.bits_per_second
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
        self.reception = Reception::new(self.codec.clock_rate());
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
                self.keyframes.arrived();
                self.group = Some(Group {
                    start: index,
                    number,
                    timestamp,
                    received: now,
                    intact: true,
                });
            }
        }
    }
}

impl Throughput {
    fn add(&mut self, bytes: usize, now: Instant) {
        let since = *self.since.get_or_insert(now);
        self.bytes += bytes as u64;
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= THROUGHPUT_WINDOW {
            let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
            self.bits_per_second = self.bytes.saturating_mul(8_000_000) / micros.max(1);
            self.bytes = 0;
            self.since = Some(now);
        }
    }
}

/// Returns whether a dependency descriptor begins a frame and brings the structure that the following ones
/// refer to (AV1 RTP specification, A.8.3), which only keyframes do.
fn starts_structure(descriptor: Option<&[u8]>) -> bool {
    let Some([mandatory, _, _, extended, ..]) = descriptor else {
        return false;
    };
    mandatory & 0x80 != 0 && extended & 0x80 != 0
}

/// Most packets sent at once to a newcomer.
const MAX_BURST: u64 = 300;

/// A layer that is silent for this long is not being sent any more.
const SILENCE: Duration = Duration::from_secs(1);

const THROUGHPUT_WINDOW: Duration = Duration::from_millis(500);

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
            let packet = Arrival {
                seq,
                timestamp,
                marker: true,
                payload,
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
    fn what_arrived_is_bounded() {
        let mut f = Fixture::new(Codec::H264);
        for seq in 0..1000 {
            f.receive(seq, 100, DELTA, 0).unwrap();
        }
        assert_eq!(f.layer.arrived().len(), 64);
    }
}
