//! [`Loss`]: what is lost because too much is sent, and what is lost anyway.

use crate::departures::{Arrived, Missed};

/// What is lost, in windows of [`WINDOW`]. Probes are left out: they are to be too much.
#[derive(Debug, Default)]
pub(super) struct Loss {
    counted: Count,
    since: Option<i64>,
    /// Whether the path had no room to spare at some time of the window.
    was_full: bool,
    /// Of the newest report, and of those while there was room to spare.
    newest: Count,
    spared: Count,
    /// Of the last full window, per mille.
    recent: u32,
    /// What is lost while the path has room to spare, per mille.
    inherent: u32,
    /// What stayed lost after less was sent, per mille.
    tolerated: u32,
    /// Bytes that may be lost beside what has arrived lately, if no more is lost than is inherent.
    credit: u32,
    /// When the estimate was lowered for it, and what was lost then.
    blamed: Option<(i64, u32)>,
}

/// Packets that were reported on.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    arrived: u32,
    lost: u32,
}

impl Loss {
    pub(super) fn arrived(&mut self, packet: Arrived) {
        let share = packet.size * self.inherent / (1000 - self.inherent);
        self.credit = (self.credit + share).min(MOST_CREDIT);
        if packet.was_lost {
            // It was counted when it was missed, if there was credit for it.
            self.credit = self.credit.saturating_sub(packet.size);
        }
        if packet.probe == 0 {
            self.counted.arrived(packet.was_lost);
            self.newest.arrived(packet.was_lost);
        }
    }

    /// Returns how much of it was lost anyway, and not because too much was sent.
    pub(super) fn lost(&mut self, packet: Missed) -> u32 {
        if packet.probe == 0 {
            self.counted.lost();
            self.newest.lost();
        }
        let anyway = packet.size.min(self.credit);
        self.credit -= anyway;
        anyway
    }

    /// Returns what was lost lately, per mille.
    pub(super) fn recent(&self) -> u32 {
        self.recent
    }

    /// Returns what is lost while the path has room to spare, per mille.
    pub(super) fn inherent(&self) -> u32 {
        self.inherent
    }

    pub(super) fn is_low(&self) -> bool {
        self.recent < 20
    }

    /// Returns how fast was sent what arrives at this rate.
    pub(super) fn with_lost(&self, rate: u64) -> u64 {
        rate.saturating_mul(self.counted.all()) / u64::from(self.counted.arrived.max(1))
    }

    /// Returns whether so much is lost that the path must be full. What stays lost after less was sent is not blamed on
    /// it again, and neither is what is lost while the path has room to spare all the time: `has_room` is asked for at
    /// each report.
    pub(super) fn is_excessive(&mut self, has_room: bool, now: i64) -> bool {
        self.learn(has_room);
        let since = *self.since.get_or_insert(now);
        self.was_full |= !has_room;
        let Some(lost) = self.counted.lost_of(PACKETS) else {
            return false;
        };
        if now - since < WINDOW {
            return false;
        }
        // Beyond what chance makes of few packets: two and a half deviations.
        let all = self.counted.all();
        let limit = u64::from(self.inherent.max(self.tolerated) + EXCESSIVE);
        let excess = (u64::from(self.counted.lost) * 1000).saturating_sub(all * limit);
        let is_certain = excess.saturating_mul(excess) > 6250 * all * limit;
        if excess > 0 && !is_certain && now - since < LONG_WINDOW {
            return false;
        }
        let is_spared = !std::mem::take(&mut self.was_full);
        (self.counted, self.since, self.recent) = (Count::default(), Some(now), lost);
        if let Some((at, blamed)) = self.blamed
            && now - at > WINDOW
        {
            if self.recent * 10 > blamed * 7 {
                self.tolerated = self.recent;
            }
            self.blamed = None;
        }
        self.tolerated = self.tolerated.min(self.recent + 20);
        if self.recent * 2 <= self.inherent {
            self.inherent = (self.inherent * 3 + self.recent) / 4;
            self.credit /= 2;
        }
        let is_excessive = is_certain && !is_spared && self.blamed.is_none();
        if is_excessive {
            self.blamed = Some((now, self.recent));
        }
        is_excessive
    }

    /// Takes the newest report for what is inherent.
    fn learn(&mut self, has_room: bool) {
        let newest = std::mem::take(&mut self.newest);
        if has_room {
            self.spared.arrived = self.spared.arrived.saturating_add(newest.arrived);
            self.spared.lost = self.spared.lost.saturating_add(newest.lost);
        }
        let Some(seen) = self.spared.lost_of(SPARED) else {
            return;
        };
        self.spared = Count::default();
        // Nothing is left of what was saved up before for longer than some of these.
        self.credit /= 2;
        let seen = seen.min(MOST);
        self.inherent = match seen > self.inherent {
            true => self.inherent.midpoint(seen),
            false => (self.inherent * 3 + seen) / 4,
        };
    }
}

impl Count {
    fn all(self) -> u64 {
        u64::from(self.arrived) + u64::from(self.lost)
    }

    /// Returns what was lost of them, per mille; `None` of less than `least`.
    fn lost_of(self, least: u64) -> Option<u32> {
        let all = self.all();
        let lost = u64::from(self.lost) * 1000;
        (all >= least.max(1)).then(|| u32::try_from(lost / all).unwrap_or(1000))
    }

    fn arrived(&mut self, was_lost: bool) {
        self.arrived = self.arrived.saturating_add(1);
        self.lost = self.lost.saturating_sub(u32::from(was_lost));
    }

    fn lost(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }
}

const WINDOW: i64 = 400_000;
const PACKETS: u64 = 20;

/// So many tell what is inherent.
const SPARED: u64 = 40;

/// For how long packets are counted that tell too little.
const LONG_WINDOW: i64 = 1_600_000;

/// Bytes: a run of packets that are lost by chance.
const MOST_CREDIT: u32 = 16_000;

/// Per mille lost beyond what is inherent.
const EXCESSIVE: u32 = 100;

/// Per mille; beyond it, nothing can be watched.
const MOST: u32 = 400;

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u32 = 1000;
    const MISSED: Missed = Missed {
        size: SIZE,
        probe: 0,
    };
    const ARRIVED: Arrived = Arrived {
        sent: 0,
        size: SIZE,
        probe: 0,
        was_lost: false,
    };

    /// Reports on a second of 100 packets, every `every`th of them lost. Returns what was lost anyway, and whether it was
    /// ever too much.
    fn second(loss: &mut Loss, n: i64, every: u32, is_spared: bool) -> (u32, bool) {
        let (mut anyway, mut is_excessive) = (0, false);
        for packet in 0..100 {
            match packet % every == 0 {
                true => anyway += loss.lost(MISSED),
                false => loss.arrived(ARRIVED),
            }
            let now = n * 1_000_000 + i64::from(packet) * 10_000;
            is_excessive |= loss.is_excessive(is_spared, now);
        }
        (anyway, is_excessive)
    }

    #[test]
    fn what_is_lost_with_room_to_spare_is_lost_anyway() {
        let mut loss = Loss::default();
        assert!((0..10).all(|n| !second(&mut loss, n, 5, true).1), "blamed");
        assert!((180..=220).contains(&loss.inherent()), "{loss:?}");
        let (anyway, is_excessive) = second(&mut loss, 10, 5, false);
        assert!((18 * SIZE..=20 * SIZE).contains(&anyway), "{anyway}");
        assert!(!is_excessive);
        // Half of it is another matter.
        let (anyway, is_excessive) = second(&mut loss, 11, 2, false);
        assert!(anyway <= MOST_CREDIT + 13 * SIZE, "{anyway}");
        assert!(is_excessive);
    }

    #[test]
    fn what_a_full_path_loses_is_not_lost_anyway() {
        let mut loss = Loss::default();
        let blamed = (0..10).filter(|n| second(&mut loss, *n, 3, false).1);
        assert!(blamed.count() > 0);
        assert_eq!(loss.inherent(), 0);
        assert_eq!(loss.lost(MISSED), 0);
    }

    #[test]
    fn what_is_lost_of_probes_and_while_packets_wait_is_not_lost_anyway() {
        let mut loss = Loss::default();
        for n in 0..1000 {
            for _ in 0..5 {
                loss.arrived(ARRIVED);
                loss.lost(Missed { probe: 1, ..MISSED });
            }
            assert!(!loss.is_excessive(true, n * 50_000));
        }
        assert_eq!(loss.inherent(), 0, "of probes");
        for n in 1000..2000 {
            let has_room = n % 4 > 0;
            for _ in 0..4 {
                loss.arrived(ARRIVED);
                if !has_room {
                    loss.lost(MISSED);
                }
            }
            loss.is_excessive(has_room, n * 50_000);
        }
        assert_eq!(
            loss.inherent(),
            0,
            "what is lost while there is room counts"
        );
    }

    #[test]
    fn who_says_that_all_is_lost_gains_nothing() {
        let mut loss = Loss::default();
        loss.counted.lost = u32::MAX - 1;
        loss.lost(MISSED);
        loss.lost(MISSED);
        assert!(!loss.is_excessive(true, 0));
        assert!(!loss.is_excessive(true, WINDOW));
        assert_eq!(loss.lost(MISSED), 0);
    }

    #[test]
    fn what_came_late_after_all_is_counted_once() {
        let mut loss = Loss::default();
        for n in 0..10 {
            second(&mut loss, n, 5, true);
        }
        loss.credit = 2 * SIZE;
        assert_eq!(loss.lost(MISSED), SIZE);
        loss.inherent = 0;
        loss.arrived(Arrived {
            was_lost: true,
            ..ARRIVED
        });
        assert_eq!(loss.lost(MISSED), 0, "what came would be counted twice");
    }

    #[test]
    fn what_is_lost_no_more_is_forgotten() {
        let mut loss = Loss::default();
        for n in 0..20 {
            let is_lossy = n < 10;
            second(&mut loss, n, if is_lossy { 5 } else { u32::MAX }, is_lossy);
        }
        assert!(loss.inherent() < 10 && loss.credit < SIZE, "{loss:?}");
    }
}
