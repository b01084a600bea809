//! The devices of one resource in the form that a preferred allocation needs. Built when the
//! inventory changes, so that a call only looks things up.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::Arc;

use super::bandwidth::BandwidthMatrix;
use super::policy::{AllocationPolicy, WholeGpuPolicy};
use crate::names::{DeviceId, Uuid, split};
use crate::topology::Topology;

/// One device of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexEntry {
    /// The id under which it is advertised.
    pub id: DeviceId,
    /// The physical GPU that it is, or that it is a part of.
    pub gpu: Uuid,
    /// NVML's index of that GPU.
    pub gpu_index: u32,
}

/// The devices of one resource, in the order of answers: by GPU index, then UUID, then replica.
///
/// A device of the index that a request does not list as available counts as in use, so an index
/// has the devices of one resource and no others.
pub struct AllocationIndex {
    pub(super) policy: AllocationPolicy,
    pub(super) devices: Vec<IndexedDevice>,
    /// For each physical GPU the positions of its groups in [`AllocationIndex::groups`].
    pub(super) gpus: Vec<Range<usize>>,
    /// For each UUID (of a GPU or MIG device, or of all replicas of one) the positions of its
    /// devices, which follow each other by replica number.
    pub(super) groups: Vec<Range<usize>>,
    /// The bandwidths between whole GPUs; `None` if the policy needs no search or the GPUs are too
    /// many for one.
    pub(super) matrix: Option<BandwidthMatrix>,
    /// Positions in [`AllocationIndex::groups`]. A request names every free device, thousands of
    /// them where GPUs are shared, so a lookup neither parses a [`DeviceId`] nor allocates.
    by_uuid: HashMap<Uuid, usize, BuildHasherDefault<WordHasher>>,
}

impl std::fmt::Debug for AllocationIndex {
    /// The sizes only: the tables are long.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (devices, gpus) = (self.devices.len(), self.gpus.len());
        f.debug_struct("AllocationIndex")
            .field("devices", &devices)
            .field("gpus", &gpus)
            .finish_non_exhaustive()
    }
}

/// One device.
pub(super) struct IndexedDevice {
    pub(super) id: Arc<str>,
    replica: Option<u32>,
    /// Position in [`AllocationIndex::gpus`].
    pub(super) gpu: usize,
    /// Position in [`AllocationIndex::groups`].
    pub(super) group: usize,
    /// Whether it is a whole GPU that is not shared.
    pub(super) whole: bool,
}

/// What devices are sorted by: index and UUID of the GPU, then id.
type SortKey = (u32, Uuid, DeviceId);

impl AllocationIndex {
    /// The index of these devices, in any order. Of two entries with the same id the last counts.
    #[must_use]
    pub fn new(
        entries: impl IntoIterator<Item = IndexEntry>,
        topology: &Topology,
        policy: AllocationPolicy,
    ) -> Self {
        let order = sorted(entries);
        let mut index = Self {
            policy,
            devices: Vec::with_capacity(order.len()),
            gpus: Vec::new(),
            groups: Vec::new(),
            matrix: None,
            by_uuid: HashMap::default(),
        };
        for of_gpu in order.chunk_by(|(_, a, _), (_, b, _)| a == b) {
            let first = index.groups.len();
            for group in of_gpu.chunk_by(|(_, _, a), (_, _, b)| a.uuid() == b.uuid()) {
                index.push_group(group);
            }
            index.gpus.push(first..index.groups.len());
        }
        index.matrix = index.bandwidths(&order, topology);
        index
    }

    /// Appends the devices with one UUID.
    fn push_group(&mut self, devices: &[SortKey]) {
        let (first, group, gpu_at) = (self.devices.len(), self.groups.len(), self.gpus.len());
        for (_, gpu, id) in devices {
            let replica = id.replica_number();
            let whole = replica.is_none() && id.uuid() == gpu;
            let id = id.text().into();
            self.devices.push(IndexedDevice { id, replica, gpu: gpu_at, group, whole });
        }
        self.groups.push(first..self.devices.len());
        self.by_uuid.extend(devices.first().map(|(_, _, id)| (id.uuid().clone(), group)));
    }

    /// The bandwidths between all GPUs, at their positions, if any device is a whole GPU.
    fn bandwidths(&self, order: &[SortKey], topology: &Topology) -> Option<BandwidthMatrix> {
        if !self.devices.iter().any(|device| device.whole) {
            return None;
        }
        let mut gpus: Vec<Uuid> = order.iter().map(|(_, gpu, _)| gpu.clone()).collect();
        gpus.dedup();
        match self.policy.whole {
            WholeGpuPolicy::Index => None,
            WholeGpuPolicy::Numa => BandwidthMatrix::new(&gpus, &topology.without_links()),
            WholeGpuPolicy::Optimal => BandwidthMatrix::new(&gpus, topology),
        }
    }

    /// The position of the device with this id.
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        let (uuid, replica) = split(id)?;
        let devices = self.groups.get(*self.by_uuid.get(uuid)?)?.clone();
        let (first, group) = (devices.start, &self.devices[devices]);
        // Replicas are numbered from 0 on, so nearly always it is there.
        let likely = replica.unwrap_or(0) as usize;
        if group.get(likely).is_some_and(|device| device.replica == replica) {
            return Some(first + likely);
        }
        let found = group.binary_search_by_key(&replica, |device| device.replica);
        found.ok().map(|at| first + at)
    }
}

/// The devices in order, each once.
fn sorted(entries: impl IntoIterator<Item = IndexEntry>) -> Vec<SortKey> {
    let entries: BTreeMap<DeviceId, (u32, Uuid)> =
        entries.into_iter().map(|entry| (entry.id, (entry.gpu_index, entry.gpu))).collect();
    // One index for each GPU, should the entries disagree: the order depends on it.
    let mut indices = BTreeMap::<&Uuid, u32>::new();
    for (index, gpu) in entries.values() {
        indices.entry(gpu).and_modify(|least| *least = *index.min(least)).or_insert(*index);
    }
    let mut order: Vec<SortKey> =
        entries.iter().map(|(id, (_, gpu))| (indices[gpu], gpu.clone(), id.clone())).collect();
    order.sort();
    order
}

/// A hash of eight bytes at a time. Only the kubelet makes requests, so ids that collide on purpose
/// are no concern.
#[derive(Default)]
struct WordHasher(u64);

impl Hasher for WordHasher {
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
        // The table takes the slot from the low bits and a tag from the high ones; a product has
        // its best bits in the upper half.
        self.0 ^ self.0 >> 32
    }
}
