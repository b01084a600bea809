//! What the kubelet has received, asked and given out, for tests to read afterwards.

use std::time::{Duration, Instant};

use crate::proto::Device;

/// One ListAndWatch message.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceivedList {
    /// The kubelet's life that received it.
    pub life: u64,
    /// The resource.
    pub resource: String,
    /// Numbers the streams of the process.
    pub stream: u64,
    /// When it was received.
    pub at: Instant,
    /// The devices as they came.
    pub devices: Vec<Device>,
}

/// One call to a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The resource.
    pub resource: String,
    /// What was called.
    pub method: Method,
    /// The ids of the request, in the order sent: the available ones for GetPreferredAllocation.
    pub ids: Vec<String>,
    /// The ids that GetPreferredAllocation had to include.
    pub must_include: Vec<String>,
    /// How many GetPreferredAllocation asked for.
    pub size: usize,
    /// When it was sent.
    pub at: Instant,
    /// How long the answer took.
    pub took: Duration,
    /// The answer was no error.
    pub succeeded: bool,
}

/// The plugin's methods that are recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// GetDevicePluginOptions
    Options,
    /// GetPreferredAllocation
    PreferredAllocation,
    /// Allocate
    Allocate,
    /// PreStartContainer
    PreStartContainer,
}

/// One device that a container holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodDevice {
    /// The pod's UID.
    pub pod: String,
    /// The container's name.
    pub container: String,
    /// The resource.
    pub resource: String,
    /// The device's id.
    pub id: String,
}
