//! Requests of every kind, also malformed ones: always an answer, and always the same.

use std::collections::BTreeSet;

use device::allocation::{
    AllocationIndex, AllocationPolicy, IndexEntry, Note, Request, SharedPolicy, WholeGpuPolicy,
    preferred,
};
use device::names::{DeviceId, Uuid};
use device::topology::{NvLinkVersion, PcieLevel, Remote, Topology};
use proptest::prelude::*;

use crate::machines::{self, bus, links, uuid};

/// What a resource may consist of: whole GPUs, replicas, MIG devices, their replicas, and whole
/// GPUs beside replicas.
fn entries(kind: usize, gpus: usize) -> Vec<IndexEntry> {
    let mig = |gpu: usize, slice: usize| -> Uuid { format!("MIG-{gpu}-{slice}").parse().unwrap() };
    let entry =
        |gpu: usize, id| IndexEntry { id, gpu: uuid(gpu), gpu_index: u32::try_from(gpu).unwrap() };
    let of = |gpu: usize| -> Vec<IndexEntry> {
        let ids: Vec<DeviceId> = match kind {
            0 => vec![DeviceId::whole(uuid(gpu))],
            1 => (0..3).map(|n| DeviceId::replica(uuid(gpu), n)).collect(),
            2 => (0..3).map(|slice| DeviceId::whole(mig(gpu, slice))).collect(),
            3 => (0..4).map(|n| DeviceId::replica(mig(gpu, n as usize / 2), n % 2)).collect(),
            _ if gpu.is_multiple_of(2) => vec![DeviceId::whole(uuid(gpu))],
            _ => (0..2).map(|n| DeviceId::replica(uuid(gpu), n)).collect(),
        };
        ids.into_iter().map(|id| entry(gpu, id)).collect()
    };
    (0..gpus).flat_map(of).collect()
}

/// An id by number: one of the resource, or else a stranger.
fn id(entries: &[IndexEntry], number: usize) -> String {
    match (entries.get(number % 40), number % 4) {
        (Some(entry), _) => entry.id.to_string(),
        (None, 0) => String::new(),
        (None, 1) => format!("GPU-{number}::"),
        (None, _) => format!("unknown ü {number}"),
    }
}

fn distinct<'a>(ids: impl IntoIterator<Item = &'a String>) -> BTreeSet<&'a str> {
    ids.into_iter().map(String::as_str).collect()
}

proptest! {
    #![proptest_config(crate::cases(2000))]

    #[test]
    fn any_request_is_answered_as_well_as_it_can_be(
        kind in 0_usize..5,
        gpus in 0_usize..9,
        whole in 0_usize..3,
        shared in 0_usize..3,
        machine in 0_usize..8,
        available in proptest::collection::vec(0_usize..48, 0..40),
        must in proptest::collection::vec(0_usize..48, 0..4),
        size in prop_oneof![Just(i32::MIN), -1..3_i32, 0..45_i32, Just(i32::MAX)],
        turn in any::<prop::sample::Index>(),
    ) {
        let entries = entries(kind, gpus);
        let policy = AllocationPolicy {
            whole: WholeGpuPolicy::ALL[whole],
            shared: SharedPolicy::ALL[shared],
        };
        let topology = &machines::all()[machine].topology;
        let index = AllocationIndex::new(entries.clone(), topology, policy);
        let mut available: Vec<String> =
            available.into_iter().map(|number| id(&entries, number)).collect();
        let must: Vec<String> = must.into_iter().map(|number| id(&entries, number)).collect();
        let before = available.clone();
        let answer = preferred(&index, &Request { available: &before, must_include: &must, size });

        let wanted = usize::try_from(size).unwrap_or(0);
        let named = distinct(available.iter().chain(&must));
        let required = distinct(&must);
        let given: BTreeSet<&str> = answer.ids.iter().copied().collect();
        prop_assert_eq!(given.len(), answer.ids.len(), "an id twice");
        prop_assert_eq!(given.len(), wanted.min(named.len()));
        prop_assert!(given.is_subset(&named));
        let first: BTreeSet<&str> = answer.ids.iter().take(required.len()).copied().collect();
        prop_assert!(first.is_subset(&required), "something before what must be included");

        let known = |id: &str| entries.iter().any(|entry| entry.id.to_string() == id);
        let stranger = answer.ids.iter().any(|id| !known(id) && !required.contains(id));
        prop_assert!(!stranger || named.iter().all(|id| !known(id) || given.contains(id)));
        prop_assert_eq!(
            size <= 0,
            answer.notes.iter().any(|note| matches!(note, Note::SizeNotPositive(_)))
        );
        prop_assert_eq!(
            given.len() < wanted,
            answer.notes.iter().any(|note| matches!(note, Note::TooFew { .. }))
        );

        let again = AllocationIndex::new(entries.iter().rev().cloned(), topology, policy);
        available.reverse();
        let at = turn.index(available.len() + 1).min(available.len());
        available.rotate_left(at);
        let other =
            preferred(&again, &Request { available: &available, must_include: &must, size });
        prop_assert_eq!(answer, other);
    }

    #[test]
    fn spread_never_doubles_while_another_gpu_can_serve(
        kind in 1_usize..4,
        gpus in 1_usize..9,
        free in proptest::collection::vec(any::<bool>(), 40),
        size in 1_i32..9,
    ) {
        let entries = entries(kind, gpus);
        let policy =
            AllocationPolicy { shared: SharedPolicy::Spread, ..AllocationPolicy::default() };
        let index = AllocationIndex::new(entries.clone(), &Topology::default(), policy);
        let available: Vec<&IndexEntry> =
            entries.iter().zip(free).filter(|(_, free)| *free).map(|(entry, _)| entry).collect();
        let ids: Vec<String> = available.iter().map(|entry| entry.id.to_string()).collect();
        let answer = preferred(&index, &Request { available: &ids, must_include: &[], size });
        let gpus: BTreeSet<&Uuid> = available.iter().map(|entry| &entry.gpu).collect();
        let mine = answer
            .ids
            .iter()
            .map(|id| &available.iter().find(|e| e.id.to_string() == *id).unwrap().gpu);
        let used: BTreeSet<&Uuid> = mine.collect();
        prop_assert_eq!(used.len(), gpus.len().min(answer.ids.len()));
        let doubled = answer.notes.iter().any(|note| matches!(note, Note::SpreadDoubled { .. }));
        prop_assert_eq!(doubled, used.len() < answer.ids.len());
    }
}

/// A machine in which hardly two GPUs are alike.
fn irregular(gpus: usize) -> Topology {
    let count = |a: usize, b: usize| (a.min(b) * 64 + a.max(b)).wrapping_mul(0x9e37_79b9) >> 13 & 3;
    machines::build(
        &vec![0; gpus],
        |_, _| PcieLevel::SameNode,
        |gpu| {
            let peers = (0..gpus).filter(|peer| *peer != gpu);
            peers
                .flat_map(|peer| links(count(gpu, peer), Remote::Gpu(bus(peer)), NvLinkVersion::V5))
                .collect()
        },
    )
}

#[test]
fn beyond_sixteen_gpus_the_search_ends_at_its_bound_with_a_good_answer() {
    for gpus in [17, 24, 64] {
        let topology = irregular(gpus);
        let index = machines::index(&topology, AllocationPolicy::default());
        let ids: Vec<String> = topology.gpus().iter().map(|gpu| gpu.uuid.to_string()).collect();
        for size in [1, 2, 8, gpus / 2, gpus - 1, gpus] {
            let size = i32::try_from(size).unwrap();
            let answer = preferred(&index, &Request { available: &ids, must_include: &[], size });
            assert_eq!(answer.ids.len(), usize::try_from(size).unwrap());
            assert!(answer.notes.iter().all(|note| *note == Note::SearchCut), "{:?}", answer.notes);
        }
    }
}

#[test]
fn more_gpus_than_the_search_can_hold_are_given_by_index() {
    let entries = entries(0, 65);
    let index =
        AllocationIndex::new(entries.clone(), &Topology::default(), AllocationPolicy::default());
    let ids: Vec<String> = entries.iter().map(|entry| entry.id.to_string()).collect();
    let answer = preferred(&index, &Request { available: &ids, must_include: &[], size: 2 });
    assert_eq!(answer.ids, [&ids[0], &ids[1]]);
    assert_eq!(answer.notes, [Note::TooManyGpus]);
}

#[test]
fn what_is_odd_is_said() {
    let entries = entries(0, 2);
    let index =
        AllocationIndex::new(entries.clone(), &Topology::default(), AllocationPolicy::default());
    let [a, b] = [&entries[0], &entries[1]].map(|entry| entry.id.to_string());
    let available = [a.clone(), a.clone(), "x".into(), "w".into()];
    let must_include = [b.clone()];
    let answer =
        preferred(&index, &Request { available: &available, must_include: &must_include, size: 5 });
    assert_eq!(answer.ids, [&*b, &*a, "w", "x"]);
    let expected = [
        Note::RepeatedIds { count: 1 },
        Note::MustIncludeUnavailable { count: 1, first: b },
        Note::UnknownIds { count: 2, first: "w".into() },
        Note::TooFew { requested: 5, available: 4 },
    ];
    assert_eq!(answer.notes, expected);
}

#[test]
fn more_that_must_be_included_than_the_size_allows_is_cut() {
    let entries = entries(0, 3);
    let index =
        AllocationIndex::new(entries.clone(), &Topology::default(), AllocationPolicy::default());
    let ids: Vec<String> = entries.iter().map(|entry| entry.id.to_string()).collect();
    let answer = preferred(&index, &Request { available: &ids, must_include: &ids[1..], size: 1 });
    assert_eq!(answer.ids, [&ids[1]]);
    assert_eq!(answer.notes, [Note::MustIncludeTooMany { count: 2, size: 1 }]);
}
