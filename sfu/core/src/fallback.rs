//! [`Fallback`]: what a path carries by the word of a peer that does not report on every packet.

/// The receiver's own estimate (REMB) if it gives one, else what the loss in its receiver reports says.
#[derive(Debug, Default)]
pub(crate) struct Fallback {
    by_receiver: Option<u64>,
    by_loss: Option<u64>,
    judged_at: Option<i64>,
}

impl Fallback {
    /// Returns what the path carries, bit/s; `None` while nothing limits it.
    pub(crate) fn bitrate(&self) -> Option<u64> {
        self.by_receiver.or(self.by_loss)
    }

    /// Takes the receiver's estimate.
    pub(crate) fn handle_bitrate(&mut self, bitrate: u64) {
        self.by_receiver = Some(bitrate.clamp(LEAST, MOST));
    }

    /// Takes the loss, in 256ths, at what was sent, bit/s, at a time in microseconds.
    pub(crate) fn handle_loss(&mut self, fraction_lost: u8, sending: u64, now: i64) {
        if self.judged_at.is_some_and(|at| now - at < INTERVAL) {
            return;
        }
        self.judged_at = Some(now);
        let lost = u64::from(fraction_lost);
        let present = self.by_loss;
        if lost > MUCH {
            let from = present.unwrap_or(sending).min(sending.max(LEAST));
            self.by_loss = Some((from - from * lost / 512).max(LEAST));
        } else if let Some(present) = present.filter(|_| lost < LITTLE) {
            let more = present + present / 12;
            self.by_loss = Some(more).filter(|more| *more < UNLIMITED);
        }
    }
}

/// Loss in 256ths above which less is sent, and below which more.
const MUCH: u64 = 26;
const LITTLE: u64 = 6;

/// Receiver reports about several streams come together.
const INTERVAL: i64 = 800_000;

const LEAST: u64 = 60_000;

/// A word that no viewer means.
const MOST: u64 = 1_000_000_000;

/// Above this nothing needs a limit.
const UNLIMITED: u64 = 20_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_lowers_and_its_absence_raises() {
        let mut fallback = Fallback::default();
        fallback.handle_loss(3, 2_000_000, 0);
        assert_eq!(fallback.bitrate(), None, "nothing limits");
        fallback.handle_loss(128, 2_000_000, 1_000_000);
        assert_eq!(fallback.bitrate(), Some(1_500_000));
        fallback.handle_loss(128, 2_000_000, 1_100_000);
        assert_eq!(fallback.bitrate(), Some(1_500_000), "the same report");
        fallback.handle_loss(10, 1_400_000, 2_000_000);
        assert_eq!(fallback.bitrate(), Some(1_500_000), "bearable");
        for n in 3..6 {
            fallback.handle_loss(0, 1_400_000, n * 1_000_000);
        }
        assert!(fallback.bitrate().unwrap() > 1_800_000);
        for n in 6..60 {
            fallback.handle_loss(0, 1_400_000, n * 1_000_000);
        }
        assert_eq!(fallback.bitrate(), None, "no limit any more");
        fallback.handle_bitrate(700_000);
        assert_eq!(fallback.bitrate(), Some(700_000));
        fallback.handle_bitrate(u64::MAX);
        assert_eq!(fallback.bitrate(), Some(MOST));
    }
}
