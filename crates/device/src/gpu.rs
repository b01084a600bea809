//! Facts about GPUs and MIG devices, as NVML and sysfs state them. Health is not among them.

use std::fmt;

use crate::health::NvmlError;
use crate::names::{PciBusId, Uuid};

/// One physical GPU. A fact that could not be read is `None`: only without a UUID is a GPU not
/// offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// The UUID, which identifies it.
    pub uuid: Uuid,
    /// NVML's index, which can change between enumerations.
    pub index: u32,
    /// The n of `/dev/nvidia<n>`.
    pub minor: Option<u32>,
    /// Marketing name, e.g. "NVIDIA H100 80GB HBM3".
    pub name: Option<String>,
    /// PCI bus id.
    pub pci_bus_id: Option<PciBusId>,
    /// Frame buffer in bytes; `None` also where GPU and CPU share their memory (GB10).
    pub memory_bytes: Option<u64>,
    /// CUDA compute capability, major and minor.
    pub compute_capability: Option<(u32, u32)>,
    /// The NUMA node, from sysfs.
    pub numa_node: Option<NumaNode>,
    /// The PCI class, e.g. 0x030200 for a GPU without a display, from sysfs.
    pub pci_class: Option<u32>,
    /// The NVLink clique that it has joined.
    pub clique: Option<Clique>,
    /// What the host says of itself, where this is a virtual GPU.
    pub vgpu_host: Option<Box<VgpuHost>>,
    /// Whether it has a MIG mode at all.
    pub mig_capable: bool,
    /// The MIG mode at present.
    pub mig_mode: MigMode,
    /// The MIG devices on it, by MIG index.
    pub mig_devices: Vec<MigDevice>,
    /// MIG devices whose facts could not be read.
    pub mig_failures: Vec<MigFailure>,
    /// Calls for facts that were refused (code 4) or failed. A fact that the GPU or the driver does
    /// not support is missing without being here.
    pub gaps: Vec<NvmlError>,
}

/// The current MIG mode (`nvmlDeviceGetMigMode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MigMode {
    /// MIG is off, or the GPU or the driver has none.
    Off,
    /// MIG is on.
    On,
    /// It could not be read, so that the GPU may be partitioned.
    #[default]
    Unknown,
}

impl Gpu {
    /// A GPU about which nothing but UUID and index is known, not even its MIG mode.
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
            pci_class: None,
            clique: None,
            vgpu_host: None,
            mig_capable: false,
            mig_mode: MigMode::Unknown,
            mig_devices: Vec::new(),
            mig_failures: Vec::new(),
            gaps: Vec::new(),
        }
    }
}

/// GPUs that reach each other over NVLink, across nodes too (`nvmlDeviceGetGpuFabricInfoV`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clique {
    /// The UUID of the cluster; never all zeros.
    pub cluster: [u8; 16],
    /// The clique's number in the cluster.
    pub id: u32,
}

/// `<cluster UUID>.<number>`, as in NVIDIA's label `nvidia.com/gpu.clique`.
impl fmt::Display for Clique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.cluster.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        write!(f, ".{}", self.id)
    }
}

/// What the host of a virtual GPU writes into its PCI configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VgpuHost {
    /// The version of the host's driver, e.g. "550.90.05".
    pub driver_version: String,
    /// Its branch, e.g. "r550_40".
    pub driver_branch: String,
}

/// A MIG device for which NVML answers with an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigFailure {
    /// Its index on its GPU; `None`: the MIG devices cannot even be counted.
    pub index: Option<u32>,
    /// The failed call and its return code.
    pub error: NvmlError,
}

/// One MIG device: a compute instance on a GPU instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigDevice {
    /// The UUID, which identifies it.
    pub uuid: Uuid,
    /// Its index on its GPU, the j of "i:j".
    pub index: u32,
    /// Its instances, by which events and capability nodes refer to it.
    pub placement: Placement,
    /// GPU slices, the g of 1g.10gb.
    pub gpu_slices: u32,
    /// Compute slices; fewer than `gpu_slices` in a compute instance split.
    pub compute_slices: u32,
    /// Memory in MiB, from NVML's attributes.
    pub memory_mib: u64,
    /// The profile, e.g. "1g.10gb", "1g.10gb+me", "1c.2g.20gb"; `None` if NVML does not describe
    /// it.
    pub profile: Option<String>,
    /// Its engines; `None` if NVML does not describe it.
    pub engines: Option<MigEngines>,
}

/// The engines of a MIG device (`nvmlDeviceGetAttributes_v2`). All but the multiprocessors are
/// shared by the compute instances of its GPU instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigEngines {
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

/// The GPU instance and the compute instance of a MIG device.
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
    /// The node with this number; `None` for a negative one, which sysfs has where a device has no
    /// node.
    #[must_use]
    pub fn from_sysfs(number: i64) -> Option<Self> {
        u32::try_from(number).ok().map(Self)
    }

    /// The number of the node, as in sysfs.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clique_is_written_as_nvidia_writes_its_label() {
        let cluster = std::array::from_fn(|at| u8::try_from(0xf0 + at).unwrap());
        let clique = Clique { cluster, id: 32_766 };
        assert_eq!(clique.to_string(), "f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff.32766");
    }
}
