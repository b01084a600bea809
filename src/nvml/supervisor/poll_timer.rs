//! When the next poll is due.

use std::time::{Duration, Instant};

use crate::util::random;

/// Polls of one interval, each up to a tenth early, so that the nodes of a cluster do not poll
/// their drivers at the same time.
#[derive(Debug)]
pub(super) struct PollTimer {
    interval: Duration,
    next: Instant,
    polls: u32,
}

impl PollTimer {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, next: Instant::now() + pause(interval, random::fraction()), polls: 0 }
    }

    /// When the next poll is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// Makes the next poll due now.
    pub(super) fn poll_now(&mut self) {
        self.next = Instant::now();
    }

    /// Changes the interval. The next poll is never later than before.
    pub(super) fn set_interval(&mut self, interval: Duration) {
        self.interval = interval;
        self.next = self.next.min(Instant::now() + pause(interval, random::fraction()));
    }

    /// Whether a poll is due; if so, it counts as done.
    pub(super) fn take_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.next <= now;
        if due {
            self.next = now + pause(self.interval, random::fraction());
            self.polls = self.polls.wrapping_add(1);
        }
        due
    }

    /// Whether the last poll is one of every `n`.
    pub(super) fn is_every(&self, n: u32) -> bool {
        self.polls.is_multiple_of(n)
    }
}

/// The pause before the next poll; `jitter` is a random number from 0 to 1.
fn pause(interval: Duration, jitter: f64) -> Duration {
    interval - (interval / 10).mul_f64(jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_is_never_late_and_at_most_a_tenth_early() {
        let interval = Duration::from_secs(10);
        for jitter in [0.0, 0.3, 1.0] {
            let pause = pause(interval, jitter);
            assert!((interval * 9 / 10..=interval).contains(&pause), "{pause:?}");
        }
        assert_eq!(pause(Duration::ZERO, 0.7), Duration::ZERO);
    }
}
