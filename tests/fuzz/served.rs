//! A resource on its own server, and clients that send what they like.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use device::allocation::AllocationPolicy;
use device::inventory::Inventory;
use device::layout::{Layout, MigStrategy};
use device::names::ResourceName;
use gpu_device_plugin::kubelet::device_plugin::calls::CallDurations;
use gpu_device_plugin::kubelet::device_plugin::server::Server;
use gpu_device_plugin::kubelet::device_plugin::telemetry::PluginTelemetry;
use gpu_device_plugin::util::change_signal::ChangeSignal;
use simnode::kubelet::Kubelet;
use simnode::proto::device_plugin_client::DevicePluginClient;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::raw::Raw;
use crate::sample;

/// How long an answer may take on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is served: one of these.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Node {
    /// Four GPUs.
    Whole,
    /// Four GPUs, each three times.
    Shared,
    /// Two GPUs in seven MIG devices each.
    Mig,
}

pub(crate) const NODES: [Node; 3] = [Node::Whole, Node::Shared, Node::Mig];

impl Node {
    pub(crate) fn inventory(self) -> Inventory {
        let (gpus, slices, replicas) = match self {
            Self::Whole => (4, 0, 1),
            Self::Shared => (4, 0, 3),
            Self::Mig => (2, 7, 1),
        };
        let shared = (replicas > 1).then(|| sample::shared(&ResourceName::gpu(), replicas));
        let layout = Layout {
            mig_strategy: MigStrategy::Single,
            sharing: sample::time_slicing(shared.into_iter().collect()),
            ..Layout::default()
        };
        sample::node(
            (0..gpus).map(|index| sample::gpu(index, slices)),
            layout,
            AllocationPolicy::default(),
        )
    }
}

/// The ids of an inventory, each with the UUID that a container gets, in the order of an answer.
pub(crate) fn known(inventory: &Inventory) -> Vec<(String, String)> {
    let devices = inventory.devices(&ResourceName::gpu()).unwrap().values();
    let mut devices: Vec<_> = devices.collect();
    devices.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    devices
        .into_iter()
        .map(|device| (device.id.to_string(), device.id.uuid().to_string()))
        .collect()
}

/// The server of a node's resource, with two kinds of clients.
pub(crate) struct Served {
    pub(crate) known: Vec<(String, String)>,
    pub(crate) client: DevicePluginClient<Channel>,
    raw: Channel,
    _server: Server,
    _publish: watch::Sender<Arc<Inventory>>,
    _directory: tempfile::TempDir,
    runtime: Runtime,
}

impl Served {
    pub(crate) fn of(node: Node) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let inventory = node.inventory();
        let known = known(&inventory);
        let (publish, snapshots) = watch::channel(Arc::new(inventory));
        let telemetry =
            PluginTelemetry::new(CallDurations::default(), None, ChangeSignal::default());
        let (server, client, raw) = runtime.block_on(async {
            let server =
                Server::start(directory.path(), &ResourceName::gpu(), snapshots, &telemetry)
                    .unwrap();
            let client = Kubelet::dial(server.path.clone()).await.unwrap();
            let address = format!("unix://{}", server.path.display());
            (server, client, Endpoint::from_shared(address).unwrap().connect().await.unwrap())
        });
        Self {
            known,
            client,
            raw,
            _server: server,
            _publish: publish,
            _directory: directory,
            runtime,
        }
    }

    /// Calls a method with these bytes in the place of a message.
    pub(crate) fn send(&self, method: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Status> {
        let path = format!("/v1beta1.DevicePlugin/{method}").parse().unwrap();
        let mut client = tonic::client::Grpc::new(self.raw.clone());
        self.wait(async move {
            client.ready().await.unwrap();
            client.unary(Request::new(bytes), path, Raw).await.map(tonic::Response::into_inner)
        })
    }

    /// Waits for an answer, which has to come.
    pub(crate) fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        self.runtime
            .block_on(async { tokio::time::timeout(PATIENCE, call).await })
            .expect("an answer in time")
    }

    /// What a container gets for these ids, if all are known: each device once, in order.
    pub(crate) fn expected(&self, ids: &[String]) -> Result<String, String> {
        let places: BTreeMap<&str, usize> =
            self.known.iter().enumerate().map(|(n, (id, _))| (id.as_str(), n)).collect();
        let mut asked = Vec::new();
        for id in ids {
            asked.push(*places.get(id.as_str()).ok_or_else(|| id.clone())?);
        }
        asked.sort_unstable();
        let mut uuids: Vec<&str> = asked.into_iter().map(|at| self.known[at].1.as_str()).collect();
        uuids.dedup();
        Ok(uuids.join(","))
    }
}
