//! What is known about one physical GPU, except its health.

use super::binding::GpuBinding;
use super::name::GpuName;
use crate::gpu::{Gpu, MigMode};
use crate::names::{PciBusId, Uuid};

/// What is known about one physical GPU, except its health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GpuRecord {
    /// NVML's index when it was last enumerated, or before that the index that it is bound to.
    pub index: u32,
    /// Whether the last enumeration listed it.
    pub listed: bool,
    /// What it was when it was first seen on this boot.
    pub binding: GpuBinding,
    /// Its facts; `None` if NVML has not answered with them since the plugin started.
    pub facts: Option<Gpu>,
}

impl GpuRecord {
    /// A GPU that was seen earlier on this boot and that no enumeration has listed since.
    #[must_use]
    pub fn known(binding: GpuBinding) -> Self {
        let index = binding.index.unwrap_or(u32::MAX);
        Self { index, listed: false, binding, facts: None }
    }

    /// A GPU with these facts, as NVML lists it at first.
    #[must_use]
    pub fn listed(facts: Gpu) -> Self {
        let index = facts.index;
        let (binding, facts) = (GpuBinding::default(), Some(facts));
        let mut record = Self { index, listed: true, binding, facts };
        record.binding.index = Some(index);
        record.update_binding();
        record
    }

    /// NVML's index now; `None` if NVML does not list it.
    #[must_use]
    pub fn present_index(&self) -> Option<u32> {
        self.listed.then_some(self.index)
    }

    /// Its index, if NVML and the settings mean this GPU by it.
    #[must_use]
    pub fn valid_index(&self) -> Option<u32> {
        self.present_index().filter(|index| self.binding.index == Some(*index))
    }

    /// Its PCI bus id.
    #[must_use]
    pub fn pci_bus_id(&self) -> Option<PciBusId> {
        self.facts.as_ref().and_then(|gpu| gpu.pci_bus_id).or(self.binding.pci_bus_id)
    }

    /// The MIG mode: as it was read, or where nothing could be read what it was earlier on this
    /// boot.
    #[must_use]
    pub fn mig_mode(&self) -> MigMode {
        self.facts.as_ref().map_or(self.binding.mig_mode, |gpu| gpu.mig_mode)
    }

    /// Its place in lists: by the index that it is bound to, which does not change.
    #[must_use]
    pub fn order(&self) -> u32 {
        self.binding.index.unwrap_or(u32::MAX)
    }

    /// How it is named to people.
    #[must_use]
    pub fn name(&self, uuid: &Uuid) -> GpuName {
        let (index, pci_bus_id) = (self.valid_index(), self.pci_bus_id());
        GpuName { index, uuid: uuid.clone(), pci_bus_id }
    }

    /// Takes over from the facts what is bound for the boot.
    pub(crate) fn update_binding(&mut self) {
        let Some(facts) = &self.facts else { return };
        self.binding.pci_bus_id = self.binding.pci_bus_id.or(facts.pci_bus_id);
        if facts.mig_mode != MigMode::Unknown {
            self.binding.mig_mode = facts.mig_mode;
        }
    }
}

/// A GPU and what is known about it.
#[derive(Debug, Clone, Copy)]
pub struct KnownGpu<'a> {
    /// The GPU.
    pub uuid: &'a Uuid,
    /// What is known about it.
    pub record: &'a GpuRecord,
}

impl<'a> KnownGpu<'a> {
    /// Its facts, if NVML has answered with them.
    #[must_use]
    pub fn facts(self) -> Option<&'a Gpu> {
        self.record.facts.as_ref()
    }

    /// The model.
    #[must_use]
    pub fn model(self) -> Option<&'a str> {
        self.facts().and_then(|gpu| gpu.name.as_deref())
    }

    /// How it is named to people.
    #[must_use]
    pub fn name(self) -> GpuName {
        self.record.name(self.uuid)
    }
}
