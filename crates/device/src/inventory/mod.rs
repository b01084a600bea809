//! Every device of the node by resource and id, and what is known of the GPUs behind them.
//!
//! One owner applies observations to it; everyone else reads snapshots.

pub mod allocate;
mod observation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::allocation::{
    self, AllocationIndexes, Entry, GpuLocation, Policies, Preferred, Request,
};
use super::gpu::Gpu;
use super::health::{
    self, GpuPart, Health, HealthPolicy, Moment, NodeHealth, NodeObservation, NvmlError, ReturnCode,
};
use super::injection::Injector;
use super::layout::{Finding, Known, LaidOut, Layout};
use super::names::{DeviceId, ResourceName, Uuid};
use super::topology::Topology;
use crate::Device;
use crate::in_use::holders::{Holder, Holders};
use crate::layout::list_size;
pub use observation::{Changes, Found, Observation};

/// What is known of one physical GPU, beside its health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// NVML's index when it was last enumerated.
    pub index: u32,
    /// Its facts; `None` if it never answered with them.
    pub facts: Option<Gpu>,
}

/// The devices of a node.
///
/// An id that was once in it stays in it until somebody who knows that nothing holds it has it
/// forgotten: the kubelet loses a pod's device, and up to 1.36 can panic, when an id that it has
/// allocated is missing from a list (pkg/kubelet/cm/devicemanager/topology_hints.go:191,
/// manager.go:923).
#[derive(Debug, Clone)]
pub struct Inventory {
    layout: Layout,
    injector: Arc<Injector>,
    health: NodeHealth,
    gpus: BTreeMap<Uuid, Tracked>,
    /// Shared between snapshots: health moves often, lists of devices seldom.
    resources: BTreeMap<ResourceName, Arc<BTreeMap<DeviceId, Device>>>,
    reserved: BTreeMap<Uuid, String>,
    findings: Vec<Finding>,
    /// Resources whose MPS control daemon has answered since they are shared by MPS.
    mps: BTreeSet<ResourceName>,
    /// What preferred allocations are chosen by.
    indexes: AllocationIndexes,
}

impl Inventory {
    /// A node of whose GPUs nothing is known yet.
    #[must_use]
    pub fn new(layout: Layout, injector: Injector, health: NodeHealth, policies: Policies) -> Self {
        Self {
            layout,
            injector: Arc::new(injector),
            health,
            gpus: BTreeMap::new(),
            resources: BTreeMap::new(),
            reserved: BTreeMap::new(),
            findings: Vec::new(),
            mps: BTreeSet::new(),
            indexes: AllocationIndexes::new(policies),
        }
    }

    /// Lays the node out by other rules. An id that is offered no more stays, Unhealthy.
    pub fn set_layout(&mut self, layout: Layout) -> Changes {
        let mut changes = Changes::default();
        self.layout = layout;
        self.lay_out(&mut changes);
        changes
    }

    /// Takes devices out of their lists that are offered no more: nothing holds them. A resource
    /// whose last device goes stays, with an empty list: to a kubelet that is 0 of 0 at once, and
    /// devices that come back need no new registration.
    pub fn forget(&mut self, places: &[(ResourceName, DeviceId)]) -> Changes {
        let mut changes = Changes::default();
        for (resource, id) in places {
            let Some(devices) = self.resources.get_mut(resource) else { continue };
            if devices.get(id).is_some_and(|device| device.withdrawn) {
                Arc::make_mut(devices).remove(id);
                changes.layout = true;
            }
        }
        changes
    }

    /// Whether a device is in a list, or can be in none: its resource is not served, or its id is
    /// none of ours.
    #[must_use]
    pub fn has_or_cannot_have(&self, resource: &ResourceName, id: &str) -> bool {
        let Some(devices) = self.resources.get(resource) else { return true };
        id.parse::<DeviceId>().map_or(true, |id| devices.contains_key(&id))
    }

    /// Takes devices into the lists that pods hold and that the node does not have: they were
    /// offered before the plugin was started, and are offered no more. Gives those that were not
    /// known.
    pub fn adopt(&mut self, holders: &Holders) -> Vec<(ResourceName, DeviceId, Holder)> {
        let mut adopted = Vec::new();
        let beyond = u32::try_from(self.gpus.len()).unwrap_or(u32::MAX);
        for (resource, id, holder) in holders.iter() {
            let Some(devices) = self.resources.get_mut(resource) else { continue };
            let Ok(id) = id.parse::<DeviceId>() else { continue };
            if !devices.contains_key(&id) {
                Arc::make_mut(devices).insert(id.clone(), Device::missing(id.clone(), beyond));
                adopted.push((resource.clone(), id, holder.clone()));
            }
        }
        adopted
    }

    /// Prefers devices by other policies. No list changes by it.
    pub fn set_allocation_policy(&mut self, policies: Policies) -> Changes {
        let mut changes = Changes::default();
        if self.indexes.set_policy(policies) {
            self.refresh_indexes(&mut changes);
        }
        changes
    }

    /// Judges the health of the GPUs by another policy.
    pub fn set_health_policy(&mut self, now: Moment, policy: HealthPolicy) -> Changes {
        Changes { health: self.health.set_health_policy(now, policy), ..Changes::default() }
    }

    /// What other rules would make of the GPUs that are known.
    #[must_use]
    pub fn trial(&self, layout: &Layout) -> LaidOut {
        layout.lay_out(self.known())
    }

    /// Hands devices to containers by other rules. No list changes by it.
    pub fn set_injector(&mut self, injector: Injector) -> Changes {
        let mut changes = Changes::default();
        if *self.injector != injector {
            self.injector = Arc::new(injector);
            self.lay_out(&mut changes);
            changes.layout = true;
        }
        changes
    }

    /// How devices are handed to containers.
    #[must_use]
    pub fn injector(&self) -> &Injector {
        &self.injector
    }

    /// By what rules the node is laid out.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// GPUs that are reserved for the system, with the reason.
    #[must_use]
    pub fn reserved(&self) -> &BTreeMap<Uuid, String> {
        &self.reserved
    }

    /// What keeps devices from being offered as one would expect.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Takes in what was seen, and tells what changed by it.
    pub fn apply(&mut self, now: Moment, observation: Observation) -> Changes {
        match observation {
            Observation::Scan { session, found } => self.scan(now, session, found),
            Observation::Health(observation) => {
                Changes { health: self.health.apply(now, observation), ..Changes::default() }
            }
            Observation::Links(links) => {
                let mut changes =
                    Changes { links: self.indexes.set_links(links), ..Changes::default() };
                self.refresh_indexes(&mut changes);
                changes
            }
            Observation::MpsAnswers(resource) => {
                let mut changes = Changes::default();
                if self.mps.insert(resource) {
                    self.lay_out(&mut changes);
                }
                changes
            }
        }
    }

    /// Names of the resources that have, or had, a device.
    pub fn resources(&self) -> impl Iterator<Item = &ResourceName> {
        self.resources.keys()
    }

    /// The devices of a resource by id; `None` for a resource that is not served.
    #[must_use]
    pub fn devices(&self, resource: &ResourceName) -> Option<&BTreeMap<DeviceId, Device>> {
        self.resources.get(resource).map(Arc::as_ref)
    }

    /// The resources that wait for the answer of their MPS control daemon.
    pub fn awaiting_mps(&self) -> impl Iterator<Item = &ResourceName> {
        let awaiting =
            |devices: &BTreeMap<_, Device>| devices.values().any(|device| device.awaits_mps);
        self.resources.iter().filter(move |(_, devices)| awaiting(devices)).map(|(name, _)| name)
    }

    /// The best choice for a container; `None` for a resource that is not served.
    #[must_use]
    pub fn preferred<'a, S: AsRef<str>>(
        &'a self,
        resource: &ResourceName,
        request: &Request<'a, S>,
    ) -> Option<Preferred<'a>> {
        self.indexes.get(resource).map(|index| allocation::preferred(index, request))
    }

    /// How the GPUs are linked, as far as it is known.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        self.indexes.topology()
    }

    /// The physical GPUs by UUID.
    #[must_use]
    pub fn gpus(&self) -> &BTreeMap<Uuid, Tracked> {
        &self.gpus
    }

    /// The health of the GPUs.
    #[must_use]
    pub fn node_health(&self) -> &NodeHealth {
        &self.health
    }

    /// The health of a device, with every reason.
    #[must_use]
    pub fn health(&self, device: &Device) -> Health {
        self.health
            .health_of(&device.gpu, device.placement.map_or(GpuPart::Whole, GpuPart::MigDevice))
    }

    /// Whether a device can be handed out.
    #[must_use]
    pub fn is_healthy(&self, device: &Device) -> bool {
        !device.withdrawn && !device.awaits_mps && self.health(device).is_healthy()
    }

    fn scan(&mut self, now: Moment, session: u64, found: Vec<Found>) -> Changes {
        let mut changes = Changes::default();
        let mut failed = Vec::new();
        let mut listed = BTreeSet::new();
        for found in found {
            let (uuid, index, facts) = match found {
                Found::Gpu(gpu) => (gpu.uuid.clone(), gpu.index, Some(gpu)),
                Found::Failed { uuid: Some(uuid), index, error } => {
                    failed.push((uuid.clone(), error));
                    (uuid, index, None)
                }
                // Without an identity there is nothing to advertise; the hardware edge has reported
                // it.
                Found::Failed { uuid: None, .. } => continue,
            };
            // One that is lost keeps its place in NVML's enumeration, and is no GPU that is there.
            let lost = failed.last().is_some_and(|(failed, error): &(Uuid, NvmlError)| {
                *failed == uuid && error.code == ReturnCode::GPU_IS_LOST
            });
            if !lost {
                listed.insert(uuid.clone());
            }
            if !self.gpus.contains_key(&uuid) {
                changes.appeared.push(uuid.clone());
            }
            let tracked = self.gpus.entry(uuid.clone()).or_insert(Tracked { index, facts: None });
            tracked.index = index;
            tracked.facts = facts.or_else(|| tracked.facts.take());
        }
        self.lay_out(&mut changes);
        changes.health =
            self.health.apply(now, NodeObservation::Enumeration { session, gpus: listed });
        for (uuid, error) in failed {
            let more = self
                .health
                .apply(now, NodeObservation::Gpu(uuid, health::Observation::Failed(error)));
            for (uuid, change) in more {
                changes.health.entry(uuid).or_default().merge(change);
            }
        }
        changes
    }

    fn refresh_indexes(&mut self, changes: &mut Changes) {
        let gpus = self.gpus.iter().map(|(uuid, tracked)| GpuLocation {
            uuid: uuid.clone(),
            index: tracked.index,
            pci_bus_id: tracked.facts.as_ref().and_then(|gpu| gpu.pci_bus_id),
            numa_node: tracked.facts.as_ref().and_then(|gpu| gpu.numa_node),
        });
        changes.misfits = self.indexes.set_locations(gpus.collect());
        for (resource, devices) in &self.resources {
            // What is withdrawn is not in use either.
            let offered = devices.values().filter(|device| !device.withdrawn);
            let entries = offered.map(|device| Entry {
                id: device.id.clone(),
                gpu: device.gpu.clone(),
                gpu_index: device.index,
            });
            self.indexes.update(resource, entries.collect());
        }
    }

    fn known(&self) -> impl Iterator<Item = Known<'_>> {
        self.gpus.iter().map(|(uuid, gpu)| Known {
            uuid,
            index: gpu.index,
            facts: gpu.facts.as_ref(),
        })
    }

    /// Puts every device into its resource, or refreshes its facts there.
    fn lay_out(&mut self, changes: &mut Changes) {
        let mut laid_out = self.layout.lay_out(self.known());
        laid_out
            .findings
            .extend(self.injector.findings(laid_out.resources.values().flat_map(BTreeMap::values)));
        self.await_mps(&mut laid_out);
        let mut forgotten = Vec::new();
        for (name, before) in &self.resources {
            let ids = keep(before, laid_out.resources.entry(name.clone()).or_default());
            forgotten.extend((ids > 0).then(|| Finding::Forgotten { resource: name.clone(), ids }));
        }
        for (name, devices) in laid_out.resources {
            if self.resources.get(&name).is_none_or(|before| **before != devices) {
                self.resources.insert(name, Arc::new(devices));
                changes.layout = true;
            }
        }
        changes.layout |= self.reserved != laid_out.reserved;
        self.reserved = laid_out.reserved;
        let before = std::mem::replace(&mut self.findings, laid_out.findings);
        changes.found =
            self.findings.iter().filter(|finding| !before.contains(finding)).cloned().collect();
        changes.found.extend(forgotten);
        changes.settled =
            before.into_iter().filter(|finding| !self.findings.contains(finding)).collect();
        self.refresh_indexes(changes);
    }

    /// Marks the devices whose MPS control daemon is to answer first. What is no longer shared by
    /// MPS begins anew.
    fn await_mps(&mut self, laid_out: &mut LaidOut) {
        if self.injector.mps_root.is_none() {
            self.mps.clear();
            return;
        }
        let resources = &mut laid_out.resources;
        let is_shared = |devices: &BTreeMap<DeviceId, Device>| {
            devices.keys().any(|id| id.replica_number().is_some())
        };
        self.mps.retain(|name| resources.get(name).is_some_and(is_shared));
        for (_, devices) in resources.iter_mut().filter(|(name, _)| !self.mps.contains(*name)) {
            for device in devices.values_mut() {
                device.awaits_mps = device.id.replica_number().is_some();
            }
        }
    }
}

/// Keeps the devices of before that are offered no more, as far as the kubelet receives the list
/// with them: a list that is too long would take all devices away. Those that went last stay first.
/// Says how many are forgotten.
fn keep(before: &BTreeMap<DeviceId, Device>, now: &mut BTreeMap<DeviceId, Device>) -> usize {
    let mut gone: Vec<&Device> =
        before.values().filter(|device| !now.contains_key(&device.id)).collect();
    if gone.is_empty() {
        return 0;
    }
    gone.sort_by_key(|device| device.withdrawn);
    let mut bytes: u64 = now.keys().map(list_size::entry_bytes).sum();
    let mut forgotten = 0;
    for device in gone {
        let with_it = bytes + list_size::entry_bytes(&device.id);
        if with_it > list_size::KUBELET_LIMIT {
            forgotten += 1;
            continue;
        }
        bytes = with_it;
        now.insert(
            device.id.clone(),
            Device { withdrawn: true, awaits_mps: false, ..device.clone() },
        );
    }
    forgotten
}
