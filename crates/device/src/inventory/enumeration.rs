//! How an enumeration of the GPUs changes the inventory.

use std::collections::BTreeSet;

use super::observation::{EnumerationEntry, InventoryChanges};
use super::{GpuRecord, Inventory};
use crate::health::{self, Moment, NodeObservation, NvmlError, ReturnCode};
use crate::names::Uuid;

impl Inventory {
    pub(super) fn enumerate(
        &mut self,
        now: Moment,
        session: u64,
        found: Vec<EnumerationEntry>,
    ) -> InventoryChanges {
        let mut changes = InventoryChanges::default();
        let mut failed = Vec::new();
        let mut listed = BTreeSet::new();
        let counted = found.len();
        for entry in found {
            let Some((uuid, error)) = self.record(entry, &mut changes) else { continue };
            // A lost GPU stays in NVML's enumeration, and is not present.
            if error.as_ref().is_none_or(|error| error.code != ReturnCode::GPU_IS_LOST) {
                listed.insert(uuid.clone());
            }
            failed.extend(error.map(|error| (uuid, error)));
        }
        self.update_devices(&mut changes);
        // One that is lost, has no UUID or that of another may be any of those that are not listed.
        let complete = listed.len() == counted;
        let enumeration = NodeObservation::Enumeration { session, gpus: listed, complete };
        changes.health = self.health.apply(now, enumeration);
        for (uuid, error) in failed {
            let failure = NodeObservation::Gpu(uuid, health::Observation::Failed(error));
            for (uuid, change) in self.health.apply(now, failure) {
                changes.health.entry(uuid).or_default().merge(change);
            }
        }
        changes
    }

    /// Records one entry. Returns its UUID, and the error if NVML answered with one.
    fn record(
        &mut self,
        entry: EnumerationEntry,
        changes: &mut InventoryChanges,
    ) -> Option<(Uuid, Option<NvmlError>)> {
        let (uuid, index, facts, error) = match entry {
            EnumerationEntry::Gpu(gpu) => (gpu.uuid.clone(), gpu.index, Some(gpu), None),
            // Without a UUID there is no device to offer; the hardware edge has reported it.
            EnumerationEntry::Failed { uuid, index, error } => (uuid?, index, None, Some(error)),
        };
        if !self.gpus.contains_key(&uuid) {
            changes.new_gpus.push(uuid.clone());
        }
        let record = self.gpus.entry(uuid.clone()).or_insert(GpuRecord { index, facts: None });
        record.index = index;
        record.facts = facts.or_else(|| record.facts.take());
        Some((uuid, error))
    }
}
