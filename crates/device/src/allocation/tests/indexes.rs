//! Tests of when indexes are rebuilt, and of what they answer.

use crate::allocation::indexes::AllocationIndexes;
use crate::allocation::{AllocationPolicy, IndexEntry, Request, preferred};
use crate::names::{DeviceId, PciBusId, ResourceName};
use crate::topology::{NodeLinks, ObservedGpu, PcieLevel, TopologyFinding};

fn locations(gpus: u32) -> Vec<ObservedGpu> {
    let location = |index| ObservedGpu {
        uuid: format!("GPU-{index}").parse().unwrap(),
        index,
        pci_bus_id: None,
        numa_node: None,
        links: None,
    };
    (0..gpus).map(location).collect()
}

fn entries(locations: &[ObservedGpu]) -> Vec<IndexEntry> {
    let entry = |location: &ObservedGpu| IndexEntry {
        id: DeviceId::whole(location.uuid.clone()),
        gpu: location.uuid.clone(),
        gpu_index: location.index,
    };
    locations.iter().map(entry).collect()
}

/// Links by which no two GPUs are interchangeable, and neighbours are best together.
fn chain(locations: &[ObservedGpu]) -> NodeLinks {
    let pair = |at: usize| (locations[at].uuid.clone(), locations[at + 1].uuid.clone());
    let ancestors =
        (0..locations.len() - 1).map(|at| (pair(at), PcieLevel::SingleSwitch)).collect();
    NodeLinks { ancestors, ..NodeLinks::default() }
}

fn answer(indexes: &AllocationIndexes, gpus: u32, size: i32) -> Vec<String> {
    let available: Vec<String> =
        entries(&locations(gpus)).iter().map(|entry| entry.id.to_string()).collect();
    let request = Request { available: &available, must_include: &[], size };
    let answer = preferred(indexes.get(&ResourceName::gpu()).unwrap(), &request);
    answer.ids.into_iter().map(str::to_owned).collect()
}

#[test]
fn an_index_is_rebuilt_only_when_its_inputs_change() {
    let (mut indexes, gpu) =
        (AllocationIndexes::new(AllocationPolicy::default()), ResourceName::gpu());
    let built = |indexes: &AllocationIndexes| {
        std::ptr::from_ref(indexes.get(&ResourceName::gpu()).unwrap())
    };
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
    let (mut indexes, gpu) =
        (AllocationIndexes::new(AllocationPolicy::default()), ResourceName::gpu());
    // No two of the twelve are interchangeable: 4,096 free sets.
    indexes.set_links(chain(&locations(12)));
    indexes.set_locations(locations(12));
    indexes.update(&gpu, entries(&locations(12)));
    assert_eq!(answer(&indexes, 12, 2), ["GPU-0", "GPU-1"]);
    indexes.set_locations(locations(13));
    indexes.update(&gpu, entries(&locations(13)));
    assert_eq!(indexes.get(&gpu).unwrap().devices.len(), 13);
    assert_eq!(answer(&indexes, 13, 2).len(), 2);
}

#[test]
fn a_finding_is_returned_once() {
    let mut indexes = AllocationIndexes::new(AllocationPolicy::default());
    let mut twins = locations(2);
    let bus: PciBusId = "0000:01:00.0".parse().unwrap();
    twins.iter_mut().for_each(|location| location.pci_bus_id = Some(bus));
    assert_eq!(indexes.set_locations(twins.clone()), [TopologyFinding::SharedBusId(bus)]);
    indexes.set_links(chain(&twins));
    assert_eq!(indexes.set_locations(twins), []);
}
