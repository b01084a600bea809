//! The way to the first registration comes first.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use device::inventory::Inventory;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::timeout;

/// The longest head start: where NVML takes its time, nothing waits for it any longer.
const LONGEST: Duration = Duration::from_millis(100);

/// The time until NVML has answered, in which only that is begun which the kubelet waits for: the
/// rest would take processors from it.
#[derive(Debug, Clone)]
pub(super) struct HeadStart(watch::Receiver<Arc<Inventory>>);

impl HeadStart {
    /// It is over when this inventory changes.
    pub(super) fn until_change(inventory: watch::Receiver<Arc<Inventory>>) -> Self {
        Self(inventory)
    }

    /// Begins something after it.
    pub(super) async fn then<T>(mut self, task: impl Future<Output = T>) -> T {
        // The sender is gone only while the daemon stops.
        let _ = timeout(LONGEST, self.0.changed()).await;
        // Who starts the first plugin waits for the same change.
        yield_now().await;
        task.await
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use device::health::{Epoch, HealthPolicy, NodeHealth};
    use device::injection::Injector;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_comes_after_it_begins_with_the_first_change_or_after_its_longest_time() {
        let health = NodeHealth::new(HealthPolicy::default(), Epoch::default());
        let inventory =
            Inventory::new(Default::default(), Injector::default(), health, Default::default());
        let inventory = watch::Sender::new(Arc::new(inventory));
        let begun = Instant::now();
        assert_eq!(HeadStart::until_change(inventory.subscribe()).then(ready(1)).await, 1);
        assert_eq!(begun.elapsed(), LONGEST);
        let changed = HeadStart::until_change(inventory.subscribe());
        inventory.send_modify(|_| {});
        assert_eq!(changed.then(ready(2)).await, 2);
        assert_eq!(begun.elapsed(), LONGEST);
    }
}
