//! What a preferred allocation costs: the pure call, and the index that is built when the inventory
//! changes.

#[path = "../tests/allocation/machines.rs"]
#[allow(dead_code)]
mod machines;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use device::allocation::{
    AllocationIndex, AllocationPolicy, IndexEntry, Request, SharedPolicy, preferred,
};
use device::names::{DeviceId, Uuid};
use device::topology::{NvLinkVersion, PcieLevel, Remote, Topology};

/// GPUs of which no two are interchangeable, with one, two or three links at random: hardly
/// anything that makes the search short applies.
fn irregular(gpus: usize) -> Topology {
    let count = |a: usize, b: usize| {
        let seed = (a.min(b) * 64 + a.max(b)) as u32;
        1 + (seed.wrapping_mul(0x9e37_79b9) >> 13) as usize % 3
    };
    machines::build(
        &vec![0; gpus],
        |_, _| PcieLevel::SameNode,
        |gpu| {
            let peers = (0..gpus).filter(|peer| *peer != gpu);
            let to = |peer| {
                machines::links(
                    count(gpu, peer),
                    Remote::Gpu(machines::bus(peer)),
                    NvLinkVersion::V2,
                )
            };
            peers.flat_map(to).collect()
        },
    )
}

/// GPUs in bridged pairs and nothing else.
fn bridged(gpus: usize) -> Topology {
    let to_partner =
        |gpu: usize| machines::links(4, Remote::Gpu(machines::bus(gpu ^ 1)), NvLinkVersion::V3);
    machines::build(&vec![0; gpus], |_, _| PcieLevel::SameNode, to_partner)
}

fn whole(criterion: &mut Criterion) {
    let mut all: Vec<(&str, Topology)> =
        machines::all().into_iter().map(|machine| (machine.name, machine.topology)).collect();
    all.push(("16 irregular GPUs", irregular(16)));
    all.push(("20 GPUs in bridged pairs", bridged(20)));
    all.push(("32 irregular GPUs", irregular(32)));
    let mut group = criterion.benchmark_group("whole");
    for (name, topology) in &all {
        let index = machines::index(topology, AllocationPolicy::default());
        let ids: Vec<String> = topology.gpus().iter().map(|gpu| gpu.uuid.to_string()).collect();
        for size in [1, 2, 4, 7, 8, 12].into_iter().filter(|size| *size < ids.len()) {
            let request = Request { available: &ids, must_include: &[], size: size as i32 };
            group.bench_function(BenchmarkId::new(*name, size), |bench| {
                bench.iter(|| preferred(&index, black_box(&request)));
            });
        }
    }
    group.finish();
}

/// Eight GPUs of `carriers` MIG devices each (one: the GPU itself), each with `replicas` replicas.
fn shared_entries(carriers: usize, replicas: u32) -> Vec<IndexEntry> {
    let mut entries = Vec::new();
    for gpu in 0..8 {
        for carrier in 0..carriers {
            let uuid: Uuid = match carriers {
                1 => machines::uuid(gpu),
                _ => format!("MIG-{gpu:08x}-{carrier:04x}-5ca1-ab1e-000000000000")
                    .parse()
                    .expect("it is well formed"),
            };
            entries.extend((0..replicas).map(|replica| IndexEntry {
                id: DeviceId::replica(uuid.clone(), replica),
                gpu: machines::uuid(gpu),
                gpu_index: gpu as u32,
            }));
        }
    }
    entries
}

fn shared(criterion: &mut Criterion) {
    let topology = machines::dgx_h100().topology;
    let mut group = criterion.benchmark_group("shared");
    for (name, entries, size) in [
        ("2 of 560 MIG replicas", shared_entries(7, 10), 2),
        ("8 of 2048 replicas", shared_entries(1, 256), 8),
    ] {
        let ids: Vec<String> = entries.iter().map(|entry| entry.id.to_string()).collect();
        for policy in SharedPolicy::ALL {
            let policies = AllocationPolicy { shared: policy, ..AllocationPolicy::default() };
            let index = AllocationIndex::new(entries.clone(), &topology, policies);
            let request = Request { available: &ids, must_include: &[], size };
            group.bench_function(
                BenchmarkId::new(name, format!("{policy:?}").to_lowercase()),
                |bench| {
                    bench.iter(|| preferred(&index, black_box(&request)));
                },
            );
        }
    }
    group.finish();
}

/// Building an index, and with the first search on it, which works out the residual values.
fn index(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index");
    for (name, topology) in [
        ("DGX-1 V100", machines::dgx1_v100().topology),
        ("DGX-2 V100", machines::dgx2_v100().topology),
        ("16 irregular GPUs", irregular(16)),
        ("20 GPUs in bridged pairs", bridged(20)),
    ] {
        group.sample_size(10);
        group.bench_function(BenchmarkId::new(name, "build"), |bench| {
            bench.iter(|| machines::index(black_box(&topology), AllocationPolicy::default()))
        });
        let ids: Vec<String> = topology.gpus().iter().map(|gpu| gpu.uuid.to_string()).collect();
        let request = Request { available: &ids, must_include: &[], size: 1 };
        group.bench_function(BenchmarkId::new(name, "build and first search"), |bench| {
            bench.iter(|| {
                let index = machines::index(black_box(&topology), AllocationPolicy::default());
                preferred(&index, black_box(&request)).ids.len()
            })
        });
    }
    group.finish();
}

criterion_group!(benches, whole, shared, index);
criterion_main!(benches);
