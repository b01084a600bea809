//! Every device of the node by resource and id, and what is known of the GPUs behind them.
//!
//! One owner applies observations to it; everyone else reads snapshots.

use std::collections::{BTreeMap, BTreeSet};

use super::gpu::{Gpu, NumaNode, Placement};
use super::health::{Cause, GpuHealth, Policy, Scope, Xid};
use super::names::{DeviceId, ResourceName, Uuid};
use super::resource::Offers;

/// A device as it is offered to the kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The id that the kubelet knows.
    pub id: DeviceId,
    /// The physical GPU that it sits on.
    pub gpu: Uuid,
    /// NVML's index of that GPU when it was last enumerated.
    pub index: u32,
    /// Its instances, if it is a MIG device.
    pub placement: Option<Placement>,
    /// The NUMA node of its GPU.
    pub numa_node: Option<NumaNode>,
}

/// What the hardware edge has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A whole enumeration, in NVML's index order.
    Scan(Vec<Found>),
    /// The driver reported an Xid.
    Xid {
        /// The physical GPU.
        gpu: Uuid,
        /// Its number.
        xid: Xid,
        /// The MIG device, if the driver named both instances.
        placement: Option<Placement>,
    },
    /// The driver reported an Xid without saying on which GPU, or on one that is not known.
    XidOfUnknown {
        /// Its number.
        xid: Xid,
    },
    /// No GPU can be asked: NVML itself is gone, until the next enumeration.
    Unreachable {
        /// The call that failed and its answer.
        error: String,
    },
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
        error: String,
    },
}

/// One GPU's news, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A GPU that was not known is there.
    Appeared(Uuid),
    /// A GPU's health, or a cause of it, is not what it was.
    Health(Uuid),
}

/// What is known of one physical GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// NVML's index when it was last enumerated.
    pub index: u32,
    /// Its facts; `None` if it never answered with them.
    pub facts: Option<Gpu>,
    /// Its health.
    pub health: GpuHealth,
}

/// The devices of a node.
///
/// An id that was once in it stays in it: the kubelet loses a pod's device, and up to 1.36 can panic, when an id
/// that it has allocated is missing from a list (pkg/kubelet/cm/devicemanager/topology_hints.go:191,
/// manager.go:923).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    offers: Offers,
    policy: Policy,
    gpus: BTreeMap<Uuid, Tracked>,
    resources: BTreeMap<ResourceName, BTreeMap<DeviceId, Device>>,
}

impl Inventory {
    /// A node of which nothing is known yet.
    #[must_use]
    pub fn new(offers: Offers, policy: Policy) -> Self {
        Self { offers, policy, gpus: BTreeMap::new(), resources: BTreeMap::new() }
    }

    /// Takes in what was seen, and tells what changed by it.
    pub fn apply(&mut self, observation: &Observation) -> Vec<Change> {
        match observation {
            Observation::Scan(found) => self.scan(found),
            Observation::Xid { gpu, xid, placement } => {
                let scope = placement.map_or(Scope::Gpu, Scope::Instance);
                let Some(tracked) = self.gpus.get_mut(gpu) else { return self.xid_of_unknown(*xid) };
                let changed = tracked.health.xid(*xid, scope, &self.policy);
                if changed { vec![Change::Health(gpu.clone())] } else { Vec::new() }
            }
            Observation::XidOfUnknown { xid } => self.xid_of_unknown(*xid),
            Observation::Unreachable { error } => {
                self.all(|health| health.enumerated(Some(Cause::Error(error.clone()))))
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
        self.resources.get(resource)
    }

    /// The physical GPUs by UUID.
    #[must_use]
    pub fn gpus(&self) -> &BTreeMap<Uuid, Tracked> {
        &self.gpus
    }

    /// Whether a device can be handed out.
    #[must_use]
    pub fn is_healthy(&self, device: &Device) -> bool {
        self.gpus.get(&device.gpu).is_some_and(|gpu| gpu.health.is_healthy(device.placement))
    }

    fn scan(&mut self, found: &[Found]) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut seen = BTreeSet::new();
        for found in found {
            let (uuid, index, facts, trouble) = match found {
                Found::Gpu(gpu) => (&gpu.uuid, gpu.index, Some(gpu), None),
                Found::Failed { uuid: Some(uuid), index, error } => {
                    (uuid, *index, None, Some(Cause::Error(error.clone())))
                }
                // Without an identity there is nothing to advertise; the hardware edge has reported it.
                Found::Failed { uuid: None, .. } => continue,
            };
            seen.insert(uuid.clone());
            let tracked = self.gpus.entry(uuid.clone()).or_insert_with(|| {
                changes.push(Change::Appeared(uuid.clone()));
                Tracked { index, facts: None, health: GpuHealth::default() }
            });
            tracked.index = index;
            if facts.is_some() {
                tracked.facts = facts.cloned();
            }
            if tracked.health.enumerated(trouble) {
                changes.push(Change::Health(uuid.clone()));
            }
            let tracked = tracked.clone();
            self.offer(uuid, &tracked);
        }
        for (uuid, tracked) in self.gpus.iter_mut().filter(|(uuid, _)| !seen.contains(*uuid)) {
            if tracked.health.enumerated(Some(Cause::Vanished)) {
                changes.push(Change::Health(uuid.clone()));
            }
        }
        changes
    }

    /// Puts the devices of a GPU into their resources, or refreshes their facts there.
    fn offer(&mut self, uuid: &Uuid, tracked: &Tracked) {
        let numa_node = tracked.facts.as_ref().and_then(|gpu| gpu.numa_node);
        for (resource, id) in self.offers.of(uuid) {
            let device = Device { id: id.clone(), gpu: uuid.clone(), index: tracked.index, placement: None, numa_node };
            self.resources.entry(resource).or_default().insert(id, device);
        }
    }

    /// An Xid that names no known GPU can be of any: each is Unhealthy, as none can be trusted.
    fn xid_of_unknown(&mut self, xid: Xid) -> Vec<Change> {
        let policy = self.policy.clone();
        self.all(|health| health.xid(xid, Scope::Gpu, &policy))
    }

    fn all(&mut self, change: impl Fn(&mut GpuHealth) -> bool) -> Vec<Change> {
        let changed = self.gpus.iter_mut().filter_map(|(uuid, tracked)| change(&mut tracked.health).then_some(uuid));
        changed.map(|uuid| Change::Health(uuid.clone())).collect()
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
        }
    }

    /// A node of `count` such GPUs, offered whole.
    pub(crate) fn node(count: u32) -> Inventory {
        let mut inventory = Inventory::new(Offers::whole_gpus(ResourceName::gpu()), Policy::default());
        inventory.apply(&scan(0..count));
        inventory
    }

    fn scan(indices: impl IntoIterator<Item = u32>) -> Observation {
        Observation::Scan(indices.into_iter().map(|index| Found::Gpu(gpu(index))).collect())
    }

    fn unhealthy(inventory: &Inventory) -> Vec<String> {
        let devices = inventory.devices(&ResourceName::gpu()).unwrap().values();
        devices.filter(|device| !inventory.is_healthy(device)).map(|device| device.id.to_string()).collect()
    }

    #[test]
    fn an_id_once_advertised_stays_unhealthy_while_its_gpu_is_gone() {
        let mut node = node(3);
        assert_eq!(node.apply(&scan([0, 2])), [Change::Health(gpu(1).uuid)]);
        assert_eq!(unhealthy(&node), ["GPU-1"]);
        assert_eq!(node.apply(&scan([0, 2])), [], "the same scan again is no news");
        assert_eq!(node.apply(&scan(0..3)), [Change::Health(gpu(1).uuid)]);
        assert_eq!(unhealthy(&node), [""; 0]);
    }

    #[test]
    fn a_failed_gpu_is_served_unhealthy_if_its_uuid_is_known_and_never_harms_the_others() {
        let mut node = node(0);
        let failed = |index, uuid: Option<&str>| Found::Failed {
            index,
            uuid: uuid.map(|uuid| uuid.parse().unwrap()),
            error: "nvmlDeviceGetPciInfo_v3: GPU is lost (15)".to_owned(),
        };
        let found = vec![Found::Gpu(gpu(0)), failed(1, None), failed(2, Some("GPU-2")), Found::Gpu(gpu(3))];
        node.apply(&Observation::Scan(found));
        assert_eq!(node.devices(&ResourceName::gpu()).unwrap().len(), 3);
        assert_eq!(unhealthy(&node), ["GPU-2"]);
    }

    #[test]
    fn an_xid_without_a_known_gpu_counts_for_all() {
        let mut node = node(2);
        assert_eq!(node.apply(&Observation::XidOfUnknown { xid: Xid(79) }).len(), 2);
        assert_eq!(unhealthy(&node), ["GPU-0", "GPU-1"]);
        let xid = Observation::Xid { gpu: "GPU-9".parse().unwrap(), xid: Xid(13), placement: None };
        assert_eq!(node.apply(&xid), []);
    }
}
