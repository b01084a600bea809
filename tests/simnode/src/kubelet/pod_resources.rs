//! The podresources server of a kubelet: which container holds which device, from the device
//! manager's own state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Instant;

use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::KubeletVersion;
use super::checkpoint::PodDevices;
use super::manager::{Manager, Shared};
use super::violations::ViolationKind;
use crate::pod_resources_proto::pod_resources_lister_server::{
    PodResourcesLister, PodResourcesListerServer,
};
use crate::pod_resources_proto::{
    AllocatableResourcesRequest, AllocatableResourcesResponse, ContainerDevices,
    ContainerResources, GetPodResourcesRequest, GetPodResourcesResponse, ListPodResourcesRequest,
    ListPodResourcesResponse, NumaNode, PodResources, TopologyInfo,
};

/// The namespace of all pods; their names are their UIDs.
pub const NAMESPACE: &str = "default";

/// Calls a second, and calls at once (pkg/kubelet/apis/podresources/constants.go).
const RATE: f64 = 100.0;
const BURST: f64 = 10.0;

/// What is wrong with the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// Each answer takes so many milliseconds.
    Slow(u64),
    /// No call is ever answered.
    Hangs,
    /// Every call is answered with an error.
    Fails,
    /// Answers are longer than any client of the kubelet takes.
    Huge,
    /// Answers have so many pods more, in about as many times 32 bytes.
    Pods(u32),
    /// In answers another pod holds so many devices of another plugin, in about as many times 102
    /// bytes.
    ForeignIds(u32),
    /// In answers another pod, whose name is no name, holds devices of each resource that no plugin
    /// has: words of NVIDIA's container runtime, and paths.
    Hostile,
}

/// Ids that are none.
const HOSTILE_IDS: [&str; 6] = ["all", "none", "void", "0", "../../../etc", "GPU-../../../etc"];

impl Trouble {
    /// The pods that an answer has beside those that there are.
    fn more_pods(self, resources: Vec<String>) -> Vec<PodResources> {
        let named = |name: String| PodResources { name, ..PodResources::default() };
        let holding = |devices| {
            let name = "main".to_owned();
            let container = ContainerResources { name, devices, ..ContainerResources::default() };
            vec![container]
        };
        let devices = |resource: String, ids| device_ids(&resource, ids, Vec::new());
        match self {
            Self::None | Self::Slow(_) | Self::Hangs | Self::Fails => Vec::new(),
            Self::Huge => vec![named("x".repeat(17 << 20))],
            Self::Pods(count) => (0..count).map(|n| named(format!("{n:028}"))).collect(),
            Self::ForeignIds(count) => {
                let ids = (0..count).map(|n| format!("{n:0100}")).collect();
                let containers = holding(vec![devices("example.com/nic".to_owned(), ids)]);
                vec![PodResources { containers, ..named("other".to_owned()) }]
            }
            Self::Hostile => {
                let ids = || HOSTILE_IDS.map(str::to_owned).into();
                let of_each = resources.into_iter().map(|resource| devices(resource, ids()));
                let containers = holding(of_each.collect());
                vec![PodResources { containers, ..named("x\nforged \u{1b}[2J".to_owned()) }]
            }
        }
    }
}

/// Binds the socket and serves it in the current runtime. What an earlier life left there is
/// removed.
pub(super) fn serve(shared: &Shared, socket: &Path) -> io::Result<()> {
    if let Some(directory) = socket.parent() {
        DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let incoming = UnixListenerStream::new(UnixListener::bind(socket)?);
    let lister = PodResourcesListerServer::new(Lister { shared: shared.clone() });
    tokio::spawn(Server::builder().serve_with_incoming(lister, incoming));
    Ok(())
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct Limit {
    tokens: f64,
    at: Instant,
}

impl Default for Limit {
    fn default() -> Self {
        Self { tokens: BURST, at: Instant::now() }
    }
}

impl Limit {
    fn admits(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * RATE;
        self.tokens = (self.tokens + gained).min(BURST);
        self.at = now;
        let admits = self.tokens >= 1.0;
        if admits {
            self.tokens -= 1.0;
        }
        admits
    }
}

struct Lister {
    shared: Shared,
}

impl Lister {
    /// What comes before every answer: the limit, and what a test wants to go wrong.
    async fn enter(&self) -> Result<(), Status> {
        let trouble = {
            let mut manager = self.shared.manager();
            let now = Instant::now();
            manager.asked.push(now);
            if !manager.limit.admits(now) {
                manager.violations.record(
                    ViolationKind::PodResourcesRate,
                    "",
                    "more than the kubelet's limit",
                );
                return Err(Status::resource_exhausted("rejected by rate limit"));
            }
            manager.trouble
        };
        match trouble {
            Trouble::None
            | Trouble::Huge
            | Trouble::Pods(_)
            | Trouble::ForeignIds(_)
            | Trouble::Hostile => Ok(()),
            Trouble::Slow(milliseconds) => {
                tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
                Ok(())
            }
            Trouble::Hangs => std::future::pending().await,
            Trouble::Fails => Err(Status::unknown("it is so wanted")),
        }
    }
}

#[tonic::async_trait]
impl PodResourcesLister for Lister {
    async fn list(
        &self,
        _: Request<ListPodResourcesRequest>,
    ) -> Result<Response<ListPodResourcesResponse>, Status> {
        self.enter().await?;
        let mut manager = self.shared.manager();
        let mut pod_resources = manager.pod_resources(self.shared.config().version);
        let resources = manager.devices.keys().cloned().collect();
        pod_resources.extend(manager.trouble.more_pods(resources));
        Ok(Response::new(ListPodResourcesResponse { pod_resources }))
    }

    async fn get_allocatable_resources(
        &self,
        _: Request<AllocatableResourcesRequest>,
    ) -> Result<Response<AllocatableResourcesResponse>, Status> {
        self.enter().await?;
        let manager = self.shared.manager();
        let healthy = manager.devices.iter().flat_map(|(resource, devices)| {
            devices.healthy.iter().map(|id| {
                let nodes = devices.all.get(id).and_then(|device| device.topology.as_ref());
                let nodes = nodes
                    .into_iter()
                    .flat_map(|topology| topology.nodes.iter().map(|node| node.id));
                device(resource, id, nodes.collect())
            })
        });
        Ok(Response::new(AllocatableResourcesResponse {
            devices: healthy.collect(),
            ..Default::default()
        }))
    }

    async fn get(
        &self,
        request: Request<GetPodResourcesRequest>,
    ) -> Result<Response<GetPodResourcesResponse>, Status> {
        self.enter().await?;
        let version = self.shared.config().version;
        let GetPodResourcesRequest { pod_name, pod_namespace } = request.into_inner();
        if version < KubeletVersion::V1_36 {
            return Err(Status::unknown("PodResources API Get method disabled"));
        }
        let pods = self.shared.manager().pod_resources(version);
        let found =
            pods.into_iter().find(|pod| pod.name == pod_name && pod.namespace == pod_namespace);
        match found {
            Some(pod) => Ok(Response::new(GetPodResourcesResponse { pod_resources: Some(pod) })),
            None => Err(Status::unknown(format!(
                "pod {pod_name} in namespace {pod_namespace} not found"
            ))),
        }
    }
}

impl Manager {
    /// The pods as List has them: up to 1.33 those that are over too.
    fn pod_resources(&mut self, version: KubeletVersion) -> Vec<PodResources> {
        let active_only = version >= KubeletVersion::V1_36;
        let known = self.known_pods.iter().filter(|(_, pod)| !(active_only && pod.finished));
        let known: Vec<_> = known.map(|(uid, pod)| (uid.clone(), pod.containers.clone())).collect();
        self.forget_finished_pods();
        let pod = |(uid, containers): (String, BTreeSet<String>)| PodResources {
            containers: containers
                .into_iter()
                .map(|name| self.container_resources(&uid, name))
                .collect(),
            name: uid,
            namespace: NAMESPACE.to_owned(),
        };
        known.into_iter().map(pod).collect()
    }

    fn container_resources(&self, pod: &str, name: String) -> ContainerResources {
        let held = self.pods.iter().filter(|held| held.pod == pod && held.container == name);
        ContainerResources {
            devices: held.flat_map(devices).collect(),
            name,
            ..ContainerResources::default()
        }
    }
}

/// One entry for each device, with its NUMA nodes.
fn devices(held: &PodDevices) -> Vec<ContainerDevices> {
    let mut nodes_of: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for (node, ids) in &held.by_numa {
        for id in ids {
            nodes_of.entry(id).or_default().extend((*node >= 0).then_some(*node));
        }
    }
    nodes_of.into_iter().map(|(id, nodes)| device(&held.resource, id, nodes)).collect()
}

fn device(resource: &str, id: &str, nodes: Vec<i64>) -> ContainerDevices {
    device_ids(resource, vec![id.to_owned()], nodes)
}

fn device_ids(resource: &str, device_ids: Vec<String>, nodes: Vec<i64>) -> ContainerDevices {
    let topology = TopologyInfo { nodes: nodes.into_iter().map(|id| NumaNode { id }).collect() };
    ContainerDevices {
        resource_name: resource.to_owned(),
        device_ids,
        topology: Some(topology).filter(|topology| !topology.nodes.is_empty()),
    }
}

/// A pod as the API server has reported it to the kubelet.
#[derive(Debug, Clone, Default)]
pub(super) struct KnownPod {
    /// The containers that podresources shows: those of the pod, and init containers that stay.
    pub(super) containers: BTreeSet<String>,
    /// It has succeeded or failed.
    pub(super) finished: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ten_calls_at_once_and_a_hundred_a_second_are_admitted() {
        let start = Instant::now();
        let mut limit = Limit { tokens: BURST, at: start };
        assert_eq!((0..15).filter(|_| limit.admits(start)).count(), 10);
        let later = start + Duration::from_millis(55);
        assert_eq!((0..15).filter(|_| limit.admits(later)).count(), 5);
    }
}
