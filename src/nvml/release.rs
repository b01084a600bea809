//! Requests to release NVML, so that a GPU can be reset.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Requests to release NVML; a second request takes it up again before the time.
#[derive(Debug, Clone, Default)]
pub struct Release {
    request: Arc<Notify>,
    possible: Arc<AtomicBool>,
}

impl Release {
    /// Requests that NVML is released, or taken up again if it is released.
    pub fn request(&self) {
        self.request.notify_one();
    }

    /// Whether NVML is in use, so that it can be released: not while it is released already, nor
    /// while it cannot be opened.
    #[must_use]
    pub fn is_possible(&self) -> bool {
        self.possible.load(Ordering::Relaxed)
    }

    /// Returns at the next request.
    pub(super) async fn requested(&self) {
        self.request.notified().await;
    }

    pub(super) fn set_possible(&self, possible: bool) {
        self.possible.store(possible, Ordering::Relaxed);
    }
}
