//! When a failed bind or registration is retried.

use std::time::Duration;

use crate::util::backoff::Backoff;

/// The first pause. It is short because the kubelet creates its socket a moment before it listens
/// on it.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(2);
/// The longest pause.
const LAST_RETRY: Duration = Duration::from_secs(10);

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    backoff: Backoff,
    at: Duration,
}

impl Retry {
    /// How often in a row it has failed.
    #[must_use]
    pub fn failures(self) -> u32 {
        self.backoff.attempts()
    }

    /// The time of the next try.
    pub(super) fn at(self) -> Duration {
        self.at
    }

    /// One more failure. `jitter` from 0 to 1 keeps the plugins of many resources from calling at
    /// the same time.
    #[must_use]
    pub fn failed(mut self, now: Duration, jitter: f64) -> Self {
        self.at = now.saturating_add(self.backoff.next_delay_with_jitter(jitter));
        self
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { backoff: Backoff::new(FIRST_RETRY, LAST_RETRY), at: Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_ten_seconds_and_never_beyond() {
        let mut retry = Retry::default();
        let mut last = Duration::ZERO;
        for _ in 0..100 {
            retry = retry.failed(Duration::ZERO, 1.0);
            assert!(retry.at >= last && retry.at <= LAST_RETRY);
            last = retry.at;
        }
        assert_eq!(last, LAST_RETRY);
        assert_eq!(Retry::default().failed(Duration::ZERO, 0.0).at, FIRST_RETRY / 2);
    }
}
