//! The names of GPUs that a person may use.

use std::collections::BTreeMap;

use device::identity::GpuRecord;
use device::inventory::Inventory;
use device::names::{PciBusId, Uuid};

/// The index that each GPU is bound to on this boot, and its PCI bus id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuNames(BTreeMap<Uuid, (Option<u32>, Option<PciBusId>)>);

impl GpuNames {
    /// The names of this inventory's GPUs.
    #[must_use]
    pub fn of(inventory: &Inventory) -> Self {
        let names = |gpu: &GpuRecord| (gpu.binding.index, gpu.pci_bus_id());
        Self(inventory.gpus().iter().map(|(uuid, gpu)| (uuid.clone(), names(gpu))).collect())
    }

    /// Takes over this inventory; returns whether any name has changed.
    pub(super) fn update(&mut self, inventory: &Inventory) -> bool {
        std::mem::replace(self, Self::of(inventory)) != *self
    }

    /// Whether there are no GPUs.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The GPU with this name: a UUID, a PCI bus id or an index.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Uuid> {
        let digits = name.bytes().all(|byte| byte.is_ascii_digit());
        let index = digits.then(|| name.parse::<u32>().ok()).flatten();
        let pci = name.parse::<PciBusId>().ok();
        let fits = |uuid: &Uuid, (at, bus): &(Option<u32>, Option<PciBusId>)| {
            uuid.as_str() == name
                || (index.is_some() && index == *at)
                || (pci.is_some() && pci == *bus)
        };
        self.0.iter().find(|(uuid, names)| fits(uuid, names)).map(|(uuid, _)| uuid)
    }

    /// Whether a GPU can have this name.
    pub(super) fn can_be_one(name: &str) -> bool {
        let is_index = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        is_index || name.parse::<Uuid>().is_ok() || name.parse::<PciBusId>().is_ok()
    }

    /// Four GPUs, for tests.
    #[cfg(test)]
    pub(super) fn example() -> Self {
        let gpu = |n: u32| {
            let address = format!("1{n}:00.0").parse().unwrap();
            (format!("GPU-{n}").parse().unwrap(), (Some(n), Some(address)))
        };
        Self((0..4).map(gpu).collect())
    }
}
