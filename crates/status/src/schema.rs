//! The JSON form. Field names are what other programs rely on: within one version they are added to
//! and never changed.

use serde::{Deserialize, Serialize};

use super::event::Event;
use super::time::Timestamp;

/// The version of the form.
pub const SCHEMA_VERSION: u32 = 1;

/// All that the daemon knows of its node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When this was made.
    pub generated_at: Timestamp,
    /// The plugin itself.
    pub plugin: Plugin,
    /// The driver's library.
    pub nvml: Nvml,
    /// The configuration in force.
    pub configuration: Configuration,
    /// The resources, by name.
    pub resources: Vec<Resource>,
    /// The physical GPUs, by index.
    pub gpus: Vec<Gpu>,
    /// What keeps devices from being offered as one would expect.
    pub findings: Vec<Finding>,
    /// What happened last, the newest first.
    pub events: Vec<Event>,
    /// Whether it is known which pod holds which device.
    pub holders_known: bool,
}

/// The plugin itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// Its version.
    pub version: String,
    /// The git commit that it was built from.
    pub commit: String,
    /// The name of the host, or of the pod, that it runs in.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hostname: Option<String>,
    /// When the process began.
    pub started_at: Timestamp,
    /// Seconds since.
    pub uptime_seconds: f64,
    /// Whether every resource is registered and watched by the kubelet.
    pub ready: bool,
    /// Why not.
    pub not_ready: Vec<String>,
}

/// The driver's library.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Nvml {
    /// How it stands.
    pub state: NvmlState,
    /// Why it is down.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fault: Option<Reason>,
    /// The driver's version; the last known one while NVML is down.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub driver_version: Option<String>,
    /// The CUDA version that the driver supports.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub cuda_version: Option<String>,
    /// The library's version.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nvml_version: Option<String>,
    /// Calls that do not return now.
    pub unanswered_calls: u64,
}

/// How NVML stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum NvmlState {
    /// It is initialised and answers.
    Up,
    /// It is not there, or fails.
    Down,
    /// It was released, for the reset of a GPU.
    #[serde(rename = "letGo")]
    Released,
}

/// The configuration in force.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Configuration {
    /// The config file.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file: Option<String>,
    /// How often a changed configuration was put in force.
    pub reloads_applied: u64,
    /// How often one was refused.
    pub reloads_refused: u64,
    /// The last reload.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_reload: Option<LastReload>,
}

/// What became of a reload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastReload {
    /// When.
    pub at: Timestamp,
    /// Why it was refused; without it, it is in force.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refused: Option<String>,
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// Its name, such as nvidia.com/gpu.
    pub name: String,
    /// How it stands with the kubelet.
    pub kubelet: Registration,
    /// How many of its devices are Healthy.
    pub healthy: usize,
    /// How many of its devices pods hold; `None`: not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub allocated: Option<usize>,
    /// Its devices, by GPU, then by MIG device, then by replica.
    pub devices: Vec<Device>,
}

/// How a resource stands with the kubelet.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Registration {
    /// Whether the kubelet accepted the registration and watches the devices.
    pub registered: bool,
    /// Since when that is so, or not so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub since: Option<Timestamp>,
    /// What is missing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub problem: Option<String>,
    /// The base name of the socket that the plugin serves on.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub endpoint: Option<String>,
    /// ListAndWatch streams that are open.
    pub streams: usize,
    /// Registrations that the kubelet accepted since the plugin started.
    pub registrations: u64,
}

/// One device as the kubelet knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its id.
    pub id: String,
    /// The UUID of the GPU or MIG device that it is, or is a replica of.
    pub uuid: String,
    /// Its index as NVIDIA's tools write it: "0", or "0:1" for a MIG device.
    pub index: String,
    /// The number of the replica, where the device is shared.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replica: Option<u32>,
    /// The UUID of the physical GPU.
    pub gpu: String,
    /// Whether it can be handed out.
    pub healthy: bool,
    /// It was offered once and is no more.
    #[serde(skip_serializing_if = "is_false", default)]
    pub withdrawn: bool,
    /// The kinds of what is held against it, the worst first. The details stand with its GPU.
    /// `awaits_mps`: its MPS control daemon has not answered yet.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reasons: Vec<String>,
    /// The containers that hold it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub holders: Vec<Holder>,
}

/// A container that holds a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The namespace of its pod.
    pub namespace: String,
    /// Its pod.
    pub pod: String,
    /// Its name.
    pub container: String,
}

/// One physical GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// Its identity.
    pub uuid: String,
    /// NVML's index.
    pub index: u32,
    /// The n of `/dev/nvidia<n>`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub minor: Option<u32>,
    /// Its place on the PCI bus, as NVML writes it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pci_bus_id: Option<String>,
    /// Its marketing name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// Its frame buffer in bytes.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_bytes: Option<u64>,
    /// CUDA compute capability, such as "9.0".
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub compute_capability: Option<String>,
    /// Its NUMA node.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub numa_node: Option<u32>,
    /// The group of GPUs that NVLink joins it to, numbered from 0 by the lowest index in each; none
    /// without NVLink.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nvlink_island: Option<u32>,
    /// Whether MIG mode is on.
    pub mig_enabled: bool,
    /// The MIG devices on it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub mig_devices: Vec<MigDevice>,
    /// The resources in which it, or a part of it, is offered.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub resources: Vec<String>,
    /// Why it is not offered: it is reserved for the system.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reserved: Option<String>,
    /// Whether nothing is held against any part of it.
    pub healthy: bool,
    /// What is held against it, the worst first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reasons: Vec<Reason>,
    /// What is wrong with it without making it Unhealthy.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub degradations: Vec<Reason>,
    /// What the driver asks for; absent if it has no recovery action or was not asked yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recovery_action: Option<RecoveryAction>,
    /// Whether a memory row waits for a reset to be remapped.
    pub row_remap_pending: bool,
    /// Whether a memory row could not be remapped.
    pub row_remap_failed: bool,
    /// Xids since the plugin started, by number.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub xids: Vec<XidCount>,
    /// Xids of numbers beyond those that are counted one by one.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub other_xids: u64,
    /// How often it became Unhealthy since the plugin started.
    pub became_unhealthy: u64,
    /// How often it became Healthy again.
    pub became_healthy: u64,
    /// When the last event was about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_event: Option<Timestamp>,
}

/// One MIG device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigDevice {
    /// Its identity.
    pub uuid: String,
    /// Its index on its GPU.
    pub index: u32,
    /// Its profile, such as "1g.10gb".
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub profile: Option<String>,
    /// Its GPU instance.
    pub gpu_instance: u32,
    /// Its compute instance.
    pub compute_instance: u32,
    /// Its memory in bytes.
    pub memory_bytes: u64,
}

/// One reason for a device's being Unhealthy or degraded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// A word for machines, one of a fixed set.
    pub kind: String,
    /// The Xid, where it is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub xid: Option<u32>,
    /// What is so.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// Which part of the GPU it is in, unless it is all of it: "GPU instance 3".
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub part: Option<String>,
    /// Whether it is known from before the plugin started; `since` is then when it was recalled.
    #[serde(skip_serializing_if = "is_false", default)]
    pub remembered: bool,
}

/// What the driver asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryAction {
    /// The value of NVML's field 230; 0 is nothing.
    pub value: u32,
    /// The same in words.
    pub meaning: String,
}

/// How many Xids of one number there were.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct XidCount {
    /// The number.
    pub xid: u32,
    /// How many.
    pub count: u64,
}

/// Something that is not offered as one would expect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// A word for machines, one of a fixed set.
    pub kind: String,
    /// What is so, and what to do about it.
    pub message: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}
