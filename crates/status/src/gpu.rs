//! A physical GPU in the schema.

use serde::{Deserialize, Serialize};

use super::time::Timestamp;

/// One physical GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// Its identity.
    pub uuid: String,
    /// NVML's index when it was last listed.
    pub index: u32,
    /// Whether NVML or the settings mean another GPU by that index, or none.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub index_stale: bool,
    /// The n of `/dev/nvidia<n>`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub minor: Option<u32>,
    /// Its PCI bus id, as NVML writes it.
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
    /// Its PCI class, such as "0x030200": 0x0300 is a display controller, 0x0302 one without.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pci_class: Option<String>,
    /// The NVLink clique that it has joined, across nodes too: `<cluster UUID>.<number>`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fabric_clique: Option<String>,
    /// What the host says of itself, where this is a virtual GPU.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub vgpu_host: Option<VgpuHost>,
    /// The group of GPUs that NVLink joins it to, numbered from 0 by the lowest index in each; none
    /// without NVLink.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nvlink_island: Option<u32>,
    /// Whether it can be partitioned by MIG.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub mig_capable: bool,
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
    /// Whether no part of it has a cause.
    pub healthy: bool,
    /// Its causes, the worst first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub reasons: Vec<Reason>,
    /// Why it is degraded: what is wrong with it without making it Unhealthy.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub degradations: Vec<Reason>,
    /// The recovery action that the driver asks for; absent if it has none or was not polled yet.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recovery_action: Option<RecoveryAction>,
    /// Whether a memory row waits for a reset to be remapped.
    pub row_remap_pending: bool,
    /// Whether a memory row could not be remapped.
    pub row_remap_failed: bool,
    /// Xids since the plugin started, by number.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub xids: Vec<XidCount>,
    /// Xids of numbers that are not counted one by one.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub other_xids: u64,
    /// How often it became Unhealthy since the plugin started.
    pub became_unhealthy: u64,
    /// How often it became Healthy again.
    pub became_healthy: u64,
    /// The time of its last event.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last_event: Option<Timestamp>,
}

impl Gpu {
    /// How people name it: by index, or by UUID where the index is stale.
    #[must_use]
    pub fn label(&self) -> String {
        if self.index_stale { self.uuid.clone() } else { self.index.to_string() }
    }

    /// How a sentence names it: by index, or by UUID and PCI bus id where the index is stale.
    #[must_use]
    pub fn name(&self) -> String {
        match (self.index_stale, &self.pci_bus_id) {
            (false, _) => format!("GPU {}", self.index),
            (true, Some(pci_bus_id)) => format!("{} at {pci_bus_id}", self.uuid),
            (true, None) => self.uuid.clone(),
        }
    }
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
    /// Its slices and engines; absent if NVML does not describe it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub engines: Option<MigEngines>,
}

/// What a MIG device has of its GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigEngines {
    /// GPU slices, the g of 1g.10gb.
    pub gpu_slices: u32,
    /// Compute slices.
    pub compute_slices: u32,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Copy engines.
    pub copy: u32,
    /// Video decoders.
    pub decoder: u32,
    /// Video encoders.
    pub encoder: u32,
    /// JPEG decoders.
    pub jpeg: u32,
    /// Optical flow accelerators.
    pub ofa: u32,
}

/// The host of a virtual GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VgpuHost {
    /// The version of its driver.
    pub driver_version: String,
    /// The branch of its driver.
    pub driver_branch: String,
}

/// A reason why a GPU, or NVML, is Unhealthy or degraded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// One of a fixed set of words, for programs.
    pub kind: String,
    /// The number of the Xid, if it is one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub xid: Option<u32>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// Which part of the GPU it is in, unless it is all of it: "GPU instance 3".
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub part: Option<String>,
    /// Whether it was restored from the state file, over a restart of the plugin on the same boot.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub remembered: bool,
}

impl Reason {
    /// What is wrong in two or three words, after the name of what it is wrong with.
    #[must_use]
    pub fn words(&self) -> String {
        if let Some(xid) = self.xid {
            return format!("Xid {xid}");
        }
        match self.kind.as_str() {
            "not_answered" => "has not answered yet",
            "recovery_action" => "needs a recovery",
            "reset_required" => "needs a reset",
            "row_remap_failure" => "row remapping failed",
            "row_remap_pending" => "row remapping pending",
            "fabric" => "not in its NVLink fabric",
            "not_enumerated" => "not listed by NVML",
            "inforom" => "InfoROM corrupt",
            "nvml_error" => "NVML calls fail",
            "nvml_unresponsive" => "does not respond",
            "relapses" => "fails again and again",
            "external" => "quarantined",
            "contained_error" => "contained memory error",
            "imex_domain" => "IMEX domain needs a recovery",
            "drain_p2p" => "peer-to-peer work to be ended",
            "fabric_bandwidth" => "reduced NVLink bandwidth",
            "no_events" => "events are not received",
            "driver_not_loaded" => "driver not loaded",
            "library_mismatch" => "driver and library versions differ",
            "library_not_found" => "library not found",
            "nvml_unresponsive_node" => "does not respond",
            other => return other.replace('_', " "),
        }
        .to_owned()
    }
}

/// The recovery action that the driver asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecoveryAction {
    /// The value of NVML's field 230; 0 is nothing.
    pub value: u32,
    /// Its meaning.
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

fn is_zero(value: &u64) -> bool {
    *value == 0
}
