//! Which device is offered under which resource name.

use super::names::{DeviceId, ResourceName, Uuid};

/// The rule by which devices get their resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offers {
    gpu: ResourceName,
}

impl Offers {
    /// Every GPU whole, under this name.
    #[must_use]
    pub fn whole_gpus(resource: ResourceName) -> Self {
        Self { gpu: resource }
    }

    /// The ids under which a GPU is offered, each with its resource.
    #[must_use]
    pub fn of(&self, gpu: &Uuid) -> Vec<(ResourceName, DeviceId)> {
        vec![(self.gpu.clone(), DeviceId::whole(gpu.clone()))]
    }
}
