//! GetPreferredAllocation through gRPC over a unix socket, in one process, and what a call allocates:
//! `cargo bench --bench preferred_grpc`.
//!
//! Whole GPUs are asked of the product's own server. For each machine the requests are of every size, of random free
//! GPUs. The bytes are those of both ends of the connection, the client's and the server's, so the server has fewer.

#[path = "../tests/allocation/machines.rs"]
#[allow(dead_code)]
mod machines;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gpu_device_plugin::device::allocation::{Catalogue, Entry, Policies, Request, SharedPolicy, preferred};
use gpu_device_plugin::device::gpu::{Gpu, NumaNode};
use gpu_device_plugin::device::health::{Moment, NodeHealth};
use gpu_device_plugin::device::injection::Injector;
use gpu_device_plugin::device::inventory::{Found, Inventory, Observation};
use gpu_device_plugin::device::layout::Layout as NodeLayout;
use gpu_device_plugin::device::names::{DeviceId, ResourceName, Uuid};
use gpu_device_plugin::device::topology::{Links, NvLinkVersion, ObservedLink, PcieLevel, Remote};
use gpu_device_plugin::plugin::notes::Notes;
use gpu_device_plugin::plugin::server::Server;
use simnode::kubelet::Kubelet;
use simnode::proto::device_plugin_client::DevicePluginClient;
use simnode::proto::device_plugin_server::{DevicePlugin, DevicePluginServer};
use simnode::proto::{
    AllocateRequest, AllocateResponse, ContainerPreferredAllocationRequest, ContainerPreferredAllocationResponse,
    DevicePluginOptions, Empty, ListAndWatchResponse, PreStartContainerRequest, PreStartContainerResponse,
    PreferredAllocationRequest, PreferredAllocationResponse,
};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Channel;
use tonic::{Response, Status};

/// The system's allocator, with a count of what it is asked for.
struct Counting;

static BYTES: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code, reason = "an allocator that counts has no safe form; it is in this benchmark alone")]
// SAFETY: each call goes to the system's allocator with what came in and comes back with its answer.
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
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    println!("{:<34} {:>9} {:>9} {:>9} {:>9} {:>10}", "", "median", "99 %", "worst", "wanted", "most bytes");
    runtime.block_on(async {
        let mut machines: Vec<(String, Inventory)> =
            machines::all().into_iter().map(|machine| (machine.name.to_owned(), whole(&machine.topology))).collect();
        for gpus in [8, 16] {
            machines.push((format!("{gpus} GPUs, no two alike"), irregular(gpus)));
        }
        for (name, inventory) in machines {
            let gpus: Vec<String> = inventory.gpus().keys().map(ToString::to_string).collect();
            let wanted = Duration::from_micros(if gpus.len() > 8 { 250 } else { 100 });
            let directory = tempfile::tempdir().expect("a directory");
            let (_publish, snapshots) = watch::channel(Arc::new(inventory));
            let server = Server::start(directory.path(), &ResourceName::gpu(), snapshots, &Notes::default());
            let server = server.expect("a server");
            let client = Kubelet::dial(server.path().to_owned()).await.expect("a client");
            measure(&client, &Case { name: name.clone(), requests: chances(&gpus), wanted }).await;
            if gpus.len() == 16 {
                let requests = (1..16).map(|size| request(gpus.clone(), size)).collect();
                measure(&client, &Case { name: format!("{name}, all free"), requests, wanted }).await;
            }
            drop(client);
            server.stop().await;
        }
        for (name, entries, size) in
            [("2 of 560 MIG replicas", shared(7, 10), 2), ("8 of 2048 replicas", shared(1, 256), 8)]
        {
            for policy in SharedPolicy::ALL {
                let ids: Vec<String> = entries.iter().map(|entry| entry.id.to_string()).collect();
                let policies = Policies { shared: policy, ..Policies::default() };
                let catalogue = Catalogue::new(entries.clone(), &machines::dgx_h100().topology, policies);
                let client = bare(catalogue).await;
                let requests = vec![request(ids, size)];
                let wanted = Duration::from_micros(500);
                measure(&client, &Case { name: format!("{name}, {policy}"), requests, wanted }).await;
            }
        }
    });
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
    let [median, high, worst] = [CALLS / 2, CALLS * 99 / 100, CALLS - 1].map(|at| times[at].as_secs_f64() * 1e6);
    let wanted = case.wanted.as_secs_f64() * 1e6;
    println!("{:<34} {median:>6.0} us {high:>6.0} us {worst:>6.0} us {wanted:>6.0} us {most:>10}", case.name);
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

fn gpu(index: usize, numa_node: Option<NumaNode>) -> Gpu {
    Gpu {
        uuid: machines::uuid(index),
        index: index as u32,
        minor: None,
        name: None,
        pci_bus_id: Some(machines::bus(index)),
        memory_bytes: None,
        compute_capability: None,
        numa_node,
        mig_enabled: false,
        mig_devices: Vec::new(),
        mig_failures: Vec::new(),
    }
}

fn inventory(gpus: Vec<Gpu>, links: Links) -> Inventory {
    let mut inventory =
        Inventory::new(NodeLayout::default(), Injector::default(), NodeHealth::default(), Policies::default());
    let found = gpus.into_iter().map(Found::Gpu).collect();
    inventory.apply(Moment::default(), Observation::Scan { session: 1, found });
    let changes = inventory.apply(Moment::default(), Observation::Links(links));
    for draft in changes.postponed {
        inventory.finish(draft.finish());
    }
    inventory
}

/// An inventory of a machine, with the links that its topology says.
fn whole(topology: &gpu_device_plugin::device::topology::Topology) -> Inventory {
    use gpu_device_plugin::device::topology::NvLink;
    let mut links = Links::default();
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
            own.extend(vec![ObservedLink { remote, version: bundle.version, active: true }; bundle.links as usize]);
        }
        links.nvlinks.insert(member.uuid.clone(), own);
    }
    let gpus = members.iter().enumerate().map(|(at, member)| gpu(at, member.numa_node)).collect();
    let inventory = inventory(gpus, links);
    assert_eq!(inventory.topology(), topology);
    inventory
}

/// GPUs of which no two are interchangeable, with one, two or three links at random between any two: hardly anything
/// that makes the search short applies.
fn irregular(gpus: usize) -> Inventory {
    let count = |a: usize, b: usize| {
        let seed = (a.min(b) * 64 + a.max(b)) as u32;
        1 + (seed.wrapping_mul(0x9e37_79b9) >> 13) as usize % 3
    };
    let mut links = Links::default();
    for a in 0..gpus {
        let peers = (0..gpus).filter(|b| *b != a);
        let to = |b| machines::links(count(a, b), Remote::Gpu(machines::bus(b)), NvLinkVersion::V2);
        links.nvlinks.insert(machines::uuid(a), peers.clone().flat_map(to).collect());
        links.ancestors.extend(peers.map(|b| ((machines::uuid(a), machines::uuid(b)), PcieLevel::SameNode)));
    }
    inventory((0..gpus).map(|index| gpu(index, NumaNode::from_sysfs(0))).collect(), links)
}

/// Eight GPUs of `carriers` MIG devices each (one: the GPU itself), each with `replicas` replicas.
fn shared(carriers: usize, replicas: u32) -> Vec<Entry> {
    let mut entries = Vec::new();
    for gpu in 0..8 {
        for carrier in 0..carriers {
            let uuid: Uuid = match carriers {
                1 => machines::uuid(gpu),
                _ => format!("MIG-{gpu:08x}-{carrier:04x}-5ca1-ab1e-000000000000").parse().expect("it is well formed"),
            };
            entries.extend((0..replicas).map(|replica| Entry {
                id: DeviceId::replica(uuid.clone(), replica),
                gpu: machines::uuid(gpu),
                gpu_index: gpu as u32,
            }));
        }
    }
    entries
}

/// The service of one catalogue and nothing else.
struct Bare(Catalogue);

/// Serves a catalogue, and dials it.
async fn bare(catalogue: Catalogue) -> DevicePluginClient<Channel> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("bare.sock");
    let incoming = UnixListenerStream::new(UnixListener::bind(&path).expect("a socket"));
    let service = DevicePluginServer::new(Bare(catalogue));
    tokio::spawn(tonic::transport::Server::builder().serve_with_incoming(service, incoming));
    Kubelet::dial(path).await.expect("a client")
}

#[tonic::async_trait]
impl DevicePlugin for Bare {
    async fn get_device_plugin_options(
        &self,
        _: tonic::Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    type ListAndWatchStream = tokio_stream::Empty<Result<ListAndWatchResponse, Status>>;

    async fn list_and_watch(&self, _: tonic::Request<Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn get_preferred_allocation(
        &self,
        request: tonic::Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        let containers = request.into_inner().container_requests;
        let answer = |container: ContainerPreferredAllocationRequest| {
            let request = Request {
                available: &container.available_device_ids,
                must_include: &container.must_include_device_ids,
                size: container.allocation_size,
            };
            let ids = preferred(&self.0, &request).ids;
            ContainerPreferredAllocationResponse { device_ids: ids.into_iter().map(ToOwned::to_owned).collect() }
        };
        let container_responses = containers.into_iter().map(answer).collect();
        Ok(Response::new(PreferredAllocationResponse { container_responses }))
    }

    async fn allocate(&self, _: tonic::Request<AllocateRequest>) -> Result<Response<AllocateResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }

    async fn pre_start_container(
        &self,
        _: tonic::Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Err(Status::unimplemented("not asked"))
    }
}
