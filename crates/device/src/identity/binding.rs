//! What a GPU was when it was first seen on this boot: plain values, kept in the state file.

use std::collections::{BTreeMap, BTreeSet};

use crate::gpu::MigMode;
use crate::names::{PciBusId, Uuid};

/// The most GPUs of one node. A UUID that changes at each enumeration fills no memory.
pub const MAX_GPUS: usize = 1024;

/// What is known of a GPU for the whole boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuBinding {
    /// NVML's index when it was first seen; `None`: that was another GPU's, and no index means it.
    pub index: Option<u32>,
    /// Its PCI bus id when it was first read.
    pub pci_bus_id: Option<PciBusId>,
    /// The MIG mode that was last read.
    pub mig_mode: MigMode,
}

/// The GPUs that were seen on one boot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownGpus {
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
    /// Each GPU.
    pub gpus: BTreeMap<Uuid, GpuBinding>,
}

impl KnownGpus {
    /// The GPUs, if they were seen on this boot; of another boot, or where the boot is not known,
    /// none. No index is bound to two of them.
    #[must_use]
    pub fn of_boot(self, boot: &str) -> BTreeMap<Uuid, GpuBinding> {
        if boot.is_empty() || self.boot != boot {
            return BTreeMap::new();
        }
        let mut indices = BTreeSet::new();
        let once = |(uuid, binding): (Uuid, GpuBinding)| {
            let index = binding.index.filter(|index| indices.insert(*index));
            (uuid, GpuBinding { index, ..binding })
        };
        self.gpus.into_iter().take(MAX_GPUS).map(once).collect()
    }
}
