//! Exponential back-off: how long to wait before the next try. Pure.

use std::time::Duration;

/// Delays that double from a first to a last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    attempts: u32,
}

impl Backoff {
    /// Delays from `first` up to `last`, which is at least `first`.
    #[must_use]
    pub fn new(first: Duration, last: Duration) -> Self {
        Self { first, last: last.max(first), attempts: 0 }
    }

    /// The delay that is next, without taking it.
    #[must_use]
    pub fn delay(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.last)
    }

    /// The next delay; the one after it is twice as long.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.delay();
        self.attempts = self.attempts.saturating_add(1);
        delay
    }

    /// The next delay, of which the upper half is scaled by `jitter`, a random number from 0 to 1,
    /// so that many that fail together do not try again together.
    pub fn next_delay_with_jitter(&mut self, jitter: f64) -> Duration {
        self.next_delay().mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// How many delays were taken since it began or was reset.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Begins again with the first delay.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_from_the_first_to_the_last_and_begin_again_after_a_reset() {
        let mut backoff = Backoff::new(SECOND, 5 * SECOND);
        let mut four = || [(); 4].map(|()| backoff.next_delay().as_secs());
        assert_eq!([four(), four()], [[1, 2, 4, 5], [5; 4]]);
        assert_eq!(backoff.attempts(), 8);
        backoff.reset();
        assert_eq!((backoff.next_delay(), backoff.attempts()), (SECOND, 1));
    }

    #[test]
    fn any_number_of_attempts_is_within_the_last_delay() {
        let mut backoff = Backoff::new(Duration::from_nanos(1), 10 * SECOND);
        let delays: Vec<_> = (0..100).map(|_| backoff.next_delay()).collect();
        assert!(delays.is_sorted() && delays.last().is_some_and(|last| *last <= 10 * SECOND));
        backoff.attempts = u32::MAX;
        backoff.next_delay();
        assert_eq!(backoff.attempts(), u32::MAX);
        assert_eq!(Backoff::new(2 * SECOND, SECOND).next_delay(), 2 * SECOND);
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        for (jitter, milliseconds) in [(0.0, 500), (0.5, 750), (1.0, 1000), (7.0, 1000)] {
            let delay = Backoff::new(SECOND, SECOND).next_delay_with_jitter(jitter);
            assert_eq!(delay, Duration::from_millis(milliseconds));
        }
    }
}
