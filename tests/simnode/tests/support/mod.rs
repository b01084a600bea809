//! A small plugin that keeps the contract unless it is set to break it, to test the fake kubelet
//! against.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use simnode::kubelet::{Kubelet, KubeletConfig, KubeletVersion, Limits};
use simnode::proto::device_plugin_server::{DevicePlugin, DevicePluginServer};
use simnode::proto::registration_client::RegistrationClient;
use simnode::proto::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse,
    ContainerPreferredAllocationResponse, Device, DevicePluginOptions, Empty, ListAndWatchResponse,
    NumaNode, PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse, RegisterRequest, TopologyInfo,
};
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::codegen::http;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status};
use tower::util::MapRequestLayer;

/// Long enough for anything that happens at all.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// The resource of the test plugin.
pub(crate) const GPU: &str = "nvidia.com/gpu";

/// A kubelet on a directory that goes with it.
pub(crate) struct Home {
    pub(crate) kubelet: Kubelet,
    _directory: TempDir,
}

/// A kubelet of that version.
pub(crate) async fn kubelet(version: KubeletVersion) -> Home {
    kubelet_with(|config| config.version(version)).await
}

/// A kubelet of that version with other limits than the real ones.
pub(crate) async fn limited(version: KubeletVersion, change: impl FnOnce(&mut Limits)) -> Home {
    let mut limits = Limits::default();
    change(&mut limits);
    kubelet_with(|config| config.version(version).limits(limits)).await
}

/// A kubelet with a configuration of its own.
pub(crate) async fn kubelet_with(configure: impl FnOnce(KubeletConfig) -> KubeletConfig) -> Home {
    let directory = tempfile::Builder::new().prefix("kl").tempdir().expect("a temporary directory");
    let config = configure(KubeletConfig::new(directory.path().join("d")));
    Home {
        kubelet: Kubelet::start(config).await.expect("the kubelet starts"),
        _directory: directory,
    }
}

/// A healthy device without topology.
pub(crate) fn device(id: &str) -> Device {
    Device { id: id.to_owned(), health: "Healthy".to_owned(), topology: None }
}

/// A device of any health.
pub(crate) fn with_health(id: &str, health: &str) -> Device {
    Device { health: health.to_owned(), ..device(id) }
}

/// A healthy device on NUMA nodes.
pub(crate) fn on_nodes(id: &str, nodes: &[i64]) -> Device {
    let nodes = nodes.iter().map(|id| NumaNode { id: *id }).collect();
    Device { topology: Some(TopologyInfo { nodes }), ..device(id) }
}

/// Healthy devices.
pub(crate) fn devices(ids: &[&str]) -> Vec<Device> {
    ids.iter().map(|id| device(id)).collect()
}

type Answer<Q, A> = Arc<dyn Fn(Q) -> Result<A, Status> + Send + Sync>;

/// What the plugin answers.
#[derive(Clone)]
pub(crate) struct Behaviour {
    pub(crate) version: String,
    pub(crate) resource: String,
    /// What the Register call says; None: the same as when asked.
    pub(crate) registered_options: Option<DevicePluginOptions>,
    pub(crate) options: Result<DevicePluginOptions, Status>,
    /// GetDevicePluginOptions does not answer before this is true.
    pub(crate) options_gate: watch::Receiver<bool>,
    /// The first list of every stream; None sends none.
    pub(crate) list: Option<Vec<Device>>,
    pub(crate) preferred: Answer<PreferredAllocationRequest, PreferredAllocationResponse>,
    pub(crate) allocate: Answer<AllocateRequest, AllocateResponse>,
    /// None: never answers.
    pub(crate) pre_start: Option<Answer<PreStartContainerRequest, PreStartContainerResponse>>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            version: "v1beta1".to_owned(),
            resource: GPU.to_owned(),
            registered_options: None,
            options: Ok(DevicePluginOptions::default()),
            options_gate: open_gate(),
            list: Some(devices(&["a", "b", "c", "d"])),
            preferred: Arc::new(|request| Ok(set_allocation_policy(lowest(&request)))),
            allocate: Arc::new(|request| {
                Ok(AllocateResponse { container_responses: vec![visible(&request)] })
            }),
            pre_start: Some(Arc::new(|_| Ok(PreStartContainerResponse {}))),
        }
    }
}

impl Behaviour {
    /// A plugin that wants to be asked which devices it prefers.
    pub(crate) fn preferring(self) -> Self {
        let options = DevicePluginOptions {
            get_preferred_allocation_available: true,
            ..self.options.clone().expect("none failed yet")
        };
        Self { options: Ok(options), ..self }
    }

    /// A plugin that wants PreStartContainer.
    pub(crate) fn pre_starting(self) -> Self {
        let options = DevicePluginOptions {
            pre_start_required: true,
            ..self.options.clone().expect("none failed yet")
        };
        Self { options: Ok(options), ..self }
    }

    /// A plugin whose streams begin with this list.
    pub(crate) fn list(self, list: Vec<Device>) -> Self {
        Self { list: Some(list), ..self }
    }
}

fn open_gate() -> watch::Receiver<bool> {
    watch::channel(true).1
}

/// The answer with these ids preferred.
pub(crate) fn set_allocation_policy(device_ids: Vec<String>) -> PreferredAllocationResponse {
    PreferredAllocationResponse {
        container_responses: vec![ContainerPreferredAllocationResponse { device_ids }],
    }
}

/// The fixed ids and then the lowest ones.
fn lowest(request: &PreferredAllocationRequest) -> Vec<String> {
    let request = &request.container_requests[0];
    let mut ids = request.must_include_device_ids.clone();
    let mut available = request.available_device_ids.clone();
    available.sort();
    available.retain(|id| !ids.contains(id));
    ids.extend(available);
    ids.truncate(usize::try_from(request.allocation_size).expect("not negative"));
    ids
}

fn visible(request: &AllocateRequest) -> ContainerAllocateResponse {
    let ids = request.container_requests[0].device_ids.join(",");
    let envs = [("VISIBLE".to_owned(), ids)].into();
    ContainerAllocateResponse { envs, ..ContainerAllocateResponse::default() }
}

/// The devices that an answer of the test plugin names, in order.
pub(crate) fn visible_in(answer: &ContainerAllocateResponse) -> Vec<String> {
    let mut ids: Vec<String> = answer.envs["VISIBLE"].split(',').map(str::to_owned).collect();
    ids.sort();
    ids
}

type Stream = mpsc::UnboundedSender<Result<ListAndWatchResponse, Status>>;

/// What has reached the plugin.
#[derive(Default)]
struct Seen {
    authorities: Mutex<Vec<String>>,
    streams: Mutex<Vec<Stream>>,
    streams_opened: AtomicUsize,
}

/// The running plugin.
pub(crate) struct TestPlugin {
    pub(crate) behaviour: Behaviour,
    pub(crate) endpoint: String,
    pub(crate) socket: PathBuf,
    kubelet_socket: PathBuf,
    seen: Arc<Seen>,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl TestPlugin {
    /// Serves on a socket of that name, beside the kubelet's.
    pub(crate) fn serve(kubelet: &Kubelet, endpoint: &str, behaviour: Behaviour) -> Self {
        let socket = kubelet.directory().join(endpoint);
        let listener = UnixListener::bind(&socket).expect("the socket is free");
        let (seen, stop) = (Arc::<Seen>::default(), watch::Sender::new(false));
        let service = DevicePluginServer::new(Service {
            behaviour: behaviour.clone(),
            seen: Arc::clone(&seen),
        });
        let record = Arc::clone(&seen);
        let layer = MapRequestLayer::new(move |request: http::Request<tonic::body::Body>| {
            let authority = request.uri().authority().map(ToString::to_string).unwrap_or_default();
            record.authorities.lock().expect("not poisoned").push(authority);
            request
        });
        let mut stopped = stop.subscribe();
        let server = tokio::spawn(async move {
            let end =
                async move { stopped.wait_for(|stop| *stop).await.map(drop).unwrap_or_default() };
            let incoming = UnixListenerStream::new(listener);
            let served = Server::builder()
                .layer(layer)
                .serve_with_incoming_shutdown(service, incoming, end)
                .await;
            served.expect("serving a unix socket");
        });
        let (endpoint, kubelet_socket) = (endpoint.to_owned(), kubelet.socket());
        Self { behaviour, endpoint, socket, kubelet_socket, seen, stop, server }
    }

    /// Serves and registers.
    pub(crate) async fn start(kubelet: &Kubelet, endpoint: &str, behaviour: Behaviour) -> Self {
        let plugin = Self::serve(kubelet, endpoint, behaviour);
        plugin.register().await.expect("registered");
        plugin
    }

    /// The Register call.
    pub(crate) async fn register(&self) -> Result<(), Status> {
        let options = self.behaviour.registered_options.or(self.behaviour.options.clone().ok());
        register(
            self.kubelet_socket.clone(),
            RegisterRequest {
                version: self.behaviour.version.clone(),
                endpoint: self.endpoint.clone(),
                resource_name: self.behaviour.resource.clone(),
                options,
            },
        )
        .await
    }

    /// Sends a list on every open stream.
    pub(crate) fn send(&self, devices: Vec<Device>) {
        let streams = self.seen.streams.lock().expect("not poisoned");
        for stream in streams.iter() {
            // The kubelet may have left.
            let _ = stream.send(Ok(ListAndWatchResponse { devices: devices.clone() }));
        }
    }

    /// Ends every open stream.
    pub(crate) fn end_streams(&self) {
        self.seen.streams.lock().expect("not poisoned").clear();
    }

    /// How many times ListAndWatch was called.
    pub(crate) fn streams_opened(&self) -> usize {
        self.seen.streams_opened.load(Ordering::SeqCst)
    }

    /// True when every stream was closed from the other side.
    pub(crate) async fn streams_closed(&self) {
        let streams = self.seen.streams.lock().expect("not poisoned").clone();
        for stream in streams {
            tokio::time::timeout(SOON, stream.closed()).await.expect("the kubelet leaves");
        }
    }

    /// The :authority of every request.
    pub(crate) fn authorities(&self) -> Vec<String> {
        self.seen.authorities.lock().expect("not poisoned").clone()
    }

    /// Ends the streams and then the server, and removes the socket.
    pub(crate) async fn stop(self) {
        self.end_streams();
        self.stop.send_replace(true);
        self.server.await.expect("the server ends");
        // A kubelet that started in the meantime may have removed it.
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// A Register call of any content.
pub(crate) async fn register(
    kubelet_socket: PathBuf,
    request: RegisterRequest,
) -> Result<(), Status> {
    let uri = format!("unix://{}", kubelet_socket.display());
    let channel = Endpoint::from_shared(uri).expect("a path").connect().await;
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    let answer = tokio::time::timeout(SOON, async {
        RegistrationClient::new(channel).register(request).await
    })
    .await;
    answer.expect("the kubelet answers").map(drop)
}

struct Service {
    behaviour: Behaviour,
    seen: Arc<Seen>,
}

#[tonic::async_trait]
impl DevicePlugin for Service {
    type ListAndWatchStream = UnboundedReceiverStream<Result<ListAndWatchResponse, Status>>;

    async fn get_device_plugin_options(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<DevicePluginOptions>, Status> {
        // A gate whose sender was dropped counts as open.
        let _ = self.behaviour.options_gate.clone().wait_for(|open| *open).await;
        self.behaviour.options.clone().map(Response::new)
    }

    async fn list_and_watch(
        &self,
        _: Request<Empty>,
    ) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let (sender, receiver) = mpsc::unbounded_channel();
        if let Some(devices) = self.behaviour.list.clone() {
            sender.send(Ok(ListAndWatchResponse { devices })).expect("the receiver is here");
        }
        self.seen.streams.lock().expect("not poisoned").push(sender);
        self.seen.streams_opened.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(UnboundedReceiverStream::new(receiver)))
    }

    async fn get_preferred_allocation(
        &self,
        request: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        (self.behaviour.preferred)(request.into_inner()).map(Response::new)
    }

    async fn allocate(
        &self,
        request: Request<AllocateRequest>,
    ) -> Result<Response<AllocateResponse>, Status> {
        (self.behaviour.allocate)(request.into_inner()).map(Response::new)
    }

    async fn pre_start_container(
        &self,
        request: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        match &self.behaviour.pre_start {
            Some(answer) => answer(request.into_inner()).map(Response::new),
            None => std::future::pending().await,
        }
    }
}
