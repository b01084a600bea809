//! The devices of the GPUs under their resource names, before sharing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::filter::Pattern;
use super::finding::LayoutFinding;
use crate::Device;
use crate::gpu::MigDevice;
use crate::identity::KnownGpu;
use crate::mig_profile::MigProfile;
use crate::names::{DeviceId, ResourceName, Uuid};

/// The kind of whole GPUs.
const WHOLE: &str = "whole GPUs";

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

/// A device with the resource it belongs to before sharing.
pub(super) struct Candidate {
    pub(super) device: Device,
    pub(super) resource: ResourceName,
    /// Whether a pattern of the configuration gave the name.
    pub(super) custom: bool,
    /// "MIG 1g.10gb", or [`WHOLE`].
    kind: String,
    /// Whether the facts of its GPU are known.
    known: bool,
}

/// Removes the devices whose UUID another device has, which keeps it.
pub(super) fn without_duplicates(candidates: &mut Vec<Candidate>) -> Vec<LayoutFinding> {
    let mut ids = BTreeSet::new();
    let mut findings = Vec::new();
    candidates.retain(|Candidate { device, .. }| {
        let is_first = ids.insert(device.id.clone());
        let (index, device) = (device.bound_name(), device.id.uuid().clone());
        findings.extend((!is_first).then_some(LayoutFinding::DuplicateUuid { index, device }));
        is_first
    });
    findings
}

impl Candidate {
    /// A GPU offered whole: under the name for its model, else as `nvidia.com/gpu`.
    pub(super) fn whole(gpu: KnownGpu<'_>, names: &[NamePattern]) -> Self {
        let name = custom_name(names, gpu.model().unwrap_or_default());
        Self {
            device: Device::whole(gpu),
            custom: name.is_some(),
            resource: name.unwrap_or_else(ResourceName::gpu),
            kind: WHOLE.to_owned(),
            known: gpu.facts().is_some(),
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
        let profile = mig.profile.as_deref();
        let name = profile.and_then(|profile| custom_name(names, profile));
        let custom = name.is_some();
        let by_strategy = || match strategy {
            MigStrategy::Mixed => profile.and_then(profile_name),
            _ => Some(ResourceName::gpu()),
        };
        let Some(resource) = name.or_else(by_strategy) else {
            let index = device.label();
            return Err(LayoutFinding::Undescribed { index, device: mig.uuid.clone() });
        };
        let kind = format!("MIG {}", profile.unwrap_or("unknown"));
        Ok(Self { device, resource, custom, kind, known: true })
    }
}

/// The name of the first pattern that matches.
fn custom_name(names: &[NamePattern], text: &str) -> Option<ResourceName> {
    names.iter().find(|named| named.pattern.matches(text)).map(|named| named.name.clone())
}

/// `nvidia.com/mig-1g.10gb` for "1g.10gb".
fn profile_name(profile: &str) -> Option<ResourceName> {
    let profile: MigProfile = profile.parse().ok()?;
    format!("nvidia.com/{}", profile.resource_base()).parse().ok()
}

/// Keeps, of the devices without a custom name, those of one kind: the kind that most GPUs have,
/// among equals the one with the most devices, then MIG devices before whole GPUs. So one GPU whose
/// MIG layout is being changed does not remove the others.
pub(super) fn unify(candidates: &mut Vec<Candidate>) -> Vec<LayoutFinding> {
    let mut kinds: BTreeMap<String, (BTreeSet<Uuid>, Vec<String>)> = BTreeMap::new();
    for candidate in candidates.iter().filter(|candidate| !candidate.custom) {
        let (gpus, devices) = kinds.entry(candidate.kind.clone()).or_default();
        // A GPU that does not answer has no vote.
        gpus.extend(candidate.known.then(|| candidate.device.gpu.clone()));
        devices.push(candidate.device.label());
    }
    let rank = |(kind, (gpus, devices)): &(&String, &(BTreeSet<Uuid>, Vec<String>))| {
        (gpus.len(), devices.len(), kind.as_str() != WHOLE, Reverse((*kind).clone()))
    };
    let Some(offered) = kinds.iter().max_by_key(rank).map(|(kind, _)| kind.clone()) else {
        return Vec::new();
    };
    candidates.retain(|candidate| candidate.custom || candidate.kind == offered);
    let left_out = kinds.into_iter().filter(|(kind, _)| *kind != offered);
    left_out
        .map(|(kind, (_, devices))| LayoutFinding::LeftOut {
            resource: ResourceName::gpu(),
            offered: offered.clone(),
            kind,
            devices,
        })
        .collect()
}
