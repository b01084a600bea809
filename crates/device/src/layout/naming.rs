//! Resource names: what the MIG strategy and the patterns of the configuration call a device.

use super::filter::Pattern;
use crate::mig_profile::MigProfile;
use crate::names::ResourceName;

/// Under which resource names MIG devices are offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MigStrategy {
    /// MIG mode is ignored: every GPU is offered whole.
    #[default]
    None,
    /// MIG devices take the place of whole GPUs, under the same resource name.
    Single,
    /// Each MIG profile has its own resource name.
    Mixed,
}

/// A resource name for every device that matches a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    /// Matched against the model of a GPU or the profile of a MIG device.
    pub pattern: Pattern,
    /// The resource name.
    pub name: ResourceName,
}

/// The name of the first pattern that matches.
pub(super) fn custom_name(names: &[NamePattern], text: &str) -> Option<ResourceName> {
    names.iter().find(|named| named.pattern.matches(text)).map(|named| named.name.clone())
}

/// `nvidia.com/mig-1g.10gb` for "1g.10gb".
pub(super) fn profile_name(profile: &str) -> Option<ResourceName> {
    let profile: MigProfile = profile.parse().ok()?;
    format!("nvidia.com/{}", profile.resource_base()).parse().ok()
}
