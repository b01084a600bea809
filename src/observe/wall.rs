//! From the process's own clock to points in time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use device::health::Moment;
use status::Timestamp;

/// What the clock on the wall shows now, by which moments become points in time. Since it is read
/// anew for each view, a clock that was set meanwhile is right about the past too.
#[derive(Debug, Clone, Copy)]
pub struct Wall {
    now: Moment,
    shows: SystemTime,
}

impl Wall {
    /// The clock shows `shows` at the moment `now`.
    #[must_use]
    pub fn new(now: Moment, shows: SystemTime) -> Self {
        Self { now, shows }
    }

    /// The point in time that the clock shows now.
    #[must_use]
    pub fn now(self) -> Timestamp {
        Timestamp::of(self.shows)
    }

    /// The time since the origin of moments: since the process began.
    #[must_use]
    pub fn uptime(self) -> Duration {
        self.now.0
    }

    /// When a moment was.
    #[must_use]
    pub fn at(self, moment: Moment) -> Timestamp {
        let age = self.now.since(moment);
        Timestamp::of(self.shows.checked_sub(age).unwrap_or(UNIX_EPOCH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_as_long_ago_on_the_wall_as_on_the_clock() {
        let shows = UNIX_EPOCH + Duration::from_secs(1_000);
        let wall = Wall::new(Moment(Duration::from_secs(100)), shows);
        assert_eq!(wall.at(Moment(Duration::from_secs(40))).unix_seconds(), 940.0);
        assert_eq!(
            wall.at(Moment(Duration::from_secs(140))),
            wall.now(),
            "what is to come is told as now"
        );
    }
}
