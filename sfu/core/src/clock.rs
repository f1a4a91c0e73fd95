//! RTP time to the server's time: what keeps audio and video in step for viewers and taps.
//!
//! All times inside are microseconds since the SFU's start.

use std::time::{Duration, Instant};

use crate::sequence::{ORIGIN, extend32, low32};

/// The server's clock: the instant it started, and what the wall clock said then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ServerClock {
    epoch: Instant,
    unix: Duration,
}

impl ServerClock {
    /// Creates a clock for which `unix` is the time since the Unix epoch at `epoch`.
    pub(crate) fn new(unix: Duration, epoch: Instant) -> Self {
        Self { epoch, unix }
    }

    /// Returns the microseconds from the epoch to `at`, 0 for anything before it.
    pub(crate) fn micros(&self, at: Instant) -> i64 {
        let since = at.saturating_duration_since(self.epoch);
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    /// Returns the instant that is `micros` after the epoch.
    pub(crate) fn instant(&self, micros: i64) -> Instant {
        self.epoch + Duration::from_micros(u64::try_from(micros).unwrap_or_default())
    }

    /// Returns the wall-clock time as an NTP timestamp (RFC 3550 §4).
    pub(crate) fn ntp(&self, at: Instant) -> u64 {
        let since_unix = self.unix + at.saturating_duration_since(self.epoch);
        let seconds = since_unix.as_secs().wrapping_add(NTP_UNIX_OFFSET);
        let fraction = (u64::from(since_unix.subsec_nanos()) << 32) / 1_000_000_000;
        seconds << 32 | fraction
    }
}

/// Returns an NTP timestamp in microseconds.
pub(crate) fn ntp_micros(ntp: u64) -> i64 {
    let seconds = i64::from(low32(ntp >> 32));
    let micros = (low32(ntp) as u64 * 1_000_000) >> 32;
    seconds * 1_000_000 + i64::from(low32(micros))
}

/// How far a publisher's NTP clock is from the server's: one for all of its streams, so that they stay in
/// step. The least delayed packet of the last seconds decides.
#[derive(Debug, Default)]
pub(crate) struct RemoteClock {
    delay: LeastDelay,
}

/// Maps the RTP timestamps of one stream to the time of presentation.
///
/// With a sender report, by the publisher's clock; before, by arrival. A change of the mapping is slewed:
/// the result grows strictly with the RTP timestamp.
#[derive(Debug)]
pub(crate) struct RtpClock {
    rate: u32,
    last: Option<Mapped>,
    report: Option<Report>,
    arrival: LeastDelay,
}

#[derive(Clone, Copy, Debug)]
struct Mapped {
    timestamp: u64,
    presentation: i64,
    arrival: i64,
}

#[derive(Clone, Copy, Debug)]
struct Report {
    timestamp: u64,
    ntp: i64,
}

impl RtpClock {
    /// Creates a clock for a stream with `rate` ticks per second.
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            rate: rate.max(1),
            last: None,
            report: None,
            arrival: LeastDelay::default(),
        }
    }

    /// Takes the publisher's sender report: `timestamp` was sampled at `ntp` microseconds of its clock.
    pub(crate) fn handle_report(&mut self, ntp: i64, timestamp: u32, remote: &mut RemoteClock) {
        let reference = self.last.map_or(ORIGIN, |last| last.timestamp);
        let report = Report {
            timestamp: extend32(reference, timestamp),
            ntp,
        };
        if let (Some(last), Some(known)) = (self.last, remote.delay.get()) {
            let delay = last.arrival - self.captured(report, last.timestamp);
            if delay.abs_diff(known) > CLOCK_JUMP {
                remote.delay = LeastDelay::default();
            }
        }
        self.report = Some(report);
    }

    /// Returns the publisher's last sender report, as [`RtpClock::handle_report`] takes it.
    pub(crate) fn report(&self) -> Option<(i64, u32)> {
        let report = self.report?;
        Some((report.ntp, low32(report.timestamp)))
    }

    /// Returns when a packet that has just arrived is to be presented.
    pub(crate) fn map(&mut self, timestamp: u32, arrival: i64, remote: &mut RemoteClock) -> i64 {
        let Some(last) = self.last else {
            let timestamp = self.report.map_or_else(
                || extend32(ORIGIN, timestamp),
                |r| extend32(r.timestamp, timestamp),
            );
            let target = self.target(timestamp, arrival, remote);
            return self.keep(timestamp, target, arrival);
        };
        let timestamp = extend32(last.timestamp, timestamp);
        if timestamp <= last.timestamp {
            return last.presentation - self.micros(last.timestamp - timestamp);
        }
        let step = self.micros(timestamp - last.timestamp);
        let natural = last.presentation.saturating_add(step);
        let target = self.target(timestamp, arrival, remote);
        let limit = (step / SLEW).max(1);
        let slewed = natural + (target - natural).clamp(-limit, limit);
        if slewed > arrival + MAX_AHEAD || slewed < arrival - MAX_BEHIND {
            self.report = None;
            self.arrival = LeastDelay::default();
            return self.keep(timestamp, arrival.max(last.presentation + 1), arrival);
        }
        self.keep(timestamp, slewed, arrival)
    }

    /// Returns the RTP timestamp that is presented at `at`; `None` before the first packet.
    pub(crate) fn timestamp_at(&self, at: i64) -> Option<u32> {
        let last = self.last?;
        let elapsed = i128::from(at - last.presentation) * i128::from(self.rate) / 1_000_000;
        let elapsed = i64::try_from(elapsed).unwrap_or_default();
        Some(low32(last.timestamp.wrapping_add_signed(elapsed)))
    }

    fn target(&mut self, timestamp: u64, arrival: i64, remote: &mut RemoteClock) -> i64 {
        let (media, delay) = match self.report {
            Some(report) => (self.captured(report, timestamp), &mut remote.delay),
            None => (self.micros(timestamp), &mut self.arrival),
        };
        media.saturating_add(delay.sample(arrival.saturating_sub(media), arrival))
    }

    fn keep(&mut self, timestamp: u64, presentation: i64, arrival: i64) -> i64 {
        self.last = Some(Mapped {
            timestamp,
            presentation,
            arrival,
        });
        presentation
    }

    fn captured(&self, report: Report, timestamp: u64) -> i64 {
        if timestamp >= report.timestamp {
            report.ntp + self.micros(timestamp - report.timestamp)
        } else {
            report.ntp - self.micros(report.timestamp - timestamp)
        }
    }

    fn micros(&self, ticks: u64) -> i64 {
        let micros = u128::from(ticks) * 1_000_000 / u128::from(self.rate);
        i64::try_from(micros).unwrap_or(i64::MAX / 4)
    }
}

/// The least of the samples of the last [`WINDOW`] to two of them.
#[derive(Clone, Copy, Debug, Default)]
struct LeastDelay {
    now: Option<(i64, i64)>,
    before: Option<i64>,
}

impl LeastDelay {
    fn sample(&mut self, delay: i64, at: i64) -> i64 {
        self.now = match self.now {
            Some((least, since)) if at - since < WINDOW => Some((least.min(delay), since)),
            Some((least, _)) => {
                self.before = Some(least);
                Some((delay, at))
            }
            None => Some((delay, at)),
        };
        self.get().unwrap_or(delay)
    }

    fn get(&self) -> Option<i64> {
        let now = self.now.map(|(least, _)| least);
        match (now, self.before) {
            (Some(now), Some(before)) => Some(now.min(before)),
            (now, before) => now.or(before),
        }
    }
}

/// Seconds from 1900 to 1970.
const NTP_UNIX_OFFSET: u64 = 2_208_988_800;

/// Clocks drift by some 50 us a second at worst, so a minimum this old is still a good one.
const WINDOW: i64 = 5_000_000;

/// The mapping may run faster or slower by one part in this many while it approaches its target.
const SLEW: i64 = 10;

/// A sender report that disagrees more than this with the ones before means another clock.
const CLOCK_JUMP: u64 = 1_000_000;

/// A presentation further from the arrival than these means a broken clock: mapping starts anew.
const MAX_AHEAD: i64 = 500_000;
const MAX_BEHIND: i64 = 5_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1000;

    #[test]
    fn audio_and_video_meet_once_reports_are_in() {
        let mut remote = RemoteClock::default();
        let mut audio = RtpClock::new(48_000);
        let mut video = RtpClock::new(90_000);
        // Video takes 60 ms from capture to arrival, audio 10 ms.
        let mut offset = i64::MAX;
        for n in 0..200_u32 {
            let captured = i64::from(n) * 20 * MS;
            if n == 50 {
                audio.handle_report(captured + 777_000 * MS, 1000 + n * 960, &mut remote);
                video.handle_report(captured + 777_000 * MS, 5000 + n * 1800, &mut remote);
            }
            let a = audio.map(1000 + n * 960, captured + 10 * MS, &mut remote);
            let v = video.map(5000 + n * 1800, captured + 60 * MS, &mut remote);
            offset = v - a;
            if n == 49 {
                assert_eq!(offset, 50 * MS, "by arrival before the reports");
            }
        }
        assert!(offset.abs() < MS, "{offset}");
    }

    #[test]
    fn presentation_grows_strictly_whatever_reports_say() {
        let mut remote = RemoteClock::default();
        let mut clock = RtpClock::new(90_000);
        let mut last = i64::MIN;
        for n in 0..1000_u32 {
            let arrival = i64::from(n) * 33 * MS;
            match n {
                100 => clock.handle_report(5_000_000 * MS, n * 2970, &mut remote),
                300 => clock.handle_report(0, n * 2970, &mut remote),
                500 => clock.handle_report(i64::MAX / 8, n * 2970 + 77_000, &mut remote),
                _ => {}
            }
            let timestamp = (n * 2970).wrapping_add(if n > 700 { 1 << 30 } else { 0 });
            let presentation = clock.map(timestamp, arrival, &mut remote);
            assert!(presentation > last, "packet {n}");
            assert!(presentation <= arrival + MAX_AHEAD, "packet {n}");
            assert!(presentation >= arrival - MAX_BEHIND, "packet {n}");
            last = presentation;
        }
    }

    #[test]
    fn older_timestamps_do_not_disturb() {
        let mut remote = RemoteClock::default();
        let mut clock = RtpClock::new(1000);
        assert_eq!(clock.map(1000, 0, &mut remote), 0);
        assert_eq!(clock.map(1020, 20 * MS, &mut remote), 20 * MS);
        assert_eq!(clock.map(1010, 40 * MS, &mut remote), 10 * MS);
        assert_eq!(clock.map(1020, 41 * MS, &mut remote), 20 * MS);
        assert_eq!(clock.timestamp_at(50 * MS), Some(1050));
        assert_eq!(clock.timestamp_at(10 * MS), Some(1010));
    }

    #[test]
    fn ntp_starts_in_1900() {
        let epoch = Instant::now();
        let clock = ServerClock::new(Duration::from_millis(1500), epoch);
        let ntp = clock.ntp(epoch + Duration::from_secs(1));
        assert_eq!(ntp, (2_208_988_802 << 32) | (1 << 31));
        assert_eq!(ntp_micros(ntp), 2_208_988_802_500_000);
        assert_eq!(clock.micros(epoch + Duration::from_millis(2)), 2000);
        assert_eq!(clock.instant(2000), epoch + Duration::from_millis(2));
    }
}
