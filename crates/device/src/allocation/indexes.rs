//! The catalogue of each resource, made anew when devices, their places or the links have changed,
//! and not before.
//!
//! Most catalogues take some microseconds to make. On the few machines with more than ten GPUs of
//! which hardly two are interchangeable the value of what stays behind takes a tenth of a second:
//! there the catalogue serves at once with that value estimated, and its [`IndexBuild`] is handed out to
//! be finished elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::index::{AllocationIndex, Entry};
use super::policy::Policies;
use super::residual_value::Effort;
use crate::gpu::NumaNode;
use crate::names::{PciBusId, ResourceName, Uuid};
use crate::topology::{Finding, Links, Observation, ObservedGpu, Topology};

/// Where a GPU is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuLocation {
    /// Its identity.
    pub uuid: Uuid,
    /// NVML's index.
    pub index: u32,
    /// Its place on the bus, which is how the links of others name it.
    pub pci_bus_id: Option<PciBusId>,
    /// Its NUMA node.
    pub numa_node: Option<NumaNode>,
}

/// All that a catalogue is made from.
#[derive(Debug, PartialEq, Eq)]
pub struct IndexBuild {
    resource: ResourceName,
    entries: Vec<Entry>,
    topology: Arc<Topology>,
    policies: Policies,
}

/// A catalogue that was postponed, with nothing left to do.
#[derive(Debug)]
pub struct BuiltIndex {
    draft: Arc<IndexBuild>,
    catalogue: AllocationIndex,
}

/// The catalogues of a node and what they rest on.
#[derive(Debug, Clone, Default)]
pub struct AllocationIndexes {
    policies: Policies,
    places: Vec<GpuLocation>,
    links: Arc<Links>,
    topology: Arc<Topology>,
    findings: Vec<Finding>,
    /// Whether the links are others than those in the topology.
    stale: bool,
    by_resource: BTreeMap<ResourceName, (Arc<IndexBuild>, Arc<AllocationIndex>)>,
}

impl IndexBuild {
    fn catalogue(&self, effort: Effort) -> AllocationIndex {
        AllocationIndex::with(self.entries.iter().cloned(), &self.topology, self.policies, effort)
    }

    /// Makes the whole catalogue, however long that takes.
    #[must_use]
    pub fn finish(self: Arc<Self>) -> BuiltIndex {
        let catalogue = self.catalogue(Effort::Whole);
        BuiltIndex { draft: self, catalogue }
    }
}

impl AllocationIndexes {
    /// None yet.
    #[must_use]
    pub fn new(policies: Policies) -> Self {
        Self { policies, ..Self::default() }
    }

    /// Chooses by other policies from the next [`AllocationIndexes::offer`] on; says whether they are
    /// others.
    pub fn choose_by(&mut self, policies: Policies) -> bool {
        std::mem::replace(&mut self.policies, policies) != policies
    }

    /// The catalogue of a resource.
    #[must_use]
    pub fn of(&self, resource: &ResourceName) -> Option<&AllocationIndex> {
        self.by_resource.get(resource).map(|(_, catalogue)| &**catalogue)
    }

    /// How the GPUs are linked, as far as it is known.
    #[must_use]
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Takes the links, for [`AllocationIndexes::place`] to put together; says whether they are not what
    /// they were.
    pub fn take(&mut self, links: Links) -> bool {
        let changed = *self.links != links;
        if changed {
            self.links = Arc::new(links);
            self.stale = true;
        }
        changed
    }

    /// Puts places and links together; says what does not fit and was not said before.
    pub fn place(&mut self, places: Vec<GpuLocation>) -> Vec<Finding> {
        if !self.stale && self.places == places {
            return Vec::new();
        }
        let gpus = places.iter().map(|place| ObservedGpu {
            uuid: place.uuid.clone(),
            index: place.index,
            pci_bus_id: place.pci_bus_id,
            numa_node: place.numa_node,
            links: self.links.nvlinks.get(&place.uuid).cloned(),
        });
        let observation =
            Observation { gpus: gpus.collect(), ancestors: self.links.ancestors.clone() };
        let (topology, findings) = Topology::observed(observation);
        if *self.topology != topology {
            self.topology = Arc::new(topology);
        }
        (self.places, self.stale) = (places, false);
        let before = std::mem::replace(&mut self.findings, findings);
        self.findings.iter().filter(|finding| !before.contains(finding)).cloned().collect()
    }

    /// Makes the catalogue of a resource, unless the one that is there is of the same devices,
    /// topology and policies. The answer is its draft if there is more to do.
    pub fn offer(
        &mut self,
        resource: &ResourceName,
        entries: Vec<Entry>,
    ) -> Option<Arc<IndexBuild>> {
        let (topology, policies) = (self.topology.clone(), self.policies);
        let draft = IndexBuild { resource: resource.clone(), entries, topology, policies };
        if self.by_resource.get(resource).is_some_and(|(made, _)| **made == draft) {
            return None;
        }
        let (catalogue, draft) = (Arc::new(draft.catalogue(Effort::Quick)), Arc::new(draft));
        let postponed = catalogue.is_postponed().then(|| draft.clone());
        self.by_resource.insert(resource.clone(), (draft, catalogue));
        postponed
    }

    /// Takes a finished catalogue if its draft still holds.
    pub fn finish(&mut self, finished: BuiltIndex) {
        if let Some((draft, catalogue)) = self.by_resource.get_mut(&finished.draft.resource)
            && Arc::ptr_eq(draft, &finished.draft)
        {
            *catalogue = Arc::new(finished.catalogue);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Request, preferred};
    use super::*;
    use crate::names::DeviceId;
    use crate::topology::PcieLevel;

    fn places(gpus: u32) -> Vec<GpuLocation> {
        let place = |index| GpuLocation {
            uuid: format!("GPU-{index}").parse().unwrap(),
            index,
            pci_bus_id: None,
            numa_node: None,
        };
        (0..gpus).map(place).collect()
    }

    fn entries(places: &[GpuLocation]) -> Vec<Entry> {
        let entry = |place: &GpuLocation| Entry {
            id: DeviceId::whole(place.uuid.clone()),
            gpu: place.uuid.clone(),
            gpu_index: place.index,
        };
        places.iter().map(entry).collect()
    }

    /// Links by which no two GPUs are interchangeable, and neighbours are best together.
    fn chain(places: &[GpuLocation]) -> Links {
        let pair = |at: usize| (places[at].uuid.clone(), places[at + 1].uuid.clone());
        let ancestors =
            (0..places.len() - 1).map(|at| (pair(at), PcieLevel::SingleSwitch)).collect();
        Links { ancestors, ..Links::default() }
    }

    fn answer(catalogues: &AllocationIndexes, size: i32) -> Vec<String> {
        let available: Vec<String> =
            entries(&catalogues.places).iter().map(|entry| entry.id.to_string()).collect();
        let request = Request { available: &available, must_include: &[], size };
        let answer = preferred(catalogues.of(&ResourceName::gpu()).unwrap(), &request);
        answer.ids.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn a_catalogue_is_made_anew_only_when_something_has_changed() {
        let (mut catalogues, gpu) =
            (AllocationIndexes::new(Policies::default()), ResourceName::gpu());
        let made = |catalogues: &AllocationIndexes| {
            Arc::as_ptr(&catalogues.by_resource[&ResourceName::gpu()].1)
        };
        catalogues.place(places(4));
        assert_eq!(catalogues.offer(&gpu, entries(&places(4))), None);
        let first = made(&catalogues);
        catalogues.place(places(4));
        catalogues.offer(&gpu, entries(&places(4)));
        assert_eq!(made(&catalogues), first);

        assert!(catalogues.take(chain(&places(4))));
        catalogues.place(places(4));
        catalogues.offer(&gpu, entries(&places(4)));
        let second = made(&catalogues);
        assert_ne!(second, first);
        assert!(!catalogues.take(chain(&places(4))), "the same links again are no news");

        let mut swapped = places(4);
        (swapped[0].index, swapped[1].index) = (1, 0);
        catalogues.place(swapped.clone());
        catalogues.offer(&gpu, entries(&swapped));
        assert_ne!(made(&catalogues), second);
    }

    #[test]
    fn a_large_irregular_machine_is_served_at_once_and_finished_elsewhere() {
        let (mut catalogues, gpu) =
            (AllocationIndexes::new(Policies::default()), ResourceName::gpu());
        catalogues.take(chain(&places(12)));
        catalogues.place(places(12));
        let draft =
            catalogues.offer(&gpu, entries(&places(12))).expect("the chain has 4,096 free sets");
        assert_eq!(answer(&catalogues, 2).len(), 2);
        assert!(catalogues.of(&gpu).unwrap().is_postponed());
        catalogues.finish(draft.finish());
        assert!(!catalogues.of(&gpu).unwrap().is_postponed());
        assert_eq!(answer(&catalogues, 2), ["GPU-0", "GPU-1"]);
    }

    #[test]
    fn what_is_finished_too_late_is_left() {
        let (mut catalogues, gpu) =
            (AllocationIndexes::new(Policies::default()), ResourceName::gpu());
        catalogues.take(chain(&places(12)));
        catalogues.place(places(12));
        let draft = catalogues.offer(&gpu, entries(&places(12))).unwrap();
        catalogues.place(places(13));
        catalogues.offer(&gpu, entries(&places(13)));
        catalogues.finish(draft.finish());
        assert_eq!(catalogues.of(&gpu).unwrap().len(), 13);
    }

    #[test]
    fn a_finding_is_told_once() {
        let mut catalogues = AllocationIndexes::new(Policies::default());
        let mut twins = places(2);
        let bus: PciBusId = "0000:01:00.0".parse().unwrap();
        twins.iter_mut().for_each(|place| place.pci_bus_id = Some(bus));
        assert_eq!(catalogues.place(twins.clone()), [Finding::SharedBusId(bus)]);
        catalogues.take(chain(&twins));
        assert_eq!(catalogues.place(twins), []);
    }
}
