//! Counters and histograms, which can be read at any time without delaying the one who counts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::lock;

/// A histogram of durations. Counting one takes some nanoseconds and no lock.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [Duration],
    /// One for each bound, and one for durations beyond the last.
    counts: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

/// The contents of a histogram.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// For each bound in seconds, how many were no longer.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all, in seconds.
    pub sum: f64,
    /// The number of all.
    pub count: u64,
}

impl Histogram {
    /// An empty one with these upper bounds, in ascending order.
    #[must_use]
    pub fn new(bounds: &'static [Duration]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, nanoseconds: AtomicU64::new(0) }
    }

    /// Counts one.
    pub fn observe(&self, took: Duration) {
        let at = self.bounds.partition_point(|bound| *bound < took);
        self.counts[at].fetch_add(1, Relaxed);
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Its contents.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        let mut count = 0;
        let each = self.counts.iter().map(|each| each.load(Relaxed));
        let cumulative: Vec<u64> = each
            .map(|each| {
                count += each;
                count
            })
            .collect();
        let buckets = self.bounds.iter().map(Duration::as_secs_f64).zip(cumulative).collect();
        Distribution {
            buckets,
            sum: Duration::from_nanos(self.nanoseconds.load(Relaxed)).as_secs_f64(),
            count,
        }
    }
}

/// Counters by key, for a bounded number of keys.
#[derive(Debug)]
pub struct Counts<K> {
    most: usize,
    each: Mutex<BTreeMap<K, u64>>,
}

impl<K: Ord + Clone> Counts<K> {
    /// No counters yet, and at most this many: further keys are not counted.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { most, each: Mutex::default() }
    }

    /// Counts one.
    pub fn count(&self, key: K) {
        let mut each = lock(&self.each);
        if each.len() < self.most || each.contains_key(&key) {
            let counter = each.entry(key).or_default();
            *counter = counter.saturating_add(1);
        }
    }

    /// The counters by key.
    #[must_use]
    pub fn all(&self) -> BTreeMap<K, u64> {
        lock(&self.each).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: &[Duration] = &[Duration::from_millis(1), Duration::from_millis(10)];

    #[test]
    fn a_histogram_counts_up_to_each_bound_and_all() {
        let histogram = Histogram::new(BOUNDS);
        for microseconds in [500, 1_000, 1_001, 10_000, 20_000] {
            histogram.observe(Duration::from_micros(microseconds));
        }
        let seen = histogram.distribution();
        assert_eq!((seen.buckets, seen.count), (vec![(0.001, 2), (0.01, 4)], 5));
        assert!((seen.sum - 0.032_501).abs() < 1e-9);
    }

    #[test]
    fn counters_have_a_bounded_number_of_keys() {
        let counts = Counts::new(2);
        for key in [1, 2, 3, 1] {
            counts.count(key);
        }
        assert_eq!(counts.all(), BTreeMap::from([(1, 2), (2, 1)]));
    }
}
