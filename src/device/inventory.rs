//! Every device of the node by resource and id, and what is known of the GPUs behind them.
//!
//! One owner applies observations to it; everyone else reads snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::allocation::{self, Catalogues, Draft, Entry, Finished, Place, Policies, Preferred, Request};
use super::gpu::{Gpu, NumaNode, Placement};
use super::health::{self, Health, Moment, NodeHealth, NodeObservation, NvmlError, Offered, ReturnCode};
use super::injection::Injector;
use super::layout::{Finding, Known, LaidOut, Layout};
use super::names::{DeviceId, ResourceName, Uuid};
use super::topology::{self, Links, Topology};

/// A device as it is offered to the kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The id that the kubelet knows.
    pub id: DeviceId,
    /// The physical GPU that it sits on.
    pub gpu: Uuid,
    /// NVML's index of that GPU when it was last enumerated.
    pub index: u32,
    /// Its index on that GPU, if it is a MIG device.
    pub mig_index: Option<u32>,
    /// The n of `/dev/nvidia<n>` of that GPU.
    pub minor: Option<u32>,
    /// Its instances, if it is a MIG device.
    pub placement: Option<Placement>,
    /// The NUMA node of its GPU.
    pub numa_node: Option<NumaNode>,
    /// It was offered once and is no more: it stays in the list, Unhealthy.
    pub withdrawn: bool,
}

impl Device {
    /// The device that a whole GPU is.
    #[must_use]
    pub fn whole(facts: &Gpu, index: u32) -> Self {
        Self {
            id: DeviceId::whole(facts.uuid.clone()),
            gpu: facts.uuid.clone(),
            index,
            mig_index: None,
            minor: facts.minor,
            placement: None,
            numa_node: facts.numa_node,
            withdrawn: false,
        }
    }

    /// Whether both are replicas of one device, or the same, and offered alike.
    #[must_use]
    pub fn is_replica_of(&self, other: &Self) -> bool {
        self.id.uuid() == other.id.uuid() && self.placement == other.placement && self.withdrawn == other.withdrawn
    }

    /// The order in which devices are told: by GPU, then by MIG device on it, then by replica.
    pub fn place(&self) -> impl Ord + '_ {
        (self.index, self.mig_index, &self.id)
    }

    /// Its index as NVIDIA's tools write it: "0", or "0:1" for a MIG device.
    #[must_use]
    pub fn place_name(&self) -> String {
        self.mig_index.map_or_else(|| self.index.to_string(), |mig| format!("{}:{mig}", self.index))
    }
}

/// What an edge has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A whole enumeration.
    Scan {
        /// Which initialisation of NVML it is of: a number that differs from the one before.
        session: u64,
        /// The places, in NVML's index order.
        found: Vec<Found>,
    },
    /// Something that bears on health alone.
    Health(NodeObservation),
    /// How the GPUs are linked, as far as it could be read.
    Links(Links),
}

/// One place of an enumeration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A GPU that answers.
    Gpu(Gpu),
    /// A GPU that answers with errors.
    Failed {
        /// Its place.
        index: u32,
        /// Its identity, if it gave that.
        uuid: Option<Uuid>,
        /// The call that failed and NVML's answer.
        error: NvmlError,
    },
}

/// What an observation has changed, for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// GPUs that were not known before.
    pub appeared: Vec<Uuid>,
    /// What became of the health of which GPU.
    pub health: BTreeMap<Uuid, health::Change>,
    /// Whether the links were read and are not what they were.
    pub links: bool,
    /// What does not fit together in the topology and was not told before.
    pub misfits: Vec<topology::Finding>,
    /// Catalogues that are in use and can be made better elsewhere, for [`Inventory::finish`].
    pub postponed: Vec<Arc<Draft>>,
    /// Whether a resource has another list of devices, or a device other facts.
    pub layout: bool,
    /// What a person should hear and has not heard.
    pub found: Vec<Finding>,
    /// What was said before and holds no more.
    pub settled: Vec<Finding>,
}

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
/// An id that was once in it stays in it: the kubelet loses a pod's device, and up to 1.36 can panic, when an id
/// that it has allocated is missing from a list (pkg/kubelet/cm/devicemanager/topology_hints.go:191,
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
    /// What the choice of preferred devices rests on.
    catalogues: Catalogues,
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
            catalogues: Catalogues::new(policies),
        }
    }

    /// Lays the node out by other rules. An id that is offered no more stays, Unhealthy.
    pub fn rearrange(&mut self, layout: Layout) -> Changes {
        let mut changes = Changes::default();
        self.layout = layout;
        self.lay_out(&mut changes);
        changes
    }

    /// Prefers devices by other policies. No list changes by it.
    pub fn prefer(&mut self, policies: Policies) -> Changes {
        let mut changes = Changes::default();
        if self.catalogues.choose_by(policies) {
            self.refresh_catalogues(&mut changes);
        }
        changes
    }

    /// What other rules would make of the GPUs that are known.
    #[must_use]
    pub fn trial(&self, layout: &Layout) -> LaidOut {
        layout.lay_out(self.known())
    }

    /// Hands devices to containers by other rules. No list changes by it.
    pub fn hand_over(&mut self, injector: Injector) -> Changes {
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
                let mut changes = Changes { links: self.catalogues.take(links), ..Changes::default() };
                self.refresh_catalogues(&mut changes);
                changes
            }
        }
    }

    /// Names of the resources that have ever had a device.
    pub fn resources(&self) -> impl Iterator<Item = &ResourceName> {
        self.resources.keys()
    }

    /// The devices of a resource by id; `None` for a resource that is not served.
    #[must_use]
    pub fn devices(&self, resource: &ResourceName) -> Option<&BTreeMap<DeviceId, Device>> {
        self.resources.get(resource).map(Arc::as_ref)
    }

    /// The best choice for a container; `None` for a resource that is not served.
    #[must_use]
    pub fn preferred<'a, S: AsRef<str>>(
        &'a self,
        resource: &ResourceName,
        request: &Request<'a, S>,
    ) -> Option<Preferred<'a>> {
        self.catalogues.of(resource).map(|catalogue| allocation::preferred(catalogue, request))
    }

    /// How the GPUs are linked, as far as it is known.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        self.catalogues.topology()
    }

    /// Takes a catalogue that was postponed and is finished, unless what it rests on has changed since.
    pub fn finish(&mut self, finished: Finished) {
        self.catalogues.finish(finished);
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
        self.health.of(&device.gpu, device.placement.map_or(Offered::Whole, Offered::Slice))
    }

    /// Whether a device can be handed out.
    #[must_use]
    pub fn is_healthy(&self, device: &Device) -> bool {
        !device.withdrawn && self.health(device).is_healthy()
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
                // Without an identity there is nothing to advertise; the hardware edge has reported it.
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
        changes.health = self.health.apply(now, NodeObservation::Enumeration { session, gpus: listed });
        for (uuid, error) in failed {
            let more = self.health.apply(now, NodeObservation::Gpu(uuid, health::Observation::Failed(error)));
            for (uuid, change) in more {
                changes.health.entry(uuid).or_default().merge(change);
            }
        }
        changes
    }

    fn refresh_catalogues(&mut self, changes: &mut Changes) {
        let gpus = self.gpus.iter().map(|(uuid, tracked)| Place {
            uuid: uuid.clone(),
            index: tracked.index,
            pci_bus_id: tracked.facts.as_ref().and_then(|gpu| gpu.pci_bus_id),
            numa_node: tracked.facts.as_ref().and_then(|gpu| gpu.numa_node),
        });
        changes.misfits = self.catalogues.place(gpus.collect());
        for (resource, devices) in &self.resources {
            // What is withdrawn is not in use either.
            let offered = devices.values().filter(|device| !device.withdrawn);
            let entries =
                offered.map(|device| Entry { id: device.id.clone(), gpu: device.gpu.clone(), gpu_index: device.index });
            changes.postponed.extend(self.catalogues.offer(resource, entries.collect()));
        }
    }

    fn known(&self) -> impl Iterator<Item = Known<'_>> {
        self.gpus.iter().map(|(uuid, gpu)| Known { uuid, index: gpu.index, facts: gpu.facts.as_ref() })
    }

    /// Puts every device into its resource, or refreshes its facts there.
    fn lay_out(&mut self, changes: &mut Changes) {
        let mut laid_out = self.layout.lay_out(self.known());
        laid_out.findings.extend(self.injector.findings(laid_out.resources.values().flat_map(BTreeMap::values)));
        for (name, before) in &self.resources {
            let now = laid_out.resources.entry(name.clone()).or_default();
            for (id, device) in before.iter() {
                now.entry(id.clone()).or_insert_with(|| Device { withdrawn: true, ..device.clone() });
            }
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
        changes.found = self.findings.iter().filter(|finding| !before.contains(finding)).cloned().collect();
        changes.settled = before.into_iter().filter(|finding| !self.findings.contains(finding)).collect();
        self.refresh_catalogues(changes);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A GPU with facts that follow from its index: four to a NUMA node.
    pub(crate) fn gpu(index: u32) -> Gpu {
        Gpu {
            uuid: format!("GPU-{index}").parse().unwrap(),
            index,
            minor: Some(index),
            name: Some("NVIDIA H100 80GB HBM3".to_owned()),
            pci_bus_id: None,
            memory_bytes: None,
            compute_capability: Some((9, 0)),
            numa_node: NumaNode::from_sysfs(i64::from(index / 4)),
            mig_enabled: false,
            mig_devices: Vec::new(),
            mig_failures: Vec::new(),
        }
    }

    /// A node of `count` such GPUs, offered whole.
    pub(crate) fn node(count: u32) -> Inventory {
        let (layout, injector) = (Layout::default(), Injector::default());
        let mut inventory = Inventory::new(layout, injector, NodeHealth::default(), Policies::default());
        inventory.apply(Moment::default(), scan(0..count));
        inventory
    }

    pub(crate) fn scan(indices: impl IntoIterator<Item = u32>) -> Observation {
        let found = indices.into_iter().map(|index| Found::Gpu(gpu(index))).collect();
        Observation::Scan { session: 1, found }
    }

    fn unhealthy(inventory: &Inventory) -> Vec<String> {
        let devices = inventory.devices(&ResourceName::gpu()).unwrap().values();
        devices.filter(|device| !inventory.is_healthy(device)).map(|device| device.id.to_string()).collect()
    }

    #[test]
    fn an_id_once_advertised_stays_unhealthy_while_its_gpu_is_gone() {
        let mut node = node(3);
        let changes = node.apply(Moment::default(), scan([0, 2]));
        assert_eq!(changes.health.keys().collect::<Vec<_>>(), [&gpu(1).uuid]);
        assert_eq!(unhealthy(&node), ["GPU-1"]);
        assert_eq!(node.apply(Moment::default(), scan([0, 2])), Changes::default(), "the same scan again is no news");
    }

    #[test]
    fn a_failed_gpu_is_served_unhealthy_if_its_uuid_is_known_and_never_harms_the_others() {
        let mut node = node(0);
        let failed = |index, uuid: Option<&str>| Found::Failed {
            index,
            uuid: uuid.map(|uuid| uuid.parse().unwrap()),
            error: NvmlError { call: "nvmlDeviceGetPciInfo_v3", code: ReturnCode::GPU_IS_LOST },
        };
        let found = vec![Found::Gpu(gpu(0)), failed(1, None), failed(2, Some("GPU-2")), Found::Gpu(gpu(3))];
        let changes = node.apply(Moment::default(), Observation::Scan { session: 1, found });
        assert_eq!(changes.appeared.len(), 3);
        assert_eq!(node.devices(&ResourceName::gpu()).unwrap().len(), 3);
        assert_eq!(unhealthy(&node), ["GPU-2"]);
    }
}
