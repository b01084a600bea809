//! What a container may ask for at its admission, and in which words it is refused.

use std::collections::BTreeSet;

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

    /// The same for another kind of container. Init containers are to be admitted before the
    /// others.
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
    #[error(
        "previously allocated devices are no longer healthy; cannot allocate unhealthy devices {0}"
    )]
    PreviouslyAllocatedUnhealthy(String),
    #[error(
        "requested number of devices unavailable for {resource}. Requested: {requested}, \
            Available: {available}"
    )]
    Unavailable { resource: String, requested: usize, available: usize },
    #[error(
        "pod {pod:?} container {container:?} changed request for resource {resource:?} from {from} \
            to {to}"
    )]
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
