//! The devices of one resource as allocation sees them. Built once when the inventory changes, so that a call only
//! looks things up.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::Arc;

use super::leftover::Effort;
use super::machine::Machine;
use super::policy::{Policies, WholeGpuPolicy};
use crate::device::names::{DeviceId, Uuid};
use crate::device::topology::Topology;

/// One device of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Under which id it is advertised.
    pub id: DeviceId,
    /// The physical GPU that it is, or that it is a part of.
    pub gpu: Uuid,
    /// NVML's index of that GPU.
    pub gpu_index: u32,
}

/// The devices of one resource, in the order in which they are answered: by GPU index, then UUID, then replica.
///
/// A device of the catalogue that a request does not name as available counts as in use, so a catalogue holds the
/// devices of one resource and no others.
pub struct Catalogue {
    pub(super) policies: Policies,
    pub(super) devices: Vec<Device>,
    pub(super) gpus: Vec<Gpu>,
    /// How many devices share each UUID.
    pub(super) carriers: Vec<usize>,
    /// The whole GPUs, unless the policy does not ask for a search or they are too many for one.
    pub(super) machine: Option<Machine>,
    by_id: HashMap<Arc<str>, usize, Quick>,
}

impl std::fmt::Debug for Catalogue {
    /// How much is in it: its tables are long and say nothing to a reader.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (devices, gpus) = (self.devices.len(), self.gpus.len());
        f.debug_struct("Catalogue").field("devices", &devices).field("gpus", &gpus).finish_non_exhaustive()
    }
}

/// One device.
pub(super) struct Device {
    pub(super) id: Arc<str>,
    /// Position in [`Catalogue::gpus`].
    pub(super) gpu: usize,
    /// Position in [`Catalogue::carriers`].
    pub(super) carrier: usize,
    /// Whether it is a GPU that is neither cut nor shared.
    pub(super) whole: bool,
}

/// One physical GPU.
pub(super) struct Gpu {
    /// How many devices are on it.
    pub(super) devices: usize,
    /// Which carriers are on it.
    pub(super) carriers: Range<usize>,
}

impl Catalogue {
    /// The catalogue of these devices, in any order. Of two entries with one id the last is taken.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = Entry>, topology: &Topology, policies: Policies) -> Self {
        Self::with(entries, topology, policies, Effort::Whole)
    }

    /// The same with as much work as may be; [`Catalogue::is_postponed`] says whether some is left to do.
    pub(super) fn with(
        entries: impl IntoIterator<Item = Entry>,
        topology: &Topology,
        policies: Policies,
        effort: Effort,
    ) -> Self {
        let entries: BTreeMap<DeviceId, (u32, Uuid)> =
            entries.into_iter().map(|entry| (entry.id, (entry.gpu_index, entry.gpu))).collect();
        // One index for each GPU, should the entries not agree: the order depends on it.
        let mut indices = BTreeMap::<&Uuid, u32>::new();
        for (index, gpu) in entries.values() {
            indices.entry(gpu).and_modify(|least| *least = *index.min(least)).or_insert(*index);
        }
        let mut order: Vec<(u32, Uuid, DeviceId)> =
            entries.iter().map(|(id, (_, gpu))| (indices[gpu], gpu.clone(), id.clone())).collect();
        order.sort();

        let mut catalogue = Self {
            policies,
            devices: Vec::with_capacity(order.len()),
            gpus: Vec::new(),
            carriers: Vec::new(),
            machine: None,
            by_id: HashMap::with_capacity_and_hasher(order.len(), Quick::default()),
        };
        let mut last: Option<&(u32, Uuid, DeviceId)> = None;
        for entry @ (index, gpu, id) in &order {
            let same_gpu = last.is_some_and(|(i, g, _)| (i, g) == (index, gpu));
            let same_carrier = same_gpu && last.is_some_and(|(_, _, last)| last.uuid() == id.uuid());
            catalogue.push(id, gpu, same_gpu, same_carrier);
            last = Some(entry);
        }
        catalogue.machine = catalogue.search_space(&order, topology, effort);
        catalogue
    }

    /// Puts a device behind the last one, on the same GPU and carrier or on new ones.
    fn push(&mut self, id: &DeviceId, gpu: &Uuid, same_gpu: bool, same_carrier: bool) {
        if !same_carrier {
            self.carriers.push(0);
        }
        let (carrier, carriers) = (self.carriers.len() - 1, self.carriers.len());
        self.carriers[carrier] += 1;
        if !same_gpu {
            self.gpus.push(Gpu { devices: 0, carriers: carrier..carriers });
        }
        let at = self.gpus.len() - 1;
        self.gpus[at].devices += 1;
        self.gpus[at].carriers.end = carriers;

        let text: Arc<str> = id.to_string().into();
        self.by_id.insert(text.clone(), self.devices.len());
        let whole = id.replica_number().is_none() && id.uuid() == gpu;
        self.devices.push(Device { id: text, gpu: at, carrier, whole });
    }

    /// What the search works on: all GPUs, at their positions, if any device is a whole one.
    fn search_space(&self, order: &[(u32, Uuid, DeviceId)], topology: &Topology, effort: Effort) -> Option<Machine> {
        if !self.devices.iter().any(|device| device.whole) {
            return None;
        }
        let mut gpus: Vec<Uuid> = order.iter().map(|(_, gpu, _)| gpu.clone()).collect();
        gpus.dedup();
        match self.policies.whole {
            WholeGpuPolicy::Index => None,
            WholeGpuPolicy::Numa => Machine::new(&gpus, &topology.without_links(), effort),
            WholeGpuPolicy::Optimal => Machine::new(&gpus, topology, effort),
        }
    }

    /// Whether the value of what stays behind is estimated, and could be known with more work.
    pub(super) fn is_postponed(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.leftover.postponed)
    }

    /// Where the device with this id stands.
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// How many devices it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }
}

type Quick = BuildHasherDefault<QuickHasher>;

/// A hash of eight bytes at a time. A request names every free device, thousands of them where GPUs are shared, and
/// only the kubelet asks: nobody there is out to make ids collide.
#[derive(Default)]
struct QuickHasher(u64);

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        for word in words.iter().chain([&last]) {
            // The fractional part of the golden ratio: an odd number whose multiples lie far apart.
            self.0 = (self.0.rotate_left(29) ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn finish(&self) -> u64 {
        // The table takes its place from the low bits and a check from the high ones; a product has its best in the
        // upper half.
        self.0 ^ self.0 >> 32
    }
}
