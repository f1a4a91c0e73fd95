//! How long packets may wait for others: not at all while the shard is idle, longer as it gets busier.
//!
//! One call to the kernel per packet is what forwarding costs most of. Several packets to one viewer at once
//! cost little more than one, but on a paced stream they come together only if the first ones wait.

use std::time::{Duration, Instant};

/// Measures how busy a shard is and decides how long it may hold packets.
///
/// Holding makes the shard less busy. The time grows with the share of work, so it settles where the two
/// meet, and does not swing.
#[derive(Debug)]
pub(crate) struct Hold {
    most: Duration,
    begins: u32,
    window: Option<Window>,
    busy: u32,
}

/// The present measurement.
#[derive(Clone, Copy, Debug)]
struct Window {
    start: Instant,
    worked: Duration,
}

impl Hold {
    /// Holds for `most` at most, and not below `begins` percent of work.
    pub(crate) fn new(most: Duration, begins: u8) -> Self {
        Self {
            most,
            begins: u32::from(begins) * 10,
            window: None,
            busy: 0,
        }
    }

    /// Notes that the shard worked.
    pub(crate) fn worked(&mut self, from: Instant, to: Instant) {
        let window = self.window.get_or_insert(Window {
            start: from,
            worked: Duration::ZERO,
        });
        window.worked += to.saturating_duration_since(from);
        let elapsed = to.saturating_duration_since(window.start);
        if elapsed < WINDOW {
            return;
        }
        let share = permille(window.worked, elapsed);
        // After a pause only the newest window counts.
        self.busy = match elapsed < 2 * WINDOW {
            true => (self.busy + share) / 2,
            false => share,
        };
        self.window = Some(Window {
            start: to,
            worked: Duration::ZERO,
        });
    }

    /// Returns the share of time that the shard spent working lately, in thousandths.
    pub(crate) fn busy(&self) -> u32 {
        self.busy
    }

    /// Returns how long packets may wait.
    pub(crate) fn limit(&self) -> Duration {
        if self.begins == 0 {
            return self.most;
        }
        let above = self.busy.saturating_sub(self.begins).min(RAMP);
        self.most * above / RAMP
    }
}

fn permille(part: Duration, whole: Duration) -> u32 {
    let share = part.as_nanos() * 1000 / whole.as_nanos().max(1);
    u32::try_from(share).unwrap_or(1000).min(1000)
}

/// How long the share of work is averaged over; the window before counts half.
const WINDOW: Duration = Duration::from_millis(50);

/// From where holding begins to where it is longest, in thousandths of the time.
const RAMP: u32 = 150;

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_millis(4);

    #[test]
    fn packets_wait_only_where_there_is_work() {
        let cases = [
            ("idle", 50, 0, Duration::ZERO),
            ("half", 50, 500, Duration::ZERO),
            ("above half", 50, 575, MOST / 2),
            ("busy", 50, 650, MOST),
            ("saturated", 50, 1000, MOST),
            ("always", 0, 0, MOST),
            ("not before all of it", 100, 1000, Duration::ZERO),
        ];
        for (label, begins, share, expected) in cases {
            let mut hold = Hold::new(MOST, begins);
            work(&mut hold, Instant::now(), share, 500);
            let off = hold.limit().abs_diff(expected);
            assert!(off < MOST / 20, "{label}: {:?}", hold.limit());
        }
    }

    #[test]
    fn a_pause_ends_the_wait() {
        let t0 = Instant::now();
        let mut hold = Hold::new(MOST, 50);
        let end = work(&mut hold, t0, 900, 1000);
        assert_eq!(hold.limit(), MOST);
        let later = end + Duration::from_secs(1);
        hold.worked(later, later + Duration::from_micros(10));
        assert_eq!(hold.limit(), Duration::ZERO);
    }

    #[test]
    fn it_settles_when_holding_saves_work() {
        // Work that falls to 60 % when packets wait as long as they may.
        let (mut hold, mut now) = (Hold::new(MOST, 50), Instant::now());
        let mut limits = Vec::new();
        for _ in 0..100 {
            let saved = 400 * hold.limit().as_micros() / MOST.as_micros();
            let share = 900 - 900 * u32::try_from(saved).unwrap() / 1000;
            now = work(&mut hold, now, share, 50);
            limits.push(hold.limit());
        }
        let late = &limits[50..];
        let (least, most) = (late.iter().min().unwrap(), late.iter().max().unwrap());
        assert!(*most - *least < MOST / 10, "{least:?} to {most:?}");
        assert!(*least > MOST / 2, "{least:?}");
    }

    /// Works `share` thousandths of each millisecond.
    fn work(hold: &mut Hold, mut now: Instant, share: u32, ms: u32) -> Instant {
        for _ in 0..ms {
            hold.worked(now, now + Duration::from_micros(u64::from(share)));
            now += Duration::from_millis(1);
        }
        now
    }
}
