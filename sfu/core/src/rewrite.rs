//! Continuous sequence number, timestamp and picture id across changes of what is forwarded.

use std::{collections::VecDeque, time::Instant};

use crate::{
    history::Packet,
    picture::{Head, Picture, Shift},
    publication::Source,
    replay::{Live, Replays},
    sequence::{extend16, is_later, low32},
};

/// Numbers one outgoing stream. Every packet has one number for ever, so that sending it again under the
/// same SRTP index sends the same bytes.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Rewrite {
    /// Oldest first, at most [`MAX_RUNS`].
    runs: VecDeque<Run>,
    next_seq: u32,
    /// Where the present run began.
    began_at: u32,
    timestamp: u32,
    last: Option<Last>,
    replays: Replays,
}

/// The header fields of a packet as it goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rewritten {
    /// Extended sequence number.
    pub(crate) seq: u32,
    /// RTP timestamp.
    pub(crate) timestamp: u32,
    /// Marker bit.
    pub(crate) marker: bool,
    /// The beginning of the payload, when its numbers differ from the publisher's.
    pub(crate) head: Option<Head>,
    /// What is added to the frame number of the dependency descriptor.
    pub(crate) frame_shift: u16,
}

/// A packet that went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// The stream it is of.
    pub(crate) source: Source,
    /// Its index in its layer.
    pub(crate) index: u64,
    /// Its extended sequence number.
    seq: u32,
}

/// Where a run begins, and how its timestamps go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start<'a> {
    /// The stream.
    pub(crate) source: Source,
    /// The first packet.
    pub(crate) first: Packet<'a>,
    /// The newest of the stream. What is sent later than it came gets the timestamp of its sending; without
    /// this, its own.
    pub(crate) live: Option<Live>,
    /// Ticks per second.
    pub(crate) rate: u32,
    /// Whether timestamps may move: not those of audio.
    pub(crate) is_elastic: bool,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    timestamp: u32,
    /// The publisher's timestamp and the run's number.
    of: (u32, Option<u32>),
    received: Instant,
    presentation: Instant,
    picture: Option<Picture>,
    frame_number: Option<u16>,
}

/// Packets with consecutive indices of one layer, under consecutive numbers.
#[derive(Clone, Copy, Debug)]
struct Run {
    source: Source,
    first: u64,
    /// Behind the last one; `u64::MAX` while it goes on.
    end: u64,
    seq_shift: u32,
    timestamp_shift: u32,
    /// Its number among those whose timestamps may move.
    replay: Option<u32>,
    picture: Shift,
    frame_shift: u16,
    /// The highest spatial layer that is forwarded, whose end is the end of the picture.
    top_spatial: u8,
}

impl Rewrite {
    /// Creates numbering that begins at random numbers (RFC 3550 §5.1).
    pub(crate) fn new(random_seq: u32, random_timestamp: u32) -> Self {
        Self {
            // The upper bits are the SRTP rollover counter, which begins at 0; the low half of the range
            // keeps the first wrap away from the first packets (RFC 3711 §3.3.1).
            next_seq: random_seq & 0x7fff,
            timestamp: random_timestamp,
            last: None,
            runs: VecDeque::new(),
            replays: Replays::default(),
            began_at: random_seq & 0x7fff,
        }
    }

    /// Reads what [`Rewrite::apply`] will.
    pub(crate) fn warm(&self) -> u64 {
        let last = self.last.as_ref().map_or(0, |last| last.timestamp);
        u64::from(self.next_seq ^ self.began_at ^ last)
    }

    /// Like [`Rewrite::warm`], behind what that has read.
    pub(crate) fn warm_runs(&self) -> u64 {
        self.runs
            .back()
            .map_or(0, |run| run.first ^ u64::from(run.frame_shift))
    }

    /// Begins a run. Its timestamps continue the ones before by the time between the presentations, and
    /// are later than all of them.
    pub(crate) fn begin(&mut self, start: &Start<'_>) {
        let meta = start.first.meta;
        let timestamp_shift = match self.last {
            None => {
                let begin = start.live.map_or(meta.timestamp, |live| live.timestamp);
                self.timestamp.wrapping_sub(begin)
            }
            Some(last) => last.continued_by(start),
        };
        let last = |get: fn(&Last) -> Option<u16>| self.last.as_ref().and_then(get);
        let frame_shift = match (last(|last| last.frame_number), meta.frame_number) {
            (Some(last), Some(first)) => last.wrapping_add(1).wrapping_sub(first),
            (_, _) => 0,
        };
        let picture = match (self.last.and_then(|last| last.picture), meta.picture) {
            (Some(last), Some(first)) => Shift::continuing(&last, &first),
            (_, _) => Shift::default(),
        };
        let replay = start
            .is_elastic
            .then(|| self.replays.begin(start.rate, start.live));
        self.close();
        self.began_at = self.next_seq;
        self.push(Run {
            source: start.source,
            first: start.first.index,
            end: u64::MAX,
            seq_shift: self.next_seq.wrapping_sub(low32(start.first.index)),
            timestamp_shift,
            replay,
            picture,
            frame_shift,
            top_spatial: u8::MAX,
        });
    }

    /// Ends the run, and leaves a number out, as if a packet were lost.
    pub(crate) fn break_off(&mut self) {
        self.close();
        self.next_seq = self.next_seq.wrapping_add(1);
    }

    /// Returns the fields of a packet that is sent for the first time; `None` for one that does not belong to
    /// what was begun last.
    pub(crate) fn apply(&mut self, packet: &Packet<'_>, now: Instant) -> Option<Rewritten> {
        let source = self.runs.back()?.source;
        let mut runs = self.runs.iter().rev();
        let run = *runs.find(|run| run.source == source && run.contains(packet.index))?;
        let is_newest = is_later(run.seq(packet.index).wrapping_add(1), self.next_seq);
        let timestamp = match is_newest {
            true => self.place(&run, packet.meta.timestamp, now),
            false => self.placed(&run, packet.meta.timestamp)?,
        };
        let rewritten = run.rewrite(packet, timestamp);
        if is_newest {
            self.next_seq = rewritten.seq.wrapping_add(1);
            let meta = packet.meta;
            let number = meta.frame_number;
            self.last = Some(Last {
                timestamp: rewritten.timestamp,
                of: (meta.timestamp, run.replay),
                received: meta.received,
                presentation: meta.presentation,
                picture: meta.picture.map(|picture| run.picture.apply(&picture)),
                frame_number: number.map(|number| number.wrapping_add(run.frame_shift)),
            });
        }
        Some(rewritten)
    }

    /// Returns the same fields as [`Rewrite::apply`] did for a packet that [`Rewrite::find`] found.
    pub(crate) fn repeat(&self, found: Found, packet: &Packet<'_>) -> Option<Rewritten> {
        let mut runs = self.runs.iter().rev();
        let run = runs.find(|run| {
            let is_it = run.source == found.source && run.contains(found.index);
            is_it && run.seq(found.index) == found.seq
        })?;
        Some(run.rewrite(packet, self.placed(run, packet.meta.timestamp)?))
    }

    /// Returns the publisher's timestamp with which a picture goes out.
    fn place(&mut self, run: &Run, timestamp: u32, now: Instant) -> u32 {
        let last = self.last;
        let before = last.map(|last| last.timestamp.wrapping_sub(run.timestamp_shift));
        match (last, before) {
            _ if run.replay.is_none() => timestamp,
            (Some(last), Some(before)) if last.of == (timestamp, run.replay) => before,
            (_, before) => self.replays.place(timestamp, before, now),
        }
    }

    /// Returns the publisher's timestamp with which a picture went out.
    fn placed(&self, run: &Run, timestamp: u32) -> Option<u32> {
        match run.replay {
            Some(number) => self.replays.find(number, timestamp),
            None => Some(timestamp),
        }
    }

    /// Leaves out the packet with this index, which nobody saw, and no later one: the ones behind it move
    /// up. `starts_picture` tells whether a whole picture goes with it.
    pub(crate) fn leave_out(&mut self, index: u64, starts_picture: bool) {
        let Some(run) = self.split(index) else { return };
        run.first = index + 1;
        run.seq_shift = run.seq_shift.wrapping_sub(1);
        if starts_picture {
            run.picture.leave_out();
        }
    }

    /// From the packet with this index on, pictures end with this spatial layer.
    pub(crate) fn end_pictures_at(&mut self, spatial: u8, index: u64) {
        if self
            .runs
            .back()
            .is_some_and(|run| run.top_spatial != spatial)
            && let Some(run) = self.split(index)
        {
            run.top_spatial = spatial;
        }
    }

    /// Returns the packet that went out with this sequence number: its stream and its index.
    pub(crate) fn find(&self, seq: u16) -> Option<Found> {
        let full = low32(extend16(u64::from(self.next_seq) + (1 << 32), seq));
        if self.next_seq.wrapping_sub(full).wrapping_sub(1) > MAX_BEHIND {
            return None;
        }
        self.runs.iter().rev().find_map(|run| {
            let start = low32(run.first).wrapping_add(run.seq_shift);
            let offset = u64::from(full.wrapping_sub(start));
            let length = match run.end {
                u64::MAX => u64::from(self.next_seq.wrapping_sub(start)),
                end => end - run.first,
            };
            (offset < length).then(|| Found {
                source: run.source,
                index: run.first + offset,
                seq: full,
            })
        })
    }

    /// Returns whether a packet is older than the keyframe with which the present run began, which every viewer can go on with.
    pub(crate) fn is_passed(&self, found: &Found) -> bool {
        is_later(self.began_at, found.seq)
    }

    /// Returns what is added to the publisher's timestamps.
    pub(crate) fn timestamp_shift(&self) -> u32 {
        self.runs.back().map_or(0, |run| run.timestamp_shift)
    }

    /// Ends the run behind its last packet.
    fn close(&mut self) {
        let next_seq = self.next_seq;
        if let Some(run) = self.runs.back_mut()
            && run.end == u64::MAX
        {
            let start = low32(run.first).wrapping_add(run.seq_shift);
            run.end = run.first + u64::from(next_seq.wrapping_sub(start));
            if run.end == run.first {
                self.runs.pop_back();
            }
        }
    }

    /// Returns the run that goes on at `index`, which is one of its own.
    fn split(&mut self, index: u64) -> Option<&mut Run> {
        let run = self.runs.back_mut()?;
        if run.first < index {
            let mut next = *run;
            run.end = index;
            next.first = index;
            self.push(next);
        }
        self.runs.back_mut()
    }

    fn push(&mut self, run: Run) {
        if self.runs.len() >= MAX_RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back(run);
    }
}

impl Last {
    /// Returns the timestamp shift with which a run continues.
    fn continued_by(&self, start: &Start<'_>) -> u32 {
        let meta = start.first.meta;
        let presented = signed_micros(self.presentation, meta.presentation);
        let received = signed_micros(self.received, meta.received);
        // Clocks of two publishers may be at odds, and a broken one is not to tear a hole.
        let elapsed = match presented.abs_diff(received) <= CLOCKS_AGREE {
            true => presented,
            false => received,
        };
        let elapsed = ticks(elapsed, start.rate);
        let step = match start.is_elastic {
            true => elapsed,
            false => elapsed.max(i64::from(start.rate / 50)),
        };
        let timestamp = self.timestamp.wrapping_add_signed(wrap(step));
        timestamp.wrapping_sub(meta.timestamp)
    }
}

impl Run {
    fn contains(&self, index: u64) -> bool {
        (self.first..self.end).contains(&index)
    }

    fn seq(&self, index: u64) -> u32 {
        low32(index).wrapping_add(self.seq_shift)
    }

    fn rewrite(&self, packet: &Packet<'_>, timestamp: u32) -> Rewritten {
        let meta = packet.meta;
        let picture = meta.picture.filter(|_| !self.picture.is_none());
        let ends_picture = meta.frame.ends && meta.frame.spatial >= self.top_spatial;
        Rewritten {
            seq: self.seq(packet.index),
            timestamp: timestamp.wrapping_add(self.timestamp_shift),
            marker: meta.marker || ends_picture,
            head: picture.map(|p| p.write(packet.payload, &self.picture.apply(&p))),
            frame_shift: self.frame_shift,
        }
    }
}

fn signed_micros(from: Instant, to: Instant) -> i64 {
    let micros = |later: Instant, earlier: Instant| {
        let micros = later.saturating_duration_since(earlier).as_micros();
        i64::try_from(micros).unwrap_or(i64::MAX)
    };
    micros(to, from) - micros(from, to)
}

fn ticks(micros: i64, rate: u32) -> i64 {
    let ticks = i128::from(micros) * i128::from(rate) / 1_000_000;
    i64::try_from(ticks).unwrap_or_default()
}

fn wrap(ticks: i64) -> i32 {
    i32::try_from(ticks).unwrap_or(i32::MAX / 2)
}

/// Several seconds of a stream of which every second picture is left out.
const MAX_RUNS: usize = 64;

/// How far back a packet may be asked for again.
const MAX_BEHIND: u32 = 0x4000;

/// Presentations further apart from arrivals than this are not believed, in microseconds.
const CLOCKS_AGREE: u64 = 500_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        PublicationId,
        frame::Frame,
        history::{Extensions, Meta},
    };

    fn source(n: u64) -> Source {
        Source {
            publication: PublicationId(n),
            layer: 0,
            epoch: 0,
        }
    }

    fn meta(timestamp: u32, received: Instant, picture_id: u16) -> Meta {
        Meta {
            timestamp,
            marker: false,
            keyframe: false,
            received,
            presentation: received,
            frame: Frame::whole(false, false),
            picture: Some(Picture {
                id: Some(picture_id),
                has_long_id: true,
                id_at: 2,
                ..Picture::default()
            }),
            frame_number: Some(picture_id),
            is_red: false,
            extensions: Extensions::default(),
            padding: 0,
        }
    }

    fn packet(index: u64, meta: &Meta) -> Packet<'_> {
        Packet {
            index,
            meta,
            payload: &[0, 0, 0, 0],
            descriptor: &[],
        }
    }

    fn start<'a>(n: u64, first: Packet<'a>) -> Start<'a> {
        Start {
            source: source(n),
            first,
            live: None,
            rate: 90_000,
            is_elastic: true,
        }
    }

    fn begin(rewrite: &mut Rewrite, n: u64, index: u64, meta: &Meta) {
        rewrite.begin(&start(n, packet(index, meta)));
    }

    #[test]
    fn a_switch_is_seamless() {
        let t0 = Instant::now();
        let mut rewrite = Rewrite::new(0x7ffe, 1000);
        let first = meta(50_000, t0, 7);
        begin(&mut rewrite, 1, 100, &first);
        let out = rewrite.apply(&packet(100, &first), t0).unwrap();
        assert_eq!((out.seq, out.timestamp, out.head), (0x7ffe, 1000, None));
        let later = meta(53_000, t0 + Duration::from_millis(33), 8);
        let out = rewrite.apply(&packet(102, &later), t0).unwrap();
        assert_eq!((out.seq, out.timestamp), (0x8000, 4000));
        let out = rewrite.apply(&packet(101, &first), t0).unwrap();
        assert_eq!((out.seq, out.timestamp), (0x7fff, 1000), "reordered");

        let other = meta(9, t0 + Duration::from_millis(133), 30_000);
        begin(&mut rewrite, 2, 5, &other);
        let out = rewrite.apply(&packet(5, &other), t0).unwrap();
        assert_eq!((out.seq, out.timestamp), (0x8001, 4000 + 9000));
        let head = out.head.unwrap();
        assert_eq!(head.as_slice(), [0, 0, 0x80, 9]);
        assert_eq!(30_000_u16.wrapping_add(out.frame_shift), 9);
        assert_eq!(
            rewrite.apply(&packet(4, &other), t0),
            None,
            "before the run"
        );
        let found = rewrite.find(0x8001).unwrap();
        assert_eq!(rewrite.repeat(found, &packet(5, &other)), Some(out));
    }

    #[test]
    fn a_replay_is_dated_by_its_sending() {
        let t0 = Instant::now();
        let ms = |n: u32| t0 + Duration::from_millis(u64::from(n));
        let at = |n: u32| meta(n.wrapping_mul(3000), ms(n * 100 / 3), 0);
        let mut rewrite = Rewrite::new(0, 0);
        let live = at(60);
        let joined = ms(2000);
        rewrite.begin(&Start {
            live: Some(Live {
                timestamp: live.timestamp,
                received: live.received,
            }),
            ..start(1, packet(0, &at(0)))
        });
        let mut dated = Vec::new();
        for n in 0..70 {
            // Sent three times as fast as it came, from 2 s on; what is live as it comes.
            let sent = (joined + Duration::from_millis(u64::from(n) * 11)).max(at(n).received);
            let out = rewrite.apply(&packet(u64::from(n), &at(n)), sent).unwrap();
            let since = u32::try_from((sent - joined).as_millis()).unwrap() * 90;
            assert!(
                out.timestamp.abs_diff(since) <= 1500,
                "{n}: {} {since}",
                out.timestamp
            );
            assert!(
                dated
                    .last()
                    .is_none_or(|last| is_later(out.timestamp, *last)),
                "{n}"
            );
            dated.push(out.timestamp);
        }
        for (n, timestamp) in (0_u16..).zip(&dated) {
            let found = rewrite.find(n).unwrap();
            let again = rewrite
                .repeat(found, &packet(u64::from(n), &at(u32::from(n))))
                .unwrap();
            assert_eq!(again.timestamp, *timestamp, "{n}");
        }
        for n in [5000, 6000, 1_000_000, 2_000_000] {
            let out = rewrite
                .apply(&packet(u64::from(n), &at(n)), at(n).received)
                .unwrap();
            assert_eq!(out.timestamp, (n - 60).wrapping_mul(3000), "{n}");
        }
    }

    #[test]
    fn timestamps_never_go_back_and_become_true() {
        let t0 = Instant::now();
        for behind in [0, 1, 20, 100, 400] {
            let mut rewrite = Rewrite::new(0, 0);
            let first = meta(0, t0 + Duration::from_millis(behind), 0);
            begin(&mut rewrite, 1, 0, &first);
            rewrite.apply(&packet(0, &first), t0).unwrap();
            let mut last = 0;
            let other = meta(7_000_000, t0, 0);
            begin(&mut rewrite, 2, 9, &other);
            for n in 0..40 {
                let meta = meta(7_000_000 + n * 3000, t0, 0);
                let out = rewrite.apply(&packet(9 + u64::from(n), &meta), t0).unwrap();
                assert!(is_later(out.timestamp, last), "{behind} ms, picture {n}");
                assert!(out.timestamp - last <= 3000, "{behind} ms, picture {n}");
                last = out.timestamp;
            }
            let expected = 39 * 3000 - u32::try_from(behind).unwrap() * 90;
            assert_eq!(last, expected, "{behind} ms");
        }
    }

    #[test]
    fn finds_what_went_out_over_switches() {
        let t0 = Instant::now();
        let mut rewrite = Rewrite::new(0x7ff0, 0);
        assert_eq!(rewrite.find(5), None);
        let any = meta(0, t0, 0);
        begin(&mut rewrite, 1, 100, &any);
        for index in 100..0x9000 {
            rewrite.apply(&packet(index, &any), t0);
        }
        let newest = 0x7ff0 + 0x9000 - 100 - 1_u64;
        let cases = [
            ("newest", newest, Some(0x8fff)),
            ("one before", newest - 1, Some(0x8ffe)),
            ("not yet sent", newest + 1, None),
            ("too old", newest - 0x5000, None),
        ];
        for (label, seq, expected) in cases {
            let found = rewrite.find((seq & 0xffff) as u16);
            let found = found.map(|found| (found.source, found.index));
            assert_eq!(found, expected.map(|index| (source(1), index)), "{label}");
        }
        begin(&mut rewrite, 2, 50, &any);
        rewrite.apply(&packet(50, &any), t0);
        let seq = |n: u64| ((newest + n) & 0xffff) as u16;
        let found = |seq| rewrite.find(seq).map(|found| (found.source, found.index));
        assert_eq!(found(seq(1)), Some((source(2), 50)));
        assert_eq!(found(seq(0)), Some((source(1), 0x8fff)));
        let passed = [seq(0), seq(1)].map(|seq| rewrite.is_passed(&rewrite.find(seq).unwrap()));
        assert_eq!(passed, [true, false], "older than the present run");
    }

    #[test]
    fn what_is_left_out_leaves_no_gap() {
        let t0 = Instant::now();
        let mut rewrite = Rewrite::new(10, 0);
        let any = meta(0, t0, 5);
        begin(&mut rewrite, 1, 0, &any);
        let mut expected = 10;
        for index in 0..500_u64 {
            if index % 3 == 1 {
                rewrite.leave_out(index, true);
                continue;
            }
            let out = rewrite.apply(&packet(index, &any), t0).unwrap();
            assert_eq!(out.seq, expected);
            let low = (expected & 0xffff) as u16;
            let found = rewrite.find(low).unwrap();
            assert_eq!((found.source, found.index), (source(1), index));
            assert_eq!(rewrite.repeat(found, &packet(index, &any)), Some(out));
            expected += 1;
        }
        assert_eq!(rewrite.runs.len(), MAX_RUNS);
        assert_eq!(rewrite.apply(&packet(496, &any), t0), None, "left out");
    }

    #[test]
    fn a_packet_that_went_out_twice_is_found_under_both_numbers() {
        let t0 = Instant::now();
        let mut rewrite = Rewrite::new(0, 0);
        let any = meta(0, t0, 5);
        begin(&mut rewrite, 1, 0, &any);
        let first = rewrite.apply(&packet(0, &any), t0).unwrap();
        begin(&mut rewrite, 1, 0, &any);
        let second = rewrite.apply(&packet(0, &any), t0).unwrap();
        for out in [first, second] {
            let found = rewrite.find((out.seq & 0xffff) as u16).unwrap();
            assert_eq!(rewrite.repeat(found, &packet(0, &any)), Some(out));
        }
    }

    #[test]
    fn a_run_without_a_packet_leaves_no_trace() {
        let t0 = Instant::now();
        let mut rewrite = Rewrite::new(10, 0);
        let any = meta(0, t0, 5);
        begin(&mut rewrite, 1, 0, &any);
        begin(&mut rewrite, 2, 7, &any);
        assert_eq!(rewrite.apply(&packet(7, &any), t0).unwrap().seq, 10);
        assert_eq!(rewrite.runs.len(), 1);
    }
}
