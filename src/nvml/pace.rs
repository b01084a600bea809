//! When what is done again: polls with jitter, tries with back-off. Pure.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use device::health::Moment;

/// Polls of one interval, each a little early, so that the nodes of a cluster do not ask their
/// drivers in step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Polls(Duration);

impl Polls {
    pub(super) fn every(interval: Duration) -> Self {
        Self(interval)
    }

    /// The pause before the next poll; `random` is any number.
    pub(super) fn pause(self, random: u64) -> Duration {
        self.0 - (self.0 / 10).mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

/// A number that differs from one process and call to the next.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Tries that get rarer: each pause is twice as long as the one before, up to a last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    first: Duration,
    last: Duration,
    pause: Duration,
    next: Option<Moment>,
}

impl Backoff {
    pub(super) fn new(first: Duration, last: Duration) -> Self {
        Self { first, last: last.max(first), pause: first, next: None }
    }

    /// The pause before the next try.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = self.pause.saturating_mul(2).min(self.last);
        pause
    }

    /// When to try, as long as it is wanted: what is wanted no more begins again with the first
    /// pause.
    pub(super) fn due(&mut self, now: Moment, wanted: bool) -> Option<Moment> {
        if !wanted {
            *self = Self::new(self.first, self.last);
        } else if self.next.is_none() {
            self.next = Some(now.after(self.pause()));
        }
        self.next
    }

    /// It was tried.
    pub(super) fn tried(&mut self, now: Moment) {
        self.next = Some(now.after(self.pause()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_poll_is_never_late_and_at_most_a_tenth_early() {
        for random in [0, 1, u64::MAX / 3, u64::MAX] {
            let pause = Polls::every(10 * SECOND).pause(random);
            assert!((9 * SECOND..=10 * SECOND).contains(&pause), "{pause:?}");
        }
        assert_eq!(Polls::every(Duration::ZERO).pause(7), Duration::ZERO);
    }

    #[test]
    fn tries_get_rarer_up_to_a_last_pause_and_begin_anew_when_not_wanted() {
        let at = |seconds: u32| Moment(SECOND * seconds);
        let mut backoff = Backoff::new(SECOND, 4 * SECOND);
        assert_eq!(backoff.due(at(0), false), None);
        assert_eq!(backoff.due(at(0), true), Some(at(1)));
        assert_eq!(backoff.due(at(1), true), Some(at(1)), "until it is tried");
        for (now, next) in [(1, 3), (3, 7), (7, 11)] {
            backoff.tried(at(now));
            assert_eq!(backoff.due(at(now), true), Some(at(next)));
        }
        backoff.due(at(12), false);
        assert_eq!(backoff.due(at(20), true), Some(at(21)));
    }
}
