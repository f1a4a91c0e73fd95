//! Probes: short bursts that show what a path carries beyond what is sent over it.

use crate::departures::{Arrived, Missed};

/// When to probe and how fast. Times are microseconds.
#[derive(Debug, Default)]
pub(crate) struct Prober {
    phase: Phase,
    cluster: Cluster,
    next_id: u8,
    failures: u32,
    /// What the last probe showed to be carried, and when.
    carried: Option<(u64, i64)>,
    /// Whether the last probe was as fast as wanted.
    is_final: bool,
    /// Whether the last packet of a probe was due.
    is_closed: bool,
    /// Of a probe that only shows again what was shown before.
    check: Option<Check>,
    /// Whether the next one is to be surer than others.
    confirms: bool,
    /// Probes begun.
    pub(crate) begun: u32,
}

#[derive(Clone, Copy, Debug, Default)]
enum Phase {
    /// The first probe may begin.
    #[default]
    Fresh,
    Sending {
        rate: u64,
        since: i64,
        budget: u64,
    },
    Awaiting {
        until: i64,
    },
    Resting {
        until: i64,
    },
}

/// What it is to show, bit/s, and until when other probes were to rest.
#[derive(Clone, Copy, Debug)]
struct Check {
    rate: u64,
    rests_until: i64,
}

/// The packets of one probe: how fast they were sent, and how fast they came.
#[derive(Clone, Copy, Debug, Default)]
struct Cluster {
    id: u8,
    sent_packets: u32,
    sent_bytes: u64,
    /// Of the packets reported on.
    first_sent: i64,
    first_arrived: i64,
    last_sent: i64,
    last_bytes: u64,
    packets: u32,
    lost: u32,
    /// Of all packets reported on, lost or not.
    taken: u64,
    /// The times of arrival over what has arrived, and over what was taken from the sender by then.
    arrivals: Line,
    takings: Line,
    bytes: u64,
}

/// The line through times of arrival over the bytes that have come by then. All packets count alike, so what
/// jitters says little.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    points: f64,
    sum_x: f64,
    sum_y: f64,
    sum_xx: f64,
    sum_xy: f64,
}

/// What a probe showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How fast it was sent, bit/s.
    pub(crate) sent: u64,
    /// How fast it was delivered, bit/s; at most `sent`.
    pub(crate) delivered: u64,
    /// When it was sent, microseconds.
    pub(crate) at: i64,
    /// Whether it was as fast as was wanted.
    pub(crate) is_final: bool,
}

impl Outcome {
    /// Returns whether the path carried all of it.
    pub(crate) fn is_carried(self) -> bool {
        self.delivered * 100 >= self.sent * 87
    }

    /// What it was faster is chance.
    fn up_to(self, rate: u64) -> Self {
        Self {
            sent: self.sent.min(rate),
            delivered: self.delivered.min(rate),
            ..self
        }
    }
}

impl Prober {
    /// Begins a probe if one is due. `trusted` is what the path carried lately, `wanted` what it should.
    pub(crate) fn begin(&mut self, trusted: u64, wanted: u64, now: i64) {
        let is_due = match self.phase {
            Phase::Fresh => true,
            Phase::Resting { until } => now >= until,
            Phase::Sending { .. } | Phase::Awaiting { .. } => false,
        };
        if is_due && wanted > 0 {
            self.check = None;
            let trusted = self.trusted(trusted, now);
            let rate = wanted.min(trusted * MOST_STEP);
            self.is_final = rate == wanted;
            self.start(trusted, rate, now);
        }
    }

    /// Begins a probe that shows whether the path still carries `rate`, rest or not.
    pub(crate) fn check(&mut self, trusted: u64, rate: u64, now: i64) {
        let rests_until = match self.phase {
            Phase::Fresh => now,
            Phase::Resting { until } => until,
            Phase::Sending { .. } | Phase::Awaiting { .. } => return,
        };
        self.check = Some(Check { rate, rests_until });
        self.start(self.trusted(trusted, now), rate, now);
    }

    /// Returns what the path is known to carry, live or by the last probe.
    fn trusted(&self, delivered: u64, now: i64) -> u64 {
        let carried = self.carried.filter(|(_, at)| now - at < CARRIED_HOLDS);
        let carried = carried.map_or(LEAST_TRUSTED, |(rate, _)| rate.max(LEAST_TRUSTED));
        delivered.max(carried)
    }

    fn start(&mut self, trusted: u64, rate: u64, now: i64) {
        let bytes = |rate: u64, micros: u64| rate * micros / 8_000_000;
        // What a path that carries no more than `trusted` needs this long for.
        let most = bytes(trusted, MOST_QUEUE).max(LEAST_BYTES);
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        self.cluster = Cluster {
            id: self.next_id,
            ..Cluster::default()
        };
        self.begun += 1;
        self.is_closed = false;
        let duration = match std::mem::take(&mut self.confirms) {
            true => 2 * DURATION,
            false => DURATION,
        };
        self.phase = Phase::Sending {
            rate,
            since: now,
            budget: bytes(rate, duration).max(LEAST_BYTES).min(most),
        };
    }

    /// Returns the id that packets being sent carry; 0 outside of probes.
    pub(crate) fn id(&self) -> u8 {
        match self.phase {
            Phase::Sending { .. } => self.cluster.id,
            Phase::Fresh | Phase::Awaiting { .. } | Phase::Resting { .. } => 0,
        }
    }

    /// Notes a packet that left, of the probe or beside it.
    pub(crate) fn sent(&mut self, size: u64) {
        if matches!(self.phase, Phase::Sending { .. }) {
            self.cluster.sent_packets += 1;
            self.cluster.sent_bytes += size;
        }
    }

    /// Returns how many bytes of padding are due. Ends the sending when the probe is complete.
    pub(crate) fn due(&mut self, now: i64) -> u64 {
        let Phase::Sending {
            rate,
            since,
            budget,
        } = self.phase
        else {
            return 0;
        };
        let sent = self.cluster.sent_bytes;
        let elapsed = u64::try_from(now - since).unwrap_or_default();
        if sent >= budget && self.cluster.sent_packets >= LEAST_PACKETS {
            // A burst of live packets at the end counts only with a packet behind it, in its own time. Where so much
            // is sent that it takes no padding, there is enough.
            let time_of = |bytes: u64| bytes * 8_000_000 / rate.max(1);
            let ends_in_burst = sent > budget + BURST && elapsed * 2 >= time_of(budget);
            if ends_in_burst && elapsed < time_of(sent).min(LONGEST) {
                return 0;
            }
            if ends_in_burst && !std::mem::replace(&mut self.is_closed, true) {
                return 1;
            }
            self.phase = Phase::Awaiting {
                until: now + PATIENCE,
            };
            return 0;
        }
        let due = (rate * (elapsed + STEP.unsigned_abs()) / 8_000_000).min(budget.max(sent + 1));
        due.saturating_sub(sent)
    }

    /// Returns when [`Prober::due`] or [`Prober::poll`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<i64> {
        match self.phase {
            Phase::Sending {
                rate,
                since,
                budget,
            } => {
                let sent = self.cluster.sent_bytes;
                let is_complete = sent >= budget && self.cluster.sent_packets >= LEAST_PACKETS;
                let time = sent * 8_000_000 / rate.max(1);
                let time = if is_complete { time.min(LONGEST) } else { time };
                Some(since + i64::try_from(time).unwrap_or(i64::MAX / 2))
            }
            Phase::Awaiting { until } => Some(until),
            Phase::Fresh | Phase::Resting { .. } => None,
        }
    }

    /// Takes a report on one of a probe's packets.
    pub(crate) fn arrived(&mut self, departure: Arrived, arrived: i64) {
        let Arrived {
            sent,
            size,
            probe,
            was_lost,
        } = departure;
        let cluster = &mut self.cluster;
        if probe != cluster.id {
            return;
        }
        if was_lost {
            cluster.lost = cluster.lost.saturating_sub(1);
        } else {
            cluster.taken += u64::from(size);
        }
        if cluster.packets == 0 {
            (cluster.first_sent, cluster.first_arrived) = (sent, arrived);
        }
        cluster.packets += 1;
        cluster.bytes += u64::from(size);
        if sent > cluster.last_sent {
            cluster.last_sent = sent;
            cluster.last_bytes = 0;
        }
        cluster.last_bytes += u64::from(size);
        let since = arrived - cluster.first_arrived;
        cluster.arrivals.add(cluster.bytes, since);
        cluster.takings.add(cluster.taken, since);
    }

    /// Takes a report that one of a probe's packets is missing.
    pub(crate) fn lost(&mut self, missed: Missed) {
        if missed.probe == self.cluster.id {
            self.cluster.lost += 1;
            self.cluster.taken += u64::from(missed.size);
        }
    }

    /// Returns what the probe showed once all of its packets are reported on, or none will be any more. `inherent` is
    /// what the path loses while it has room to spare, per mille.
    pub(crate) fn poll(&mut self, inherent: u32, now: i64) -> Option<Outcome> {
        let Phase::Awaiting { until } = self.phase else {
            return None;
        };
        let cluster = &self.cluster;
        let reported = cluster.packets + cluster.lost;
        if reported < cluster.sent_packets && now < until {
            return None;
        }
        if reported < LEAST_PACKETS {
            // The reports were lost: that says nothing of the path.
            let until = self.check.map_or(now, |check| check.rests_until);
            self.phase = Phase::Resting { until };
            return None;
        }
        let outcome = cluster.outcome(inherent);
        let carried = outcome.filter(|outcome| outcome.is_carried());
        self.carried = carried.map(|outcome| (outcome.delivered, now));
        if let Some(check) = self.check {
            self.phase = Phase::Resting {
                until: check.rests_until,
            };
            return outcome.map(|outcome| outcome.up_to(check.rate));
        }
        let rest = if carried.is_some() {
            self.failures = 0;
            if self.is_final { AFTER_FINAL } else { 0 }
        } else {
            self.failures += 1;
            let rest = FIRST_REST * i64::from(self.failures);
            rest.min(LONGEST_REST)
        };
        self.phase = Phase::Resting { until: now + rest };
        let is_final = self.is_final;
        outcome.map(|outcome| Outcome {
            is_final,
            ..outcome
        })
    }

    /// What the last probe showed is to be confirmed soon.
    pub(crate) fn repeat(&mut self, now: i64) {
        self.confirms = true;
        self.phase = Phase::Resting {
            until: now + BEFORE_REPEAT,
        };
    }

    /// The path is congested: what was learned about it holds no more, and it needs a rest.
    pub(crate) fn interrupt(&mut self, now: i64) {
        let until = match self.phase {
            Phase::Resting { until } => until,
            Phase::Fresh | Phase::Sending { .. } | Phase::Awaiting { .. } => now,
        };
        self.phase = Phase::Resting {
            until: until.max(now + AFTER_CONGESTION),
        };
    }
}

impl Cluster {
    fn outcome(&self, inherent: u32) -> Option<Outcome> {
        let micros = u64::try_from(self.last_sent - self.first_sent).ok()?;
        if self.packets < LEAST_PACKETS || micros < LEAST_SPAN {
            return None;
        }
        let all = u64::from(self.packets + self.lost);
        // Of what nobody reported on nothing is known.
        let sent = self.sent_bytes * all / u64::from(self.sent_packets.max(1));
        let sent = sent.saturating_sub(self.last_bytes) * 8_000_000 / micros;
        let came = self.arrivals.rate().unwrap_or(sent);
        // Where the path drops instead of queueing, what is missing was not carried.
        let inherent = u64::from(inherent);
        let taken = self.takings.rate().unwrap_or(sent);
        let carried = match u64::from(self.lost) * 1000 > all * (inherent + 100).max(200) {
            true => came.saturating_mul(1000) / (1000 - inherent),
            false => taken,
        };
        Some(Outcome {
            sent,
            delivered: carried.min(sent),
            at: self.first_sent,
            is_final: false,
        })
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a probe is small and short, and rates below 2^53 and positive"
)]
impl Line {
    fn add(&mut self, bytes: u64, micros: i64) {
        let (x, y) = (bytes as f64, micros as f64);
        self.points += 1.0;
        self.sum_x += x;
        self.sum_y += y;
        self.sum_xx += x * x;
        self.sum_xy += x * y;
    }

    /// Returns the bitrate; `None` if all came at once.
    fn rate(&self) -> Option<u64> {
        let spread = self.points * self.sum_xx - self.sum_x * self.sum_x;
        let common = self.points * self.sum_xy - self.sum_x * self.sum_y;
        (common > 0.0).then(|| (spread / common * 8_000_000.0) as u64)
    }
}

/// How long a probe lasts unless it would be too large.
const DURATION: u64 = 40_000;

/// The queue that a probe may cause on a path which carries what it carried lately and no more.
const MOST_QUEUE: u64 = 120_000;

/// For how long, in microseconds, a probe waits until a burst at its end has had its time.
const LONGEST: u64 = 120_000;

/// So much beyond what was due is more than a packet of padding takes with all headers.
const BURST: u64 = 300;

const LEAST_BYTES: u64 = 2500;
const LEAST_PACKETS: u32 = 6;

/// Less says nothing about a rate.
const LEAST_SPAN: u64 = 8000;

/// How often padding is sent while probing.
const STEP: i64 = 4000;

/// How much faster than what the path carried lately.
const MOST_STEP: u64 = 3;

/// What every path is believed to carry.
const LEAST_TRUSTED: u64 = 300_000;

/// Reports on a probe come within this time.
const PATIENCE: i64 = 1_000_000;

/// How long what a probe showed is relied upon for the next.
const CARRIED_HOLDS: i64 = 1_000_000;

/// Pauses after consecutive probes that were not carried, and after one that showed all that was wanted.
const FIRST_REST: i64 = 800_000;
const LONGEST_REST: i64 = 2_000_000;
const AFTER_FINAL: i64 = 1_000_000;

const AFTER_CONGESTION: i64 = 800_000;

/// How long a probe rests that is to be confirmed, unless what is believed in is checked first.
const BEFORE_REPEAT: i64 = 250_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_no_burst_at_the_end() {
        const PADDING: u64 = 288;
        for rate in (300_000..4_000_000).step_by(9973) {
            let mut prober = Prober::default();
            prober.check(rate, rate, 0);
            let Phase::Sending { budget, .. } = prober.phase else {
                panic!("nothing is sent");
            };
            for now in (0..300_000).step_by(5000) {
                while prober.due(now) > 0 {
                    prober.sent(PADDING);
                }
            }
            let sent = prober.cluster.sent_bytes;
            assert!(
                (budget..budget + PADDING).contains(&sent),
                "{rate}: {sent} of {budget}"
            );
        }
    }
}
