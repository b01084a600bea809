//! The devices of one resource in the form that a preferred allocation needs. Built when the
//! inventory changes, so that a call only looks things up.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::bandwidth::BandwidthMatrix;
use super::lookup::ByUuid;
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
    pub(super) gpus: Vec<IndexedGpu>,
    pub(super) groups: Vec<DeviceGroup>,
    /// The bandwidths between whole GPUs; `None` if the policy needs no search or the GPUs are too
    /// many for one.
    pub(super) matrix: Option<BandwidthMatrix>,
    /// Positions in [`AllocationIndex::groups`].
    by_uuid: ByUuid,
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

/// The devices with one UUID: a GPU or MIG device, or all replicas of one.
pub(super) struct DeviceGroup {
    /// Position of the first of its devices, which follow each other by replica number.
    first: usize,
    /// How many there are.
    pub(super) devices: usize,
}

/// One physical GPU.
pub(super) struct IndexedGpu {
    /// How many devices are on it.
    pub(super) devices: usize,
    /// Positions of its groups in [`AllocationIndex::groups`].
    pub(super) groups: Range<usize>,
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
            by_uuid: ByUuid::default(),
        };
        let mut last: Option<&SortKey> = None;
        for key @ (gpu_index, gpu, id) in &order {
            let same_gpu = last.is_some_and(|(i, g, _)| (i, g) == (gpu_index, gpu));
            let same_group = same_gpu && last.is_some_and(|(_, _, last)| last.uuid() == id.uuid());
            index.push(id, gpu, same_gpu, same_group);
            last = Some(key);
        }
        index.matrix = index.bandwidths(&order, topology);
        index
    }

    /// Appends a device, on the same GPU and in the same group as the last one or in new ones.
    fn push(&mut self, id: &DeviceId, gpu: &Uuid, same_gpu: bool, same_group: bool) {
        if !same_group {
            self.groups.push(DeviceGroup { first: self.devices.len(), devices: 0 });
            self.by_uuid.insert(id.uuid().clone(), self.groups.len() - 1);
        }
        let (group, groups) = (self.groups.len() - 1, self.groups.len());
        self.groups[group].devices += 1;
        if !same_gpu {
            self.gpus.push(IndexedGpu { devices: 0, groups: group..groups });
        }
        let at = self.gpus.len() - 1;
        self.gpus[at].devices += 1;
        self.gpus[at].groups.end = groups;

        let replica = id.replica_number();
        let whole = replica.is_none() && id.uuid() == gpu;
        self.devices.push(IndexedDevice { id: id.text().into(), replica, gpu: at, group, whole });
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
        let DeviceGroup { first, devices } = *self.groups.get(*self.by_uuid.get(uuid)?)?;
        let group = &self.devices[first..first + devices];
        // Replicas are numbered from 0 on, so nearly always it is there.
        let likely = replica.unwrap_or(0) as usize;
        if group.get(likely).is_some_and(|device| device.replica == replica) {
            return Some(first + likely);
        }
        let found = group.binary_search_by_key(&replica, |device| device.replica);
        found.ok().map(|at| first + at)
    }

    /// The number of devices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.devices.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
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
