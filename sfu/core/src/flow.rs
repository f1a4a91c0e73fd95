//! [`Flow`]: what the path to one peer carries.

mod sender;
mod start;

use std::time::{Duration, Instant};

use crate::{
    departures::Departures,
    estimate::{Estimator, Verdict},
    fallback::{Fallback, Reception},
    pacer::Pacer,
    probe::Prober,
    transport::{ArrivalReport, Shown},
};

pub(crate) use sender::Sender;
use start::Start;

/// The sending side of one peer's path. What every packet needs comes first, in neighbouring cache lines.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Flow {
    /// The first use; all times inside are microseconds since then.
    epoch: Option<Instant>,
    /// The last time asked for.
    clock: (Option<Instant>, i64),
    pacer: Pacer,
    rate: Rate,
    /// Of a peer that reports on every packet; taken at the first one.
    tracked: Option<Box<Tracked>>,
    /// What of the pacer's room repeats may take.
    repeats: Pacer,
    /// Of a peer that does not.
    fallback: Fallback,
    rtt: Option<Duration>,
    /// While nothing is known of the path.
    start: Option<Start>,
}

#[derive(Debug)]
#[repr(C)]
struct Tracked {
    departures: Departures,
    prober: Prober,
    estimator: Estimator,
    /// The newest arrival, on the peer's clock without its wrapping.
    newest: Option<i64>,
    /// When the estimate was last lowered for silence.
    silent_at: i64,
    /// Whether it cannot be probed.
    creeps: bool,
    /// Whether more is wanted than is believed to be carried.
    seeks: bool,
    /// When the path was too full the last time.
    full_at: Option<i64>,
    /// Bytes of packets that the peer does not report on, as of sound: they count as part of the next one that it does.
    untold: usize,
}

/// What a report or the passing of time means to the allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing urgent.
    None,
    /// A probe showed more.
    More,
    /// The path is too full.
    Congested,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            epoch: None,
            clock: (None, 0),
            pacer: Pacer::new(FIRST_PACE, BURST, LEAST_BURST),
            repeats: Pacer::new(FIRST_PACE / 2, REPEAT_BURST, LEAST_REPEAT_BURST),
            tracked: None,
            fallback: Fallback::default(),
            rate: Rate::default(),
            rtt: None,
            start: None,
        }
    }
}

impl Flow {
    /// The handshake is done. What it showed of the path decides how to begin, as long as no report tells more.
    pub(crate) fn begin(&mut self, shown: Shown, has_reports: bool, now: Instant) {
        let now = self.micros(now);
        self.rtt = shown.rtt;
        let start = Start::new(shown, has_reports, now);
        self.pacer.open(start.window());
        self.pacer.set_pace(start.pace(now), now);
        self.start = Some(start);
    }

    /// Takes a report on packets.
    pub(crate) fn handle_arrivals(&mut self, report: &ArrivalReport, now: Instant) -> News {
        let now = self.micros(now);
        let Some(tracked) = &mut self.tracked else {
            return News::None;
        };
        let news = tracked.handle(report, now);
        if let Some(start) = &mut self.start {
            let delivered = tracked.estimator.delivered();
            match tracked.estimator.is_idle() {
                true => start.carried(delivered, 2),
                false => start.waited(delivered),
            }
        }
        self.pace(now);
        news
    }

    /// Takes a receiver report's word on loss, which counts for a peer that says nothing better. Call
    /// [`Flow::judge_loss`] when all of a packet were taken.
    pub(crate) fn handle_reception(&mut self, reception: &Reception) {
        if self.tracked.is_none() {
            self.fallback.handle_reception(reception);
            if let Some(start) = &mut self.start {
                let is_whole = start.is_whole.unwrap_or(true) && reception.fraction_lost == 0;
                start.is_whole = Some(is_whole);
            }
        }
    }

    /// Decides on what receiver reports said.
    pub(crate) fn judge_loss(&mut self, now: Instant) {
        if self.tracked.is_none() {
            let now = self.micros(now);
            self.fallback.judge(self.rate.total, now);
            if let Some(start) = &mut self.start
                && start.is_whole.take() == Some(true)
            {
                // It comes a second after the last one.
                start.carried(self.rate.bps, 4);
            }
            self.pace(now);
        }
    }

    /// Takes what the peer believes it can receive (REMB).
    pub(crate) fn handle_bitrate(&mut self, bitrate: u64, now: Instant) -> News {
        let now = self.micros(now);
        let is_too_much = self.fallback.handle_bitrate(bitrate, self.rate.bps, now);
        self.pace(now);
        match is_too_much && self.tracked.is_none() {
            true => News::Congested,
            false => News::None,
        }
    }

    /// Takes a measured round-trip time.
    pub(crate) fn handle_rtt(&mut self, rtt: Duration) {
        self.rtt = Some(self.rtt.map_or(rtt, |before| (before * 7 + rtt) / 8));
    }

    /// Returns the round-trip time.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Returns what the path carries, bit/s, headers of all layers included; `None` while nothing limits it.
    pub(crate) fn estimate(&self) -> Option<u64> {
        match &self.tracked {
            Some(tracked) => Some(tracked.estimator.bitrate()),
            None => self.fallback.bitrate(),
        }
    }

    /// The peer reports on every packet.
    pub(crate) fn track(&mut self) {
        let start = self.start;
        self.tracked.get_or_insert_with(|| Tracked::new(start));
    }

    /// Returns what to send: less than the path carries while its queue is to become empty.
    pub(crate) fn budget(&self) -> Option<u64> {
        match &self.tracked {
            Some(tracked) => Some(tracked.estimator.budget()),
            None => self.fallback.bitrate(),
        }
    }

    /// Returns whether anything is known of the path.
    pub(crate) fn is_measured(&self) -> bool {
        let tracked = self.tracked.as_ref();
        tracked.is_none_or(|tracked| tracked.estimator.is_measured())
    }

    /// Returns whether what is sent is lost, or comes too late for a conversation.
    pub(crate) fn suffers(&self) -> bool {
        let Some(tracked) = &self.tracked else {
            return self.fallback.is_losing();
        };
        tracked.estimator.lost_lately() >= LOSSY || tracked.estimator.queue() >= LATE
    }

    /// Returns what was sent lately, bit/s, headers of all layers included.
    pub(crate) fn sending(&self) -> u64 {
        self.rate.bps
    }

    /// Returns how long packets wait in the path's queue, how long the pacer's debt lasts, and the probes begun.
    pub(crate) fn facts(&self) -> (Duration, Duration, u32) {
        let (_, now) = self.clock;
        let tracked = self.tracked.as_ref();
        let queue = tracked.map_or(0, |tracked| tracked.estimator.queue());
        (
            Duration::from_micros(u64::try_from(queue).unwrap_or_default()),
            Duration::from_micros(self.pacer.backlog(now)),
            tracked.map_or(0, |tracked| tracked.prober.begun),
        )
    }

    /// Begins a probe for `wanted` bit/s if one is due.
    pub(crate) fn seek(&mut self, wanted: u64, now: Instant) {
        let now = self.micros(now);
        let Some(tracked) = &mut self.tracked else {
            return;
        };
        // What was never measured is not relied upon, even if it were enough.
        tracked.seeks = !tracked.estimator.is_measured() || tracked.estimator.bitrate() < wanted;
        if tracked.newest.is_some()
            && !tracked.creeps
            && tracked.estimator.is_clear()
            && tracked.seeks
        {
            // A little is lost to caution.
            let wanted = wanted + wanted / 6;
            let trusted = tracked.estimator.delivered();
            tracked.prober.begin(trusted, wanted, now);
        }
    }

    /// Nothing more is wanted than is sent.
    pub(crate) fn rest(&mut self) {
        if let Some(tracked) = &mut self.tracked {
            tracked.seeks = false;
        }
    }

    /// Reads what [`Sender::send`] will; see [`Peer::warm`](crate::peer::Peer::warm).
    pub(crate) fn warm(&self) -> u64 {
        self.rate.bytes ^ self.pacer.backlog(0) ^ self.clock.1.unsigned_abs()
    }

    /// Like [`Flow::warm`], behind what that has read: the lists, and then the place in them.
    pub(crate) fn warm_tracked(&self) -> u64 {
        let tracked = self.tracked.as_ref();
        tracked.map_or(0, |tracked| {
            u64::from(tracked.departures.next_seq()) ^ u64::from(tracked.prober.id())
        })
    }

    /// See [`Flow::warm_tracked`].
    pub(crate) fn warm_departures(&self) -> u64 {
        let tracked = self.tracked.as_ref();
        tracked.map_or(0, |tracked| tracked.departures.warm())
    }

    /// Returns how many bytes of a probe are due.
    pub(crate) fn probe_due(&mut self, now: Instant) -> u64 {
        let now = self.micros(now);
        let tracked = self.tracked.as_mut();
        tracked.map_or(0, |tracked| tracked.prober.due(now))
    }

    /// Returns whether probes tell what the path carries beyond what is sent.
    pub(crate) fn is_probed(&self) -> bool {
        self.tracked.as_ref().is_some_and(|tracked| !tracked.creeps)
    }

    /// Nothing can be sent but media: the estimate has to rise by what is carried.
    pub(crate) fn cannot_probe(&mut self) {
        if let Some(tracked) = &mut self.tracked {
            tracked.prober = Prober::default();
            tracked.creeps = true;
        }
    }

    /// Lets time pass: what is not reported on for long lowers the estimate.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> News {
        let now = self.micros(now);
        let Some(tracked) = &mut self.tracked else {
            return News::None;
        };
        let news = tracked.handle_timeout(now);
        self.pace(now);
        news
    }

    /// Returns when [`Flow::handle_timeout`] or [`Flow::probe_due`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let at = self.tracked.as_ref()?.prober.poll_timeout()?;
        let since = Duration::from_micros(u64::try_from(at).unwrap_or_default());
        self.epoch.map(|epoch| epoch + since)
    }

    fn is_clear(&self) -> bool {
        let tracked = self.tracked.as_ref();
        tracked.is_none_or(|tracked| tracked.estimator.is_clear())
    }

    fn next_seq(&self) -> u16 {
        let tracked = self.tracked.as_ref();
        tracked.map_or(0, |tracked| tracked.departures.next_seq())
    }

    fn sent(&mut self, len: usize, is_tracked: bool, now: Instant) {
        let now = self.micros(now);
        let len = len + OVERHEAD;
        self.pacer.sent(len, now);
        self.rate.add(len, now);
        if is_tracked {
            let start = self.start;
            let tracked = self.tracked.get_or_insert_with(|| Tracked::new(start));
            let len = len + std::mem::take(&mut tracked.untold);
            tracked.departures.push(len, tracked.prober.id(), now);
            tracked.prober.sent(len as u64);
        } else if let Some(tracked) = &mut self.tracked {
            tracked.untold = (tracked.untold + len).min(MOST_UNTOLD);
        }
    }

    fn pace(&mut self, now: i64) {
        let is_known = match &self.tracked {
            Some(tracked) => tracked.estimator.is_measured(),
            None => true,
        };
        if let Some(bitrate) = self.budget().filter(|_| is_known) {
            self.start = None;
            // Behind what waits in a full path's queue nothing comes sooner for being sent sooner.
            let pace = match self.is_clear() {
                true => bitrate * PACE_TENTHS / 10,
                false => bitrate * FULL_PACE_TENTHS / 10,
            };
            self.pacer.set_pace(pace.max(LEAST_PACE), now);
            // What a full path lost comes again at the expense of what is new: only what is left, and a share.
            let left = match self.is_clear() {
                true => bitrate.saturating_sub(self.rate.first_bps),
                false => 0,
            };
            let share = match self.tracked {
                Some(_) if self.is_clear() => bitrate / CLEAR_REPEAT_SHARE,
                Some(_) => bitrate / REPEAT_SHARE,
                None => LEAST_UNTRACKED_REPEATS,
            };
            self.repeats.set_pace(left.max(share), now);
        }
    }

    fn micros(&mut self, now: Instant) -> i64 {
        let (at, micros) = self.clock;
        if at == Some(now) {
            return micros;
        }
        let since = now.saturating_duration_since(*self.epoch.get_or_insert(now));
        let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
        self.clock = (Some(now), micros);
        micros
    }
}

impl Tracked {
    fn new(start: Option<Start>) -> Box<Self> {
        let bitrate = start.map_or(start::LEAST_ESTIMATE, |start| start.bitrate);
        Box::new(Self {
            departures: Departures::default(),
            estimator: Estimator::new(bitrate),
            prober: Prober::default(),
            newest: None,
            silent_at: 0,
            creeps: false,
            seeks: false,
            full_at: None,
            untold: 0,
        })
    }

    fn handle(&mut self, report: &ArrivalReport, now: i64) -> News {
        for (seq, at) in report.arrivals() {
            let Some(at) = at else {
                if let Some(missed) = self.departures.lost(seq) {
                    self.prober.lost(missed);
                    self.estimator.missed(missed);
                }
                continue;
            };
            if let Some(departure) = self.departures.arrived(seq, now) {
                let at = self.unwrap(at);
                self.prober.arrived(departure, at);
                self.estimator.arrived(departure, at);
            }
        }
        self.departures.settle();
        let verdict = self.estimator.reported(self.creeps, now);
        if verdict == Verdict::Congested {
            self.full_at = Some(now);
            self.prober.interrupt(now);
            return News::Congested;
        }
        let news = self.conclude(now);
        if self.seeks
            && !self.creeps
            && let Some(rate) = self.estimator.to_check(now)
        {
            self.prober.check(self.estimator.delivered(), rate, now);
        }
        news
    }

    fn handle_timeout(&mut self, now: i64) -> News {
        let patience = if self.silent_at == 0 {
            SILENCE
        } else {
            SILENCE / 2
        };
        let waiting = self.departures.waiting(now).unwrap_or_default();
        if waiting < SILENCE || self.newest.is_none() {
            self.silent_at = 0;
        } else if now - self.silent_at >= patience {
            self.silent_at = now;
            self.estimator.silent();
            self.prober.interrupt(now);
            return News::Congested;
        }
        self.conclude(now)
    }

    fn conclude(&mut self, now: i64) -> News {
        let Some(outcome) = self.prober.poll(self.estimator.inherent_loss(), now) else {
            return News::None;
        };
        if self.estimator.probed(outcome, now) {
            self.prober.repeat(now);
        }
        News::More
    }

    /// Takes a wrapping time for the one nearest to the newest.
    fn unwrap(&mut self, at: i64) -> i64 {
        let newest = self.newest.unwrap_or(at);
        let ahead = (at - newest).rem_euclid(ArrivalReport::WRAP);
        let at = match ahead > ArrivalReport::WRAP / 2 {
            true => newest + ahead - ArrivalReport::WRAP,
            // Reports of the absurd end somewhere.
            false => (newest + ahead).min(i64::MAX / 4),
        };
        self.newest = Some(newest.max(at));
        at
    }
}

/// What is sent, over half a second.
#[derive(Debug, Default)]
struct Rate {
    bytes: u64,
    /// Bytes that were sent again.
    repeated: u64,
    /// Bytes since the beginning.
    total: u64,
    since: i64,
    bps: u64,
    /// Without what was sent again.
    first_bps: u64,
}

impl Rate {
    fn add(&mut self, bytes: usize, now: i64) {
        self.bytes += bytes as u64;
        self.total += bytes as u64;
        let elapsed = now - self.since;
        if elapsed >= RATE_WINDOW {
            let rate = |bytes: u64| bytes * 8_000_000 / elapsed.unsigned_abs();
            self.bps = rate(self.bytes);
            self.first_bps = rate(self.bytes.saturating_sub(self.repeated));
            (self.bytes, self.repeated) = (0, 0);
            self.since = now;
        }
    }
}

/// IP and UDP headers.
const OVERHEAD: usize = 28;

/// Bytes; while nothing is sent that is reported on, what else was sent is soon of no interest.
const MOST_UNTOLD: usize = 2000;

/// How fast a peer is sent what it missed before the handshake is done and no better is known, bit/s.
const FIRST_PACE: u64 = 10_000_000;

/// How much faster than the estimate what may be paced is sent, in tenths.
const PACE_TENTHS: u64 = 25;
/// The same while the path is full.
const FULL_PACE_TENTHS: u64 = 12;
const LEAST_PACE: u64 = 300_000;

/// What is sent at once, in microseconds: every 5 ms there is a chance to send more. What a short outage took
/// is repeated at once.
const BURST: u64 = 8000;
const REPEAT_BURST: u64 = 100_000;

/// And in bytes, however slow the path is. A full one loses a few packets, and until these are repeated, nothing
/// behind them is of any use.
const LEAST_BURST: u64 = 2 * 1250;
const LEAST_REPEAT_BURST: u64 = 5 * 1250;

/// The part of the estimate that repeats may take however full the path is.
const REPEAT_SHARE: u64 = 10;
/// The same while the path has no queue: what is lost then is not lost for want of room.
const CLEAR_REPEAT_SHARE: u64 = 3;

/// What they may take where nobody tells a full path from an outage, bit/s.
const LEAST_UNTRACKED_REPEATS: u64 = 500_000;

/// A queue that is too long to talk over, in microseconds.
const LATE: i64 = 200_000;

/// After this long without a report something is wrong, in microseconds.
const SILENCE: i64 = 1_000_000;

const RATE_WINDOW: i64 = 500_000;

/// Per mille lost from which packets are repeated twice.
const LOSSY: u32 = 20;
