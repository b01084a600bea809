//! Facts about GPUs and MIG devices, as discovery states them. Nothing here is a judgement.

use super::health::NvmlError;
use super::names::{PciBusId, Uuid};

/// One physical GPU. What NVML would not tell is `None`: no single fact but the UUID keeps a GPU
/// from being served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Its identity.
    pub uuid: Uuid,
    /// NVML's index; it can change from one enumeration to the next.
    pub index: u32,
    /// The n of `/dev/nvidia<n>`.
    pub minor: Option<u32>,
    /// Marketing name, e.g. "NVIDIA H100 80GB HBM3".
    pub name: Option<String>,
    /// Place on the PCI bus.
    pub pci_bus_id: Option<PciBusId>,
    /// Frame buffer in bytes; `None` also where GPU and CPU share their memory (GB10).
    pub memory_bytes: Option<u64>,
    /// CUDA compute capability, major and minor.
    pub compute_capability: Option<(u32, u32)>,
    /// The NUMA node, from sysfs.
    pub numa_node: Option<NumaNode>,
    /// Whether MIG mode is on.
    pub mig_enabled: bool,
    /// The MIG devices on it, by MIG index.
    pub mig_devices: Vec<MigDevice>,
    /// MIG devices that would not say what they are.
    pub mig_failures: Vec<MigFailure>,
}

impl Gpu {
    /// A GPU that says no more than who it is.
    #[must_use]
    pub fn unknown(uuid: Uuid, index: u32) -> Self {
        Self {
            uuid,
            index,
            minor: None,
            name: None,
            pci_bus_id: None,
            memory_bytes: None,
            compute_capability: None,
            numa_node: None,
            mig_enabled: false,
            mig_devices: Vec::new(),
            mig_failures: Vec::new(),
        }
    }
}

/// A MIG device that answers with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigFailure {
    /// Its index on its GPU; `None`: the MIG devices cannot even be counted.
    pub index: Option<u32>,
    /// The call that failed and NVML's answer.
    pub error: NvmlError,
}

/// One MIG device: a compute instance on a GPU instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigDevice {
    /// Its identity.
    pub uuid: Uuid,
    /// Its index on its GPU, the j of "i:j".
    pub index: u32,
    /// Where it sits: the ids that events and capability nodes use.
    pub placement: Placement,
    /// GPU slices, the g of 1g.10gb.
    pub gpu_slices: u32,
    /// Compute slices; fewer than `gpu_slices` in a compute instance split.
    pub compute_slices: u32,
    /// Memory in MiB, as NVML's attributes give it.
    pub memory_mib: u64,
    /// The profile, e.g. "1g.10gb", "1g.10gb+me", "1c.2g.20gb"; `None` if NVML does not describe
    /// it.
    pub profile: Option<String>,
}

/// The instances that a MIG device is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Placement {
    /// GPU instance id.
    pub gpu_instance: u32,
    /// Compute instance id.
    pub compute_instance: u32,
}

/// A NUMA node of the host. Never negative: "no node" is `None` around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NumaNode(u32);

impl NumaNode {
    /// The node with this number, unless it is negative: sysfs writes -1 where a device has none.
    #[must_use]
    pub fn from_sysfs(number: i64) -> Option<Self> {
        u32::try_from(number).ok().map(Self)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}
