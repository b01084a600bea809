//! The time since the node booted.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time since the boot, the time in which the node was suspended included.
#[must_use]
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or_default(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}
