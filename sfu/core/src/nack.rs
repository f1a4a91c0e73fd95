//! Which packets of a publisher are missing, and when to ask for them again (RFC 4585 §6.2.1).

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::sequence::low16;

/// The gaps of one layer, at most [`MAX_MISSING`]; when there are more, the oldest are given up.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    packets: BTreeMap<u64, Request>,
    lost: u64,
    newest_lost: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    due: Instant,
    tries: u8,
}

impl Missing {
    /// The packets from `from` up to but not including `to` did not come in order.
    pub(crate) fn open(&mut self, from: u64, to: u64, now: Instant) {
        let first = from.max(to.saturating_sub(MAX_MISSING as u64));
        if first > from {
            self.lost += first - from;
            self.newest_lost = self.newest_lost.max(Some(first - 1));
        }
        for number in first..to {
            if self.packets.len() >= MAX_MISSING
                && let Some((oldest, _)) = self.packets.pop_first()
            {
                self.lost += 1;
                self.newest_lost = self.newest_lost.max(Some(oldest));
            }
            self.packets.insert(
                number,
                Request {
                    due: now + REORDER_WAIT,
                    tries: 0,
                },
            );
        }
    }

    /// A packet came after all. Returns whether it was missed.
    pub(crate) fn close(&mut self, number: u64) -> bool {
        self.packets.remove(&number).is_some()
    }

    /// Returns whether a packet is missed and may still come.
    pub(crate) fn contains(&self, number: u64) -> bool {
        self.packets.contains_key(&number)
    }

    /// Returns when [`Missing::poll`] has something to say.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.packets.values().map(|request| request.due).min()
    }

    /// Puts the sequence numbers to ask for now into `wanted`, and gives up those asked for too often.
    pub(crate) fn poll(&mut self, wanted: &mut Vec<u16>, now: Instant) {
        let (lost, newest_lost) = (&mut self.lost, &mut self.newest_lost);
        self.packets.retain(|number, request| {
            if request.due > now || wanted.len() >= MAX_REQUEST {
                return true;
            }
            if request.tries >= MAX_TRIES {
                *lost += 1;
                *newest_lost = (*newest_lost).max(Some(*number));
                return false;
            }
            request.tries += 1;
            request.due = now + RETRY;
            wanted.push(low16(*number));
            true
        });
    }

    /// Returns how many were given up since the last call, and the newest of them.
    pub(crate) fn take_lost(&mut self) -> (u64, Option<u64>) {
        (
            std::mem::take(&mut self.lost),
            std::mem::take(&mut self.newest_lost),
        )
    }

    /// Forgets all gaps; they count as lost.
    pub(crate) fn clear(&mut self) {
        self.lost += self.packets.len() as u64;
        self.packets.clear();
    }
}

const MAX_MISSING: usize = 512;

/// Most numbers in one request, so that it fits into one datagram.
const MAX_REQUEST: usize = 128;

/// Networks reorder by a few milliseconds; asking earlier would ask for packets that are on their way.
const REORDER_WAIT: Duration = Duration::from_millis(10);

/// About one round trip; publishers ignore requests that come faster than theirs.
const RETRY: Duration = Duration::from_millis(60);

/// After some 600 ms nobody waits for the packet any more.
const MAX_TRIES: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn poll(missing: &mut Missing, now: Instant) -> Vec<u16> {
        let mut wanted = Vec::new();
        missing.poll(&mut wanted, now);
        wanted
    }

    #[test]
    fn asks_after_a_short_wait_and_again_until_it_comes() {
        let t0 = Instant::now();
        let mut missing = Missing::default();
        missing.open(0x1_fffe, 0x2_0001, t0);
        assert!(poll(&mut missing, t0 + ms(9)).is_empty());
        assert_eq!(missing.poll_timeout(), Some(t0 + ms(10)));
        assert_eq!(poll(&mut missing, t0 + ms(10)), [0xfffe, 0xffff, 0]);
        assert!(missing.close(0x1_ffff));
        assert!(!missing.close(0x1_ffff));
        assert!(missing.contains(0x1_fffe) && !missing.contains(0x1_ffff));
        assert!(poll(&mut missing, t0 + ms(69)).is_empty());
        assert_eq!(poll(&mut missing, t0 + ms(70)), [0xfffe, 0]);
    }

    #[test]
    fn gives_up_after_some_tries() {
        let t0 = Instant::now();
        let mut missing = Missing::default();
        missing.open(5, 6, t0);
        let mut asked = 0;
        for n in 0..200 {
            asked += poll(&mut missing, t0 + ms(n * 10)).len();
        }
        assert_eq!(asked, usize::from(MAX_TRIES));
        assert_eq!(missing.take_lost(), (1, Some(5)));
        assert_eq!(missing.poll_timeout(), None);
    }

    #[test]
    fn is_bounded() {
        let t0 = Instant::now();
        let mut missing = Missing::default();
        missing.open(0, 1_000_000_000, t0);
        missing.open(1_000_000_001, 1_000_000_101, t0);
        assert_eq!(missing.packets.len(), MAX_MISSING);
        let lost = 1_000_000_100 - MAX_MISSING as u64;
        assert_eq!(missing.take_lost(), (lost, Some(lost - 1)));
        assert_eq!(poll(&mut missing, t0 + ms(10)).len(), MAX_REQUEST);
    }
}
