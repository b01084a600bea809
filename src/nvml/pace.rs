//! When what is done again: polls with jitter, tries with back-off. Pure.

use std::time::Duration;

use device::health::Moment;

use crate::util::backoff::Backoff;

/// Polls of one interval, each a little early, so that the nodes of a cluster do not ask their
/// drivers in step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Polls(Duration);

impl Polls {
    pub(super) fn every(interval: Duration) -> Self {
        Self(interval)
    }

    /// The pause before the next poll; `jitter` is a random number from 0 to 1.
    pub(super) fn pause(self, jitter: f64) -> Duration {
        self.0 - (self.0 / 10).mul_f64(jitter)
    }
}

/// When something is tried, as long as it is wanted: ever more rarely.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetrySchedule {
    backoff: Backoff,
    next: Option<Moment>,
}

impl RetrySchedule {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { backoff, next: None }
    }

    /// When to try, as long as it is wanted: what is no longer wanted begins again with the first
    /// delay.
    pub(super) fn due(&mut self, now: Moment, wanted: bool) -> Option<Moment> {
        if !wanted {
            self.backoff.reset();
            self.next = None;
        } else if self.next.is_none() {
            self.tried(now);
        }
        self.next
    }

    /// It was tried.
    pub(super) fn tried(&mut self, now: Moment) {
        self.next = Some(now.after(self.backoff.next_delay()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_poll_is_never_late_and_at_most_a_tenth_early() {
        for jitter in [0.0, 0.3, 1.0] {
            let pause = Polls::every(10 * SECOND).pause(jitter);
            assert!((9 * SECOND..=10 * SECOND).contains(&pause), "{pause:?}");
        }
        assert_eq!(Polls::every(Duration::ZERO).pause(0.7), Duration::ZERO);
    }

    #[test]
    fn tries_get_rarer_and_begin_again_when_not_wanted() {
        let at = |seconds: u32| Moment(SECOND * seconds);
        let mut schedule = RetrySchedule::new(Backoff::new(SECOND, 4 * SECOND));
        assert_eq!(schedule.due(at(0), false), None);
        assert_eq!(schedule.due(at(0), true), Some(at(1)));
        assert_eq!(schedule.due(at(1), true), Some(at(1)), "until it is tried");
        for (now, next) in [(1, 3), (3, 7), (7, 11)] {
            schedule.tried(at(now));
            assert_eq!(schedule.due(at(now), true), Some(at(next)));
        }
        schedule.due(at(12), false);
        assert_eq!(schedule.due(at(20), true), Some(at(21)));
    }
}
