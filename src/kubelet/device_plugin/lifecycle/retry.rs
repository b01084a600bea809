//! When a step that failed is tried again.

use std::time::Duration;

/// Shortest pause before a step that failed is tried again. The kubelet creates its socket a moment
/// before it listens on it, so the first tries come fast.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(2);
/// Longest pause before a step that failed is tried again.
const LAST_RETRY: Duration = Duration::from_secs(10);

/// When to try again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Retry {
    failures: u32,
    at: Duration,
}

impl Retry {
    /// How often in a row it has failed.
    #[must_use]
    pub fn failures(self) -> u32 {
        self.failures
    }

    /// When.
    pub(super) fn at(self) -> Duration {
        self.at
    }

    /// One more failure: the pause doubles from 2 ms to 10 s. Of each pause the upper half is
    /// chance, `jitter` in 0 to 1, so that the plugins of many resources do not call in step.
    #[must_use]
    pub fn failed(self, now: Duration, jitter: f64) -> Self {
        let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(20)).min(LAST_RETRY);
        let at = now.saturating_add(pause.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0));
        Self { failures: self.failures.saturating_add(1), at }
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
