//! [`Loss`]: what is lost because too much is sent, and what is lost anyway.

/// What is lost, in windows of [`WINDOW`].
#[derive(Debug, Default)]
pub(super) struct Loss {
    arrived: u32,
    lost: u32,
    since: Option<i64>,
    /// Of the last full window, per mille.
    recent: u32,
    /// What is lost while the path has room to spare, per mille.
    inherent: u32,
    /// What stayed lost after less was sent, per mille.
    tolerated: u32,
    /// Bytes that may be lost beside what has arrived, if no more is lost than is inherent.
    credit: u32,
    /// When the estimate was lowered for it, and what was lost then.
    blamed: Option<(i64, u32)>,
}

impl Loss {
    pub(super) fn arrived(&mut self, size: u32, was_lost: bool) {
        let share = size * self.inherent / (1000 - self.inherent);
        self.credit = (self.credit + share).min(MOST_CREDIT);
        self.arrived += 1;
        self.lost = self.lost.saturating_sub(u32::from(was_lost));
    }

    /// Returns how much of it was lost anyway, and not because too much was sent.
    pub(super) fn lost(&mut self, size: u32) -> u32 {
        self.lost += 1;
        let anyway = size.min(self.credit);
        self.credit -= anyway;
        anyway
    }

    /// Returns what was lost lately, per mille.
    pub(super) fn recent(&self) -> u32 {
        self.recent
    }

    /// Returns what is lost however little is sent, per mille.
    pub(super) fn inherent(&self) -> u32 {
        self.inherent
    }

    pub(super) fn is_low(&self) -> bool {
        self.recent < 20
    }

    /// Returns how fast was sent what arrives at this rate.
    pub(super) fn with_lost(&self, rate: u64) -> u64 {
        let (arrived, lost) = (u64::from(self.arrived.max(1)), u64::from(self.lost));
        rate * (arrived + lost) / arrived
    }

    /// Returns whether so much is lost that the path must be full. What stays lost after less was sent is not blamed on
    /// it again, and neither is what is lost while the path is known to carry much more (`is_spared`).
    pub(super) fn is_excessive(&mut self, is_spared: bool, now: i64) -> bool {
        let since = *self.since.get_or_insert(now);
        let all = self.arrived + self.lost;
        if now - since < WINDOW || all < PACKETS {
            return false;
        }
        // Beyond what chance makes of few packets: two and a half deviations.
        let limit = u64::from(self.inherent.max(self.tolerated) + EXCESSIVE);
        let excess = (u64::from(self.lost) * 1000).saturating_sub(u64::from(all) * limit);
        let is_certain = excess * excess > 6250 * u64::from(all) * limit;
        if excess > 0 && !is_certain && now - since < LONG_WINDOW {
            return false;
        }
        self.recent = self.lost * 1000 / all;
        (self.arrived, self.lost, self.since) = (0, 0, Some(now));
        if let Some((at, blamed)) = self.blamed
            && now - at > WINDOW
        {
            if self.recent * 10 > blamed * 7 {
                self.tolerated = self.recent;
            }
            self.blamed = None;
        }
        self.tolerated = self.tolerated.min(self.recent + 20);
        let (seen, known) = (self.recent.min(MOST), self.inherent);
        self.inherent = match seen > known {
            true if is_spared => known.midpoint(seen),
            true => known,
            false => (known * 3 + seen) / 4,
        };
        let is_excessive = is_certain && !is_spared && self.blamed.is_none();
        if is_excessive {
            self.blamed = Some((now, self.recent));
        }
        is_excessive
    }
}

const WINDOW: i64 = 400_000;
const PACKETS: u32 = 20;

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

    /// Reports on a second of 100 packets, every `every`th of them lost. Returns what was lost anyway, and whether it was
    /// ever too much.
    fn second(loss: &mut Loss, n: i64, every: u32, is_spared: bool) -> (u32, bool) {
        let (mut anyway, mut is_excessive) = (0, false);
        for packet in 0..100 {
            match packet % every == 0 {
                true => anyway += loss.lost(SIZE),
                false => loss.arrived(SIZE, false),
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
        assert_eq!(loss.lost(SIZE), 0);
    }

    #[test]
    fn what_is_lost_no_more_is_forgotten() {
        let mut loss = Loss::default();
        for n in 0..20 {
            let is_lossy = n < 10;
            second(&mut loss, n, if is_lossy { 5 } else { u32::MAX }, is_lossy);
        }
        assert!(loss.inherent() < 10, "{loss:?}");
    }
}
