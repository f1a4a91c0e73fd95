//! Durations counted in buckets, exact to 3 %.

use std::time::Duration;

/// How often each duration was seen, from 0 to hours, in buckets that grow with the value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histogram {
    /// Counts by bucket, as long as the largest value needs.
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Counts one value.
    pub(crate) fn record(&mut self, value: Duration) {
        let bucket = bucket(u64::try_from(value.as_micros()).unwrap_or(u64::MAX));
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// Adds all values of another one.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// Returns how many values were counted.
    pub(crate) fn len(&self) -> u64 {
        self.total
    }

    /// Returns the value that this percentage of all values does not exceed, `None` when there are none.
    pub(crate) fn percentile(&self, percent: u64) -> Option<Duration> {
        let rank = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_micros(upper(bucket)))
    }
}

/// Values below [`LINEAR`] microseconds have a bucket each; above, every doubling has [`STEPS`].
fn bucket(micros: u64) -> usize {
    let doublings = micros.max(LINEAR).ilog2() - LINEAR.ilog2();
    let within = if doublings == 0 {
        micros
    } else {
        (micros >> doublings) + u64::from(doublings) * STEPS
    };
    usize::try_from(within).unwrap_or(usize::MAX)
}

/// Returns the largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < 2 * STEPS {
        return bucket;
    }
    let doublings = bucket / STEPS - 1;
    let within = bucket - doublings * STEPS;
    ((within + 1) << doublings) - 1
}

const STEPS: u64 = 32;
const LINEAR: u64 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_they_say() {
        let mut last = 0;
        for micros in (0..5000).chain([65_535, 65_536, 1_000_000, u64::MAX >> 8]) {
            let bucket = bucket(micros);
            let upper = upper(bucket);
            assert!(bucket >= last, "{micros}");
            assert!(
                upper >= micros && upper - micros <= micros / 32,
                "{micros} {upper}"
            );
            last = bucket;
        }
    }

    #[test]
    fn percentiles_are_ranks() {
        let mut one = Histogram::default();
        assert_eq!(one.percentile(50), None);
        let mut other = Histogram::default();
        for micros in 1..=10 {
            one.record(Duration::from_micros(micros));
            other.record(Duration::from_micros(micros + 10));
        }
        one.merge(&other);
        for (percent, micros) in [(0, 1), (5, 1), (50, 10), (99, 20), (100, 20)] {
            assert_eq!(
                one.percentile(percent),
                Some(Duration::from_micros(micros)),
                "{percent}"
            );
        }
        assert_eq!(one.len(), 20);
    }
}
