//! When to try something again that may not be wanted any more. Pure.

use device::health::Moment;

use crate::util::backoff::Backoff;

/// Times of tries, with growing delays, for as long as something is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct RetrySchedule {
    backoff: Backoff,
    next: Option<Moment>,
}

impl RetrySchedule {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { backoff, next: None }
    }

    /// When to try next; `None` while it is not `wanted`, after which the delays begin again with
    /// the first.
    pub(super) fn due(&mut self, now: Moment, wanted: bool) -> Option<Moment> {
        if !wanted {
            self.backoff.reset();
            self.next = None;
        } else if self.next.is_none() {
            self.tried(now);
        }
        self.next
    }

    /// Schedules the next try, after one at this time.
    pub(super) fn tried(&mut self, now: Moment) {
        self.next = Some(now.after(self.backoff.next_delay()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

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
