//! The number of GPUs by each that counts them.

use std::collections::{BTreeMap, BTreeSet};

use super::Inventory;
use super::observation::InventoryChanges;
use crate::identity::{
    Census, GpuCounts, GpuName, GpuRecord, IdentityFinding, OtherFunction, PciFunction, Renumbered,
    compare, given_gpus, other_functions,
};
use crate::names::{PciBusId, Uuid};

impl Inventory {
    /// How many GPUs there are, by each that counts them.
    #[must_use]
    pub fn gpu_counts(&self) -> GpuCounts {
        self.census().counts
    }

    /// The display functions of NVIDIA's that are not counted as GPUs, and why: no faults.
    pub fn other_functions(&self) -> impl Iterator<Item = (PciBusId, OtherFunction)> + '_ {
        other_functions(self.observed.bus.as_deref().unwrap_or_default())
    }

    pub(super) fn set_bus(&mut self, functions: Vec<PciFunction>) -> InventoryChanges {
        let mut changes = InventoryChanges::default();
        if self.observed.bus.as_ref() != Some(&functions) {
            self.observed.bus = Some(functions);
            self.update_devices(&mut changes);
        }
        changes
    }

    /// What does not fit together about the identity and the number of GPUs, for the present lists.
    pub(super) fn identity_findings(&self) -> Vec<IdentityFinding> {
        let mut findings: Vec<IdentityFinding> = self.numbering_changed().into_iter().collect();
        findings.extend(compare(self.census()));
        findings
    }

    fn numbering_changed(&self) -> Option<IdentityFinding> {
        let renumbered = |(uuid, record): (&Uuid, &GpuRecord)| {
            let (present, bound) = (record.present_index()?, record.binding.index);
            (bound != Some(present)).then(|| Renumbered { gpu: record.name(uuid), present, bound })
        };
        let gpus: Vec<Renumbered> = self.gpus.iter().filter_map(renumbered).collect();
        (!gpus.is_empty()).then_some(IdentityFinding::NumberingChanged(gpus))
    }

    fn census(&self) -> Census {
        let offered = self.offered_gpus();
        let named = |(uuid, record): (&Uuid, &GpuRecord)| record.name(uuid);
        let of = |is: &dyn Fn(&Uuid, &GpuRecord) -> bool| -> Vec<GpuName> {
            let mut gpus: BTreeMap<_, _> = self.gpus.iter().collect();
            gpus.retain(|uuid, record| is(uuid, record));
            gpus.into_iter().map(named).collect()
        };
        let is_reserved = |uuid: &Uuid| self.reserved.contains_key(uuid);
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let identified = self.gpus.values().filter(|gpu| gpu.listed);
        let mut census = Census {
            counts: GpuCounts {
                bus: None,
                enumerated: self.observed.enumerated,
                identified: number(identified.clone().count()),
                offered: number(offered.len()),
                reserved: number(self.reserved.len()),
                expected: self.layout.expected_gpus,
            },
            unidentified: self.observed.unidentified.clone(),
            not_offered: of(&|uuid, gpu| {
                gpu.listed && !is_reserved(uuid) && !offered.contains(uuid)
            }),
            missing: of(&|uuid, gpu| !gpu.listed && offered.contains(uuid)),
            ..Census::default()
        };
        if let Some(functions) = &self.observed.bus {
            let listed = identified.filter_map(GpuRecord::pci_bus_id).collect();
            census.set_bus(&given_gpus(functions).collect(), &listed);
        }
        census
    }

    /// The GPUs of which a device is offered.
    fn offered_gpus(&self) -> BTreeSet<&Uuid> {
        let devices = self.resources.values().flat_map(|devices| devices.values());
        devices.filter(|device| !device.withdrawn).map(|device| &device.gpu).collect()
    }
}
