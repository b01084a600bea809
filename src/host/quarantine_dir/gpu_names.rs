//! The names of GPUs that a file can have.

use std::collections::BTreeMap;

use device::inventory::Inventory;
use device::names::{PciBusId, Uuid};

/// The index and the PCI bus id of each GPU.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct GpuNames(BTreeMap<Uuid, (u32, Option<PciBusId>)>);

impl GpuNames {
    /// The names of this inventory's GPUs.
    pub(super) fn of(inventory: &Inventory) -> Self {
        let pci_bus_id = |facts: Option<&device::gpu::Gpu>| facts.and_then(|gpu| gpu.pci_bus_id);
        let gpus = inventory.gpus().iter();
        Self(
            gpus.map(|(uuid, gpu)| (uuid.clone(), (gpu.index, pci_bus_id(gpu.facts.as_ref()))))
                .collect(),
        )
    }

    /// Takes over this inventory; returns whether any name has changed.
    pub(super) fn update(&mut self, inventory: &Inventory) -> bool {
        let now = Self::of(inventory);
        let changed = *self != now;
        *self = now;
        changed
    }

    /// Whether there are no GPUs.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The GPU with this name.
    pub(super) fn find(&self, name: &str) -> Option<&Uuid> {
        let digits = name.bytes().all(|byte| byte.is_ascii_digit());
        let index = digits.then(|| name.parse::<u32>().ok()).flatten();
        let pci = name.parse::<PciBusId>().ok();
        let fits = |uuid: &Uuid, (at, bus): &(u32, Option<PciBusId>)| {
            uuid.as_str() == name || index == Some(*at) || (pci.is_some() && pci == *bus)
        };
        self.0.iter().find(|(uuid, names)| fits(uuid, names)).map(|(uuid, _)| uuid)
    }

    /// Four GPUs, for tests.
    #[cfg(test)]
    pub(super) fn example() -> Self {
        let gpu = |n: u32| {
            (format!("GPU-{n}").parse().unwrap(), (n, Some(format!("1{n}:00.0").parse().unwrap())))
        };
        Self((0..4).map(gpu).collect())
    }
}
