//! How long something takes, counted in buckets.

use std::time::Duration;

use super::Counter;

/// Upper ends of the buckets in microseconds: from a write into a fast disk's cache to the
/// patience of a hook and beyond.
const ENDS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 300_000, 1_000_000,
    5_000_000, 30_000_000,
];

/// Durations in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Each duration in the first bucket that it fits into; beyond the last end, in none.
    buckets: [Counter; ENDS.len()],
    beyond: Counter,
    micros: Counter,
}

impl Histogram {
    /// Counts one.
    pub fn took(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let at = ENDS.partition_point(|end| *end < micros);
        self.buckets.get(at).unwrap_or(&self.beyond).one();
        self.micros.add(micros);
    }

    /// The upper end of each bucket in seconds, and how many were at most that long.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let ends = ENDS.iter().map(|end| *end as f64 / 1e6);
        ends.zip(&self.buckets).scan(0, |below, (end, bucket)| {
            *below += bucket.get();
            Some((end, *below))
        })
    }

    /// How many there were, given what its buckets have said.
    pub fn count(&self, in_buckets: u64) -> u64 {
        in_buckets + self.beyond.get()
    }

    /// How long they took together, in seconds.
    pub fn sum(&self) -> f64 {
        self.micros.get() as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_every_bucket_that_it_fits_into() {
        let histogram = Histogram::default();
        for micros in [50, 100, 101, 1_000_000, 40_000_000] {
            histogram.took(Duration::from_micros(micros));
        }
        let buckets: Vec<_> = histogram.buckets().collect();
        let of = |end: f64| buckets.iter().find(|(one, _)| *one == end).unwrap().1;
        assert_eq!((of(0.0001), of(0.00025), of(1.0), of(30.0)), (2, 3, 4, 4));
        assert_eq!(histogram.count(of(30.0)), 5);
        assert!((histogram.sum() - 41.000251).abs() < 1e-9);
    }
}
