//! The part of a physical GPU that a failure affects, and the devices that it thereby affects.

use std::fmt;

use crate::gpu::Placement;

/// The part of a physical GPU that a failure affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The whole GPU: every replica and every MIG device.
    Gpu,
    /// One GPU instance, with every compute instance in it.
    GpuInstance(u32),
    /// One compute instance.
    ComputeInstance(Placement),
}

/// The part of a physical GPU that a device is. Replicas of a device are the same part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GpuPart {
    /// The whole GPU.
    Whole,
    /// One MIG device.
    MigDevice(Placement),
}

/// `gpuInstanceId` and `computeInstanceId` of `nvmlEventData_t` when the event is not of one
/// instance (nvml.h).
const ANY: u32 = 0xFFFF_FFFF;

impl Scope {
    /// The scope of an event, from `gpuInstanceId` and `computeInstanceId` of `nvmlEventData_t`.
    /// NVML sets each only if it could attribute the event to it.
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

    /// Whether a failure with this scope affects the device. The whole GPU is affected by a failure
    /// of any of its parts.
    pub(super) fn covers(self, device: GpuPart) -> bool {
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
