//! What of a GPU is used under an id that is not offered.

use std::sync::Arc;

use super::usage::Owner;
use crate::Device;
use crate::gpu::Placement;
use crate::names::{ResourceName, Uuid};

/// A GPU, or a MIG device of it, that is owned under an id that is not offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) gpu: Uuid,
    /// The MIG device; `None`: the whole GPU.
    pub(crate) mig: Option<(Uuid, Placement)>,
    pub(crate) owner: Arc<Owner>,
}

impl Claim {
    /// What a device may be used as that is no longer offered.
    pub(crate) fn withdrawn(resource: &ResourceName, device: &Device) -> Self {
        let (resource, id) = (resource.clone(), device.id.clone());
        let mig = device.placement.map(|placement| (id.uuid().clone(), placement));
        let owner = Arc::new(Owner { resource, id, holder: None });
        Self { gpu: device.gpu.clone(), mig, owner }
    }

    /// Whether a device has something of what is claimed.
    pub(crate) fn overlaps(&self, device: &Device) -> bool {
        let overlaps = |(uuid, claimed): &(Uuid, Placement)| {
            device.id.uuid() == uuid
                || device.placement.is_none_or(|at| at.gpu_instance == claimed.gpu_instance)
        };
        self.gpu == device.gpu && self.mig.as_ref().is_none_or(overlaps)
    }
}
