//! From the process's own clock to points in time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use device::health::Moment;
use status::Timestamp;

/// The system clock beside the process's own, to turn moments into points in time. It is read for
/// each view, so that after the system clock was set past moments are right too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WallClock {
    now: Moment,
    system: SystemTime,
}

impl WallClock {
    /// The system clock shows `system` at the moment `now`.
    #[must_use]
    pub(crate) fn new(now: Moment, system: SystemTime) -> Self {
        Self { now, system }
    }

    /// The point in time that the system clock shows.
    #[must_use]
    pub(crate) fn now(self) -> Timestamp {
        Timestamp::of(self.system)
    }

    /// The time since the process started.
    #[must_use]
    pub(crate) fn uptime(self) -> Duration {
        self.now.0
    }

    /// The point in time of a moment.
    #[must_use]
    pub(crate) fn at(self, moment: Moment) -> Timestamp {
        let (age, ahead) = (self.now.since(moment), moment.since(self.now));
        let at = self.system.checked_sub(age).unwrap_or(UNIX_EPOCH);
        Timestamp::of(at.checked_add(ahead).unwrap_or(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_as_long_ago_on_the_system_clock_as_on_the_process_clock() {
        let shows = UNIX_EPOCH + Duration::from_secs(1_000);
        let wall = WallClock::new(Moment(Duration::from_secs(100)), shows);
        assert_eq!(wall.at(Moment(Duration::from_secs(40))).unix_seconds(), 940.0);
        assert_eq!(wall.at(Moment(Duration::from_secs(140))).unix_seconds(), 1_040.0);
    }
}
