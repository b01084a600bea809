//! What happened, for people.

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When; of several that were taken together, the last.
    pub at: Timestamp,
    /// What kind of event it is.
    pub kind: EventKind,
    /// The physical GPU that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gpu: Option<String>,
    /// NVML's index of that GPU.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub gpu_index: Option<u32>,
    /// The Xid, where it is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub xid: Option<u32>,
    /// The resource that it is about.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub resource: Option<String>,
    /// What happened.
    pub message: String,
    /// How many equal ones were taken together.
    pub times: u64,
}

/// What kind of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EventKind {
    /// A GPU was seen for the first time.
    GpuFound,
    /// Something is held against a GPU that was not before.
    GpuUnhealthy,
    /// Something is not held against it any more.
    CauseOver,
    /// Nothing is held against it any more.
    GpuHealthy,
    /// The driver reported an Xid.
    Xid,
    /// A GPU works, and not as it should.
    GpuDegraded,
    /// It works as it should again.
    GpuRestored,
    /// Devices are not offered as one would expect.
    Finding,
    /// A finding holds no more.
    FindingOver,
    /// The kubelet accepted a registration.
    Registered,
    /// A resource's server was ended, to begin anew.
    ServerRestarted,
    /// A changed configuration is in force.
    ConfigurationApplied,
    /// A changed configuration was refused.
    ConfigurationRefused,
}
