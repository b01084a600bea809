//! Counts of what is open, to read and to wait on.

use tokio::sync::watch;

/// How many of something are open.
#[derive(Debug, Clone, Default)]
pub struct Count(watch::Sender<usize>);

/// One of them; it counts until it is dropped.
#[derive(Debug)]
pub struct Counted(watch::Sender<usize>);

impl Count {
    /// The number, to read and to wait on.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }

    /// Counts one more.
    #[must_use]
    pub fn one_more(&self) -> Counted {
        self.0.send_modify(|count| *count += 1);
        Counted(self.0.clone())
    }

    /// Comes back as soon as none is open.
    pub async fn none(&self) {
        // The sender is held here, so the wait cannot fail.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
