//! What follows from what pods hold: ids that may leave their lists, ids that have to come back
//! into them, and GPUs that can be reset.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use device::in_use::holders::Holders;
use device::in_use::reset_schedule::ResetSchedule;
use device::in_use::tracker::InUseTracker;
use device::inventory::Inventory;
use device::names::Uuid;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::kubelet::device_plugin::allocation_events::Allocated;
use crate::kubelet::pod_resources::RefreshTrigger;
use crate::nvml::{Clock, Release};

/// The pause between two looks while something waits.
const AGAIN: Duration = Duration::from_secs(10);

/// What is known of what pods hold, and who is told what follows from it.
pub(super) struct ReclaimController {
    clock: Clock,
    tracker: InUseTracker,
    resets: ResetSchedule,
    /// The GPUs that want a reset.
    wanting: BTreeSet<Uuid>,
    /// For how long NVML is let go by itself for a reset; `None`: never.
    release_for: Option<Duration>,
    release: Release,
    allocated: mpsc::UnboundedReceiver<Allocated>,
    holders: watch::Receiver<Option<Arc<Holders>>>,
    refresh: Arc<RefreshTrigger>,
    /// When to look again without an answer, while something waits.
    again: Instant,
}

impl ReclaimController {
    /// Nothing is known yet. The refresh has the kubelet asked before the time.
    pub(super) fn new(
        clock: Clock,
        release_for: Option<Duration>,
        release: Release,
        allocated: mpsc::UnboundedReceiver<Allocated>,
        holders: watch::Receiver<Option<Arc<Holders>>>,
        refresh: Arc<RefreshTrigger>,
    ) -> Self {
        let (tracker, resets, wanting) =
            (InUseTracker::default(), ResetSchedule::default(), BTreeSet::new());
        let again = Instant::now();
        Self {
            clock,
            tracker,
            resets,
            wanting,
            release_for,
            release,
            allocated,
            holders,
            refresh,
            again,
        }
    }

    /// Lets go of NVML by itself from now on for so long; `None`: never.
    pub(super) fn release_for(&mut self, away: Option<Duration>) {
        self.release_for = away;
    }

    /// Takes in what is handed out, and comes back when the kubelet has said what pods hold; while
    /// a device or a GPU waits for that, also every now and then. Nothing is lost when it is
    /// dropped before.
    pub(super) async fn answered(&mut self) {
        loop {
            let waits = self.tracker.has_withdrawn() || !self.wanting.is_empty();
            tokio::select! {
                Some(Allocated { resource, ids }) = self.allocated.recv() => {
                    self.tracker.record_grant(self.clock.now(), &resource, ids);
                    self.refresh.request_now();
                }
                Ok(()) = self.holders.changed() => break,
                () = tokio::time::sleep_until(self.again), if waits => {
                    self.refresh.request_if_stale();
                    break;
                }
                // Both are gone only when the daemon stops.
                else => std::future::pending().await,
            }
        }
        self.again = Instant::now() + AGAIN;
        let answer = self.holders.borrow_and_update().clone();
        self.tracker.update(answer);
    }

    /// Does what follows for the inventory: after an answer, and after each change of what is
    /// offered.
    pub(super) fn settle(&mut self, publish: &watch::Sender<Arc<Inventory>>) {
        self.adopt(publish);
        let gone = self.tracker.reclaimable(self.clock.now(), &publish.borrow());
        if !gone.is_empty() {
            publish.send_modify(|inventory| drop(Arc::make_mut(inventory).forget(&gone)));
            for (resource, device) in gone {
                info!(%resource, %device, "a device that is offered no more and that no pod holds \
                    has left its list");
            }
            self.tracker.reclaimable(self.clock.now(), &publish.borrow());
        }
        if self.tracker.needs_answer() {
            self.refresh.request_now();
        }
    }

    /// What a pod holds is listed, whether it is there or not.
    fn adopt(&self, publish: &watch::Sender<Arc<Inventory>>) {
        let Some(holders) = self.holders.borrow().clone() else { return };
        let mut adopted = Vec::new();
        publish.send_if_modified(|inventory| {
            // Most of the time there is nothing to adopt, and no reason to make an inventory for
            // it.
            if holders.iter().all(|(resource, id, _)| inventory.has_or_cannot_have(resource, id)) {
                return false;
            }
            adopted = Arc::make_mut(inventory).adopt(&holders);
            !adopted.is_empty()
        });
        for (resource, device, holder) in adopted {
            warn!(%resource, %device, %holder, "a pod holds a device that this node does not \
                offer: it is listed, Unhealthy");
        }
    }

    /// Lets go of NVML if that is wanted, for GPUs that wait for a reset and that nothing holds.
    pub(super) fn release(&mut self, inventory: &Inventory) {
        let Some(away) = self.release_for else { return };
        let gpus = inventory.node_health().gpus().iter().filter(|(_, gpu)| gpu.needs_reset());
        let wanting: BTreeSet<Uuid> = gpus.map(|(uuid, _)| uuid.clone()).collect();
        if !wanting.is_subset(&self.wanting) {
            // What the kubelet said last may be a minute old.
            self.refresh.request_now();
        }
        self.wanting = wanting;
        if self.wanting.is_empty() || !self.release.is_held() {
            return;
        }
        let due = self.resets.due(self.clock.now(), away, inventory, &self.tracker);
        for uuid in &due {
            info!(gpu.uuid = %uuid, "the GPU wants a reset and no pod holds it: letting go of \
                NVML");
        }
        if !due.is_empty() {
            self.release.ask();
        }
    }
}
