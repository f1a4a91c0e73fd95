//! Transport-wide feedback -> what the path to one viewer carries.
//!
//! A path says what it carries in two ways only: it delivers what is sent without making it wait, or it makes
//! it wait and delivers at its own rate. So the estimate rises to what was carried, live or by a probe, and
//! falls to what a full path delivered; in between it stays, however little is sent. All times are
//! microseconds; those of departure are the server's, those of arrival the viewer's.

mod loss;

use crate::{
    delay::{Delivered, Queueing},
    departures::{Arrived, Missed},
    estimate::loss::Loss,
    probe::Outcome,
};

/// The send-side estimate of one path.
#[derive(Debug)]
pub(crate) struct Estimator {
    bitrate: u64,
    /// Whether anything of the path is known.
    is_measured: bool,
    phase: Phase,
    queueing: Queueing,
    delivered: Delivered,
    loss: Loss,
    /// Reports in a row with a queue.
    queued_reports: u32,
    /// When the queue was empty the last time, by arrival.
    empty_at: i64,
    standing: i64,
    /// Whether the last probe spoke of much less, and was not believed.
    is_doubted: bool,
    /// When the estimate was shown to be carried the last time.
    shown_at: i64,
    /// When the path had become too full the last time, and made packets wait: it drops nothing while none wait.
    queued_at: i64,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The path has no queue to speak of.
    Clear,
    /// The queue is waited for to become empty.
    Draining {
        /// What the path delivered while it was full.
        capacity: u64,
        /// When the queue was looked at, and how long it was.
        looked: (i64, i64),
    },
}

/// What a report changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing but perhaps the number.
    Fine,
    /// The path has become too full.
    Congested,
}

impl Estimator {
    /// Creates an estimator that believes in `bitrate` until it knows better.
    pub(crate) fn new(bitrate: u64) -> Self {
        Self {
            bitrate,
            is_measured: false,
            phase: Phase::Clear,
            queueing: Queueing::default(),
            delivered: Delivered::default(),
            loss: Loss::default(),
            queued_reports: 0,
            empty_at: 0,
            standing: 0,
            is_doubted: false,
            shown_at: 0,
            queued_at: -QUEUES,
        }
    }

    /// Returns what the path carries, bit/s, headers of all layers included.
    pub(crate) fn bitrate(&self) -> u64 {
        self.bitrate
    }

    /// Returns whether anything is known of the path.
    pub(crate) fn is_measured(&self) -> bool {
        self.is_measured
    }

    /// Returns whether the path has no queue to speak of.
    pub(crate) fn is_clear(&self) -> bool {
        matches!(self.phase, Phase::Clear)
    }

    /// Returns whether packets do not wait at all.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_clear() && self.standing < EMPTY
    }

    /// Returns what to send, bit/s: less than the path carries while its queue is to become empty.
    pub(crate) fn budget(&self) -> u64 {
        match self.phase {
            Phase::Clear => self.bitrate,
            Phase::Draining { .. } => part(self.bitrate, DRAIN),
        }
    }

    /// Returns what arrived within the last 400 ms, bit/s.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.rate(WINDOW).unwrap_or_default()
    }

    /// Returns how long packets wait in the path's queue.
    pub(crate) fn queue(&self) -> i64 {
        self.standing
    }

    /// Returns what was lost lately, per mille.
    pub(crate) fn lost_lately(&self) -> u32 {
        self.loss.recent()
    }

    /// Returns what is lost while the path has room to spare, per mille.
    pub(crate) fn inherent_loss(&self) -> u32 {
        self.loss.inherent()
    }

    /// Takes the report of an arrival.
    pub(crate) fn arrived(&mut self, packet: Arrived, arrived: i64) {
        self.queueing.record(packet.sent, arrived);
        self.delivered.record(arrived, packet.size);
        self.loss.arrived(packet);
    }

    /// Takes the report of a missing packet.
    pub(crate) fn missed(&mut self, packet: Missed) {
        // What is lost anyway took its time on the path, too: about when the one before it did.
        let took = self.loss.lost(packet);
        self.delivered.add(took);
    }

    /// Decides, after all of a report was taken. `creep` is for paths that cannot be probed.
    pub(crate) fn reported(&mut self, creep: bool, now: i64) -> Verdict {
        let Some(standing) = self.queueing.standing() else {
            return Verdict::Fine;
        };
        self.standing = standing;
        if standing > VERY_FULL {
            self.queued_at = now;
        }
        let rate = self.delivered.rate(WINDOW);
        if standing < EMPTY {
            self.empty_at = self.delivered.newest();
        }
        self.queued_reports = match standing > FULL {
            true => self.queued_reports + 1,
            false => 0,
        };
        let by_delay = match self.phase {
            Phase::Clear => self.look_for_queue(standing, creep, now),
            Phase::Draining { capacity, looked } => {
                self.drain(standing, capacity, looked, now);
                Verdict::Fine
            }
        };
        match self.by_loss(rate, now) {
            Verdict::Congested => Verdict::Congested,
            Verdict::Fine => by_delay,
        }
    }

    /// Returns what to probe for, bit/s, once what is believed in was not shown for too long: as long as less is
    /// sent, a path that has become narrower does not say so.
    pub(crate) fn to_check(&self, now: i64) -> Option<u64> {
        let is_due = self.is_measured && self.is_clear() && now - self.shown_at >= SHOWN;
        is_due.then(|| self.bitrate * 100 / PROBED)
    }

    /// Takes what a probe showed. Returns whether another one is to tell soon whether it is so.
    pub(crate) fn probed(&mut self, outcome: Outcome, now: i64) -> bool {
        if matches!(self.phase, Phase::Draining { .. }) {
            return false;
        }
        if !outcome.is_carried() || outcome.sent >= self.bitrate {
            self.shown_at = outcome.at;
        }
        let is_open = self.weigh(outcome);
        if is_open {
            self.shown_at = now - SHOWN + REPEAT;
        }
        is_open
    }

    /// Believes in what a probe showed, in a part of it, or not yet. Returns whether another one is to tell more.
    fn weigh(&mut self, outcome: Outcome) -> bool {
        let carried = part(outcome.delivered, PROBED).max(LEAST);
        let is_limited = !outcome.is_carried();
        let was_doubted = std::mem::take(&mut self.is_doubted);
        if carried > self.bitrate {
            (self.bitrate, self.is_measured) = (carried, true);
            return false;
        }
        if is_limited && carried * 5 < self.bitrate * 4 {
            // What was measured is believed in more than one probe that speaks of much less.
            self.is_doubted = self.is_measured && !was_doubted;
            if !self.is_doubted {
                (self.bitrate, self.is_measured) = (carried, true);
            }
            return self.is_doubted;
        }
        if !self.is_measured {
            // What was only believed in so far, and is more than is wanted, is as good as measured.
            self.is_measured = outcome.is_final && !is_limited;
            return false;
        }
        // Where packets are lost, a probe says less.
        let share = if self.loss.is_low() { 100 } else { 98 };
        let is_less = outcome.sent > self.bitrate && outcome.delivered < part(self.bitrate, share);
        if is_less {
            // Jitter once made too much of it, or the path has become a little narrower.
            self.bitrate = self.bitrate.midpoint(carried);
        }
        is_less
    }

    /// No report came although packets have been on their way for long.
    pub(crate) fn silent(&mut self) {
        self.bitrate = (self.bitrate / 2).max(LEAST);
    }

    fn look_for_queue(&mut self, standing: i64, creep: bool, now: i64) -> Verdict {
        let is_full = self.queued_reports >= 3 || standing > VERY_FULL;
        if is_full
            && let Some(capacity) = self.full_rate()
            && !self.was_held_up(capacity)
        {
            self.phase = Phase::Draining {
                capacity,
                looked: (now, standing),
            };
            self.is_measured = true;
            self.bitrate = part(capacity, FULL_PATH).min(self.bitrate).max(LEAST);
            self.shown_at = now;
            return Verdict::Congested;
        }
        let Some(rate) = self.delivered.lasting().filter(|_| standing < EMPTY) else {
            return Verdict::Fine;
        };
        let carried = part(rate, CARRIED);
        if rate >= part(self.bitrate, SHOWN_LIVE) {
            self.shown_at = now;
        }
        if carried > self.bitrate {
            self.bitrate = carried;
            self.is_measured = true;
        } else if creep && rate * 5 > self.bitrate {
            self.bitrate += self.bitrate / 200;
        }
        Verdict::Fine
    }

    fn drain(&mut self, standing: i64, mut capacity: u64, looked: (i64, i64), now: i64) {
        // What a path carried that had only just become narrower is more than it carries.
        self.shown_at = now - SHOWN + REPEAT;
        if standing < EMPTY {
            self.phase = Phase::Clear;
            self.bitrate = part(capacity, FULL_PATH).max(LEAST);
            return;
        }
        let (at, before) = looked;
        let change = (standing - before).abs();
        let is_moving = change > (now - at) / 16;
        // A queue that neither grows nor shrinks says nothing about the path: what is sent is delivered.
        if standing > FULL
            && let Some(rate) = self.full_rate()
        {
            // A fall shows whole only once all of what is measured came after it: in a short window first, which is
            // not exact.
            let short = self.delivered.rate(LEAST_WINDOW).unwrap_or(rate);
            capacity = match short * 2 < capacity {
                true => (capacity + 3 * short) / 4,
                false => capacity.midpoint(rate),
            };
            self.bitrate = part(capacity, FULL_PATH).max(LEAST);
        }
        let mut looked = looked;
        let is_flat = change * 5 < before.max(EMPTY);
        let patience = match self.loss.is_low() {
            true => FLAT,
            false => FLAT_AND_LOSSY,
        };
        if is_flat && now - at >= patience {
            // Less is sent than the path carried, and yet they wait as long: the path itself is longer.
            self.queueing.rebase();
            self.phase = Phase::Clear;
            self.bitrate = part(capacity, FULL_PATH).max(LEAST);
            return;
        }
        if is_moving || now - at >= FLAT && !is_flat {
            looked = (now, standing);
        }
        self.phase = Phase::Draining { capacity, looked };
    }

    /// Returns what is delivered since the queue began.
    fn full_rate(&self) -> Option<u64> {
        let since = self.delivered.newest() - self.empty_at;
        self.delivered.rate(since.clamp(LEAST_WINDOW, FULL_WINDOW))
    }

    /// Returns whether packets waited for something else than the path: they came much faster than it is
    /// believed to carry once they came, as after a pause of the radio or of the viewer's processor. A path
    /// that stays full is not excused for long.
    fn was_held_up(&self, capacity: u64) -> bool {
        let since = self.delivered.newest() - self.empty_at;
        since < EXCUSED && self.delivered.peak(BURSTS) > capacity * 3 / 2 + ONE_PACKET
    }

    fn by_loss(&mut self, rate: Option<u64>, now: i64) -> Verdict {
        let Some(rate) = rate else {
            return Verdict::Fine;
        };
        let is_shown = now - self.shown_at < SHOWN_LATELY
            && self.loss.with_lost(rate) < part(self.bitrate, SPARING);
        let has_room = self.is_idle() && (is_shown || now - self.queued_at < QUEUES);
        if !self.loss.is_excessive(has_room, now) {
            return Verdict::Fine;
        }
        self.is_measured = true;
        self.bitrate = self.bitrate.min(part(rate, CARRIED)).max(LEAST);
        Verdict::Congested
    }
}

fn part(rate: u64, percent: u64) -> u64 {
    rate * percent / 100
}

/// Never less than audio needs.
const LEAST: u64 = 40_000;

/// Below this packets do not wait, above the others they do. Frames of several packets make them wait a
/// little on any path.
const EMPTY: i64 = 12_000;
const FULL: i64 = 25_000;
const VERY_FULL: i64 = 90_000;

/// How much is believed in of a rate that was carried, of one that a short probe was, and of what it says of a full path, and how
/// much of that is sent while the queue drains.
const CARRIED: u64 = 95;
const PROBED: u64 = 91;
const FULL_PATH: u64 = 94;
const DRAIN: u64 = 88;

/// For how long an estimate is believed in that nothing shows, and how much of it live media has to be to show it.
const SHOWN: i64 = 500_000;
const SHOWN_LIVE: u64 = 92;

/// When a probe that is not believed is repeated: what it has put into the path's queue is gone by then.
const REPEAT: i64 = 80_000;

const WINDOW: i64 = 400_000;
const FULL_WINDOW: i64 = 400_000;
const LEAST_WINDOW: i64 = 230_000;

/// How far back a burst is looked for, for how long it excuses a queue, and what a packet more within a
/// measurement of bursts means, bit/s.
const BURSTS: i64 = 200_000;
const EXCUSED: i64 = 700_000;
const ONE_PACKET: u64 = 300_000;

/// A queue that has not changed for this long is none.
const FLAT: i64 = 1_000_000;

/// The same where packets are lost: perhaps others keep the queue full.
const FLAT_AND_LOSSY: i64 = 3_000_000;

/// How long ago the estimate was shown at most where it is shown again and again.
const SHOWN_LATELY: i64 = SHOWN + 400_000;

/// For how long a path is taken for one that makes packets wait.
const QUEUES: i64 = 10_000_000;

/// Live media of less than this share of the estimate, in per cent, leave the path room to spare.
const SPARING: u64 = 75;

#[cfg(test)]
mod tests;
