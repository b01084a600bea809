//! The clock of observations.

use std::time::{Duration, Instant};

use device::health::Moment;

/// The time since the daemon started.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that counts from this time on.
    #[must_use]
    pub fn from(origin: Instant) -> Self {
        Self(origin)
    }

    /// The time now.
    #[must_use]
    pub fn now(self) -> Moment {
        Moment(self.0.elapsed())
    }

    pub(super) fn instant(self, moment: Moment) -> Instant {
        self.0.checked_add(moment.0).unwrap_or_else(|| Instant::now() + Duration::from_secs(3600))
    }
}
