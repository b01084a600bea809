//! How an enumeration of the GPUs changes the inventory.

use std::collections::{BTreeMap, BTreeSet};

use super::Inventory;
use super::observation::{EnumerationEntry, InventoryChanges};
use crate::gpu::Gpu;
use crate::health::{self, Moment, NodeObservation, NvmlError, ReturnCode};
use crate::identity::{GpuBinding, GpuRecord, KnownGpus, MAX_GPUS, Unidentified};
use crate::names::Uuid;

/// Whether every GPU that NVML counts is present and identified by a UUID of its own: only then is
/// a GPU that is not among them gone. One that is lost may be any of those that are not.
#[must_use]
pub fn is_complete(count: u32, entries: &[EnumerationEntry]) -> bool {
    let present = entries.iter().filter(|entry| !entry.is_lost());
    let uuids: BTreeSet<&Uuid> = present.filter_map(EnumerationEntry::uuid).collect();
    uuids.len() == entries.len() && u32::try_from(uuids.len()) == Ok(count)
}

/// What is taken from an enumeration for health.
#[derive(Default)]
struct Listed {
    /// The GPUs that are present.
    present: BTreeSet<Uuid>,
    /// The GPUs for which NVML answers with an error.
    failed: Vec<(Uuid, NvmlError)>,
}

/// A GPU that NVML identifies.
struct Identified {
    uuid: Uuid,
    index: u32,
    answer: Result<Gpu, NvmlError>,
}

impl Inventory {
    /// Whether NVML has listed its GPUs, or that there are none.
    #[must_use]
    pub fn is_enumerated(&self) -> bool {
        self.observed.enumerated.is_some()
    }

    /// The GPUs that were seen earlier on this boot, to be called before the first enumeration.
    /// From that on those that NVML does not list are listed too, Unhealthy.
    pub fn restore_gpus(&mut self, boot: &str, known: KnownGpus) {
        self.recalled = known.of_boot(boot);
    }

    /// As [`Self::restore_gpus`], at any time.
    pub(super) fn recall_more(&mut self, known: KnownGpus) {
        let known = known.of_boot(&self.health.epoch().boot);
        let mut used: BTreeSet<u32> =
            self.gpus.values().filter_map(|gpu| gpu.binding.index).collect();
        for (uuid, mut binding) in known {
            if self.gpus.contains_key(&uuid) || self.gpus.len() + self.recalled.len() >= MAX_GPUS {
                continue;
            }
            // An index that was given to another GPU meanwhile means that one.
            binding.index = binding.index.filter(|index| used.insert(*index));
            self.recalled.entry(uuid).or_insert(binding);
        }
    }

    /// The GPUs that were seen on this boot.
    #[must_use]
    pub fn known_gpus(&self, boot: &str) -> KnownGpus {
        let mut gpus: BTreeMap<Uuid, GpuBinding> = self.recalled.clone();
        gpus.extend(self.gpus.iter().map(|(uuid, gpu)| (uuid.clone(), gpu.binding.clone())));
        KnownGpus { boot: boot.to_owned(), gpus }
    }

    pub(super) fn enumerate(
        &mut self,
        now: Moment,
        session: u64,
        count: u32,
        entries: Vec<EnumerationEntry>,
    ) -> InventoryChanges {
        let mut changes = InventoryChanges::default();
        self.recall();
        let complete = is_complete(count, &entries);
        let listed = self.record_all(count, entries, &mut changes);
        self.update_devices(&mut changes);
        let gpus = listed.present;
        let enumeration = NodeObservation::Enumeration { session, gpus, complete };
        changes.health = self.health.apply(now, enumeration);
        for (uuid, error) in listed.failed {
            let failure = NodeObservation::Gpu(uuid, health::Observation::Failed(error));
            for (uuid, change) in self.health.apply(now, failure) {
                changes.health.entry(uuid).or_default().merge(change);
            }
        }
        changes
    }

    /// Drops what is known of a GPU that is not present. While NVML goes on counting it as lost, it
    /// is not known again.
    pub(super) fn forget_gpu(&mut self, uuid: &Uuid, changes: &mut InventoryChanges) {
        self.recalled.remove(uuid);
        if self.gpus.remove(uuid).is_some() {
            self.forgotten.insert(uuid.clone());
            self.update_devices(changes);
        }
    }

    fn recall(&mut self) {
        for (uuid, binding) in &self.recalled {
            if !self.gpus.contains_key(uuid) {
                self.gpus.insert(uuid.clone(), GpuRecord::known(binding.clone()));
            }
        }
    }

    fn record_all(
        &mut self,
        count: u32,
        entries: Vec<EnumerationEntry>,
        changes: &mut InventoryChanges,
    ) -> Listed {
        let answered = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        self.gpus.values_mut().for_each(|gpu| gpu.listed = false);
        let (mut listed, mut unidentified) = (Listed::default(), Vec::new());
        for entry in entries {
            match self.identify(entry) {
                Ok(gpu) => self.record(gpu, &mut listed, changes),
                Err(why) => unidentified.push(why),
            }
        }
        let unanswered = count.saturating_sub(answered);
        unidentified.extend((unanswered > 0).then_some(Unidentified::Unanswered(unanswered)));
        self.observed.enumerated = Some(count);
        self.observed.unidentified = unidentified;
        listed
    }

    /// The GPU of an entry. The first one with a UUID has it.
    fn identify(&self, entry: EnumerationEntry) -> Result<Identified, Unidentified> {
        let gpu = match entry {
            EnumerationEntry::Gpu(gpu) => {
                Identified { uuid: gpu.uuid.clone(), index: gpu.index, answer: Ok(gpu) }
            }
            EnumerationEntry::Failed { index, uuid: Some(uuid), error }
                if !self.forgotten.contains(&uuid) =>
            {
                Identified { uuid, index, answer: Err(error) }
            }
            EnumerationEntry::Failed { index, error, .. } => {
                return Err(Unidentified::Failed { index, error });
            }
            EnumerationEntry::MalformedUuid { index, error } => {
                return Err(Unidentified::Malformed { index, error });
            }
        };
        let (uuid, index) = (gpu.uuid.clone(), gpu.index);
        match self.gpus.get(&uuid) {
            Some(record) if record.listed => Err(Unidentified::Duplicate { index, uuid }),
            None if self.gpus.len() >= MAX_GPUS => Err(Unidentified::TooMany { index }),
            _ => Ok(gpu),
        }
    }

    fn record(&mut self, gpu: Identified, listed: &mut Listed, changes: &mut InventoryChanges) {
        let Identified { uuid, index, answer } = gpu;
        let was_recalled = self.recalled.remove(&uuid).is_some();
        if was_recalled || !self.gpus.contains_key(&uuid) {
            changes.new_gpus.push(uuid.clone());
        }
        // An index that was another GPU's is not bound again.
        let is_free = self.gpus.values().all(|other| other.binding.index != Some(index));
        let record = self.gpus.entry(uuid.clone()).or_insert_with(|| {
            let index = is_free.then_some(index);
            GpuRecord::known(GpuBinding { index, ..GpuBinding::default() })
        });
        (record.index, record.listed) = (index, true);
        match answer {
            Ok(facts) => {
                self.forgotten.remove(&uuid);
                record.facts = Some(facts);
                record.update_binding();
            }
            // A lost GPU stays in NVML's enumeration, and is not present.
            Err(error) => {
                let is_lost = error.code == ReturnCode::GPU_IS_LOST;
                listed.failed.push((uuid.clone(), error));
                if is_lost {
                    return;
                }
            }
        }
        listed.present.insert(uuid);
    }
}

impl EnumerationEntry {
    /// Whether the GPU is lost: it stays in NVML's enumeration, and is not present.
    fn is_lost(&self) -> bool {
        matches!(self, Self::Failed { error, .. } if error.code == ReturnCode::GPU_IS_LOST)
    }

    /// The UUID, if it could be read.
    #[must_use]
    pub fn uuid(&self) -> Option<&Uuid> {
        match self {
            Self::Gpu(gpu) => Some(&gpu.uuid),
            Self::Failed { uuid, .. } => uuid.as_ref(),
            Self::MalformedUuid { .. } => None,
        }
    }

    /// NVML's index.
    #[must_use]
    pub fn index(&self) -> u32 {
        match self {
            Self::Gpu(gpu) => gpu.index,
            Self::Failed { index, .. } | Self::MalformedUuid { index, .. } => *index,
        }
    }
}
