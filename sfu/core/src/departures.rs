//! [`Departures`]: when packets left for a viewer that reports on their arrival. Times are microseconds.

use crate::sequence::{ORIGIN, extend16, low16};

/// The last packets sent, by transport-wide sequence number: [`FEWEST`], and while many are not reported on up to
/// [`CAPACITY`], 8 KiB. A packet that is reported on later than that many after it is not known any more.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    ring: Vec<Departure>,
    /// The number of the next packet.
    next: u64,
    /// Beyond the newest packet that was reported on.
    reported: u64,
}

/// A packet that left.
#[derive(Clone, Copy, Debug)]
struct Departure {
    /// Wraps every 71 minutes.
    at: u32,
    size: u16,
    probe: u8,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unknown,
    Lost,
    Arrived,
}

/// A packet of whose arrival a report tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    /// When it was sent.
    pub(crate) sent: i64,
    /// Its bytes on the wire.
    pub(crate) size: u32,
    /// The probe it was part of, 0 for none.
    pub(crate) probe: u8,
    /// Whether it had been reported as lost.
    pub(crate) was_lost: bool,
}

/// A packet that a report misses for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Missed {
    /// Its bytes on the wire.
    pub(crate) size: u32,
    /// The probe it was part of, 0 for none.
    pub(crate) probe: u8,
}

impl Departures {
    /// Returns the number of the next packet.
    pub(crate) fn next_seq(&self) -> u16 {
        low16(self.next)
    }

    /// Reads what [`Departures::push`] will write.
    pub(crate) fn warm(&self) -> u64 {
        let slot = self.ring.get(self.place(self.next));
        slot.map_or(0, |departure| departure.at.into())
    }

    /// Notes that the next packet left.
    pub(crate) fn push(&mut self, size: usize, probe: u8, now: i64) {
        if self.ring.is_empty() {
            self.next = ORIGIN;
            self.reported = ORIGIN;
            self.resize(FEWEST);
        }
        let open = self.next.saturating_sub(self.reported);
        if open * 2 >= self.ring.len() as u64 && self.ring.len() < CAPACITY {
            self.resize(self.ring.len() * 2);
        }
        let departure = Departure {
            at: wrapped(now),
            size: u16::try_from(size).unwrap_or(u16::MAX),
            probe,
            state: State::Unknown,
        };
        let place = self.place(self.next);
        if let Some(slot) = self.ring.get_mut(place) {
            *slot = departure;
        }
        self.next += 1;
    }

    /// Takes a report that a packet arrived. `None` for one that is not known, or was reported before.
    pub(crate) fn arrived(&mut self, seq: u16, now: i64) -> Option<Arrived> {
        let departure = self.find(seq)?;
        if departure.state == State::Arrived {
            return None;
        }
        let was_lost = departure.state == State::Lost;
        departure.state = State::Arrived;
        let age = wrapped(now).wrapping_sub(departure.at);
        Some(Arrived {
            sent: now - i64::from(age),
            size: departure.size.into(),
            probe: departure.probe,
            was_lost,
        })
    }

    /// Takes a report that a packet is missing. Returns it, if that is news.
    pub(crate) fn lost(&mut self, seq: u16) -> Option<Missed> {
        let departure = self.find(seq)?;
        if departure.state != State::Unknown {
            return None;
        }
        departure.state = State::Lost;
        Some(Missed {
            size: departure.size.into(),
            probe: departure.probe,
        })
    }

    /// Returns how long the oldest packet that no report covers has been on its way.
    pub(crate) fn waiting(&self, now: i64) -> Option<i64> {
        let oldest = self.ring.get(self.place(self.reported))?;
        let age = wrapped(now).wrapping_sub(oldest.at);
        (self.reported < self.next).then_some(i64::from(age))
    }

    fn find(&mut self, seq: u16) -> Option<&mut Departure> {
        let number = extend16(self.next.checked_sub(1)?, seq);
        if number >= self.next || number + (self.ring.len() as u64) < self.next {
            return None;
        }
        self.reported = self.reported.max(number + 1);
        let place = self.place(number);
        self.ring.get_mut(place)
    }

    /// A report was read: gives memory back that a burst took, once all of it was reported on.
    pub(crate) fn settle(&mut self) {
        if self.reported == self.next && self.ring.len() > FEWEST {
            self.resize(FEWEST);
        }
    }

    /// Keeps the newest of the packets that were kept.
    fn resize(&mut self, len: usize) {
        let unused = Departure {
            at: 0,
            size: 0,
            probe: 0,
            state: State::Arrived,
        };
        let before = std::mem::take(&mut self.ring);
        let kept = before.len().min(len) as u64;
        let mut ring = vec![unused; len];
        for number in self.next.saturating_sub(kept)..self.next {
            let old = before.get(within(number, before.len()));
            if let (Some(new), Some(old)) = (ring.get_mut(within(number, len)), old) {
                *new = *old;
            }
        }
        self.ring = ring;
    }

    fn place(&self, number: u64) -> usize {
        within(number, self.ring.len())
    }
}

fn within(number: u64, len: usize) -> usize {
    usize::try_from(number % len.max(1) as u64).unwrap_or_default()
}

/// Microseconds, wrapping as they are kept.
fn wrapped(micros: i64) -> u32 {
    (micros & 0xffff_ffff) as u32
}

/// Half a second of 24 Mbit/s.
const CAPACITY: usize = 1024;

/// Of 2.5 Mbit/s a quarter of a second may be under way before more is taken.
const FEWEST: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_is_reported_once_and_late_arrivals_correct_a_loss() {
        let ms = |n| n * 1000;
        let mut departures = Departures::default();
        assert_eq!(departures.arrived(0, 0), None, "nothing was sent");
        for n in 0..3 {
            assert_eq!(i64::from(departures.next_seq()), n);
            departures.push(100, n as u8, ms(n * 10));
        }
        assert_eq!(departures.waiting(ms(50)), Some(50_000));
        let missed = Missed {
            size: 100,
            probe: 1,
        };
        assert_eq!(departures.lost(1), Some(missed));
        assert_eq!(departures.lost(1), None);
        let arrived = departures.arrived(1, ms(100)).unwrap();
        assert_eq!((arrived.sent, arrived.was_lost), (10_000, true));
        assert_eq!(departures.arrived(1, ms(100)), None);
        assert_eq!(departures.arrived(3, ms(100)), None, "not sent yet");
        assert_eq!(departures.waiting(ms(50)), Some(30_000));
        departures.arrived(2, ms(100)).unwrap();
        assert_eq!(departures.waiting(ms(50)), None);
    }

    #[test]
    fn memory_is_bounded_and_numbers_and_time_wrap() {
        let mut departures = Departures::default();
        for n in 0..70_000 {
            departures.push(100, 0, n * 100_000);
        }
        let now = 7_000_000_000;
        let newest = departures.next_seq().wrapping_sub(1);
        assert_eq!(departures.arrived(newest, now).unwrap().sent, 6_999_900_000);
        let kept = newest.wrapping_sub(CAPACITY as u16 - 1);
        assert!(departures.arrived(kept, now).is_some());
        assert_eq!(departures.arrived(kept.wrapping_sub(1), now), None);
        assert_eq!(departures.ring.len(), CAPACITY);
        departures.settle();
        assert_eq!(departures.ring.len(), FEWEST, "all was reported on");
        assert_eq!(departures.arrived(kept, now), None);
        assert!(departures.arrived(newest.wrapping_sub(5), now).is_some());
    }

    #[test]
    fn few_packets_under_way_take_little_memory() {
        let mut departures = Departures::default();
        for n in 0..5000_u16 {
            departures.push(100, 0, i64::from(n));
            if n > 50 {
                assert!(departures.arrived(n - 50, 10_000).is_some(), "{n}");
            }
        }
        assert_eq!(departures.ring.len(), FEWEST);
    }
}
