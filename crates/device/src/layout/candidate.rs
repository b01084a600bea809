//! The devices of the GPUs under their resource names, before sharing.

use super::finding::LayoutFinding;
use super::naming::{MigStrategy, NamePattern, custom_name, profile_name};
use crate::Device;
use crate::gpu::{Gpu, MigDevice};
use crate::names::{DeviceId, ResourceName};

/// A device with the resource it belongs to before sharing.
pub(super) struct Candidate {
    pub(super) device: Device,
    pub(super) resource: ResourceName,
    /// Whether a pattern of the configuration gave the name.
    pub(super) custom: bool,
    /// Its MIG profile; `None` for a whole GPU.
    pub(super) profile: Option<String>,
}

impl Candidate {
    /// A GPU offered whole: under the name for its model, else as `nvidia.com/gpu`.
    pub(super) fn whole(facts: &Gpu, index: u32, names: &[NamePattern]) -> Self {
        let name = custom_name(names, facts.name.as_deref().unwrap_or_default());
        Self {
            device: Device::whole(facts, index),
            custom: name.is_some(),
            resource: name.unwrap_or_else(ResourceName::gpu),
            profile: None,
        }
    }

    /// A MIG device: under the name for its profile, else as the strategy names it.
    ///
    /// # Errors
    /// [`LayoutFinding::Undescribed`] where the strategy `mixed` has no profile to name it by.
    pub(super) fn mig(
        mig: &MigDevice,
        whole: &Device,
        strategy: MigStrategy,
        names: &[NamePattern],
    ) -> Result<Self, LayoutFinding> {
        let device = Device {
            id: DeviceId::whole(mig.uuid.clone()),
            mig_index: Some(mig.index),
            placement: Some(mig.placement),
            ..whole.clone()
        };
        let custom = mig.profile.as_deref().and_then(|profile| custom_name(names, profile));
        let by_strategy = || match strategy {
            MigStrategy::Mixed => mig.profile.as_deref().and_then(profile_name),
            _ => Some(ResourceName::gpu()),
        };
        let is_custom = custom.is_some();
        let Some(resource) = custom.or_else(by_strategy) else {
            let index = device.index_label();
            return Err(LayoutFinding::Undescribed { index, device: mig.uuid.clone() });
        };
        let profile = mig.profile.clone().unwrap_or_else(|| "unknown".to_owned());
        Ok(Self { device, resource, custom: is_custom, profile: Some(profile) })
    }
}
