//! Every device of the node by resource and id, and what is known about its GPUs.
//!
//! One owner applies observations; everyone else reads snapshots.

pub mod allocate;
mod cdi;
mod counts;
mod devices;
mod enumeration;
mod mps;
mod observation;
mod owners;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::allocation::{self, AllocationIndexes, AllocationPolicy, PreferredAllocation, Request};
use crate::health::{GpuPart, Health, HealthPolicy, Moment, NodeHealth, NodeObservation};
use crate::identity::{GpuBinding, GpuRecord, Observed};
use crate::in_use::claim::Claim;
use crate::in_use::holders::{Holder, Holders};
use crate::in_use::usage::InUse;
use crate::injection::Injector;
use crate::injection::cdi_names::CdiNames;
use crate::layout::{Layout, LayoutFinding, LayoutResult};
use crate::mps::MpsDaemon;
use crate::names::{DeviceId, ResourceName, Uuid};
use crate::topology::Topology;
use crate::{CdiState, Device};
pub use enumeration::is_complete;
pub use observation::{EnumerationEntry, InventoryChanges, InventoryEvent};

/// The devices of a node.
///
/// An id that was once in it stays, withdrawn at the least, until [`Inventory::forget`] removes it:
/// the kubelet loses a pod's device, and up to at least 1.36 can panic, when an id that it has
/// allocated is missing from a list (pkg/kubelet/cm/devicemanager/topology_hints.go:191,
/// manager.go:923).
#[derive(Debug, Clone)]
pub struct Inventory {
    layout: Layout,
    injector: Arc<Injector>,
    /// The rules that take effect when the CDI names that they give can be resolved.
    next_injector: Option<Arc<Injector>>,
    /// The CDI names that can be resolved; `None`: whoever asks does not know, and all count.
    cdi: Option<Arc<CdiNames>>,
    health: NodeHealth,
    gpus: BTreeMap<Uuid, GpuRecord>,
    /// GPUs that were seen on this boot before the plugin started and not since.
    recalled: BTreeMap<Uuid, GpuBinding>,
    /// GPUs that were forgotten and that NVML has not given a handle for since.
    forgotten: BTreeSet<Uuid>,
    observed: Observed,
    in_use: InUse,
    /// What pods use under ids that are not offered.
    claims: Vec<Claim>,
    /// Shared between snapshots: health changes often, lists of devices seldom.
    resources: BTreeMap<ResourceName, Arc<BTreeMap<DeviceId, Device>>>,
    reserved: BTreeMap<Uuid, String>,
    findings: Vec<LayoutFinding>,
    /// The control daemons of resources shared by MPS, as far as they are known.
    mps: BTreeMap<ResourceName, MpsDaemon>,
    /// What preferred allocations are chosen by.
    indexes: AllocationIndexes,
}

impl Inventory {
    /// A node whose GPUs are not enumerated yet.
    #[must_use]
    pub fn new(
        layout: Layout,
        injector: Injector,
        health: NodeHealth,
        policy: AllocationPolicy,
    ) -> Self {
        Self {
            layout,
            injector: Arc::new(injector),
            next_injector: None,
            cdi: None,
            health,
            gpus: BTreeMap::new(),
            recalled: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            observed: Observed::default(),
            in_use: InUse::default(),
            claims: Vec::new(),
            resources: BTreeMap::new(),
            reserved: BTreeMap::new(),
            findings: Vec::new(),
            mps: BTreeMap::new(),
            indexes: AllocationIndexes::new(policy),
        }
    }

    /// Sets the layout. An id that is no longer offered stays, Unhealthy.
    pub fn set_layout(&mut self, layout: Layout) -> InventoryChanges {
        let mut changes = InventoryChanges::default();
        self.layout = layout;
        self.update_devices(&mut changes);
        changes
    }

    /// Removes withdrawn devices that no pod uses. A resource without devices stays, with an empty
    /// list: the kubelet sees 0 of 0 at once, and devices that come back need no new registration.
    pub fn forget(&mut self, keys: &[(ResourceName, DeviceId)]) -> InventoryChanges {
        let mut changes = InventoryChanges::default();
        for (resource, id) in keys {
            let Some(devices) = self.resources.get_mut(resource) else { continue };
            if devices.get(id).is_some_and(|device| device.withdrawn) {
                Arc::make_mut(devices).remove(id);
                changes.layout = true;
            }
        }
        changes
    }

    /// Whether a device is in a list, or cannot be in one: its resource is not served, or its id is
    /// not one of this plugin's.
    #[must_use]
    pub fn has_or_cannot_have(&self, resource: &ResourceName, id: &str) -> bool {
        let Some(devices) = self.resources.get(resource) else { return true };
        id.parse::<DeviceId>().map_or(true, |id| devices.contains_key(&id))
    }

    /// Adds devices that pods use and that the node does not have, as withdrawn ones: they were
    /// offered before the plugin started. Returns those that were added.
    pub fn adopt(&mut self, holders: &Holders) -> Vec<(ResourceName, DeviceId, Holder)> {
        let mut adopted = Vec::new();
        for (resource, id, holder) in holders.iter() {
            let Some(devices) = self.resources.get_mut(resource) else { continue };
            let Ok(id) = id.parse::<DeviceId>() else { continue };
            if !devices.contains_key(&id) {
                Arc::make_mut(devices).insert(id.clone(), Device::missing(id.clone()));
                adopted.push((resource.clone(), id, holder.clone()));
            }
        }
        adopted
    }

    /// Sets the policy of preferred allocation. It changes no list.
    pub fn set_allocation_policy(&mut self, policy: AllocationPolicy) -> InventoryChanges {
        let mut changes = InventoryChanges::default();
        if self.indexes.set_policy(policy) {
            self.update_indexes(&mut changes);
        }
        changes
    }

    /// Sets the health policy.
    pub fn set_health_policy(&mut self, now: Moment, policy: HealthPolicy) -> InventoryChanges {
        InventoryChanges {
            health: self.health.set_health_policy(now, policy),
            ..InventoryChanges::default()
        }
    }

    /// What a layout would yield for the known GPUs, without applying it.
    #[must_use]
    pub fn preview_layout(&self, layout: &Layout) -> LayoutResult {
        layout.apply(self.known())
    }

    /// The rules of injection.
    #[must_use]
    pub fn injector(&self) -> &Injector {
        &self.injector
    }

    /// The layout.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// GPUs that are reserved for the system, with the reason.
    #[must_use]
    pub fn reserved(&self) -> &BTreeMap<Uuid, String> {
        &self.reserved
    }

    /// Devices that are not offered, or not as one would expect.
    #[must_use]
    pub fn findings(&self) -> &[LayoutFinding] {
        &self.findings
    }

    /// Applies an observation, and returns what it changed.
    pub fn apply(&mut self, now: Moment, observation: InventoryEvent) -> InventoryChanges {
        match observation {
            InventoryEvent::Enumeration { session, count, entries } => {
                self.enumerate(now, session, count, entries)
            }
            InventoryEvent::Bus(functions) => self.set_bus(functions),
            InventoryEvent::Persisted { health, gpus } => {
                self.recall_more(gpus);
                self.observe_health(now, NodeObservation::Persisted(health))
            }
            InventoryEvent::Health(observation) => self.observe_health(now, observation),
            InventoryEvent::Links(links) => {
                let mut changes = InventoryChanges {
                    links: self.indexes.set_links(links),
                    ..InventoryChanges::default()
                };
                self.update_indexes(&mut changes);
                changes
            }
            InventoryEvent::Cdi(names) => self.set_cdi(names),
            InventoryEvent::Mps(resource, daemon) => self.set_mps(resource, daemon),
        }
    }

    fn observe_health(&mut self, now: Moment, observation: NodeObservation) -> InventoryChanges {
        let mut changes = InventoryChanges::default();
        let listed = |gpu: &Uuid| self.gpus.get(gpu).is_some_and(|record| record.listed);
        let named = match &observation {
            NodeObservation::Forget(gpu) if listed(gpu) => None,
            NodeObservation::Forget(gpu) | NodeObservation::Clear { gpu, .. } => Some(gpu.clone()),
            _ => None,
        };
        changes.health = self.health.apply(now, observation);
        if let Some(gpu) = named.filter(|gpu| !self.health.gpus().contains_key(gpu)) {
            self.forget_gpu(&gpu, &mut changes);
        }
        changes
    }

    /// The resources that have, or had, a device.
    pub fn resources(&self) -> impl Iterator<Item = &ResourceName> {
        self.resources.keys()
    }

    /// The devices of a resource by id; `None` for a resource that is not served.
    #[must_use]
    pub fn devices(&self, resource: &ResourceName) -> Option<&BTreeMap<DeviceId, Device>> {
        self.resources.get(resource).map(Arc::as_ref)
    }

    /// The preferred devices for a container; `None` for a resource that is not served.
    #[must_use]
    pub fn preferred<'a, S: AsRef<str>>(
        &'a self,
        resource: &ResourceName,
        request: &Request<'a, S>,
    ) -> Option<PreferredAllocation<'a>> {
        self.indexes.get(resource).map(|index| allocation::preferred(index, request))
    }

    /// How the GPUs are linked, as far as it is known.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        self.indexes.topology()
    }

    /// The physical GPUs by UUID.
    #[must_use]
    pub fn gpus(&self) -> &BTreeMap<Uuid, GpuRecord> {
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

    /// Whether a device can be allocated.
    #[must_use]
    pub fn is_healthy(&self, device: &Device) -> bool {
        !device.withdrawn
            && !device.awaits_mps
            && device.owner.is_none()
            && device.cdi == CdiState::Resolvable
            && self.health(device).is_healthy()
    }
}
