//! A device: what the kubelet is offered under one id.

use crate::gpu::{Gpu, NumaNode, Placement};
use crate::names::{DeviceId, Uuid};

/// A device as it is offered to the kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The id that the kubelet knows.
    pub id: DeviceId,
    /// The physical GPU that it sits on.
    pub gpu: Uuid,
    /// NVML's index of that GPU when it was last enumerated.
    pub index: u32,
    /// Its index on that GPU, if it is a MIG device.
    pub mig_index: Option<u32>,
    /// The n of `/dev/nvidia<n>` of that GPU.
    pub minor: Option<u32>,
    /// Its instances, if it is a MIG device.
    pub placement: Option<Placement>,
    /// The NUMA node of its GPU.
    pub numa_node: Option<NumaNode>,
    /// It was offered once and is no more: it stays in the list, Unhealthy.
    pub withdrawn: bool,
    /// It is shared by MPS and its control daemon has not answered yet: it is Unhealthy until then,
    /// since a client that is started without the daemon hangs.
    pub awaits_mps: bool,
}

impl Device {
    /// The device that a whole GPU is.
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

    /// A device of which nothing is known but that a pod holds it: it was offered once.
    #[must_use]
    pub(super) fn missing(id: DeviceId, index: u32) -> Self {
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

    /// Whether both are replicas of one device, or the same, and offered alike.
    #[must_use]
    pub fn is_replica_of(&self, other: &Self) -> bool {
        self.id.uuid() == other.id.uuid()
            && self.placement == other.placement
            && (self.withdrawn, self.awaits_mps) == (other.withdrawn, other.awaits_mps)
    }

    /// The order in which devices are told: by GPU, then by MIG device on it, then by replica.
    pub fn place(&self) -> impl Ord + '_ {
        (self.index, self.mig_index, &self.id)
    }

    /// Its index as NVIDIA's tools write it: "0", or "0:1" for a MIG device.
    #[must_use]
    pub fn place_name(&self) -> String {
        self.mig_index.map_or_else(|| self.index.to_string(), |mig| format!("{}:{mig}", self.index))
    }
}
