//! [`Fallback`]: what a path carries by the word of a peer that does not report on every packet.

use crate::Ssrc;

/// The receiver's own estimate (REMB) if it gives one, else what the loss in its receiver reports says. Times
/// are microseconds.
#[derive(Debug, Default)]
pub(crate) struct Fallback {
    by_receiver: Option<Word>,
    by_loss: Option<u64>,
    /// The last report on each stream; as many as the peer receives.
    heard: Vec<Reception>,
    window: Window,
    /// What is lost however little is sent, per mille.
    inherent: u64,
    blamed: Option<Blamed>,
    /// What was carried, bit/s, when too much was sent the last time: beyond it the limit grows slowly.
    carried: u64,
    /// Whether too much was lost lately.
    is_losing: bool,
}

/// What the receiver's word means.
#[derive(Clone, Copy, Debug)]
struct Word {
    /// The last one, bit/s, and when it was given.
    bitrate: u64,
    at: i64,
    /// What may be sent, bit/s, once something was too much.
    limit: Option<u64>,
    /// What was too much the last time, bit/s, and how often in a row.
    refused: u64,
    refusals: u32,
}

/// When the limit was lowered the last time.
#[derive(Clone, Copy, Debug)]
struct Blamed {
    /// What was sent, bit/s.
    sending: u64,
    /// The part of it that was lost, per mille.
    share: u64,
    /// Whether no more than the limit was sent since.
    is_obeyed: bool,
}

/// What one block of a receiver report says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reception {
    /// The stream, one that is sent to the peer.
    pub(crate) ssrc: Ssrc,
    /// 256ths lost since the last report.
    pub(crate) fraction_lost: u8,
    /// The highest sequence number received, with its wraps counted.
    pub(crate) highest: u32,
    /// How many packets were sent.
    pub(crate) sent: u32,
}

impl Blamed {
    /// Returns whether much less was sent, and as much of it lost.
    fn is_refuted(&self, sending: u64, share: u64) -> bool {
        if share > MOST_INHERENT {
            return false;
        }
        let is_less = sending * 10 <= self.sending * 6;
        let is_as_much = share * 10 > self.share * 7;
        let arrives_as_before = (1000 - share) * 100 <= (1000 - self.share) * 115;
        is_less && is_as_much && arrives_as_before
    }
}

/// Packets of all streams.
#[derive(Debug, Default)]
struct Window {
    since: i64,
    packets: u64,
    /// In 256ths of a packet.
    lost: u64,
    /// Bytes sent before.
    sent: u64,
}

impl Fallback {
    /// Returns what the path carries, bit/s; `None` while nothing limits it.
    pub(crate) fn bitrate(&self) -> Option<u64> {
        match self.by_receiver {
            Some(word) => word.limit,
            None => self.by_loss,
        }
    }

    /// Returns whether more was lost lately than is lost however little is sent.
    pub(crate) fn is_losing(&self) -> bool {
        self.is_losing
    }

    /// Takes the receiver's estimate while `sending` bit/s are sent. Returns whether these are too much.
    ///
    /// A receiver knows little beyond what it gets, and learns slowly. So less than what is sent is a limit only
    /// when it has not grown; and where it names clearly more, the limit grows on.
    pub(crate) fn handle_bitrate(&mut self, bitrate: u64, sending: u64, now: i64) -> bool {
        let bitrate = bitrate.clamp(LEAST, MOST);
        let Some(word) = &mut self.by_receiver else {
            self.by_receiver = Some(Word {
                bitrate,
                at: now,
                limit: None,
                refused: 0,
                refusals: 0,
            });
            return false;
        };
        let elapsed = (now - word.at).clamp(0, LONGEST).unsigned_abs();
        let is_growing = bitrate > word.bitrate;
        (word.at, word.bitrate) = (now, bitrate);
        let is_too_much = bitrate < sending && !is_growing;
        if is_too_much {
            if word.limit.is_none_or(|limit| bitrate < limit) {
                word.refusals = (word.refusals + 1).min(MOST_REFUSALS);
                word.refused = sending;
            }
            word.limit = Some(bitrate);
            return true;
        }
        if bitrate > word.refused {
            word.refusals = 0;
        }
        let has_room = is_growing || bitrate * 10 >= sending * ROOM_TENTHS;
        if let Some(limit) = word.limit.filter(|_| has_room) {
            let seconds = GROWTH << word.refusals;
            let grown = limit + limit * elapsed / (seconds * 1_000_000);
            word.limit = Some(grown.max(bitrate)).filter(|grown| *grown < UNLIMITED);
        }
        false
    }

    /// Takes a report on one stream. Call [`Fallback::judge`] when all of a packet were taken.
    pub(crate) fn handle_reception(&mut self, reception: &Reception) {
        let mut heard = self.heard.iter_mut();
        let Some(last) = heard.find(|heard| heard.ssrc == reception.ssrc) else {
            self.heard.push(*reception);
            return;
        };
        let packets = reception.highest.wrapping_sub(last.highest);
        let sent = reception.sent.wrapping_sub(last.sent);
        *last = *reception;
        if packets > MOST_PACKETS {
            return;
        }
        // What is missing of the publisher's stream was not lost on this path.
        let never_sent = u64::from(packets.saturating_sub(sent)) * 256;
        let lost = u64::from(packets) * u64::from(reception.fraction_lost);
        let window = &mut self.window;
        window.packets += u64::from(packets.min(sent));
        window.lost += lost.saturating_sub(never_sent);
    }

    /// Decides when `sent` bytes were sent in all: less is sent when more is lost than few packets lose by
    /// chance, unless as much is lost as before less was sent; else more, up to no limit.
    pub(crate) fn judge(&mut self, sent: u64, now: i64) {
        let elapsed = now - self.window.since;
        let (lost, all) = (self.window.lost / 256, self.window.packets);
        if elapsed < WINDOW || all < LEAST_PACKETS {
            return;
        }
        let sending = (sent - self.window.sent) * 8_000_000 / elapsed.unsigned_abs();
        let elapsed = elapsed.min(LONGEST).unsigned_abs();
        self.window = Window {
            since: now,
            sent,
            ..Window::default()
        };
        let share = lost * 1000 / all;
        self.inherent = self.inherent.min(share + 20);
        let limit = self.inherent + EXCESSIVE;
        // Two and a half deviations.
        let excess = (lost * 1000).saturating_sub(all * limit);
        self.is_losing = excess * excess > 6250 * all * limit;
        if !self.is_losing {
            self.blamed = None;
            let (carried, inherent) = (self.carried, self.inherent);
            let more = |present: u64| {
                let is_safe = share < inherent + LITTLE && present < carried;
                let seconds = if is_safe { 12 } else { 25 };
                present + present * elapsed / (seconds * 1_000_000)
            };
            self.by_loss = self.by_loss.map(more).filter(|more| *more < UNLIMITED);
            return;
        }
        match &mut self.blamed {
            // What was asked for has not happened for long enough.
            Some(blamed) if !blamed.is_obeyed => {
                let limit = self.by_loss.unwrap_or_default();
                blamed.is_obeyed = sending * 10 <= limit * 11;
                return;
            }
            Some(blamed) if blamed.is_refuted(sending, share) => {
                self.inherent = share;
                self.by_loss = Some(blamed.sending);
                self.blamed = None;
                return;
            }
            Some(_) | None => {}
        }
        self.blamed = Some(Blamed {
            sending,
            share,
            is_obeyed: false,
        });
        let carried = sending * (1000 - share) / 1000 * CARRIED / 100;
        self.carried = carried;
        // An outage is no full path.
        let from = self.by_loss.unwrap_or(sending).min(sending);
        self.by_loss = Some(from.min(carried.max(from / 2)).max(LEAST));
    }
}

/// Per mille lost beyond what is inherent from which less is sent, and from which it grows slowly.
const EXCESSIVE: u64 = 100;
const LITTLE: u64 = 20;

/// A path that loses more than this is full, whatever was sent.
const MOST_INHERENT: u64 = 300;

/// How much is believed in of what was carried, per cent.
const CARRIED: u64 = 95;

/// How long, and of how many packets, loss is counted before it is judged.
const WINDOW: i64 = 800_000;
const LEAST_PACKETS: u64 = 20;

/// The longest time that counts towards growth.
const LONGEST: i64 = 2_000_000;

/// A number that jumps further is a mistake or a lie.
const MOST_PACKETS: u32 = 50_000;

const LEAST: u64 = 60_000;

/// Where the receiver names this much more than what is sent, in tenths, the limit grows by its own size within
/// so many seconds; within twice as many after each time that that was too much.
const ROOM_TENTHS: u64 = 12;
const GROWTH: u64 = 6;
const MOST_REFUSALS: u32 = 3;

/// A word that no viewer means.
const MOST: u64 = 1_000_000_000;

/// Above this nothing needs a limit.
const UNLIMITED: u64 = 20_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[derive(Default)]
    struct Fixture {
        fallback: Fallback,
        highest: u32,
        seconds: i64,
        sent: u64,
    }

    impl Fixture {
        /// Passes a second in which `packets` were sent, of which so many per mille were lost.
        fn second(&mut self, packets: u32, lost: u32, sending: u64) -> Option<u64> {
            self.highest += packets;
            self.seconds += 1;
            let reception = Reception {
                ssrc: Ssrc(1),
                fraction_lost: (lost * 256 / 1000) as u8,
                highest: self.highest,
                sent: self.highest,
            };
            let now = self.seconds * 1_000_000;
            self.fallback.handle_reception(&reception);
            self.sent += sending / 8;
            self.fallback.judge(self.sent, now);
            self.fallback.bitrate()
        }
    }

    #[test]
    fn loss_lowers_and_its_absence_raises() {
        let mut f = Fixture::default();
        f.second(200, 0, 2_000_000);
        assert_eq!(f.second(200, 12, 2_000_000), None, "nothing limits");
        let lowered = f.second(200, 500, 2_000_000).unwrap();
        assert_eq!(lowered, 1_000_000);
        assert_eq!(f.second(200, 500, 2_000_000), Some(lowered), "not yet");
        let bearable = f.second(90, 50, 900_000).unwrap();
        assert!(bearable > lowered, "{bearable}");
        let after: Vec<_> = (0..30).map(|_| f.second(90, 0, 900_000).unwrap()).collect();
        assert!(*after.last().unwrap() > 2 * lowered, "{after:?}");
        for _ in 0..90 {
            f.second(90, 0, 900_000);
        }
        assert_eq!(f.fallback.bitrate(), None, "no limit any more");
        f.fallback.handle_bitrate(800_000, 900_000, 0);
        assert_eq!(f.fallback.bitrate(), None, "it may be learning");
        f.fallback.handle_bitrate(700_000, 900_000, 0);
        assert_eq!(f.fallback.bitrate(), Some(700_000));
        f.fallback.handle_bitrate(u64::MAX, 900_000, 0);
        assert_eq!(f.fallback.bitrate(), None);
    }

    #[test]
    fn a_receiver_that_gets_little_and_names_more_is_tried_with_more() {
        let mut fallback = Fallback::default();
        let mut now = 0;
        let mut word = |bitrate: u64, sending: u64, seconds: i64| {
            for _ in 0..seconds {
                now += 1_000_000;
                fallback.handle_bitrate(bitrate, sending, now);
            }
            fallback.bitrate()
        };
        assert_eq!(word(300_000, 400_000, 2), Some(300_000));
        let grown = word(301_000, 200_000, 12).unwrap();
        assert!(grown > 600_000, "{grown}");
        assert_eq!(
            word(320_000, 600_000, 1),
            Some(grown.max(320_000) + grown / 12)
        );
        assert_eq!(
            word(310_000, 600_000, 1),
            Some(310_000),
            "it has seen enough"
        );
        let again = word(310_000, 200_000, 12).unwrap();
        assert!(again < grown, "more slowly: {again}");
    }

    #[test]
    fn what_few_packets_lose_by_chance_limits_nothing() {
        for seed in 0..20 {
            let mut rng = Rng::new([seed; 32]);
            let mut f = Fixture::default();
            for second in 0..300 {
                let lost = (0..25).filter(|_| rng.next_u32() % 100 < 5).count() as u32;
                let limit = f.second(25, lost * 40, 700_000);
                assert_eq!(limit, None, "seed {seed}, second {second}");
            }
        }
    }

    #[test]
    fn loss_that_stays_whatever_is_sent_is_blamed_once() {
        let mut f = Fixture::default();
        f.second(200, 300, 2_000_000);
        let lowered = f.second(200, 300, 2_000_000).unwrap();
        assert!(lowered < 1_500_000, "{lowered}");
        f.second(100, 300, 1_000_000);
        for _ in 0..20 {
            let limit = f.second(100, 300, 1_000_000).unwrap();
            assert!(limit >= 2_000_000, "{limit}");
        }
    }

    #[test]
    fn what_was_never_sent_is_not_lost() {
        let mut f = Fixture::default();
        for n in 0..20_u32 {
            let reception = Reception {
                ssrc: Ssrc(1),
                fraction_lost: 128,
                highest: n * 200,
                sent: n * 100,
            };
            let now = i64::from(n) * 1_000_000;
            f.fallback.handle_reception(&reception);
            f.fallback.judge(0, now);
        }
        assert_eq!(f.fallback.bitrate(), None);
    }

    #[test]
    fn absurd_numbers_count_for_nothing() {
        let mut f = Fixture::default();
        f.second(10, 1000, 2_000_000);
        assert_eq!(f.second(u32::MAX - 20, 990, 2_000_000), None);
        assert_eq!(f.second(10, 0, 2_000_000), None);
    }
}
