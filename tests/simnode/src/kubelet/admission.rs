//! Admission: which devices a container gets, what the plugin is asked on the way, and what stays of its answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tonic::{Response, Status};

use super::checkpoint::PodDevices;
use super::clients::PluginClient;
use super::manager::{Endpoint, Manager, Shared};
use super::records::{Call, Method};
use super::violations::ViolationKind;
use super::{affinity, dial, go_error};
use crate::proto::{
    AllocateRequest, ContainerAllocateRequest, ContainerAllocateResponse, ContainerPreferredAllocationRequest,
    PreStartContainerRequest, PreferredAllocationRequest,
};

/// One container's wish for one resource.
#[derive(Debug, Clone)]
pub struct AllocationRequest {
    /// The pod's UID.
    pub pod: String,
    /// The container's name.
    pub container: String,
    /// Its place in the pod.
    pub kind: ContainerKind,
    /// The resource.
    pub resource: String,
    /// How many devices.
    pub count: usize,
    /// The topology manager's hint: NUMA nodes.
    pub affinity: Option<BTreeSet<i64>>,
}

/// A container's place in its pod, which decides what becomes of its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerKind {
    /// Runs together with the others.
    App,
    /// Runs to its end before the others: they use its devices again.
    Init,
    /// Starts before the others and stays: it keeps its devices.
    RestartableInit,
}

impl AllocationRequest {
    /// An application container without a topology hint.
    pub fn new(pod: &str, container: &str, resource: &str, count: usize) -> Self {
        Self {
            pod: pod.to_owned(),
            container: container.to_owned(),
            kind: ContainerKind::App,
            resource: resource.to_owned(),
            count,
            affinity: None,
        }
    }

    /// The same for another kind of container. Init containers are to be admitted before the others.
    #[must_use]
    pub fn kind(self, kind: ContainerKind) -> Self {
        Self { kind, ..self }
    }

    /// The same with a topology hint.
    #[must_use]
    pub fn affinity(self, nodes: impl IntoIterator<Item = i64>) -> Self {
        Self { affinity: Some(nodes.into_iter().collect()), ..self }
    }
}

/// Why a pod is not admitted or a container not started, in the kubelet's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum AdmissionError {
    #[error("cannot allocate unregistered device {0}")]
    Unregistered(String),
    #[error("no healthy devices present; cannot allocate unhealthy devices {0}")]
    NoHealthyDevices(String),
    #[error("previously allocated devices are no longer healthy; cannot allocate unhealthy devices {0}")]
    PreviouslyAllocatedUnhealthy(String),
    #[error("requested number of devices unavailable for {resource}. Requested: {requested}, Available: {available}")]
    Unavailable { resource: String, requested: usize, available: usize },
    #[error("pod {pod:?} container {container:?} changed request for resource {resource:?} from {from} to {to}")]
    ChangedRequest { pod: String, container: String, resource: String, from: usize, to: usize },
    #[error("endpoint {0} has been stopped")]
    EndpointStopped(String),
    #[error("unknown Device Plugin {0}")]
    UnknownPlugin(String),
    /// The plugin's own error from Allocate.
    #[error("{0}")]
    Allocate(String),
    #[error("no containers return in allocation response")]
    EmptyAnswer,
    #[error("device plugin GetPreferredAllocation rpc failed with err: {0}")]
    PreferredAllocation(String),
    #[error("device plugin PreStartContainer rpc failed with err: {0}")]
    PreStartContainer(String),
    #[error("no devices found allocated in local cache for pod {pod}, container {container}")]
    NotAdmitted { pod: String, container: String },
    #[error("the kubelet was stopped")]
    KubeletStopped,
}

impl AdmissionError {
    /// The pod's status message; its reason is `UnexpectedAdmissionError`.
    #[must_use]
    pub fn pod_message(&self) -> String {
        format!("Allocate failed due to {self}, which is unexpected")
    }
}

/// Admits one container for one resource.
pub(crate) async fn admit(
    shared: &Shared,
    request: &AllocationRequest,
) -> Result<ContainerAllocateResponse, AdmissionError> {
    let _one_at_a_time = shared.admission.lock().await;
    let reusable = shared.manager().reusable_for(&request.pod, &request.resource);
    if let Some(chosen) = devices_to_allocate(shared, request, &reusable).await? {
        allocate(shared, request, &chosen).await?;
    }
    let mut manager = shared.manager();
    let Some(held) = manager.held(request) else {
        // Released while it was admitted.
        return Err(AdmissionError::NotAdmitted { pod: request.pod.clone(), container: request.container.clone() });
    };
    let (ids, answer) = (held.ids(), held.answer.clone());
    let reusable = manager.reusable.1.entry(request.resource.clone()).or_default();
    match request.kind {
        ContainerKind::Init => reusable.extend(ids),
        ContainerKind::App | ContainerKind::RestartableInit => reusable.retain(|id| !ids.contains(id)),
    }
    Ok(answer)
}

/// Chooses the devices. None: the container has them from before.
async fn devices_to_allocate(
    shared: &Shared,
    request: &AllocationRequest,
    reusable: &BTreeSet<String>,
) -> Result<Option<BTreeSet<String>>, AdmissionError> {
    let resource = request.resource.as_str();
    let (mut choice, available, sorted) = {
        let mut manager = shared.manager();
        if manager.check(request)? {
            return Ok(None);
        }
        let mut choice = Choice { resource, taken: BTreeSet::new(), needed: request.count };
        if choice.take(&mut manager, reusable) {
            return Ok(Some(choice.taken));
        }
        let devices = manager.devices.get(resource).expect("checked");
        let in_use = manager.allocated.get(resource).cloned().unwrap_or_default();
        let available: BTreeSet<String> = devices.healthy.difference(&in_use).cloned().collect();
        if available.len() < choice.needed {
            return Err(AdmissionError::Unavailable {
                resource: resource.to_owned(),
                requested: choice.needed,
                available: available.len(),
            });
        }
        let sorted = affinity::sort(&devices.all, &available, request.affinity.as_ref());
        (choice, available, sorted)
    };

    // The plugin may choose among the aligned devices only if there is a choice.
    let strictly_less = choice.needed < sorted.aligned.len();
    let offered = if strictly_less {
        &sorted.aligned
    } else {
        if choice.take(&mut shared.manager(), &sorted.aligned) {
            return Ok(Some(choice.taken));
        }
        &available
    };
    let preferred = preferred_allocation(shared, request, offered, &choice.taken).await?;
    let preferred = preferred.intersection(offered).cloned().collect();
    let mut manager = shared.manager();
    for set in [&preferred, &sorted.aligned, &sorted.unaligned, &sorted.no_affinity] {
        if choice.take(&mut manager, set) {
            break;
        }
    }
    Ok(Some(choice.taken))
}

/// The devices taken so far for one request.
struct Choice<'a> {
    resource: &'a str,
    taken: BTreeSet<String>,
    needed: usize,
}

impl Choice<'_> {
    /// Takes from the set in random order; true when nothing more is needed.
    fn take(&mut self, manager: &mut Manager, from: &BTreeSet<String>) -> bool {
        let fresh = from.difference(&self.taken).cloned();
        for id in manager.random.shuffled(fresh) {
            if self.needed == 0 {
                break;
            }
            manager.allocated.entry(self.resource.to_owned()).or_default().insert(id.clone());
            self.taken.insert(id);
            self.needed -= 1;
        }
        self.needed == 0
    }
}

impl Manager {
    /// What the pod's init containers have left; those of another pod are forgotten.
    fn reusable_for(&mut self, pod: &str, resource: &str) -> BTreeSet<String> {
        if self.reusable.0 != pod {
            self.reusable = (pod.to_owned(), BTreeMap::new());
        }
        self.reusable.1.get(resource).cloned().unwrap_or_default()
    }

    fn held(&self, request: &AllocationRequest) -> Option<&PodDevices> {
        let is_it = |held: &&PodDevices| {
            held.pod == request.pod && held.container == request.container && held.resource == request.resource
        };
        self.pods.iter().find(is_it)
    }

    /// The checks before anything is chosen; true if the container has its devices already.
    fn check(&self, request: &AllocationRequest) -> Result<bool, AdmissionError> {
        let resource = request.resource.clone();
        let held = self.held(request).map(PodDevices::ids);
        if let Some(held) = &held
            && held.len() != request.count
        {
            return Err(AdmissionError::ChangedRequest {
                pod: request.pod.clone(),
                container: request.container.clone(),
                resource,
                from: held.len(),
                to: request.count,
            });
        }
        let Some(devices) = self.devices.get(&resource) else {
            return Err(AdmissionError::Unregistered(resource));
        };
        if devices.healthy.is_empty() {
            return Err(AdmissionError::NoHealthyDevices(resource));
        }
        match held {
            Some(held) if held.is_subset(&devices.healthy) => Ok(true),
            Some(_) => Err(AdmissionError::PreviouslyAllocatedUnhealthy(resource)),
            None => Ok(false),
        }
    }

    fn running_endpoint(&self, resource: &str) -> Result<Endpoint, AdmissionError> {
        let endpoint = self.endpoints.get(resource);
        let endpoint = endpoint.ok_or_else(|| AdmissionError::UnknownPlugin(resource.to_owned()))?;
        match endpoint.stopped_at {
            Some(_) => Err(AdmissionError::EndpointStopped(resource.to_owned())),
            None => Ok(endpoint.clone()),
        }
    }
}

/// Asks the plugin which of the offered devices it would take, if it wants to be asked.
async fn preferred_allocation(
    shared: &Shared,
    request: &AllocationRequest,
    offered: &BTreeSet<String>,
    taken: &BTreeSet<String>,
) -> Result<BTreeSet<String>, AdmissionError> {
    let resource = request.resource.as_str();
    let (endpoint, asked) = {
        let mut manager = shared.manager();
        let endpoint = match manager.endpoints.get(resource) {
            Some(endpoint) if endpoint.options.get_preferred_allocation_available => endpoint.clone(),
            _ => return Ok(BTreeSet::new()),
        };
        let asked = ContainerPreferredAllocationRequest {
            available_device_ids: manager.random.shuffled(offered.union(taken).cloned()),
            must_include_device_ids: manager.random.shuffled(taken.iter().cloned()),
            allocation_size: i32::try_from(request.count).unwrap_or(i32::MAX),
        };
        (endpoint, asked)
    };
    if endpoint.stopped_at.is_some() {
        return Err(AdmissionError::EndpointStopped(resource.to_owned()));
    }
    let call = CallInProgress::begin(resource, Method::PreferredAllocation, &asked.available_device_ids)
        .preferred(&asked.must_include_device_ids, request.count);
    let answer = async {
        let mut plugin = plugin(&endpoint)?;
        plugin.get_preferred_allocation(PreferredAllocationRequest { container_requests: vec![asked.clone()] }).await
    };
    let answer = call.end(shared, answer.await);
    let answer = answer.map_err(|status| AdmissionError::PreferredAllocation(go_error(&status)))?.into_inner();
    let Some(preferred) = answer.container_responses.into_iter().next() else { return Ok(BTreeSet::new()) };
    audit_preferred(&mut shared.manager(), resource, &asked, &preferred.device_ids);
    Ok(preferred.device_ids.into_iter().collect())
}

fn audit_preferred(
    manager: &mut Manager,
    resource: &str,
    asked: &ContainerPreferredAllocationRequest,
    answer: &[String],
) {
    let set: BTreeSet<&String> = answer.iter().collect();
    let right = set.len() == answer.len()
        && i32::try_from(answer.len()) == Ok(asked.allocation_size)
        && answer.iter().all(|id| asked.available_device_ids.contains(id))
        && asked.must_include_device_ids.iter().all(|id| set.contains(id));
    if !right {
        let detail = format!(
            "{} of [{}] wanted, got [{}]",
            asked.allocation_size,
            asked.available_device_ids.join(" "),
            answer.join(" ")
        );
        manager.violations.record(ViolationKind::PreferredAnswer, resource, detail);
    }
}

/// Calls Allocate, without a time-out, and enters the answer.
async fn allocate(
    shared: &Shared,
    request: &AllocationRequest,
    chosen: &BTreeSet<String>,
) -> Result<(), AdmissionError> {
    let resource = request.resource.as_str();
    let (endpoint, ids) = {
        let mut manager = shared.manager();
        let ids = manager.random.shuffled(chosen.iter().cloned());
        (manager.running_endpoint(resource), ids)
    };
    let answer = match endpoint {
        Ok(endpoint) => {
            let call = CallInProgress::begin(resource, Method::Allocate, &ids);
            let answer = async {
                let container_requests = vec![ContainerAllocateRequest { device_ids: ids }];
                plugin(&endpoint)?.allocate(AllocateRequest { container_requests }).await
            };
            call.end(shared, answer.await).map_err(|status| AdmissionError::Allocate(go_error(&status)))
        }
        Err(error) => Err(error),
    };
    let mut manager = shared.manager();
    let answer = match answer {
        Ok(answer) => answer.into_inner(),
        Err(error) => {
            manager.forget_unfinished_allocations();
            return Err(error);
        }
    };
    if answer.container_responses.len() > 1 {
        let detail = format!("{} answers for one container", answer.container_responses.len());
        manager.violations.record(ViolationKind::AllocateAnswer, resource, detail);
    }
    // The devices of an empty answer stay taken until a pod ends, as in the kubelet.
    let answer = answer.container_responses.into_iter().next().ok_or(AdmissionError::EmptyAnswer)?;
    audit_answer(&mut manager, resource, &answer);
    let by_numa = manager.by_numa(resource, chosen);
    manager.pods.push(PodDevices {
        pod: request.pod.clone(),
        container: request.container.clone(),
        resource: resource.to_owned(),
        by_numa,
        answer,
    });
    manager.write_checkpoint();
    Ok(())
}

impl Manager {
    fn by_numa(&mut self, resource: &str, chosen: &BTreeSet<String>) -> BTreeMap<i64, Vec<String>> {
        let mut by_numa: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for id in chosen {
            let device = self.devices.get(resource).and_then(|devices| devices.all.get(id));
            if device.is_none() {
                self.violations.record(ViolationKind::KubeletPanic, resource, id);
            }
            let mut nodes = device.map(affinity::nodes).unwrap_or_default();
            if nodes.is_empty() {
                nodes.push(-1);
            }
            for node in nodes {
                by_numa.entry(node).or_default().push(id.clone());
            }
        }
        by_numa
    }
}

/// What a runtime would stumble over.
fn audit_answer(manager: &mut Manager, resource: &str, answer: &ContainerAllocateResponse) {
    let mut wrong = Vec::new();
    let mut places = BTreeSet::new();
    for mount in &answer.mounts {
        if !mount.host_path.starts_with('/') || !mount.container_path.starts_with('/') {
            wrong.push(format!("mount {} on {} is not absolute", mount.host_path, mount.container_path));
        }
        if !places.insert(&mount.container_path) {
            wrong.push(format!("two mounts on {}", mount.container_path));
        }
    }
    let mut places = BTreeSet::new();
    for device in &answer.devices {
        if !device.host_path.starts_with('/') || !device.container_path.starts_with('/') {
            wrong.push(format!("device {} at {} is not absolute", device.host_path, device.container_path));
        }
        if device.permissions.is_empty() || !device.permissions.chars().all(|letter| "rwm".contains(letter)) {
            wrong.push(format!("device {} has permissions {:?}", device.host_path, device.permissions));
        }
        if !places.insert(&device.container_path) {
            wrong.push(format!("two devices at {}", device.container_path));
        }
    }
    let mut names = BTreeSet::new();
    for device in &answer.cdi_devices {
        let parts = device.name.split_once('=').and_then(|(kind, name)| Some((kind.split_once('/')?, name)));
        if !matches!(parts, Some(((vendor, class), name)) if ![vendor, class, name].contains(&"")) {
            wrong.push(format!("CDI name {:?} is not vendor/class=name", device.name));
        }
        if !names.insert(&device.name) {
            wrong.push(format!("CDI name {:?} twice", device.name));
        }
    }
    for detail in wrong {
        manager.violations.record(ViolationKind::AllocateAnswer, resource, detail);
    }
}

/// What happens before each start of a container.
pub(crate) async fn start_container(
    shared: &Shared,
    pod: &str,
    container: &str,
) -> Result<ContainerAllocateResponse, AdmissionError> {
    let of_container = |held: &&PodDevices| held.pod == pod && held.container == container;
    let held: Vec<PodDevices> = shared.manager().pods.iter().filter(of_container).cloned().collect();
    if held.is_empty() {
        return Err(AdmissionError::NotAdmitted { pod: pod.to_owned(), container: container.to_owned() });
    }
    let mut merged = ContainerAllocateResponse::default();
    for devices in held {
        pre_start(shared, &devices).await?;
        merge(&mut merged, devices.answer);
    }
    Ok(merged)
}

async fn pre_start(shared: &Shared, devices: &PodDevices) -> Result<(), AdmissionError> {
    let resource = devices.resource.as_str();
    let (endpoint, ids) = {
        let mut manager = shared.manager();
        let endpoint = manager.endpoints.get(resource).cloned();
        let endpoint = endpoint.ok_or_else(|| AdmissionError::UnknownPlugin(resource.to_owned()))?;
        if !endpoint.options.pre_start_required {
            return Ok(());
        }
        (endpoint, manager.random.shuffled(devices.ids()))
    };
    if endpoint.stopped_at.is_some() {
        let stopped = AdmissionError::EndpointStopped(resource.to_owned());
        return Err(AdmissionError::PreStartContainer(stopped.to_string()));
    }
    let call = CallInProgress::begin(resource, Method::PreStartContainer, &ids);
    let limit = shared.config().limits.pre_start;
    let answer = async { plugin(&endpoint)?.pre_start_container(PreStartContainerRequest { device_ids: ids }).await };
    let answer = match tokio::time::timeout(limit, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(Status::deadline_exceeded("context deadline exceeded")),
    };
    let answer = call.end(shared, answer);
    answer.map(drop).map_err(|status| AdmissionError::PreStartContainer(go_error(&status)))
}

/// The first one wins; CDI names are a set.
fn merge(merged: &mut ContainerAllocateResponse, answer: ContainerAllocateResponse) {
    for (key, value) in answer.envs {
        merged.envs.entry(key).or_insert(value);
    }
    for (key, value) in answer.annotations {
        merged.annotations.entry(key).or_insert(value);
    }
    for mount in answer.mounts {
        if merged.mounts.iter().all(|before| before.container_path != mount.container_path) {
            merged.mounts.push(mount);
        }
    }
    for device in answer.devices {
        if merged.devices.iter().all(|before| before.container_path != device.container_path) {
            merged.devices.push(device);
        }
    }
    for device in answer.cdi_devices {
        if !merged.cdi_devices.contains(&device) {
            merged.cdi_devices.push(device);
        }
    }
}

type Plugin = crate::proto::device_plugin_client::DevicePluginClient<tonic::transport::Channel>;

fn plugin(endpoint: &Endpoint) -> Result<Plugin, Status> {
    let channel = endpoint.client.as_deref().and_then(PluginClient::channel);
    channel.map(dial::client).ok_or_else(|| Status::cancelled("grpc: the client connection is closing"))
}

/// A call on its way, to be recorded when it ends.
struct CallInProgress(Call);

impl CallInProgress {
    fn begin(resource: &str, method: Method, ids: &[String]) -> Self {
        Self(Call {
            resource: resource.to_owned(),
            method,
            ids: ids.to_vec(),
            must_include: Vec::new(),
            size: ids.len(),
            at: Instant::now(),
            took: Duration::ZERO,
            succeeded: false,
        })
    }

    fn preferred(mut self, must_include: &[String], size: usize) -> Self {
        self.0.must_include = must_include.to_vec();
        self.0.size = size;
        self
    }

    fn end<T>(mut self, shared: &Shared, answer: Result<Response<T>, Status>) -> Result<Response<T>, Status> {
        self.0.took = self.0.at.elapsed();
        self.0.succeeded = answer.is_ok();
        shared.manager().called(self.0);
        answer
    }
}
