//! Lines that would repeat.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pause between two lines of one kind.
const QUIET: Duration = Duration::from_secs(60);

/// Lets a line be written once a minute.
#[derive(Debug, Default)]
pub struct LogRateLimit(Mutex<Option<Instant>>);

impl LogRateLimit {
    /// One that lets the first line pass.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether the line is due. If so, the next is a minute later.
    #[must_use]
    pub fn is_due(&self) -> bool {
        self.is_due_at(Instant::now())
    }

    fn is_due_at(&self, now: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| now.saturating_duration_since(last) >= QUIET);
        if due {
            *last = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_once_a_minute() {
        let (seldom, start) = (LogRateLimit::new(), Instant::now());
        let seconds = [0, 1, 59, 60, 61, 119, 120];
        let due = seconds.map(|seconds| seldom.is_due_at(start + Duration::from_secs(seconds)));
        assert_eq!(due, [true, false, false, true, false, false, true]);
    }
}
