//! The allocation index of each resource, rebuilt only when its devices, their locations or the
//! links have changed.
//!
//! A rebuild takes some microseconds for whole GPUs and well under a millisecond for thousands of
//! replicas. The one costly part, the residual value of each free set, is left to the first search.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::index::{AllocationIndex, IndexEntry};
use super::policy::AllocationPolicy;
use crate::names::ResourceName;
use crate::topology::{NodeLinks, ObservedGpu, Topology, TopologyFinding, TopologyObservation};

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
    /// The GPUs without their links.
    locations: Vec<ObservedGpu>,
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

    /// Builds the topology from the locations of the GPUs, which have no links, and the links.
    /// Returns the contradictions in them that the previous topology did not have.
    pub(crate) fn set_locations(&mut self, locations: Vec<ObservedGpu>) -> Vec<TopologyFinding> {
        if !self.stale && self.locations == locations {
            return Vec::new();
        }
        let gpus = locations.iter().map(|gpu| ObservedGpu {
            links: self.links.nvlinks.get(&gpu.uuid).cloned(),
            ..gpu.clone()
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
