//! Events of the status.

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// An event, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When it happened; of several equal ones, the last.
    pub at: Timestamp,
    /// What kind of event it is.
    pub kind: EventKind,
    /// The physical GPU that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gpu: Option<String>,
    /// NVML's index of that GPU.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gpu_index: Option<u32>,
    /// The number of the Xid, if it is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub xid: Option<u32>,
    /// The resource that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource: Option<String>,
    /// What happened.
    pub message: String,
    /// How many equal ones this stands for.
    pub times: u64,
}

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EventKind {
    /// A GPU was seen for the first time.
    GpuFound,
    /// A GPU has a new cause.
    GpuUnhealthy,
    /// A cause is over.
    CauseOver,
    /// A GPU has no cause any more.
    GpuHealthy,
    /// The driver reported an Xid.
    Xid,
    /// A GPU is degraded.
    GpuDegraded,
    /// A GPU is no longer degraded.
    GpuRestored,
    /// Devices are not offered as one would expect.
    Finding,
    /// A finding is over.
    FindingOver,
    /// The kubelet accepted a registration.
    Registered,
    /// The server of a resource was restarted.
    ServerRestarted,
    /// A changed configuration is in force.
    ConfigurationApplied,
    /// A changed configuration was refused.
    ConfigurationRefused,
}
