//! What follows from what pods hold: devices that leave the lists or are listed again, and GPUs
//! that can be reset.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use device::in_use::holders::Holders;
use device::in_use::reset_schedule::ResetSchedule;
use device::in_use::tracker::InUseTracker;
use device::in_use::usage::InUse;
use device::inventory::Inventory;
use device::names::Uuid;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::kubelet::device_plugin::allocated::Allocated;
use crate::kubelet::pod_resources::RefreshTrigger;
use crate::nvml::{Clock, Release};

/// Time between two reviews while a device or a GPU waits.
const INTERVAL: Duration = Duration::from_secs(10);

/// What pods hold, and what waits for them to release it.
pub(super) struct ReclaimController {
    clock: Clock,
    tracker: InUseTracker,
    resets: ResetSchedule,
    /// The GPUs that need a reset.
    need_reset: BTreeSet<Uuid>,
    /// For how long NVML is released for a reset; `None`: never.
    release_for: Option<Duration>,
    release: Release,
    allocated: mpsc::Receiver<Allocated>,
    holders: watch::Receiver<Option<Arc<Holders>>>,
    refresh: Arc<RefreshTrigger>,
    /// When the next review is due without an answer, while something waits.
    next_review: Instant,
}

impl ReclaimController {
    /// Nothing is known yet.
    pub(super) fn new(
        clock: Clock,
        release_for: Option<Duration>,
        release: Release,
        allocated: mpsc::Receiver<Allocated>,
        holders: watch::Receiver<Option<Arc<Holders>>>,
        refresh: Arc<RefreshTrigger>,
    ) -> Self {
        let (tracker, resets, need_reset) =
            (InUseTracker::default(), ResetSchedule::default(), BTreeSet::new());
        Self {
            clock,
            tracker,
            resets,
            need_reset,
            release_for,
            release,
            allocated,
            holders,
            refresh,
            next_review: Instant::now(),
        }
    }

    /// Sets for how long NVML is released for a reset; `None`: never.
    pub(super) fn set_release_for(&mut self, release_for: Option<Duration>) {
        self.release_for = release_for;
    }

    /// Waits until what pods use may have changed: a device was granted, the kubelet has answered
    /// what pods hold, or a device or a GPU has waited for an interval. Returns whether a review is
    /// due, as it is in all cases but the first. Nothing is lost when it is dropped before.
    pub(super) async fn due(&mut self) -> bool {
        let waits = self.tracker.has_withdrawn() || !self.need_reset.is_empty();
        tokio::select! {
            Some(Allocated { resource, ids }) = self.allocated.recv() => {
                self.tracker.record_grant(self.clock.now(), &resource, ids);
                self.refresh.request_now();
                // A device that is no longer offered may just have been given to a pod.
                return false;
            }
            Ok(()) = self.holders.changed() => {}
            () = tokio::time::sleep_until(self.next_review), if waits => {
                self.refresh.request_if_stale();
            }
            // The senders are gone only while the daemon stops.
            else => std::future::pending().await,
        }
        self.next_review = Instant::now() + INTERVAL;
        let answer = self.holders.borrow_and_update().clone();
        self.tracker.update(answer);
        true
    }

    /// Which devices pods use.
    pub(super) fn in_use(&self) -> InUse {
        self.tracker.in_use()
    }

    /// Changes the lists of the inventory: after each answer, and after each change of what is
    /// offered.
    pub(super) fn review(&mut self, inventory_tx: &watch::Sender<Arc<Inventory>>) {
        self.list_held(inventory_tx);
        let gone = self.tracker.reclaimable(self.clock.now(), &inventory_tx.borrow());
        if !gone.is_empty() {
            inventory_tx.send_modify(|inventory| drop(Arc::make_mut(inventory).forget(&gone)));
            for (resource, device) in gone {
                info!(%resource, %device, "a device that is no longer offered and that no pod \
                    holds has left its list");
            }
            self.tracker.reclaimable(self.clock.now(), &inventory_tx.borrow());
        }
        if self.tracker.needs_answer() {
            self.refresh.request_now();
        }
    }

    /// Lists every device that a pod holds, whether it is there or not.
    fn list_held(&self, inventory_tx: &watch::Sender<Arc<Inventory>>) {
        let Some(holders) = self.holders.borrow().clone() else { return };
        let mut added = Vec::new();
        inventory_tx.send_if_modified(|inventory| {
            // Usually there is nothing to add, and no reason to copy the inventory.
            if holders.iter().all(|(resource, id, _)| inventory.has_or_cannot_have(resource, id)) {
                return false;
            }
            added = Arc::make_mut(inventory).adopt(&holders);
            !added.is_empty()
        });
        for (resource, device, holder) in added {
            warn!(%resource, %device, %holder, "a pod holds a device that this node does not \
                offer: it is listed, Unhealthy");
        }
    }

    /// Releases NVML, if that is configured, for GPUs that need a reset and that no pod holds.
    pub(super) fn release_for_reset(&mut self, inventory: &Inventory) {
        let Some(release_for) = self.release_for else { return };
        let gpus = inventory.node_health().gpus().iter().filter(|(_, gpu)| gpu.needs_reset());
        let need_reset: BTreeSet<Uuid> = gpus.map(|(uuid, _)| uuid.clone()).collect();
        if !need_reset.is_subset(&self.need_reset) {
            // The last answer of the kubelet may be a minute old.
            self.refresh.request_now();
        }
        self.need_reset = need_reset;
        if self.need_reset.is_empty() || !self.release.is_possible() {
            return;
        }
        let due = self.resets.due(self.clock.now(), release_for, inventory, &self.tracker);
        for uuid in &due {
            info!(gpu.uuid = %uuid, "the GPU needs a reset and no pod holds it: releasing NVML");
        }
        if !due.is_empty() {
            self.release.request_release();
        }
    }
}
