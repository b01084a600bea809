//! Applies observations to the inventory and publishes it.

use std::sync::Arc;

use device::health::{Moment, NodeObservation};
use device::in_use::holders::Holders;
use device::in_use::usage::InUse;
use device::inventory::{Inventory, InventoryChanges, InventoryEvent};
use tokio::sync::watch;

use super::findings;
use crate::cdi::CdiSettings;
use crate::config::Config;
use crate::host::quarantine_dir::QuarantineDir;
use crate::host::state_file::PersistedState;
use crate::nvml::{Clock, PollSettings, ReadRequests, TimedObservation};
use crate::observe::event_log::EventLog;
use crate::observe::log;

/// What follows from a batch of observations.
pub(super) struct Applied {
    /// Whether the layout changed.
    pub(super) layout: bool,
    /// Whether the health of a GPU changed.
    pub(super) health: bool,
}

/// The inventory, and the receivers of what follows from its changes.
pub(super) struct InventoryWriter {
    pub(super) clock: Clock,
    pub(super) inventory: watch::Sender<Arc<Inventory>>,
    pub(super) quarantine_dir: QuarantineDir,
    pub(super) holders: watch::Receiver<Option<Arc<Holders>>>,
    pub(super) event_log: EventLog,
    /// For NVML: what to read next, and how.
    pub(super) wants: watch::Sender<ReadRequests>,
    pub(super) poll_settings: watch::Sender<PollSettings>,
    /// For CDI specifications.
    pub(super) cdi_settings: watch::Sender<CdiSettings>,
    /// For the state file.
    pub(super) state: watch::Sender<PersistedState>,
}

impl InventoryWriter {
    /// Applies observations. No other function does.
    ///
    /// The next inventory is built beside the published one, so that no reader waits.
    pub(super) fn apply(&mut self, batch: impl Iterator<Item = TimedObservation>) -> Applied {
        let mut next = self.inventory.borrow().clone();
        let applied = self.apply_to(Arc::make_mut(&mut next), batch);
        self.inventory.send_if_modified(|inventory| {
            *inventory = next.clone();
            applied.iter().any(|(_, changes)| *changes != InventoryChanges::default())
        });
        self.log(&applied, &next);
        self.send_health(&next);
        Applied {
            layout: applied.iter().any(|(_, changes)| changes.layout),
            health: applied.iter().any(|(_, changes)| !changes.health.is_empty()),
        }
    }

    /// Sets which devices pods use, and publishes what that changes.
    pub(super) fn set_in_use(&mut self, in_use: InUse) {
        if *self.inventory.borrow().in_use() == in_use {
            return;
        }
        let mut next = self.inventory.borrow().clone();
        let changes = Arc::make_mut(&mut next).set_in_use(in_use);
        self.inventory.send_if_modified(|inventory| {
            *inventory = next.clone();
            changes != InventoryChanges::default()
        });
        self.log(&[(self.clock.now(), changes)], &next);
    }

    fn apply_to(
        &self,
        inventory: &mut Inventory,
        batch: impl Iterator<Item = TimedObservation>,
    ) -> Vec<(Moment, InventoryChanges)> {
        let each = batch
            .map(|TimedObservation { at, observation }| (at, inventory.apply(at, observation)));
        let mut applied: Vec<(Moment, InventoryChanges)> = each.collect();
        if applied.iter().any(|(_, changes)| !changes.new_gpus.is_empty()) {
            // A new GPU that is quarantined is never published as Healthy.
            let quarantine = NodeObservation::Quarantine(self.quarantine_dir.entries(inventory));
            let now = self.clock.now();
            applied.push((now, inventory.apply(now, InventoryEvent::Health(quarantine))));
        }
        applied
    }

    fn log(&self, applied: &[(Moment, InventoryChanges)], inventory: &Inventory) {
        let holders = self.holders.borrow().clone();
        for (at, changes) in applied {
            log::changes(changes, inventory, holders.as_deref());
            findings::log(changes);
            self.event_log.record(*at, changes, inventory);
        }
    }

    fn send_health(&self, inventory: &Inventory) {
        let health = inventory.node_health();
        send_if_changed(&self.wants, ReadRequests::of(health));
        send_if_changed(&self.state, state(inventory));
    }

    /// Sends what follows from another configuration, once it is in force.
    pub(super) fn configured(&self, config: &Config) {
        let inventory = self.inventory.borrow().clone();
        self.send_health(&inventory);
        let policy = inventory.node_health().policy();
        send_if_changed(&self.poll_settings, config.poll_settings(policy));
        send_if_changed(&self.cdi_settings, config.cdi.clone());
    }
}

/// What is kept over a restart of the plugin.
pub(super) fn state(inventory: &Inventory) -> PersistedState {
    let health = inventory.node_health().persist();
    let known_gpus = inventory.known_gpus(&health.epoch.boot);
    PersistedState { health, known_gpus }
}

fn send_if_changed<T: PartialEq>(sender: &watch::Sender<T>, value: T) {
    sender.send_if_modified(|current| {
        let differs = *current != value;
        *current = value;
        differs
    });
}
