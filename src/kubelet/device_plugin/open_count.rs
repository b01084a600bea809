//! How many streams or connections are open, to read and to wait on.

use tokio::sync::watch;

/// A number of open things.
#[derive(Debug, Clone, Default)]
pub struct OpenCount(watch::Sender<usize>);

/// Counts as one that is open until it is dropped.
#[derive(Debug)]
pub struct OpenGuard(watch::Sender<usize>);

impl OpenCount {
    /// The number, to read and to wait on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }

    /// Counts one more.
    #[must_use]
    pub fn open(&self) -> OpenGuard {
        self.0.send_modify(|count| *count += 1);
        OpenGuard(self.0.clone())
    }

    /// Waits until none is open.
    pub async fn all_closed(&self) {
        // The sender is held here, so the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
