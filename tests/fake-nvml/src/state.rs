//! The state file: what the simulated driver and its GPUs are like at this moment.
//!
//! The library reads it at `nvmlInit` and again whenever it changes. Write it whole and rename it
//! into place ([`State::write`]), so that a reader never sees half of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

/// Everything the fake knows. Every field has a default, so a file of `{}` is a loaded driver
/// without GPUs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// The driver and the library.
    pub driver: Driver,
    /// NVML return codes by function name, for every GPU: `{"nvmlInit_v2": 9}`.
    pub errors: BTreeMap<String, u32>,
    /// Functions that do not return while they are named here; they go on as soon as the name is
    /// gone.
    pub hangs: Vec<String>,
    /// Functions that end the whole process, as a library does that is not of one piece.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aborts: Vec<String>,
    /// The GPUs, in NVML's index order.
    pub gpus: Vec<Gpu>,
    /// What happens: each event is delivered once, to the event sets registered at the moment it is
    /// first read.
    pub events: Vec<Event>,
}

/// The simulated kernel driver.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Driver {
    /// False: `nvmlInit` answers 9 (driver not loaded), and so does every call of a process that
    /// had it open.
    pub loaded: bool,
    /// Counts the loads of the driver. A process whose `nvmlInit` was before the last load gets 9
    /// until it shuts down and initialises again, as after an unload and load under its feet.
    pub generation: u64,
    /// The kernel driver's version, e.g. "580.95.05".
    pub version: String,
    /// True: library and kernel module differ, every call answers 18.
    pub mismatch: bool,
    /// As `nvmlSystemGetCudaDriverVersion` gives it: 1000 * major + 10 * minor.
    pub cuda_version: i32,
    /// True: the driver knows field value 230 (the GPU recovery action, drivers from 565 on).
    pub recovery_action_supported: bool,
}

impl Default for Driver {
    fn default() -> Self {
        Self {
            loaded: true,
            generation: 0,
            version: "580.95.05".to_owned(),
            mismatch: false,
            cuda_version: 13_000,
            recovery_action_supported: true,
        }
    }
}

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
    /// False: the GPU is not enumerated at all (removed, or gone after a re-initialisation).
    pub present: bool,
    /// True: fallen off the bus. The index stays, and every call on a handle, also a fresh one,
    /// answers 15.
    pub lost: bool,
    /// NVML return codes by function name, for this GPU alone. `nvmlDeviceGetHandleByIndex_v2`
    /// counts too.
    pub errors: BTreeMap<String, u32>,
    /// Functions that hang for this GPU alone while they are named here.
    pub hangs: Vec<String>,
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
            errors: BTreeMap::new(),
            hangs: Vec::new(),
            supported_events: event_type::HOPPER,
            recovery_action: 0,
            remapped_rows: Some(RemappedRows::default()),
            ecc_uncorrected: 0,
            fabric: None,
            nvlinks: Vec::new(),
            pcie: PciePlace::default(),
            mig: None,
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

/// Partitioning of a GPU.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mig {
    /// MIG mode is on.
    pub enabled: bool,
    /// The MIG devices that exist, by MIG index.
    pub devices: Vec<MigDevice>,
}

/// One MIG device: a compute instance on a GPU instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MigDevice {
    /// "MIG-" and a UUID, or the form of drivers before 470: `MIG-GPU-<uuid>/<gi>/<ci>`.
    pub uuid: String,
    /// GPU instance id.
    pub gpu_instance: u32,
    /// Compute instance id.
    pub compute_instance: u32,
    /// GPU slices (the g of 1g.10gb).
    pub gpu_slices: u32,
    /// Compute slices; fewer than `gpu_slices` in a compute instance split (the c of 1c.2g.20gb).
    pub compute_slices: u32,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// The GPU instance profile number (`NVML_GPU_INSTANCE_PROFILE_*`).
    pub gpu_instance_profile: u32,
    /// The device's name where the driver gives one, e.g. "NVIDIA H100 80GB HBM3 MIG 1g.10gb".
    pub name: Option<String>,
    /// NVML return codes by function name, for this device alone.
    pub errors: BTreeMap<String, u32>,
}

impl Default for MigDevice {
    fn default() -> Self {
        Self {
            uuid: String::new(),
            gpu_instance: 0,
            compute_instance: 0,
            gpu_slices: 1,
            compute_slices: 1,
            memory_mib: 9_984,
            multiprocessors: 16,
            gpu_instance_profile: 0,
            name: None,
            errors: BTreeMap::new(),
        }
    }
}

/// Something that the driver reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// Grows from event to event; the library delivers those above the highest it has seen. What is
    /// in the file at `nvmlInit` has happened before and is not delivered.
    pub seq: u64,
    /// UUID of the GPU, as in [`Gpu::uuid`].
    pub gpu: String,
    /// The bit of `nvmlEventType*`, e.g. [`event_type::XID`].
    pub event_type: u64,
    /// The Xid number for an Xid, else 0.
    #[serde(default)]
    pub data: u64,
    /// GPU instance id; absent: 0xFFFFFFFF, the event is of the whole GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_instance: Option<u32>,
    /// Compute instance id; absent: 0xFFFFFFFF.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_instance: Option<u32>,
    /// How many times in a row it is delivered (a storm); 1 by default.
    #[serde(default = "once")]
    pub count: u32,
}

fn once() -> u32 {
    1
}

/// Bits of `nvmlEventType*` (nvml.h).
pub mod event_type {
    /// `nvmlEventTypeSingleBitEccError`
    pub const SINGLE_BIT_ECC: u64 = 0x1;
    /// `nvmlEventTypeDoubleBitEccError`
    pub const DOUBLE_BIT_ECC: u64 = 0x2;
    /// `nvmlEventTypePState`
    pub const PSTATE: u64 = 0x4;
    /// `nvmlEventTypeXidCriticalError`
    pub const XID: u64 = 0x8;
    /// `nvmlEventTypeClock`
    pub const CLOCK: u64 = 0x10;
    /// `nvmlEventMigConfigChange`
    pub const MIG_CONFIG_CHANGE: u64 = 0x100;
    /// `nvmlEventTypeGpuRecoveryAction`
    pub const RECOVERY_ACTION: u64 = 0x8000;
    /// What a Hopper GPU supports: the answer of an H200 with driver 580.159.04. It is every type
    /// of its nvml.h, which gives the bits 0x20 and 0x40 to none.
    pub const HOPPER: u64 = 0xFF9F;
}

impl State {
    /// Reads a state file.
    ///
    /// # Errors
    /// The file cannot be read, or is not a state.
    pub fn read(path: &Path) -> io::Result<Self> {
        serde_json::from_slice(&fs::read(path)?).map_err(io::Error::from)
    }

    /// Writes the state beside `path` and renames it into place.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let next = path.with_extension("next");
        fs::write(&next, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&next, path)
    }

    /// Appends an event with the next sequence number, which it returns.
    pub fn push_event(&mut self, mut event: Event) -> u64 {
        event.seq = self.events.iter().map(|event| event.seq).max().unwrap_or(0) + 1;
        let seq = event.seq;
        self.events.push(event);
        seq
    }
}
