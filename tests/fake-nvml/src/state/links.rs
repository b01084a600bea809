//! What joins GPUs: the fabric, and NVLinks.

use serde::{Deserialize, Serialize};

/// What `nvmlDeviceGetGpuFabricInfoV` answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Fabric {
    /// `nvmlGpuFabricState_t`: 0 not supported, 1 not started, 2 in progress, 3 completed.
    pub state: u8,
    /// `nvmlReturn_t` of the probe, valid in state 3.
    pub status: u32,
    /// The fabric clique.
    pub clique_id: u32,
    /// The cluster's UUID, 16 bytes.
    pub cluster_uuid: [u8; 16],
    /// `nvmlGpuFabricInfo_v2_t.healthMask`.
    pub health_mask: u32,
}

impl Default for Fabric {
    fn default() -> Self {
        Self { state: 3, status: 0, clique_id: 0, cluster_uuid: [0; 16], health_mask: 0 }
    }
}

/// One NVLink of a GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NvLink {
    /// Link state.
    #[serde(skip_serializing_if = "is_true")]
    pub active: bool,
    /// `nvmlNvlinkVersion_t`, which skips some: 2 is NVLink 2 on Volta, 4 NVLink 3 on Ampere, 6
    /// NVLink 4 on Hopper.
    #[serde(skip_serializing_if = "is_nvlink_4")]
    pub version: u32,
    /// PCI bus id of the other end: a GPU's, or an NVSwitch's.
    pub remote_pci_bus_id: String,
    /// `nvmlIntNvLinkDeviceType_t`: 0 GPU, 1 NPU, 2 switch.
    #[serde(skip_serializing_if = "is_switch")]
    pub remote_type: u32,
}

impl Default for NvLink {
    fn default() -> Self {
        Self { active: true, version: 6, remote_pci_bus_id: String::new(), remote_type: 2 }
    }
}

// A link's defaults are left out of the file: a node has more than a hundred links, and every
// reader of every change has to get through them.

fn is_true(active: &bool) -> bool {
    *active
}

fn is_nvlink_4(version: &u32) -> bool {
    *version == NvLink::default().version
}

fn is_switch(remote_type: &u32) -> bool {
    *remote_type == NvLink::default().remote_type
}
