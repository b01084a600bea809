//! The allocation index of each resource, rebuilt only when its devices, their locations or the
//! links have changed.
//!
//! A rebuild takes some microseconds for whole GPUs and well under a millisecond for thousands of
//! replicas. The one costly part, the residual value of each free set, is left to the first search.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::index::{AllocationIndex, IndexEntry};
use super::policy::AllocationPolicy;
use crate::gpu::NumaNode;
use crate::names::{PciBusId, ResourceName, Uuid};
use crate::topology::{NodeLinks, ObservedGpu, Topology, TopologyFinding, TopologyObservation};

/// Where a GPU is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GpuLocation {
    /// The GPU.
    pub(crate) uuid: Uuid,
    /// NVML's index.
    pub(crate) index: u32,
    /// Its PCI bus id, by which the NVLinks of other GPUs name it.
    pub(crate) pci_bus_id: Option<PciBusId>,
    /// Its NUMA node.
    pub(crate) numa_node: Option<NumaNode>,
}

/// All that an index is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct IndexInputs {
    entries: Vec<IndexEntry>,
    topology: Arc<Topology>,
    policy: AllocationPolicy,
}

/// The allocation indexes of a node and what they are built from.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllocationIndexes {
    policy: AllocationPolicy,
    locations: Vec<GpuLocation>,
    links: Arc<NodeLinks>,
    topology: Arc<Topology>,
    findings: Vec<TopologyFinding>,
    /// Whether the links have changed since the topology was built.
    stale: bool,
    by_resource: BTreeMap<ResourceName, (Arc<IndexInputs>, Arc<AllocationIndex>)>,
}

impl AllocationIndexes {
    /// No index yet.
    pub(crate) fn new(policy: AllocationPolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    /// Sets the policy that counts from the next [`AllocationIndexes::update`] on. Returns whether
    /// it differs from the previous one.
    pub(crate) fn set_policy(&mut self, policy: AllocationPolicy) -> bool {
        std::mem::replace(&mut self.policy, policy) != policy
    }

    /// The index of a resource.
    pub(crate) fn get(&self, resource: &ResourceName) -> Option<&AllocationIndex> {
        self.by_resource.get(resource).map(|(_, index)| &**index)
    }

    /// How the GPUs are linked, as far as it is known.
    pub(crate) fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Sets the links, which the next [`AllocationIndexes::set_locations`] builds the topology
    /// from. Returns whether they differ from the previous ones.
    pub(crate) fn set_links(&mut self, links: NodeLinks) -> bool {
        let changed = *self.links != links;
        if changed {
            self.links = Arc::new(links);
            self.stale = true;
        }
        changed
    }

    /// Builds the topology from these locations and the links. Returns the contradictions in them
    /// that the previous topology did not have.
    pub(crate) fn set_locations(&mut self, locations: Vec<GpuLocation>) -> Vec<TopologyFinding> {
        if !self.stale && self.locations == locations {
            return Vec::new();
        }
        let gpus = locations.iter().map(|location| ObservedGpu {
            uuid: location.uuid.clone(),
            index: location.index,
            pci_bus_id: location.pci_bus_id,
            numa_node: location.numa_node,
            links: self.links.nvlinks.get(&location.uuid).cloned(),
        });
        let observation =
            TopologyObservation { gpus: gpus.collect(), ancestors: self.links.ancestors.clone() };
        let (topology, findings) = Topology::observed(observation);
        if *self.topology != topology {
            self.topology = Arc::new(topology);
        }
        (self.locations, self.stale) = (locations, false);
        let before = std::mem::replace(&mut self.findings, findings);
        self.findings.iter().filter(|finding| !before.contains(finding)).cloned().collect()
    }

    /// Rebuilds the index of a resource, unless the current one has the same devices, topology and
    /// policy.
    pub(crate) fn update(&mut self, resource: &ResourceName, entries: Vec<IndexEntry>) {
        let (topology, policy) = (self.topology.clone(), self.policy);
        let inputs = IndexInputs { entries, topology, policy };
        if self.by_resource.get(resource).is_some_and(|(current, _)| **current == inputs) {
            return;
        }
        let index = AllocationIndex::new(inputs.entries.iter().cloned(), &inputs.topology, policy);
        self.by_resource.insert(resource.clone(), (Arc::new(inputs), Arc::new(index)));
    }
}
