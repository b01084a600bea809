//! A device: what the plugin offers to the kubelet under one id.

use std::sync::Arc;

use crate::gpu::{NumaNode, Placement};
use crate::identity::KnownGpu;
use crate::in_use::usage::Owner;
use crate::mps::MpsShare;
use crate::names::{DeviceId, Uuid};

/// A device as offered to the kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id in the lists that the kubelet gets.
    pub id: DeviceId,
    /// The physical GPU that it is, or is a part of.
    pub gpu: Uuid,
    /// NVML's index of that GPU now; `None` if NVML does not list it.
    pub index: Option<u32>,
    /// The index that the GPU is bound to on this boot: what the settings mean by an index.
    pub bound_index: Option<u32>,
    /// Its MIG index on that GPU; `None` for a whole GPU.
    pub mig_index: Option<u32>,
    /// The n of `/dev/nvidia<n>` of that GPU.
    pub minor: Option<u32>,
    /// Its GPU and compute instance; `None` for a whole GPU.
    pub placement: Option<Placement>,
    /// The NUMA node of its GPU.
    pub numa_node: Option<NumaNode>,
    /// Whether it was offered earlier and is not any more: it stays in the list, Unhealthy.
    pub withdrawn: bool,
    /// What a container gets with it, where it is shared by MPS.
    pub mps: Option<MpsShare>,
    /// Whether it is shared by MPS and the control daemon is not there for it: it is Unhealthy
    /// until then, since a client that starts without the daemon hangs.
    pub awaits_mps: bool,
    /// Who uses its GPU under an id that is no longer offered: it is Unhealthy until then.
    pub owner: Option<Arc<Owner>>,
    /// Whether a container runtime can resolve its name.
    pub cdi: CdiState,
    /// The bytes of its memory that one replica may allocate; `None`: it is not limited, or its
    /// memory is not known.
    pub memory_share: Option<u64>,
}

/// Whether a container runtime can resolve a device's name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CdiState {
    /// It can, or needs not.
    #[default]
    Resolvable,
    /// Not yet: the device is new and its specification is being written. It is in no list before.
    Awaited,
    /// It cannot: the device is Unhealthy.
    Unresolvable,
}

impl Device {
    /// A GPU offered whole.
    #[must_use]
    pub fn whole(gpu: KnownGpu<'_>) -> Self {
        Self {
            id: DeviceId::whole(gpu.uuid.clone()),
            gpu: gpu.uuid.clone(),
            index: gpu.record.present_index(),
            bound_index: gpu.record.binding.index,
            mig_index: None,
            minor: gpu.facts().and_then(|facts| facts.minor),
            placement: None,
            numa_node: gpu.facts().and_then(|facts| facts.numa_node),
            withdrawn: false,
            mps: None,
            awaits_mps: false,
            owner: None,
            cdi: CdiState::Resolvable,
            memory_share: None,
        }
    }

    /// A withdrawn device that a pod uses and about which nothing else is known.
    pub(crate) fn missing(id: DeviceId) -> Self {
        Self {
            gpu: id.uuid().clone(),
            id,
            index: None,
            bound_index: None,
            mig_index: None,
            minor: None,
            placement: None,
            numa_node: None,
            withdrawn: true,
            mps: None,
            awaits_mps: false,
            owner: None,
            cdi: CdiState::Resolvable,
            memory_share: None,
        }
    }

    /// Whether both are replicas of one device, or the same device, in the same state.
    #[must_use]
    pub fn is_replica_of(&self, other: &Self) -> bool {
        self.id.uuid() == other.id.uuid()
            && self.placement == other.placement
            && (self.withdrawn, self.awaits_mps) == (other.withdrawn, other.awaits_mps)
            && (&self.owner, self.cdi) == (&other.owner, other.cdi)
    }

    /// The order of devices in answers and tables: by GPU, then MIG device, then replica.
    pub fn sort_key(&self) -> impl Ord + '_ {
        (self.order(), self.mig_index, &self.id)
    }

    /// The place of its GPU: by the index that it is bound to, which does not change.
    #[must_use]
    pub fn order(&self) -> u32 {
        self.bound_index.unwrap_or(u32::MAX)
    }

    /// How people name it: by index as NVIDIA's tools write it, "0", or "0:1" for a MIG device; by
    /// UUID where NVML and the settings do not mean the same GPU by its index.
    #[must_use]
    pub fn label(&self) -> String {
        let valid = self.index.filter(|index| self.bound_index == Some(*index));
        valid.map_or_else(|| self.id.uuid().to_string(), |index| self.numbered(index))
    }

    /// How NVML names it now: by index, by UUID if NVML does not list its GPU.
    #[must_use]
    pub fn present_name(&self) -> String {
        self.index.map_or_else(|| self.id.uuid().to_string(), |index| self.numbered(index))
    }

    /// How it is named by the index that its GPU is bound to, as in files that were written
    /// earlier on this boot; by UUID without one.
    #[must_use]
    pub fn bound_name(&self) -> String {
        self.bound_index.map_or_else(|| self.id.uuid().to_string(), |index| self.numbered(index))
    }

    fn numbered(&self, index: u32) -> String {
        self.mig_index.map_or_else(|| index.to_string(), |mig| format!("{index}:{mig}"))
    }
}
