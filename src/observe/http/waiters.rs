//! The connections that wait for the next status, and how many there may be.
//!
//! They do not count among the connections of the listener, so that none of them takes the place of
//! a probe. One more than there may be, and the oldest gets its answer early.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::util::lock;

/// The most connections that wait at a time.
pub(super) const MAX_WAITERS: usize = 16;

/// Those that wait, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<VecDeque<Arc<Notify>>>);

/// One that waits, until this is dropped.
#[derive(Debug)]
pub(super) struct Waiter {
    all: Arc<Waiters>,
    displaced: Arc<Notify>,
}

impl Waiters {
    /// One more waits.
    pub(super) fn begin(self: &Arc<Self>) -> Waiter {
        let displaced = Arc::new(Notify::new());
        let mut waiting = lock(&self.0);
        waiting.push_back(displaced.clone());
        if waiting.len() > MAX_WAITERS
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.notify_one();
        }
        Waiter { all: self.clone(), displaced }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        lock(&self.0).len()
    }
}

impl Waiter {
    /// Returns when it has to make room for others.
    pub(super) async fn displaced(&self) {
        self.displaced.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        lock(&self.all.0).retain(|other| !Arc::ptr_eq(other, &self.displaced));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, timeout};

    use super::*;

    #[tokio::test]
    async fn the_oldest_makes_room_for_one_too_many() {
        let all = Arc::<Waiters>::default();
        let waiting: Vec<_> = (0..=MAX_WAITERS).map(|_| all.begin()).collect();
        assert_eq!(all.count(), MAX_WAITERS);
        for (number, waiter) in waiting.iter().enumerate() {
            let displaced = timeout(Duration::ZERO, waiter.displaced()).await.is_ok();
            assert_eq!(displaced, number == 0, "{number}");
        }
        drop(waiting);
        assert_eq!(all.count(), 0);
    }
}
