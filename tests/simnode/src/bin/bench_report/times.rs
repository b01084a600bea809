//! Measured times.

use std::future::Future;
use std::time::{Duration, Instant};

/// Times of one kind.
pub(super) struct Times(Vec<Duration>);

impl Times {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    pub(super) async fn time<T, E: std::error::Error + Send + Sync + 'static>(
        &mut self,
        call: impl Future<Output = Result<T, E>>,
    ) -> anyhow::Result<()> {
        let before = Instant::now();
        call.await?;
        self.add(before.elapsed());
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort();
        let last = sorted.len().saturating_sub(1);
        sorted
            .get((last as f64 * share).round() as usize)
            .map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    }

    pub(super) fn median_us(&self) -> f64 {
        self.at(0.5)
    }

    pub(super) fn print(&self, what: &str) {
        let (median, p99, worst) = (self.median_us(), self.at(0.99), self.at(1.0));
        let (unit, scale) = if median >= 1e3 { ("ms", 1e3) } else { ("us", 1.0) };
        println!(
            "{what:<58}{:>10.2} {unit} median, {:.2} p99, {:.2} worst of {}",
            median / scale,
            p99 / scale,
            worst / scale,
            self.0.len()
        );
    }
}
