//! Where a subscription reads a layer's history, and which packet comes next.

use std::time::{Duration, Instant};

use crate::{
    frame::{Frame, Qualities},
    history::Packet,
    ladder::Rung,
    layer::Layer,
    publication::Source,
};

/// A cursor over one layer.
///
/// Whoever takes everything is served in order of arrival: a late packet's number is reserved. Whoever takes
/// only some layers is served in order of index, because the number of a packet depends on what is left out
/// before it.
#[derive(Debug)]
pub(crate) struct Reading {
    /// The stream.
    pub(crate) source: Source,
    /// What is forwarded of it.
    pub(crate) rung: Rung,
    /// The first packet not dealt with.
    pub(crate) next: u64,
    /// Since when it is behind the live edge.
    pub(crate) behind: Option<Instant>,
    in_order: bool,
    gap: Option<Instant>,
    /// What is wanted, and since when, while that is not what is forwarded.
    wanted: Option<(Rung, Instant)>,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// A packet to be sent; [`Reading::pass`] it then.
    Send(Packet<'a>),
    /// A packet to be left out, which was passed.
    LeaveOut {
        /// Its index.
        index: u64,
        /// Whether a picture that is counted goes with it.
        picture: bool,
    },
    /// The packet is missing and may still come.
    Wait,
    /// Nothing more arrived.
    Edge,
    /// The packet was overwritten.
    Lost,
}

impl Reading {
    /// Begins at a keyframe.
    pub(crate) fn new(source: Source, rung: Rung, first: u64, now: Instant) -> Self {
        Self {
            source,
            rung,
            next: first,
            behind: Some(now),
            in_order: true,
            gap: None,
            wanted: None,
        }
    }

    /// Returns whether what arrives is to be sent as it comes: everything, and nothing is waiting.
    pub(crate) fn is_direct(&self) -> bool {
        !self.in_order && self.behind.is_none()
    }

    /// Says what is wanted of the stream.
    pub(crate) fn aim(&mut self, aim: &Rung, layer: &Layer, now: Instant) {
        let is_there = self.rung.is_same(*aim);
        self.in_order = !is_there || !layer.takes_all(&self.rung);
        match &mut self.wanted {
            _ if is_there => self.wanted = None,
            Some((wanted, _)) if wanted.is_same(*aim) => {}
            wanted => *wanted = Some((*aim, now)),
        }
    }

    /// Returns whether only a keyframe leads to what is wanted: upper spatial layers are entered there, and
    /// left where the lower ones are not sent in between.
    pub(crate) fn needs_keyframe(&self, aim: &Rung, now: Instant) -> bool {
        let Some((_, since)) = self.wanted else {
            return false;
        };
        let is_overdue = now.saturating_duration_since(since) >= SWITCHING_POINT;
        aim.spatial > self.rung.spatial || aim.spatial < self.rung.spatial && is_overdue
    }

    /// Returns the next step. What is forwarded changes towards `aim` where the stream allows it.
    pub(crate) fn step<'a>(&mut self, layer: &'a Layer, aim: &Rung, now: Instant) -> Step<'a> {
        loop {
            let Some(highest) = layer.highest().filter(|highest| *highest >= self.next) else {
                self.behind = None;
                return Step::Edge;
            };
            let Some(packet) = layer.packet(self.next) else {
                if highest - self.next >= layer.capacity() {
                    return Step::Lost;
                }
                if self.in_order && !self.is_overdue(now) {
                    return Step::Wait;
                }
                self.next += 1;
                continue;
            };
            self.gap = None;
            let frame = &packet.meta.frame;
            if self.in_order && frame.starts && !self.rung.is_same(*aim) {
                self.approach(aim, frame);
            }
            if self.in_order && !frame.needed.meets(self.rung.quality()) {
                let index = self.next;
                self.next += 1;
                let is_counted = packet.meta.picture.is_some_and(|p| p.is_gapless);
                let picture = frame.starts && is_counted;
                return Step::LeaveOut { index, picture };
            }
            return Step::Send(packet);
        }
    }

    /// The packet at the cursor was sent.
    pub(crate) fn pass(&mut self) {
        self.next += 1;
    }

    /// Returns the spatial layer whose end is the end of a picture for the receiver, if it is not the
    /// publisher's.
    pub(crate) fn top_spatial(&self, layer: &Layer) -> u8 {
        layer.top_spatial(&self.rung)
    }

    fn is_overdue(&mut self, now: Instant) -> bool {
        let since = *self.gap.get_or_insert(now);
        now.saturating_duration_since(since) >= HOLD
    }

    /// Changes what is forwarded, if it can change with this frame.
    fn approach(&mut self, aim: &Rung, frame: &Frame) {
        let present = self.rung.quality();
        if !frame.decodable.meets(present) {
            return;
        }
        let is_lower = aim.spatial <= self.rung.spatial && aim.temporal <= self.rung.temporal;
        let fits = match is_lower {
            true => frame.needed.meets(aim.quality()),
            false => false,
        };
        if fits || frame.switch.meets(aim.quality()) {
            self.rung = *aim;
            return;
        }
        // Upper temporal layers may have to be entered one by one.
        let spatial = self.rung.spatial;
        if aim.spatial == spatial && aim.temporal > self.rung.temporal {
            let between = (self.rung.temporal + 1..aim.temporal).rev();
            let mut between = between.map(|temporal| (temporal, Qualities::one(spatial, temporal)));
            if let Some((temporal, _)) = between.find(|(_, one)| frame.switch.meets(*one)) {
                self.rung.temporal = temporal;
            }
        }
    }
}

/// Where a lower spatial layer can be entered without a keyframe, it can be with the next picture or the one
/// behind.
const SWITCHING_POINT: Duration = Duration::from_millis(100);

/// How long a missing packet is waited for by those who are served in order: the wait before the first request
/// and two round trips. Behind a packet that is missing nothing can be decoded.
const HOLD: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Codec, PublicationId,
        clock::{RemoteClock, ServerClock},
        layer::Arrival,
    };

    struct Fixture {
        layer: Layer,
        reading: Reading,
        server: ServerClock,
        remote: RemoteClock,
        t0: Instant,
        first: Option<u64>,
    }

    impl Fixture {
        /// Begins with a key frame, packet 0, at the live edge.
        fn new(codec: Codec, payload: &[u8]) -> Self {
            let t0 = Instant::now();
            let source = Source {
                publication: PublicationId(1),
                layer: 0,
                epoch: 0,
            };
            let mut this = Self {
                layer: Layer::new(codec, 32),
                reading: Reading::new(source, Rung::whole(0, 0), 0, t0),
                server: ServerClock::new(Duration::ZERO, t0),
                remote: RemoteClock::default(),
                t0,
                first: None,
            };
            this.receive(0, payload);
            let first = this.layer.starting_point(HOLD, t0).unwrap();
            this.first = Some(first);
            this.reading.next = first;
            this
        }

        fn receive(&mut self, seq: u16, payload: &[u8]) {
            let packet = Arrival {
                seq,
                timestamp: u32::from(seq) * 3000,
                marker: true,
                payload,
                ..Arrival::default()
            };
            self.layer
                .receive(&packet, self.server, &mut self.remote, self.t0)
                .unwrap();
        }

        /// Reads on and returns the numbers of the packets that are to be sent.
        fn read(&mut self, aim: &Rung, ms: u64) -> Vec<u64> {
            let now = self.t0 + Duration::from_millis(ms);
            self.reading.aim(aim, &self.layer, now);
            let mut numbers = Vec::new();
            while let Step::Send(_) | Step::LeaveOut { .. } = {
                let step = self.reading.step(&self.layer, aim, now);
                if let Step::Send(packet) = &step {
                    numbers.push(packet.index - self.first.unwrap());
                    self.reading.pass();
                }
                step
            } {}
            self.reading.aim(aim, &self.layer, now);
            numbers
        }

        /// Receives a VP8 frame of each of these temporal layers; an `S` means that it is synced.
        fn temporal(&mut self, from: u16, layers: &str) {
            for (seq, layer) in (from..).zip(layers.split(' ')) {
                let (layer, synced) = match layer.strip_suffix('S') {
                    Some(layer) => (layer, 0x20),
                    None => (layer, 0),
                };
                let temporal = layer.parse::<u8>().unwrap() << 6;
                self.receive(seq, &[0x90, 0x20, temporal | synced, 1]);
            }
        }
    }

    const VP8_KEY: &[u8] = &[0x90, 0x20, 0, 0];

    fn rung(temporal: u8) -> Rung {
        Rung {
            temporal,
            spatial: 0,
            ..Rung::whole(0, 0)
        }
    }

    #[test]
    fn temporal_layers_are_left_at_once_and_entered_where_they_are_synced() {
        let mut f = Fixture::new(Codec::Vp8, VP8_KEY);
        f.temporal(1, "2 1 2");
        assert_eq!(f.read(&rung(2), 0), [0, 1, 2, 3]);
        assert!(f.reading.is_direct(), "the highest takes all");
        f.temporal(4, "0 2 1 2");
        assert_eq!(f.read(&rung(0), 0), [4]);
        assert!(!f.reading.is_direct());
        f.temporal(8, "0 2 1 2");
        assert_eq!(f.read(&rung(2), 0), [8], "nothing is synced");
        f.temporal(12, "0 2S 1S 2 0 2S 1 2");
        assert_eq!(f.read(&rung(2), 0), [12, 14, 16, 17, 18, 19]);
        assert!(f.reading.is_direct());
    }

    #[test]
    fn whoever_takes_all_does_not_wait_for_missing_packets() {
        let mut f = Fixture::new(Codec::H264, &[0x65]);
        f.receive(3, &[0x41]);
        assert_eq!(f.read(&Rung::whole(0, 0), 0), [0, 3]);
        assert!(f.reading.is_direct());
    }

    #[test]
    fn whoever_leaves_out_waits_for_missing_packets_a_while() {
        let mut f = Fixture::new(Codec::Vp8, VP8_KEY);
        f.temporal(1, "1 0");
        assert_eq!(f.read(&rung(0), 0), [0, 2]);
        f.temporal(4, "0 1 0");
        assert_eq!(f.read(&rung(0), 10), [0; 0]);
        f.temporal(3, "1");
        assert_eq!(f.read(&rung(0), 20), [4, 6]);
        f.temporal(9, "0");
        assert_eq!(f.read(&rung(0), 30), [0; 0]);
        assert_eq!(f.read(&rung(0), 229), [0; 0]);
        assert_eq!(f.read(&rung(0), 230), [9]);
    }

    #[test]
    fn what_was_overwritten_is_lost() {
        let mut f = Fixture::new(Codec::H264, &[0x65]);
        for seq in 1..40 {
            f.receive(seq, &[0x41]);
        }
        let step = f.reading.step(&f.layer, &Rung::whole(0, 0), f.t0);
        assert!(matches!(step, Step::Lost));
    }

    #[test]
    fn spatial_layers_are_entered_at_keyframes_and_left_at_any_picture() {
        /// Two spatial layers, each frame one packet.
        fn picture(f: &mut Fixture, number: u16, is_key: bool, is_lower_for_upper: bool) {
            let first = 0x2c | if is_key { 0 } else { 0x40 } | 0x10;
            let lower = u8::from(!is_lower_for_upper);
            f.receive(number, &[first | lower, 0x00]);
            f.receive(number + 1, &[first, 0x02]);
        }
        let rung = |spatial| Rung {
            spatial,
            temporal: 0,
            ..Rung::whole(0, 0)
        };
        let mut f = Fixture::new(Codec::Vp9, &[0x3c, 0x00]);
        f.receive(1, &[0x3c, 0x02]);
        picture(&mut f, 2, false, true);
        assert_eq!(f.read(&rung(1), 0), [0, 1, 2, 3]);
        picture(&mut f, 4, false, true);
        assert_eq!(f.read(&rung(0), 0), [4]);
        assert_eq!(f.reading.top_spatial(&f.layer), 0);
        picture(&mut f, 6, false, true);
        assert_eq!(f.read(&rung(1), 0), [6]);
        let now = f.t0;
        assert!(f.reading.needs_keyframe(&rung(1), now), "to go up");
        picture(&mut f, 8, true, true);
        assert_eq!(f.read(&rung(1), 0), [8, 9]);
        assert!(!f.reading.needs_keyframe(&rung(1), now));
        picture(&mut f, 10, false, false);
        assert_eq!(f.read(&rung(1), 0), [11], "the lower one is of no use");
        picture(&mut f, 12, false, false);
        assert_eq!(f.read(&rung(0), 0), [13], "and cannot be gone on with");
        assert!(!f.reading.needs_keyframe(&rung(0), now));
        let later = now + SWITCHING_POINT;
        assert!(f.reading.needs_keyframe(&rung(0), later));
    }
}
