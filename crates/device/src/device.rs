//! A device: what the plugin offers to the kubelet under one id.

use crate::gpu::{Gpu, NumaNode, Placement};
use crate::names::{DeviceId, Uuid};

/// A device as offered to the kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its id in the lists that the kubelet gets.
    pub id: DeviceId,
    /// The physical GPU that it is, or is a part of.
    pub gpu: Uuid,
    /// NVML's index of that GPU at the last enumeration.
    pub index: u32,
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
    /// Whether it is shared by MPS and the control daemon has not answered yet: it is Unhealthy
    /// until then, since a client that starts without the daemon hangs.
    pub awaits_mps: bool,
}

impl Device {
    /// A GPU offered whole.
    #[must_use]
    pub fn whole(facts: &Gpu, index: u32) -> Self {
        Self {
            id: DeviceId::whole(facts.uuid.clone()),
            gpu: facts.uuid.clone(),
            index,
            mig_index: None,
            minor: facts.minor,
            placement: None,
            numa_node: facts.numa_node,
            withdrawn: false,
            awaits_mps: false,
        }
    }

    /// A withdrawn device that a pod uses and about which nothing else is known.
    pub(crate) fn missing(id: DeviceId, index: u32) -> Self {
        Self {
            gpu: id.uuid().clone(),
            id,
            index,
            mig_index: None,
            minor: None,
            placement: None,
            numa_node: None,
            withdrawn: true,
            awaits_mps: false,
        }
    }

    /// Whether both are replicas of one device, or the same device, in the same state.
    #[must_use]
    pub fn is_replica_of(&self, other: &Self) -> bool {
        self.id.uuid() == other.id.uuid()
            && self.placement == other.placement
            && (self.withdrawn, self.awaits_mps) == (other.withdrawn, other.awaits_mps)
    }

    /// The order of devices in answers and tables: by GPU, then MIG device, then replica.
    pub fn sort_key(&self) -> impl Ord + '_ {
        (self.index, self.mig_index, &self.id)
    }

    /// Its index as NVIDIA's tools write it: "0", or "0:1" for a MIG device.
    #[must_use]
    pub fn index_label(&self) -> String {
        self.mig_index.map_or_else(|| self.index.to_string(), |mig| format!("{}:{mig}", self.index))
    }
}
