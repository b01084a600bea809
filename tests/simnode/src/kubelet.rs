//! A fake kubelet: the device manager's registration server, its plugin connections, its device
//! sets, its admission and its checkpoint, as Kubernetes 1.26 to 1.37 have them, and a record of
//! what a plugin did that the real one would have tolerated.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::sync::watch;
use tonic::transport::Channel;

use crate::proto::ContainerAllocateResponse;
use crate::proto::device_plugin_client::DevicePluginClient;

mod admission;
mod affinity;
mod answers;
mod ask_by_path;
mod audit;
mod calls;
mod checkpoint;
mod clients;
mod dial;
mod directory;
mod guard;
mod life;
mod manager;
mod names;
mod observe;
mod pod_resources;
mod random;
mod records;
mod registration;
mod requests;
mod restart;
mod status;
mod streams;
mod view;
mod violations;

pub use checkpoint::CHECKPOINT;
pub use dial::RECEIVE_LIMIT;
pub use directory::KUBELET_SOCKET;
pub use names::is_extended_resource_name;
pub use pod_resources::{NAMESPACE, Trouble};
pub use records::{Call, Method, PodDevice, ReceivedList};
pub use requests::{AdmissionError, AllocationRequest, ContainerKind};
pub use restart::{Containers, Frozen};
pub use status::go_error;
pub use view::{DeviceView, Outcome, Registration, ResourceView, View};
pub use violations::{Violation, ViolationKind};

use life::Life;
use manager::Shared;

/// The releases whose behaviour differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KubeletVersion {
    /// 1.26 to 1.28: CDI names in an answer do not reach the runtime. Otherwise as 1.32.
    V1_26,
    /// From 1.29 on. The clean-up removes every file but the checkpoint. A registration goes on
    /// when the plugin gives up.
    V1_32,
    /// The clean-up removes only sockets. Otherwise the same race on registering again as before.
    V1_36,
    /// Clients are kept by resource and socket: no race, and no second registration of a living
    /// socket.
    V1_37,
}

/// What a kubelet is started with.
#[derive(Debug, Clone)]
pub struct KubeletConfig {
    /// The device plugin directory; it is created.
    pub directory: PathBuf,
    /// The podresources socket; its directory is created. None: the kubelet serves none.
    pub pod_resources: Option<PathBuf>,
    /// Whose behaviour is shown.
    pub version: KubeletVersion,
    /// How long the kubelet waits for what.
    pub limits: Limits,
    /// Of the orders and choices that are random.
    pub seed: u64,
    /// The node's NUMA nodes. A topology that names another one is a violation; None checks
    /// nothing.
    pub numa_nodes: Option<BTreeSet<i64>>,
    /// It panics when it is dropped after a violation that was not [forgiven](Kubelet::forgive).
    pub guarded: bool,
}

impl KubeletConfig {
    /// A kubelet 1.36 with the real limits on that directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            pod_resources: None,
            version: KubeletVersion::V1_36,
            limits: Limits::default(),
            seed: 1,
            numa_nodes: None,
            guarded: false,
        }
    }

    /// The same with another version.
    #[must_use]
    pub fn version(self, version: KubeletVersion) -> Self {
        Self { version, ..self }
    }

    /// The same with every limit multiplied: with 0.001 the 5 minutes' grace is 300 ms.
    #[must_use]
    pub fn time_scale(self, factor: f64) -> Self {
        let Limits { dial, pre_start, grace } = self.limits;
        let limits = Limits {
            dial: dial.mul_f64(factor),
            pre_start: pre_start.mul_f64(factor),
            grace: grace.mul_f64(factor),
        };
        Self { limits, ..self }
    }

    /// The same with these limits.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The same with other random choices.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The same with a podresources server on this socket.
    #[must_use]
    pub fn pod_resources(self, socket: impl Into<PathBuf>) -> Self {
        Self { pod_resources: Some(socket.into()), ..self }
    }

    /// The same, and the end of a test fails over a violation that was not
    /// [forgiven](Kubelet::forgive).
    #[must_use]
    pub fn guarded(self) -> Self {
        Self { guarded: true, ..self }
    }

    /// The same on a node with these NUMA nodes.
    #[must_use]
    pub fn numa_nodes(self, nodes: impl IntoIterator<Item = i64>) -> Self {
        Self { numa_nodes: Some(nodes.into_iter().collect()), ..self }
    }
}

/// The kubelet's time-outs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long it tries to connect to a plugin that registers.
    pub dial: Duration,
    /// How long PreStartContainer may take.
    pub pre_start: Duration,
    /// How long a stopped endpoint's resource is kept.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(10),
            pre_start: Duration::from_secs(30),
            grace: Duration::from_secs(5 * 60),
        }
    }
}

/// A fake kubelet. It lives on a thread of its own, so that it can die as a process does, and so
/// that neither a paused clock nor a busy test thread changes what it does.
#[derive(Debug)]
pub struct Kubelet {
    shared: Shared,
    /// Dropped, with every task and connection in it, when the kubelet dies.
    life: Mutex<Option<Life>>,
    forgiven: Mutex<BTreeSet<ViolationKind>>,
}

impl Kubelet {
    /// Starts a kubelet: directory, clean-up, checkpoint, registration socket.
    ///
    /// # Errors
    /// The file system's, or a socket path that is too long.
    pub async fn start(config: KubeletConfig) -> anyhow::Result<Self> {
        let kubelet = Self {
            shared: Shared::new(config),
            life: Mutex::new(None),
            forgiven: Mutex::default(),
        };
        kubelet.start_again().await?;
        Ok(kubelet)
    }

    /// The device plugin directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.shared.config().directory
    }

    /// The registration socket's path.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory().join(KUBELET_SOCKET)
    }

    /// The state now, and a receiver that tells when it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<View> {
        self.shared.watch()
    }

    /// The state now.
    #[must_use]
    pub fn view(&self) -> View {
        self.watch().borrow().clone()
    }

    /// Waits until the state is as wanted, and returns it as it was at that moment.
    ///
    /// # Errors
    /// It was not so in time: the error tells what was awaited and what the state is.
    pub async fn wait_until(
        &self,
        description: &str,
        timeout: Duration,
        condition: impl FnMut(&View) -> bool + Send,
    ) -> anyhow::Result<View> {
        let mut view = self.watch();
        let reached = match tokio::time::timeout(timeout, view.wait_for(condition)).await {
            Ok(reached) => Some(reached.expect("the kubelet holds the sender").clone()),
            Err(_) => None,
        };
        reached.ok_or_else(|| {
            anyhow!(
                "not within {timeout:?}: {description}\n{}{}",
                self.view(),
                self.violations_text()
            )
        })
    }

    /// Waits until the resource has that many allocatable devices.
    ///
    /// # Errors
    /// As [`wait_until`](Self::wait_until).
    pub async fn wait_allocatable(
        &self,
        resource: &str,
        count: usize,
        timeout: Duration,
    ) -> anyhow::Result<View> {
        let description = format!("{resource} has {count} allocatable devices");
        self.wait_until(&description, timeout, |view| view.allocatable(resource) == count).await
    }

    /// What plugins did against the contract in all lives so far, each once.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.shared.manager().violations()
    }

    /// Every list received in all lives so far, as it came.
    #[must_use]
    pub fn lists(&self, resource: &str) -> Vec<ReceivedList> {
        self.shared.manager().lists(resource)
    }

    /// Every call made to a plugin in all lives so far, in order of completion.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.manager().calls()
    }

    /// Which devices which pods hold.
    #[must_use]
    pub fn pod_devices(&self) -> Vec<PodDevice> {
        self.shared.manager().pod_devices()
    }

    /// Admits an application container that asks for `count` devices, and returns what the plugin,
    /// now or at the container's first admission, wants it to have.
    ///
    /// # Errors
    /// The pod is not admitted; the text is what the kubelet says.
    pub async fn allocate(
        &self,
        pod: &str,
        container: &str,
        resource: &str,
        count: usize,
    ) -> Result<ContainerAllocateResponse, AdmissionError> {
        self.admit(AllocationRequest::new(pod, container, resource, count)).await
    }

    /// [`allocate`](Self::allocate) with all that a request may say.
    ///
    /// # Errors
    /// The pod is not admitted.
    pub async fn admit(
        &self,
        request: AllocationRequest,
    ) -> Result<ContainerAllocateResponse, AdmissionError> {
        let shared = self.shared.clone();
        self.live(async move { admission::admit(&shared, &request).await }).await
    }

    /// Starts an admitted container once more: PreStartContainer where the plugin asks for it, then
    /// the answers of all its resources merged as the kubelet merges them, the first one winning.
    ///
    /// # Errors
    /// PreStartContainer failed, and the container with it.
    pub async fn start_container(
        &self,
        pod: &str,
        container: &str,
    ) -> Result<ContainerAllocateResponse, AdmissionError> {
        let (shared, pod, container) = (self.shared.clone(), pod.to_owned(), container.to_owned());
        self.live(async move { calls::start_container(&shared, &pod, &container).await }).await
    }

    /// The pod has succeeded or failed and is not deleted yet. Its devices are free with the next
    /// admission, or when podresources is asked.
    pub fn finish(&self, pod: &str) {
        self.shared.manager().finish(pod);
    }

    /// From the next start on the kubelet does not reach the API server, or reaches it again now.
    /// Without it a kubelet that has just started knows of no pod, whatever its checkpoint says.
    pub fn reach_api_server(&self, reached: bool) {
        self.shared.manager().reach_api_server(reached);
    }

    /// What is wrong with the podresources server from now on.
    pub fn trouble_pod_resources(&self, trouble: Trouble) {
        self.shared.manager().trouble = trouble;
    }

    /// When the podresources server was asked, in all lives.
    #[must_use]
    pub fn pod_resources_asked(&self) -> Vec<std::time::Instant> {
        self.shared.manager().asked.clone()
    }

    /// The pod is over: its devices are free again.
    pub fn release(&self, pod: &str) {
        self.shared.manager().release(pod);
    }

    /// Closes the connection to the resource's current endpoint, as a fault on the way would.
    pub fn drop_stream(&self, resource: &str) {
        let client = self.shared.manager().clients.of_resource(resource);
        if let Some(client) = client {
            client.disconnect();
        }
    }

    /// A fresh connection to the resource's current endpoint, for calls that a kubelet would not
    /// make.
    ///
    /// # Errors
    /// The resource has no endpoint, or nobody listens there.
    pub async fn client(&self, resource: &str) -> anyhow::Result<DevicePluginClient<Channel>> {
        let endpoint = self.view().resource(resource).map(|resource| resource.endpoint.clone());
        match endpoint {
            Some(endpoint) if !endpoint.is_empty() => {
                Self::dial(self.directory().join(endpoint)).await
            }
            _ => bail!("{resource} has no endpoint"),
        }
    }

    /// Dials a plugin's socket as the kubelet does, with the authority `localhost`.
    ///
    /// # Errors
    /// Nobody listens there, or nobody speaks HTTP/2 within 10 s.
    pub async fn dial(path: impl AsRef<Path>) -> anyhow::Result<DevicePluginClient<Channel>> {
        let path = path.as_ref();
        let channel = tokio::time::timeout(Duration::from_secs(10), dial::connect(path))
            .await
            .with_context(|| format!("{} is silent", path.display()))?
            .with_context(|| format!("dialling {}", path.display()))?;
        Ok(dial::client(channel))
    }

    /// Runs a future in this life: it ends with the life.
    async fn live<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, AdmissionError>> + Send + 'static,
    ) -> Result<T, AdmissionError> {
        let task = self.life().as_ref().map(|life| life.handle().spawn(future));
        match task {
            Some(task) => task.await.unwrap_or(Err(AdmissionError::KubeletStopped)),
            None => Err(AdmissionError::KubeletStopped),
        }
    }

    fn life(&self) -> std::sync::MutexGuard<'_, Option<Life>> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn violations_text(&self) -> String {
        self.violations().iter().map(|violation| format!("  violation: {violation}\n")).collect()
    }
}
