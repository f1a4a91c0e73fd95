//! Makes sound continuous: holes become silence, overlaps are cut.

use std::time::Duration;

use crate::fmp4::AUDIO_TIMESCALE;

/// Where the next sample of continuous sound belongs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timeline {
    start: Option<Duration>,
    /// Samples (per channel) since the start.
    written: u64,
    /// Whether it ends in silence, which may be of any length.
    silent: bool,
}

/// What to do with a block of decoded sound, in samples per channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    /// Silence to write before it.
    pub(crate) silence: u64,
    /// How much of its beginning to leave out.
    pub(crate) skip: u64,
}

impl Timeline {
    /// Returns the time of the next sample, `None` before the first.
    pub(crate) fn end(&self) -> Option<Duration> {
        Some(self.start? + samples_to_time(self.written))
    }

    /// Starts at `time` unless it has started.
    pub(crate) fn start_at(&mut self, time: Duration) {
        self.start.get_or_insert(time);
    }

    /// Places a block of `samples` that begins at `time`, and counts what is written.
    ///
    /// Deviations of up to 20 ms are jitter and clock drift, and leave the sound whole. Behind silence it is placed
    /// exactly: nobody hears that, and what it is off by there it would be off by for good.
    pub(crate) fn place(&mut self, time: Duration, samples: u64) -> Placement {
        self.start_at(time);
        let end = self.end().unwrap_or(time);
        let tolerance = if std::mem::take(&mut self.silent) {
            Duration::ZERO
        } else {
            TOLERANCE
        };
        let placement = if time > end + tolerance {
            Placement {
                silence: time_to_samples(time - end),
                skip: 0,
            }
        } else if time + tolerance < end {
            Placement {
                silence: 0,
                skip: time_to_samples(end - time).min(samples),
            }
        } else {
            Placement {
                silence: 0,
                skip: 0,
            }
        };
        // What is left out as a whole changes nothing.
        self.silent = tolerance.is_zero() && placement.skip == samples;
        self.written += placement.silence + samples - placement.skip;
        placement
    }

    /// Returns the silence to write so that the sound reaches `time`, and counts it.
    pub(crate) fn fill(&mut self, time: Duration) -> u64 {
        let Some(missing) = self.end().and_then(|end| time.checked_sub(end)) else {
            return 0;
        };
        let silence = time_to_samples(missing);
        self.written += silence;
        self.silent |= silence > 0;
        silence
    }
}

pub(crate) fn samples_to_time(samples: u64) -> Duration {
    let rate = u64::from(AUDIO_TIMESCALE);
    let rest = samples % rate;
    Duration::from_secs(samples / rate) + Duration::from_nanos(rest * 1_000_000_000 / rate)
}

fn time_to_samples(time: Duration) -> u64 {
    let rate = u64::from(AUDIO_TIMESCALE);
    time.as_secs() * rate + u64::from(time.subsec_nanos()) * rate / 1_000_000_000
}

const TOLERANCE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn jitter_leaves_the_sound_whole() {
        let mut timeline = Timeline::default();
        for (i, jitter) in [0, 15, 3, 20, 0, 8].into_iter().enumerate() {
            let placement = timeline.place(ms(1000 + 20 * i as u64 + jitter), 960);
            assert_eq!(
                placement,
                Placement {
                    silence: 0,
                    skip: 0
                }
            );
        }
        assert_eq!(timeline.end(), Some(ms(1120)));
    }

    #[test]
    fn holes_become_silence_and_overlaps_are_cut() {
        let mut timeline = Timeline::default();
        timeline.place(ms(0), 960);
        let hole = timeline.place(ms(520), 960);
        assert_eq!(
            hole,
            Placement {
                silence: 24_000,
                skip: 0
            }
        );
        assert_eq!(timeline.end(), Some(ms(540)));
        assert_eq!(timeline.fill(ms(1540)), 48_000);
        assert_eq!(timeline.fill(ms(1000)), 0);
        let late = timeline.place(ms(1480), 960);
        assert_eq!(
            late,
            Placement {
                silence: 0,
                skip: 960
            }
        );
        let partly_late = timeline.place(ms(1490), 4800);
        assert_eq!(
            partly_late,
            Placement {
                silence: 0,
                skip: 2400
            }
        );
        assert_eq!(timeline.end(), Some(ms(1590)));
    }

    #[test]
    fn behind_silence_sound_is_where_it_belongs() {
        for deviation in [-15_i64, -1, 0, 1, 15] {
            let mut timeline = Timeline::default();
            timeline.place(ms(0), 960);
            timeline.fill(ms(1000));
            let at = ms(1000_u64.saturating_add_signed(deviation));
            let placement = timeline.place(at, 960);
            let early = (placement.silence, placement.skip);
            let expected = match deviation {
                0.. => (deviation.unsigned_abs() * 48, 0),
                _ => (0, deviation.unsigned_abs() * 48),
            };
            assert_eq!(early, expected, "{deviation} ms");
            assert_eq!(timeline.end(), Some(at + ms(20)), "{deviation} ms");
            // A little jitter leaves it whole again.
            let next = timeline.place(at + ms(25), 960);
            assert_eq!((next.silence, next.skip), (0, 0));
        }
    }

    #[test]
    fn nothing_is_filled_before_the_start() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.fill(ms(5000)), 0);
        timeline.start_at(ms(4000));
        assert_eq!(timeline.fill(ms(5000)), 48_000);
    }

    #[test]
    fn hours_of_sound_do_not_drift() {
        assert_eq!(
            samples_to_time(48_000 * 3600 * 100),
            Duration::from_secs(360_000)
        );
        assert_eq!(
            time_to_samples(Duration::from_secs(360_000)),
            48_000 * 360_000
        );
    }
}
