//! How much of a physical GPU an event concerns, and which devices that hits.

use std::fmt;

use crate::gpu::Placement;

/// What part of a physical GPU a fault is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All of it: every replica and every MIG device.
    Gpu,
    /// One GPU instance, with every compute instance in it.
    GpuInstance(u32),
    /// One compute instance.
    ComputeInstance(Placement),
}

/// As what a device sits on a physical GPU. Replicas of one device have one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GpuPart {
    /// It is the whole GPU.
    Whole,
    /// It is one MIG device.
    MigDevice(Placement),
}

/// How nvml.h writes "not one in particular" in `gpuInstanceId` and `computeInstanceId` of
/// `nvmlEventData_t`.
const ANY: u32 = 0xFFFF_FFFF;

impl Scope {
    /// The scope of an event, from `gpuInstanceId` and `computeInstanceId` of `nvmlEventData_t`.
    /// Each is given only where the event could be traced that far.
    #[must_use]
    pub fn from_event(gpu_instance: u32, compute_instance: u32) -> Self {
        match (gpu_instance, compute_instance) {
            (ANY, _) => Self::Gpu,
            (gpu_instance, ANY) => Self::GpuInstance(gpu_instance),
            (gpu_instance, compute_instance) => {
                Self::ComputeInstance(Placement { gpu_instance, compute_instance })
            }
        }
    }

    /// Whether a fault in it is a fault of this device. The whole GPU is hit by a fault in any of
    /// its parts.
    #[must_use]
    pub fn covers(self, device: GpuPart) -> bool {
        match (self, device) {
            (Self::Gpu, _) | (_, GpuPart::Whole) => true,
            (Self::GpuInstance(id), GpuPart::MigDevice(placement)) => placement.gpu_instance == id,
            (Self::ComputeInstance(hit), GpuPart::MigDevice(placement)) => placement == hit,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpu => f.write_str("the whole GPU"),
            Self::GpuInstance(id) => write!(f, "GPU instance {id}"),
            Self::ComputeInstance(Placement { gpu_instance, compute_instance }) => {
                write!(f, "compute instance {compute_instance} of GPU instance {gpu_instance}")
            }
        }
    }
}
