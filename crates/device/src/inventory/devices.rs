//! How the layout turns the known GPUs into the lists of devices, and these into the indexes for
//! preferred allocation.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Inventory;
use super::observation::InventoryChanges;
use crate::allocation::IndexEntry;
use crate::identity::KnownGpu;
use crate::layout::{LayoutFinding, list_size};
use crate::names::{DeviceId, ResourceName};
use crate::topology::ObservedGpu;
use crate::{CdiState, Device};

impl Inventory {
    /// Applies the layout to the known GPUs: puts every device into its resource, or updates its
    /// facts there.
    pub(super) fn update_devices(&mut self, changes: &mut InventoryChanges) {
        let mut result = self.layout.apply(self.known());
        let devices = result.resources.values().flat_map(BTreeMap::values);
        result.findings.extend(self.injector.findings(devices));
        self.mark_mps(&mut result);
        self.mark_owned(&mut result);
        self.mark_cdi(&mut result);
        let mut dropped = Vec::new();
        for (name, before) in &self.resources {
            let ids = keep_withdrawn(before, result.resources.entry(name.clone()).or_default());
            dropped.extend(
                (ids > 0).then(|| LayoutFinding::Forgotten { resource: name.clone(), ids }),
            );
        }
        self.update_resources(result.resources, changes);
        changes.layout |= self.reserved != result.reserved;
        self.reserved = result.reserved;
        result.findings.extend(self.owners_unknown());
        result.findings.extend(self.cdi_findings());
        result.findings.extend(self.identity_findings().into_iter().map(LayoutFinding::Identity));
        self.update_findings(result.findings, changes);
        changes.new_findings.extend(dropped);
        self.update_indexes(changes);
    }

    fn update_resources(
        &mut self,
        resources: BTreeMap<ResourceName, BTreeMap<DeviceId, Device>>,
        changes: &mut InventoryChanges,
    ) {
        for (name, devices) in resources {
            if self.resources.get(&name).is_none_or(|before| **before != devices) {
                self.resources.insert(name, Arc::new(devices));
                changes.layout = true;
            }
        }
    }

    fn update_findings(&mut self, findings: Vec<LayoutFinding>, changes: &mut InventoryChanges) {
        let before = std::mem::replace(&mut self.findings, findings);
        let new = self.findings.iter().filter(|finding| !before.contains(finding));
        changes.new_findings = new.cloned().collect();
        changes.resolved_findings =
            before.into_iter().filter(|finding| !self.findings.contains(finding)).collect();
    }

    pub(super) fn known(&self) -> impl Iterator<Item = KnownGpu<'_>> {
        self.gpus.iter().map(|(uuid, record)| KnownGpu { uuid, record })
    }

    pub(super) fn update_indexes(&mut self, changes: &mut InventoryChanges) {
        let gpus = self.gpus.iter().map(|(uuid, record)| ObservedGpu {
            uuid: uuid.clone(),
            index: record.order(),
            pci_bus_id: record.pci_bus_id(),
            numa_node: record.facts.as_ref().and_then(|gpu| gpu.numa_node),
            links: None,
        });
        changes.topology_findings = self.indexes.set_locations(gpus.collect());
        for (resource, devices) in &self.resources {
            // A withdrawn device is not in use either.
            let offered = devices.values().filter(|device| !device.withdrawn);
            let entries = offered.map(|device| IndexEntry {
                id: device.id.clone(),
                gpu: device.gpu.clone(),
                gpu_index: device.order(),
            });
            self.indexes.update(resource, entries.collect());
        }
    }
}

/// Adds the previous devices that are no longer offered, as withdrawn ones, as far as the kubelet
/// can receive the list with them: a list that is too long would lose all devices. Those withdrawn
/// last have priority. Returns how many are dropped.
fn keep_withdrawn(
    before: &BTreeMap<DeviceId, Device>,
    now: &mut BTreeMap<DeviceId, Device>,
) -> usize {
    // One that is awaited still was in no list.
    let was_listed = |device: &&Device| device.cdi != CdiState::Awaited;
    let gone = before.values().filter(|device| !now.contains_key(&device.id));
    let mut gone: Vec<&Device> = gone.filter(was_listed).collect();
    if gone.is_empty() {
        return 0;
    }
    gone.sort_by_key(|device| device.withdrawn);
    let mut bytes: u64 = now.keys().map(list_size::entry_bytes).sum();
    let mut dropped = 0;
    for device in gone {
        let with_it = bytes + list_size::entry_bytes(&device.id);
        if with_it > list_size::KUBELET_LIMIT {
            dropped += 1;
            continue;
        }
        bytes = with_it;
        now.insert(
            device.id.clone(),
            Device {
                withdrawn: true,
                mps: None,
                awaits_mps: false,
                owner: None,
                cdi: CdiState::Resolvable,
                ..device.clone()
            },
        );
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(ids: impl IntoIterator<Item = DeviceId>) -> BTreeMap<DeviceId, Device> {
        ids.into_iter().map(|id| (id.clone(), Device::missing(id))).collect()
    }

    #[test]
    fn withdrawn_devices_are_kept_up_to_the_last_byte_that_the_kubelet_receives() {
        let replica = |number| DeviceId::replica("GPU-1".parse().unwrap(), number);
        let of_length = |length: u64| -> DeviceId {
            format!("GPU-{}", "x".repeat(length as usize - 4)).parse().unwrap()
        };
        let mut left = list_size::KUBELET_LIMIT;
        let ids = (0..).map(replica).take_while(|id| {
            let is_far = left > 70;
            left -= if is_far { list_size::entry_bytes(id) } else { 0 };
            is_far
        });
        let now = devices(ids);
        let fits = left - (list_size::entry_bytes(&of_length(5)) - 5);
        for (length, dropped) in [(fits, 0), (fits + 1, 1)] {
            let (before, mut now) = (devices([of_length(length)]), now.clone());
            assert_eq!(keep_withdrawn(&before, &mut now), dropped);
            assert_eq!(now.contains_key(&of_length(length)), dropped == 0);
        }
    }
}
