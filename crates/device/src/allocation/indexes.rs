//! The allocation index of each resource, rebuilt only when its devices, their locations or the
//! links have changed.
//!
//! A rebuild takes some microseconds for whole GPUs and well under a millisecond for thousands of
//! replicas. The one costly part, the residual value of each free set, is left to the first search.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::index::{AllocationIndex, Entry};
use super::policy::Policies;
use crate::gpu::NumaNode;
use crate::names::{PciBusId, ResourceName, Uuid};
use crate::topology::{Finding, Links, Observation, ObservedGpu, Topology};

/// Where a GPU is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuLocation {
    /// The GPU.
    pub uuid: Uuid,
    /// NVML's index.
    pub index: u32,
    /// Its PCI bus id, by which the NVLinks of other GPUs name it.
    pub pci_bus_id: Option<PciBusId>,
    /// Its NUMA node.
    pub numa_node: Option<NumaNode>,
}

/// All that an index is built from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct IndexInputs {
    entries: Vec<Entry>,
    topology: Arc<Topology>,
    policies: Policies,
}

/// The allocation indexes of a node and what they are built from.
#[derive(Debug, Clone, Default)]
pub struct AllocationIndexes {
    policies: Policies,
    locations: Vec<GpuLocation>,
    links: Arc<Links>,
    topology: Arc<Topology>,
    findings: Vec<Finding>,
    /// Whether the links have changed since the topology was built.
    stale: bool,
    by_resource: BTreeMap<ResourceName, (Arc<IndexInputs>, Arc<AllocationIndex>)>,
}

impl AllocationIndexes {
    /// No index yet.
    #[must_use]
    pub fn new(policies: Policies) -> Self {
        Self { policies, ..Self::default() }
    }

    /// Sets the policies that count from the next [`AllocationIndexes::update`] on. Returns whether
    /// they differ from the previous ones.
    pub fn set_policy(&mut self, policies: Policies) -> bool {
        std::mem::replace(&mut self.policies, policies) != policies
    }

    /// The index of a resource.
    #[must_use]
    pub fn get(&self, resource: &ResourceName) -> Option<&AllocationIndex> {
        self.by_resource.get(resource).map(|(_, index)| &**index)
    }

    /// How the GPUs are linked, as far as it is known.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Sets the links, which the next [`AllocationIndexes::set_locations`] builds the topology
    /// from. Returns whether they differ from the previous ones.
    pub fn set_links(&mut self, links: Links) -> bool {
        let changed = *self.links != links;
        if changed {
            self.links = Arc::new(links);
            self.stale = true;
        }
        changed
    }

    /// Builds the topology from these locations and the links. Returns the contradictions in them
    /// that the previous topology did not have.
    pub fn set_locations(&mut self, locations: Vec<GpuLocation>) -> Vec<Finding> {
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
            Observation { gpus: gpus.collect(), ancestors: self.links.ancestors.clone() };
        let (topology, findings) = Topology::observed(observation);
        if *self.topology != topology {
            self.topology = Arc::new(topology);
        }
        (self.locations, self.stale) = (locations, false);
        let before = std::mem::replace(&mut self.findings, findings);
        self.findings.iter().filter(|finding| !before.contains(finding)).cloned().collect()
    }

    /// Rebuilds the index of a resource, unless the current one has the same devices, topology and
    /// policies.
    pub fn update(&mut self, resource: &ResourceName, entries: Vec<Entry>) {
        let (topology, policies) = (self.topology.clone(), self.policies);
        let inputs = IndexInputs { entries, topology, policies };
        if self.by_resource.get(resource).is_some_and(|(current, _)| **current == inputs) {
            return;
        }
        let index =
            AllocationIndex::new(inputs.entries.iter().cloned(), &inputs.topology, policies);
        self.by_resource.insert(resource.clone(), (Arc::new(inputs), Arc::new(index)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Request, preferred};
    use super::*;
    use crate::names::DeviceId;
    use crate::topology::PcieLevel;

    fn locations(gpus: u32) -> Vec<GpuLocation> {
        let location = |index| GpuLocation {
            uuid: format!("GPU-{index}").parse().unwrap(),
            index,
            pci_bus_id: None,
            numa_node: None,
        };
        (0..gpus).map(location).collect()
    }

    fn entries(locations: &[GpuLocation]) -> Vec<Entry> {
        let entry = |location: &GpuLocation| Entry {
            id: DeviceId::whole(location.uuid.clone()),
            gpu: location.uuid.clone(),
            gpu_index: location.index,
        };
        locations.iter().map(entry).collect()
    }

    /// Links by which no two GPUs are interchangeable, and neighbours are best together.
    fn chain(locations: &[GpuLocation]) -> Links {
        let pair = |at: usize| (locations[at].uuid.clone(), locations[at + 1].uuid.clone());
        let ancestors =
            (0..locations.len() - 1).map(|at| (pair(at), PcieLevel::SingleSwitch)).collect();
        Links { ancestors, ..Links::default() }
    }

    fn answer(indexes: &AllocationIndexes, size: i32) -> Vec<String> {
        let available: Vec<String> =
            entries(&indexes.locations).iter().map(|entry| entry.id.to_string()).collect();
        let request = Request { available: &available, must_include: &[], size };
        let answer = preferred(indexes.get(&ResourceName::gpu()).unwrap(), &request);
        answer.ids.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn an_index_is_rebuilt_only_when_its_inputs_change() {
        let (mut indexes, gpu) = (AllocationIndexes::new(Policies::default()), ResourceName::gpu());
        let built =
            |indexes: &AllocationIndexes| Arc::as_ptr(&indexes.by_resource[&ResourceName::gpu()].1);
        indexes.set_locations(locations(4));
        indexes.update(&gpu, entries(&locations(4)));
        let first = built(&indexes);
        indexes.set_locations(locations(4));
        indexes.update(&gpu, entries(&locations(4)));
        assert_eq!(built(&indexes), first);

        assert!(indexes.set_links(chain(&locations(4))));
        indexes.set_locations(locations(4));
        indexes.update(&gpu, entries(&locations(4)));
        let second = built(&indexes);
        assert_ne!(second, first);
        assert!(!indexes.set_links(chain(&locations(4))), "the same links again change nothing");

        let mut swapped = locations(4);
        (swapped[0].index, swapped[1].index) = (1, 0);
        indexes.set_locations(swapped.clone());
        indexes.update(&gpu, entries(&swapped));
        assert_ne!(built(&indexes), second);
    }

    #[test]
    fn a_large_irregular_node_keeps_its_neighbours_together() {
        let (mut indexes, gpu) = (AllocationIndexes::new(Policies::default()), ResourceName::gpu());
        // No two of the twelve are interchangeable: 4,096 free sets.
        indexes.set_links(chain(&locations(12)));
        indexes.set_locations(locations(12));
        indexes.update(&gpu, entries(&locations(12)));
        assert_eq!(answer(&indexes, 2), ["GPU-0", "GPU-1"]);
        indexes.set_locations(locations(13));
        indexes.update(&gpu, entries(&locations(13)));
        assert_eq!(indexes.get(&gpu).unwrap().len(), 13);
        assert_eq!(answer(&indexes, 2).len(), 2);
    }

    #[test]
    fn a_finding_is_returned_once() {
        let mut indexes = AllocationIndexes::new(Policies::default());
        let mut twins = locations(2);
        let bus: PciBusId = "0000:01:00.0".parse().unwrap();
        twins.iter_mut().for_each(|location| location.pci_bus_id = Some(bus));
        assert_eq!(indexes.set_locations(twins.clone()), [Finding::SharedBusId(bus)]);
        indexes.set_links(chain(&twins));
        assert_eq!(indexes.set_locations(twins), []);
    }
}
