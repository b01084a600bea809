//! GetPreferredAllocation through gRPC over a unix socket, in one process, and what a call
//! allocates: `cargo bench --bench preferred_grpc`.
//!
//! The product's own server is asked. For each machine the requests are of every size, of random
//! free GPUs. The bytes are those of both ends of the connection, the client's and the server's, so
//! the server has fewer.

#[path = "../crates/device/tests/allocation/machines.rs"]
#[allow(dead_code)]
mod machines;
mod sample;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use device::allocation::{AllocationPolicy, SharedPolicy};
use device::gpu::{Gpu, NumaNode};
use device::health::Moment;
use device::inventory::{Inventory, InventoryEvent};
use device::layout::{Layout as NodeLayout, MigStrategy};
use device::names::ResourceName;
use device::topology::{
    NodeLinks, NvLink, NvLinkVersion, ObservedLink, PcieLevel, Remote, Topology,
};
use gpu_device_plugin::kubelet::device_plugin::calls::CallDurations;
use gpu_device_plugin::kubelet::device_plugin::server::Server;
use gpu_device_plugin::kubelet::device_plugin::telemetry::PluginTelemetry;
use gpu_device_plugin::util::change_signal::ChangeSignal;
use simnode::kubelet::Kubelet;
use simnode::proto::device_plugin_client::DevicePluginClient;
use simnode::proto::{ContainerPreferredAllocationRequest, PreferredAllocationRequest};
use tokio::sync::watch;
use tonic::transport::Channel;

/// The system's allocator, with a count of what it is asked for.
struct Counting;

static BYTES: AtomicU64 = AtomicU64::new(0);

#[allow(
    unsafe_code,
    reason = "an allocator that counts has no safe form; it is in this benchmark alone"
)]
// SAFETY: each call goes to the system's allocator with what came in and comes back with its
// answer.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of the same function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the same.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        BYTES.fetch_add(size as u64, Ordering::Relaxed);
        // SAFETY: the same.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Requests of one kind, in rounds.
struct Case {
    name: String,
    requests: Vec<PreferredAllocationRequest>,
    /// The median that is wanted.
    wanted: Duration,
}

/// Calls for each case.
const CALLS: usize = 4000;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    println!(
        "{:<34} {:>9} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "", "10 %", "median", "99 %", "worst", "wanted", "most bytes"
    );
    runtime.block_on(async {
        let mut machines: Vec<(String, Inventory)> = machines::all()
            .into_iter()
            .map(|machine| (machine.name.to_owned(), whole(&machine.topology)))
            .collect();
        for gpus in [8, 16] {
            machines.push((format!("{gpus} GPUs, no two alike"), irregular(gpus)));
        }
        for (name, inventory) in machines {
            let gpus = ids(&inventory);
            let wanted = Duration::from_micros(if gpus.len() > 8 { 250 } else { 100 });
            let mut cases = vec![Case { name: name.clone(), requests: chances(&gpus), wanted }];
            if gpus.len() == 16 {
                let requests = (1..16).map(|size| request(gpus.clone(), size)).collect();
                cases.push(Case { name: format!("{name}, all free"), requests, wanted });
            }
            measure_all(inventory, &cases).await;
        }
        for (name, mig, replicas, size) in
            [("2 of 560 MIG replicas", true, 10, 2), ("8 of 2048 replicas", false, 256, 8)]
        {
            for policy in SharedPolicy::ALL {
                let inventory = shared(mig, replicas, policy);
                let (ids, wanted) = (ids(&inventory), Duration::from_micros(500));
                let case = |name: String, size| Case {
                    name,
                    requests: vec![request(ids.clone(), size)],
                    wanted,
                };
                let cases = [
                    case(format!("{name}, {policy:?}"), size),
                    case("    the same ids, none wanted".to_owned(), 0),
                ];
                measure_all(inventory, &cases).await;
            }
        }
    });
}

/// The ids of all devices that an inventory offers.
fn ids(inventory: &Inventory) -> Vec<String> {
    inventory
        .devices(&ResourceName::gpu())
        .expect("it is served")
        .keys()
        .map(ToString::to_string)
        .collect()
}

/// Serves an inventory and puts each case to it.
async fn measure_all(inventory: Inventory, cases: &[Case]) {
    let directory = tempfile::tempdir().expect("a directory");
    let (_publish, snapshots) = watch::channel(Arc::new(inventory));
    let server = Server::start(
        directory.path(),
        &ResourceName::gpu(),
        snapshots,
        &PluginTelemetry::new(CallDurations::default(), None, ChangeSignal::default()),
    );
    let mut server = server.expect("a server");
    let client = Kubelet::dial(server.path.clone()).await.expect("a client");
    for case in cases {
        measure(&client, case).await;
    }
    drop(client);
    server.stop(true).await;
}

async fn measure(client: &DevicePluginClient<Channel>, case: &Case) {
    let mut times = Vec::with_capacity(CALLS);
    let mut most = 0;
    for round in 0..CALLS + 200 {
        let mut client = client.clone();
        let request = case.requests[round % case.requests.len()].clone();
        let before = BYTES.load(Ordering::Relaxed);
        let began = Instant::now();
        client.get_preferred_allocation(request).await.expect("an answer");
        let took = began.elapsed();
        // The first ones warm the connection.
        if round >= 200 {
            times.push(took);
            most = most.max(BYTES.load(Ordering::Relaxed) - before);
        }
    }
    times.sort_unstable();
    let places = [CALLS / 10, CALLS / 2, CALLS * 99 / 100, CALLS - 1];
    let [low, median, high, worst] = places.map(|at| times[at].as_secs_f64() * 1e6);
    let wanted = case.wanted.as_secs_f64() * 1e6;
    print!("{:<34} {low:>6.0} us ", case.name);
    println!("{median:>6.0} us {high:>6.0} us {worst:>6.0} us {wanted:>6.0} us {most:>10}");
}

fn request(available: Vec<String>, size: i32) -> PreferredAllocationRequest {
    let container = ContainerPreferredAllocationRequest {
        available_device_ids: available,
        must_include_device_ids: Vec::new(),
        allocation_size: size,
    };
    PreferredAllocationRequest { container_requests: vec![container] }
}

/// Requests of every size for free GPUs that look like chance and are the same every time.
fn chances(gpus: &[String]) -> Vec<PreferredAllocationRequest> {
    let mut seed = 5_u64;
    let mut chance = |below: usize| {
        seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (seed >> 33) as usize % below
    };
    let mut requests = Vec::new();
    while requests.len() < 500 {
        let free: Vec<String> = gpus.iter().filter(|_| chance(5) > 0).cloned().collect();
        if !free.is_empty() {
            let size = 1 + chance(free.len()) as i32;
            requests.push(request(free, size));
        }
    }
    requests
}

/// A GPU of a machine: where that says it is, and nothing else.
fn gpu(index: usize, numa_node: Option<NumaNode>) -> Gpu {
    let pci_bus_id = Some(machines::bus(index));
    Gpu { pci_bus_id, numa_node, ..Gpu::unknown(machines::uuid(index), index as u32) }
}

fn linked(gpus: Vec<Gpu>, links: NodeLinks) -> Inventory {
    let mut inventory = sample::node(gpus, NodeLayout::default(), AllocationPolicy::default());
    inventory.apply(Moment::default(), InventoryEvent::Links(links));
    inventory
}

/// An inventory of a machine, with the links that its topology says.
fn whole(topology: &Topology) -> Inventory {
    let mut links = NodeLinks::default();
    let members = topology.gpus();
    for (a, member) in members.iter().enumerate() {
        let mut own = Vec::new();
        let mut to_switch = 0;
        for (b, peer) in members.iter().enumerate().filter(|(b, _)| *b != a) {
            let pair = topology.pair(a, b);
            links.ancestors.insert((member.uuid.clone(), peer.uuid.clone()), pair.pcie);
            let (remote, bundle) = match pair.nvlink {
                NvLink::None => continue,
                NvLink::Direct(bundle) => (Remote::Gpu(machines::bus(b)), bundle),
                NvLink::Switched(bundle) if to_switch == 0 => (Remote::Switch, bundle),
                NvLink::Switched(_) => continue,
            };
            to_switch += u32::from(remote == Remote::Switch);
            own.extend(vec![
                ObservedLink { remote, version: bundle.version, active: true };
                bundle.links as usize
            ]);
        }
        links.nvlinks.insert(member.uuid.clone(), own);
    }
    let gpus = members.iter().enumerate().map(|(at, member)| gpu(at, member.numa_node)).collect();
    let inventory = linked(gpus, links);
    assert_eq!(inventory.topology(), topology);
    inventory
}

/// GPUs of which no two are interchangeable, with one, two or three links at random between any
/// two: hardly anything that makes the search short applies.
fn irregular(gpus: usize) -> Inventory {
    let count = |a: usize, b: usize| {
        let seed = (a.min(b) * 64 + a.max(b)) as u32;
        1 + (seed.wrapping_mul(0x9e37_79b9) >> 13) as usize % 3
    };
    let mut links = NodeLinks::default();
    for a in 0..gpus {
        let peers = (0..gpus).filter(|b| *b != a);
        let to = |b| machines::links(count(a, b), Remote::Gpu(machines::bus(b)), NvLinkVersion::V2);
        links.nvlinks.insert(machines::uuid(a), peers.clone().flat_map(to).collect());
        links
            .ancestors
            .extend(peers.map(|b| ((machines::uuid(a), machines::uuid(b)), PcieLevel::SameNode)));
    }
    linked((0..gpus).map(|index| gpu(index, NumaNode::from_sysfs(0))).collect(), links)
}

/// Eight H100s, each cut into seven MIG devices or whole, and each of those with so many replicas.
fn shared(mig: bool, replicas: u32, policy: SharedPolicy) -> Inventory {
    let layout = NodeLayout {
        mig_strategy: MigStrategy::Single,
        sharing: sample::time_slicing(vec![sample::shared(&ResourceName::gpu(), replicas)]),
        ..NodeLayout::default()
    };
    let gpus = (0..8_u32).map(|index| Gpu {
        pci_bus_id: Some(machines::bus(index as usize)),
        numa_node: NumaNode::from_sysfs(i64::from(index / 4)),
        ..sample::gpu(index, if mig { 7 } else { 0 })
    });
    sample::node(gpus, layout, AllocationPolicy { shared: policy, ..AllocationPolicy::default() })
}
