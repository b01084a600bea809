//! One GPU of the state file.

use serde::{Deserialize, Serialize};

use super::{Fabric, Mig, NvLink, Rule, event_type};

/// One physical GPU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gpu {
    /// "GPU-" and a UUID.
    pub uuid: String,
    /// Marketing name, e.g. "NVIDIA H100 80GB HBM3".
    pub name: String,
    /// The n of `/dev/nvidia<n>`.
    pub minor: u32,
    /// As `nvmlPciInfo_t.busId`: "00000000:1B:00.0".
    pub pci_bus_id: String,
    /// As `nvmlPciInfo_t.pciDeviceId`: device id and vendor id, e.g. 0x2330_10DE for an H100 SXM.
    pub pci_device_id: u32,
    /// Total frame buffer, in MiB.
    pub memory_mib: u64,
    /// CUDA compute capability, major and minor.
    pub compute_capability: (i32, i32),
    /// The board's serial number.
    pub serial: String,
    /// False: the GPU is gone (removed, or unbound from the driver). A session that enumerated it
    /// answers 15 for it; from the next `nvmlInit` on it has no index, and those after it move up.
    /// See [`Driver::enumerates_at_once`](super::Driver::enumerates_at_once).
    pub present: bool,
    /// True: fallen off the bus. The index stays; look-ups and calls on any handle answer 15.
    pub lost: bool,
    /// How calls on this GPU go wrong, the look-ups that are about it or search through it too.
    pub rules: Vec<Rule>,
    /// Event types that can be registered, as a bit mask of `nvmlEventType*`.
    pub supported_events: u64,
    /// Field value 230: 0 none, 1 GPU reset, 2 node reboot, 3 drain P2P, 4 drain and reset, 5
    /// recover IMEX domain.
    pub recovery_action: u32,
    /// Row remapping; absent where the GPU has none (before Ampere): answers 3.
    pub remapped_rows: Option<RemappedRows>,
    /// Volatile uncorrected ECC errors.
    pub ecc_uncorrected: u64,
    /// NVSwitch fabric; absent: answers 3.
    pub fabric: Option<Fabric>,
    /// NVLinks, by link number.
    pub nvlinks: Vec<NvLink>,
    /// PCIe place for `nvmlDeviceGetTopologyCommonAncestor`.
    pub pcie: PciePlace,
    /// Present on GPUs that can be partitioned.
    pub mig: Option<Mig>,
    /// Whether a virtual GPU is licensed; absent: it is no virtual GPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licensed: Option<bool>,
}

impl Default for Gpu {
    fn default() -> Self {
        Self {
            uuid: String::new(),
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            minor: 0,
            pci_bus_id: String::new(),
            pci_device_id: 0x2330_10DE,
            memory_mib: 81_559,
            compute_capability: (9, 0),
            serial: String::new(),
            present: true,
            lost: false,
            rules: Vec::new(),
            supported_events: event_type::HOPPER,
            recovery_action: 0,
            remapped_rows: Some(RemappedRows::default()),
            ecc_uncorrected: 0,
            fabric: None,
            nvlinks: Vec::new(),
            pcie: PciePlace::default(),
            mig: None,
            licensed: None,
        }
    }
}

/// What `nvmlDeviceGetRemappedRows` answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RemappedRows {
    /// Rows remapped because of correctable errors.
    pub correctable: u32,
    /// Rows remapped because of uncorrectable errors.
    pub uncorrectable: u32,
    /// A remap waits for the next reset.
    pub pending: bool,
    /// A remap failed: the GPU is to be replaced.
    pub failure: bool,
}

/// Where a GPU sits. Two GPUs meet at the first level at which their numbers are equal, from the
/// board outwards: board, switch, switch tree (several switches), host bridge, NUMA node; else
/// across the system.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PciePlace {
    /// GPUs on one board.
    pub board: u32,
    /// GPUs under one PCIe switch.
    pub switch: u32,
    /// GPUs under one tree of switches.
    pub switch_tree: u32,
    /// GPUs under one host bridge.
    pub host_bridge: u32,
    /// GPUs of one NUMA node.
    pub numa: u32,
}
