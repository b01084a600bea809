//! Replicas and MIG devices: what each policy chooses, counted by physical GPU.

use device::allocation::{
    AllocationIndex, AllocationPolicy, IndexEntry, Note, Request, SharedPolicy, preferred,
};
use device::names::DeviceId;
use device::topology::Topology;

use crate::machines;

fn index(entries: impl IntoIterator<Item = IndexEntry>, shared: SharedPolicy) -> AllocationIndex {
    let policy = AllocationPolicy { shared, ..AllocationPolicy::default() };
    AllocationIndex::new(entries, &Topology::default(), policy)
}

/// An index of replicas: so many of each GPU.
fn replicas(counts: &[u32], shared: SharedPolicy) -> AllocationIndex {
    let entries = counts.iter().enumerate().flat_map(|(gpu, count)| {
        (0..*count).map(move |replica| IndexEntry {
            id: DeviceId::replica(machines::uuid(gpu), replica),
            gpu: machines::uuid(gpu),
            gpu_index: u32::try_from(gpu).unwrap(),
        })
    });
    index(entries, shared)
}

/// An index of MIG devices: seven of each of so many GPUs.
fn slices(gpus: usize, shared: SharedPolicy) -> AllocationIndex {
    let entries = (0..gpus).flat_map(|gpu| {
        (0..7).map(move |slice| IndexEntry {
            id: DeviceId::whole(format!("MIG-{gpu}-{slice}").parse().unwrap()),
            gpu: machines::uuid(gpu),
            gpu_index: u32::try_from(gpu).unwrap(),
        })
    });
    index(entries, shared)
}

/// Replica `n` of a GPU.
fn replica(gpu: usize, n: u32) -> String {
    DeviceId::replica(machines::uuid(gpu), n).to_string()
}

/// The GPUs of an answer in replicas, and its notes.
fn ask(
    index: &AllocationIndex,
    free: &[(usize, u32)],
    must: &[(usize, u32)],
    size: i32,
) -> (Vec<usize>, Vec<Note>) {
    let text = |ids: &[(usize, u32)]| -> Vec<String> {
        ids.iter().map(|(gpu, n)| replica(*gpu, *n)).collect()
    };
    let (available, must_include) = (text(&[free, must].concat()), text(must));
    let answer =
        preferred(index, &Request { available: &available, must_include: &must_include, size });
    let gpu = |id: &&str| (0..9).find(|gpu| id.starts_with(machines::uuid(*gpu).as_str())).unwrap();
    (answer.ids.iter().map(gpu).collect(), answer.notes)
}

/// All free replicas of GPUs, from the first number that is free on each.
fn free(from: &[u32], count: u32) -> Vec<(usize, u32)> {
    from.iter().enumerate().flat_map(|(gpu, from)| (*from..count).map(move |n| (gpu, n))).collect()
}

#[test]
fn distributed_takes_from_where_the_fewest_are_in_use() {
    let index = replicas(&[4, 4, 4], SharedPolicy::Distributed);
    // In use: two, none, one. The second gets two before the third gets one of its own.
    let (gpus, notes) = ask(&index, &free(&[2, 0, 1], 4), &[], 3);
    assert_eq!((gpus, notes), (vec![1, 1, 2], vec![]));
}

#[test]
fn distributed_counts_what_must_be_included_as_in_use() {
    let index = replicas(&[4, 4], SharedPolicy::Distributed);
    let (gpus, _) = ask(&index, &free(&[1, 0], 4), &[(0, 0)], 2);
    assert_eq!(gpus, [0, 1]);
}

#[test]
fn distributed_breaks_a_tie_by_what_the_request_has_already() {
    let index = replicas(&[4, 4], SharedPolicy::Distributed);
    // One is in use on each: on the first by this request, on the second by another.
    assert_eq!(ask(&index, &free(&[1, 1], 4), &[(0, 0)], 2).0, [0, 1]);
}

#[test]
fn packed_breaks_a_tie_by_the_room_that_stays() {
    let index = replicas(&[5, 4], SharedPolicy::Packed);
    let available = [&free(&[2], 5)[..], &[(1, 2), (1, 3)]].concat();
    assert_eq!(ask(&index, &available, &[], 2).0, [1, 1]);
}

#[test]
fn packed_takes_the_fullest_gpu_on_which_the_request_fits() {
    let index = replicas(&[4, 4, 4], SharedPolicy::Packed);
    // In use: three, two, none. Two do not fit on the first, and half of the request there would
    // break the third.
    assert_eq!(ask(&index, &free(&[3, 2, 0], 4), &[], 2).0, [1, 1]);
    assert_eq!(ask(&index, &free(&[3, 2, 0], 4), &[], 1).0, [0]);
    // Five fit nowhere: the whole third, and the rest where it fits best.
    assert_eq!(ask(&index, &free(&[3, 2, 0], 4), &[], 5).0, [0, 2, 2, 2, 2]);
}

#[test]
fn packed_stays_where_the_request_is_already() {
    let index = replicas(&[4, 4], SharedPolicy::Packed);
    assert_eq!(ask(&index, &free(&[2, 1], 4), &[(1, 0)], 2).0, [1, 1]);
}

#[test]
fn packed_packs_mig_devices_by_physical_gpu() {
    let index = slices(2, SharedPolicy::Packed);
    // One of the second GPU is in use, so the second is the fuller one.
    let available: Vec<String> =
        (0..7).map(|n| format!("MIG-0-{n}")).chain((1..7).map(|n| format!("MIG-1-{n}"))).collect();
    let answer = preferred(&index, &Request { available: &available, must_include: &[], size: 3 });
    assert_eq!(answer.ids, ["MIG-1-1", "MIG-1-2", "MIG-1-3"]);
}

#[test]
fn distributed_and_spread_take_mig_devices_from_different_physical_gpus() {
    for policy in [SharedPolicy::Distributed, SharedPolicy::Spread] {
        let index = slices(2, policy);
        let available: Vec<String> =
            (0..2).flat_map(|gpu| (0..7).map(move |n| format!("MIG-{gpu}-{n}"))).collect();
        let answer =
            preferred(&index, &Request { available: &available, must_include: &[], size: 2 });
        assert_eq!(answer.ids, ["MIG-0-0", "MIG-1-0"]);
    }
}

#[test]
fn spread_doubles_only_where_no_other_gpu_can_serve_and_says_so() {
    let index = replicas(&[4, 4, 4], SharedPolicy::Spread);
    // In use: three, none, none. Distributed would take both from the empty ones too, but also a
    // third.
    assert_eq!(ask(&index, &free(&[3, 0, 0], 4), &[], 3), (vec![0, 1, 2], vec![]));
    let (gpus, notes) = ask(&index, &free(&[3, 0, 4], 4), &[], 3);
    assert_eq!((gpus, notes), (vec![0, 1, 1], vec![Note::SpreadDoubled { gpus: 1 }]));
}

#[test]
fn replicas_of_mig_devices_spread_over_gpus_and_then_over_mig_devices() {
    let entries = (0..2).flat_map(|gpu| {
        (0..2).flat_map(move |slice| {
            (0..2).map(move |n| IndexEntry {
                id: DeviceId::replica(format!("MIG-{gpu}-{slice}").parse().unwrap(), n),
                gpu: machines::uuid(gpu),
                gpu_index: u32::try_from(gpu).unwrap(),
            })
        })
    });
    let ids: Vec<String> = entries.clone().map(|entry| entry.id.to_string()).collect();
    let policy =
        AllocationPolicy { shared: SharedPolicy::Distributed, ..AllocationPolicy::default() };
    let index = AllocationIndex::new(entries, &Topology::default(), policy);
    let answer = preferred(&index, &Request { available: &ids, must_include: &[], size: 4 });
    assert_eq!(answer.ids, ["MIG-0-0::0", "MIG-0-1::0", "MIG-1-0::0", "MIG-1-1::0"]);
}
