//! The devices of one resource as allocation sees them. Built once when the inventory changes, so
//! that a call only looks things up.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::Arc;

use super::bandwidth::BandwidthMatrix;
use super::policy::{Policies, WholeGpuPolicy};
use crate::names::{DeviceId, Uuid};
use crate::topology::Topology;

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

/// The devices of one resource, in the order in which they are answered: by GPU index, then UUID,
/// then replica.
///
/// A device of the catalogue that a request does not name as available counts as in use, so a
/// catalogue holds the devices of one resource and no others.
pub struct AllocationIndex {
    pub(super) policies: Policies,
    pub(super) devices: Vec<Device>,
    pub(super) gpus: Vec<Gpu>,
    pub(super) carriers: Vec<DeviceGroup>,
    /// The whole GPUs, unless the policy does not ask for a search or they are too many for one.
    pub(super) machine: Option<BandwidthMatrix>,
    /// Position in [`AllocationIndex::carriers`]. A request names thousands of replicas of a few of them.
    by_uuid: HashMap<Uuid, usize, Quick>,
}

impl std::fmt::Debug for AllocationIndex {
    /// How much is in it: its tables are long and say nothing to a reader.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (devices, gpus) = (self.devices.len(), self.gpus.len());
        f.debug_struct("AllocationIndex")
            .field("devices", &devices)
            .field("gpus", &gpus)
            .finish_non_exhaustive()
    }
}

/// One device.
pub(super) struct Device {
    pub(super) id: Arc<str>,
    replica: Option<u32>,
    /// Position in [`AllocationIndex::gpus`].
    pub(super) gpu: usize,
    /// Position in [`AllocationIndex::carriers`].
    pub(super) carrier: usize,
    /// Whether it is a GPU that is neither cut nor shared.
    pub(super) whole: bool,
}

/// What has a UUID of its own, a GPU or a MIG device, and one device or all replicas of one.
pub(super) struct DeviceGroup {
    /// Position of the first of its devices, which follow each other by replica number.
    first: usize,
    /// How many there are.
    pub(super) devices: usize,
}

/// One physical GPU.
pub(super) struct Gpu {
    /// How many devices are on it.
    pub(super) devices: usize,
    /// Which carriers are on it.
    pub(super) carriers: Range<usize>,
}

impl AllocationIndex {
    /// The catalogue of these devices, in any order. Of two entries with one id the last is taken.
    #[must_use]
    pub fn new(
        entries: impl IntoIterator<Item = Entry>,
        topology: &Topology,
        policies: Policies,
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
            by_uuid: HashMap::default(),
        };
        let mut last: Option<&(u32, Uuid, DeviceId)> = None;
        for entry @ (index, gpu, id) in &order {
            let same_gpu = last.is_some_and(|(i, g, _)| (i, g) == (index, gpu));
            let same_carrier =
                same_gpu && last.is_some_and(|(_, _, last)| last.uuid() == id.uuid());
            catalogue.push(id, gpu, same_gpu, same_carrier);
            last = Some(entry);
        }
        catalogue.machine = catalogue.search_space(&order, topology);
        catalogue
    }

    /// Puts a device behind the last one, on the same GPU and carrier or on new ones.
    fn push(&mut self, id: &DeviceId, gpu: &Uuid, same_gpu: bool, same_carrier: bool) {
        if !same_carrier {
            self.carriers.push(DeviceGroup { first: self.devices.len(), devices: 0 });
            self.by_uuid.insert(id.uuid().clone(), self.carriers.len() - 1);
        }
        let (carrier, carriers) = (self.carriers.len() - 1, self.carriers.len());
        self.carriers[carrier].devices += 1;
        if !same_gpu {
            self.gpus.push(Gpu { devices: 0, carriers: carrier..carriers });
        }
        let at = self.gpus.len() - 1;
        self.gpus[at].devices += 1;
        self.gpus[at].carriers.end = carriers;

        let replica = id.replica_number();
        let whole = replica.is_none() && id.uuid() == gpu;
        self.devices.push(Device { id: id.text().into(), replica, gpu: at, carrier, whole });
    }

    /// What the search works on: all GPUs, at their positions, if any device is a whole one.
    fn search_space(
        &self,
        order: &[(u32, Uuid, DeviceId)],
        topology: &Topology,
    ) -> Option<BandwidthMatrix> {
        if !self.devices.iter().any(|device| device.whole) {
            return None;
        }
        let mut gpus: Vec<Uuid> = order.iter().map(|(_, gpu, _)| gpu.clone()).collect();
        gpus.dedup();
        match self.policies.whole {
            WholeGpuPolicy::Index => None,
            WholeGpuPolicy::Numa => BandwidthMatrix::new(&gpus, &topology.without_links()),
            WholeGpuPolicy::Optimal => BandwidthMatrix::new(&gpus, topology),
        }
    }

    /// Where the device with this id stands.
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        let (uuid, replica) = split(id)?;
        let DeviceGroup { first, devices } = *self.carriers.get(*self.by_uuid.get(uuid)?)?;
        // Replicas are numbered from 0 on, so nearly always it is there.
        let likely = first + replica.unwrap_or(0) as usize;
        if self
            .devices
            .get(likely)
            .is_some_and(|device| device.replica == replica && likely < first + devices)
        {
            return Some(likely);
        }
        let found = self.devices[first..first + devices]
            .binary_search_by_key(&replica, |device| device.replica);
        found.ok().map(|at| first + at)
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

/// The UUID and the replica number of an id as it is advertised; `None` for a text that is no such
/// id.
fn split(id: &str) -> Option<(&str, Option<u32>)> {
    // The search for one character is a good deal quicker than that for two.
    let marked = id.rfind(':').and_then(|at| Some((id[..at].strip_suffix(':')?, &id[at + 1..])));
    let Some((uuid, number)) = marked else { return Some((id, None)) };
    let canonical = number == "0"
        || !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((uuid, Some(number.parse().ok().filter(|_| canonical)?)))
}

type Quick = BuildHasherDefault<QuickHasher>;

/// A hash of eight bytes at a time. A request names every free device, thousands of them where GPUs
/// are shared, and only the kubelet asks: nobody there is out to make ids collide.
#[derive(Default)]
struct QuickHasher(u64);

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        for word in words.iter().chain([&last]) {
            // The fractional part of the golden ratio: an odd number whose multiples lie far apart.
            self.0 = (self.0.rotate_left(29) ^ u64::from_le_bytes(*word))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn finish(&self) -> u64 {
        // The table takes its place from the low bits and a check from the high ones; a product has
        // its best in the upper half.
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(ids: &[&str]) -> AllocationIndex {
        let entries = ids.iter().map(|id| {
            let id: DeviceId = id.parse().unwrap();
            Entry {
                gpu: id.uuid().clone(),
                gpu_index: u32::from(id.uuid().as_str().as_bytes()[4]),
                id,
            }
        });
        AllocationIndex::new(entries, &Topology::default(), Policies::default())
    }

    #[test]
    fn every_id_is_found_and_no_text_that_is_none() {
        let ids = [
            "GPU-a",
            "GPU-b::0",
            "GPU-b::1",
            "GPU-b::2",
            "GPU-c",
            "GPU-c::0",
            "GPU-d::3",
            "GPU-d::70",
            "MIG-e::0",
        ];
        let catalogue = catalogue(&ids);
        for id in ids {
            let at = catalogue.find(id).unwrap();
            assert_eq!(&*catalogue.devices[at].id, id);
        }
        for id in [
            "",
            ":",
            "::",
            "::0",
            "GPU-a::0",
            "GPU-b",
            "GPU-b::3",
            "GPU-b::01",
            "GPU-b::+1",
            "GPU-b::",
            "GPU-b:0",
            "GPU-b::-1",
            "GPU-b:::0",
            "GPU-b::0::0",
            "GPU-d::0",
            "GPU-d::4294967296",
            "GPU-d::4294967295",
            "gpu-a",
            "GPU-a ",
            "é::0",
        ] {
            assert_eq!(catalogue.find(id), None, "{id:?}");
        }
    }
}
