//! How a GPU is named to people.

use std::fmt;

use crate::names::{PciBusId, Uuid};

/// A GPU in a text for people: its index and UUID, or its UUID and PCI bus id where the index is
/// stale, since NVML, nvidia-smi and the settings would take it for another GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuName {
    /// NVML's index, if that means this GPU everywhere.
    pub index: Option<u32>,
    /// Its UUID.
    pub uuid: Uuid,
    /// Its PCI bus id.
    pub pci_bus_id: Option<PciBusId>,
}

impl GpuName {
    /// A MIG device of it, by its MIG index where the GPU has an index.
    #[must_use]
    pub fn mig_label(&self, mig: u32) -> String {
        match self.index {
            Some(index) => format!("{index}:{mig}"),
            None => format!("{mig} of {self}"),
        }
    }
}

impl fmt::Display for GpuName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.index, self.pci_bus_id) {
            (Some(index), _) => write!(f, "GPU {index} ({})", self.uuid),
            (None, Some(pci_bus_id)) => write!(f, "{} at {pci_bus_id}", self.uuid),
            (None, None) => write!(f, "{}", self.uuid),
        }
    }
}
