//! When to try again.

use std::time::Duration;

use crate::util::backoff::Backoff;

/// The first pause. It is short because the kubelet creates its socket a moment before it listens
/// on it.
pub(super) const FIRST_RETRY: Duration = Duration::from_millis(2);
/// The longest pause.
pub(super) const LAST_RETRY: Duration = Duration::from_secs(10);

/// When to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    backoff: Backoff,
    pub(super) at: Duration,
}

impl Retry {
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
