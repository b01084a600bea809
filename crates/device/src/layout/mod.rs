//! Which device is offered under which resource name: from the facts about the GPUs and the rules
//! that a person set.
//!
//! MIG strategies, names and their patterns are those of NVIDIA's plugin. What makes that one exit
//! (a partial MIG layout under `single`, a device that no pattern fits) is served here as far as it
//! is valid; the rest is a [`Finding`].

pub mod filter;
mod finding;
pub mod list_size;
pub mod sharing;
mod single;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::gpu::{Gpu, MigDevice};
use super::mig_profile::MigProfile;
use super::names::{DeviceId, ResourceName, Uuid};
use crate::Device;
use crate::layout::filter::{DeviceFilter, Pattern, Verdict};
use crate::layout::sharing::{DeviceRef, Selection, SharedResource, Sharing};
pub use finding::Finding;

/// GPUs that drive a display and nothing else (go-nvlib, pkg/nvlib/device/api.go:64).
const DISPLAYS: [&str; 2] = ["DGX Display", "NVIDIA DGX Display"];

/// Under which resource names MIG devices are offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MigStrategy {
    /// MIG is not looked at: every GPU is offered whole.
    #[default]
    None,
    /// MIG devices take the place of whole GPUs, under the same resource name.
    Single,
    /// Each MIG profile has a resource name of its own.
    Mixed,
}

/// A resource name for every device that fits a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamePattern {
    /// Over the model of a GPU or the profile of a MIG device.
    pub pattern: Pattern,
    /// The name.
    pub name: ResourceName,
}

/// The rules. Without any, every GPU is offered whole as `nvidia.com/gpu`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// Names of MIG devices.
    pub mig_strategy: MigStrategy,
    /// Which GPUs are offered.
    pub devices: DeviceFilter,
    /// Names for GPUs by model; the first pattern that fits counts, and without one it is
    /// `nvidia.com/gpu`.
    pub gpu_names: Vec<NamePattern>,
    /// Names for MIG devices by profile; the first that fits counts, and without one the strategy
    /// names them.
    pub mig_names: Vec<NamePattern>,
    /// How the devices of a resource are shared.
    pub sharing: Sharing,
}

/// A GPU as far as it is known.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// Its identity.
    pub uuid: &'a Uuid,
    /// NVML's index.
    pub index: u32,
    /// What it said of itself; `None` if it only ever answered with errors: then it is offered
    /// whole, Unhealthy.
    pub facts: Option<&'a Gpu>,
}

/// What comes of the rules on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LaidOut {
    /// The devices of each resource.
    pub resources: BTreeMap<ResourceName, BTreeMap<DeviceId, Device>>,
    /// GPUs that are reserved for the system, with the reason.
    pub reserved: BTreeMap<Uuid, String>,
    /// What a person should hear.
    pub findings: Vec<Finding>,
}

/// A device with the resource it belongs to before sharing.
struct Candidate {
    device: Device,
    resource: ResourceName,
    /// Whether a pattern of the configuration gave the name.
    named: bool,
    /// Its MIG profile; `None` for a whole GPU.
    profile: Option<String>,
}

/// The devices of a resource, each with its replicas; 1: not shared.
type Plan = BTreeMap<ResourceName, Vec<(Device, u32)>>;

impl Layout {
    /// Lays out the GPUs of a node.
    #[must_use]
    pub fn lay_out<'a>(&self, gpus: impl IntoIterator<Item = Known<'a>>) -> LaidOut {
        let mut out = LaidOut::default();
        let mut candidates = Vec::new();
        for gpu in gpus {
            self.candidates(gpu, &mut candidates, &mut out);
        }
        candidates.sort_by(|a, b| a.device.place().cmp(&b.device.place()));
        if self.mig_strategy == MigStrategy::Single {
            out.findings.extend(single::unify(&mut candidates));
        }
        let plan = self.share(candidates, &mut out.findings);
        for (resource, devices) in plan {
            match check(&devices) {
                Ok(()) => drop(out.resources.insert(resource, replicate(devices))),
                Err(why) => out.findings.push(Finding::ListTooLarge { resource, why }),
            }
        }
        out
    }

    fn candidates(&self, gpu: Known<'_>, to: &mut Vec<Candidate>, out: &mut LaidOut) {
        let nothing_known = Gpu::unknown(gpu.uuid.clone(), gpu.index);
        let facts = gpu.facts.unwrap_or(&nothing_known);
        if let Verdict::Reserved(term) = self.devices.verdict(facts) {
            let why = term.map_or_else(
                || "no term includes it".to_owned(),
                |term| format!("excluded by {term}"),
            );
            out.reserved.insert(gpu.uuid.clone(), why);
            return;
        }
        if let Some(name) = facts.name.as_deref().filter(|name| DISPLAYS.contains(name)) {
            out.reserved.insert(gpu.uuid.clone(), format!("a {name} computes nothing"));
            return;
        }
        let (index, uuid) = (gpu.index, gpu.uuid.clone());
        let whole = Device::whole(facts, gpu.index);
        match self.mig_strategy {
            MigStrategy::None if facts.mig_enabled => {
                out.findings.push(Finding::MigNotLookedAt { index, gpu: uuid });
                to.push(self.whole(whole, facts));
            }
            _ if !facts.mig_enabled || self.mig_strategy == MigStrategy::None => {
                to.push(self.whole(whole, facts))
            }
            strategy => {
                let broken = facts.mig_failures.iter().map(|failure| Finding::BrokenMigDevice {
                    gpu: index,
                    mig: failure.index,
                    error: failure.error.clone(),
                });
                out.findings.extend(broken);
                if facts.mig_devices.is_empty() && facts.mig_failures.is_empty() {
                    out.findings.push(Finding::NoMigDevices { index, gpu: uuid });
                }
                for mig in &facts.mig_devices {
                    match self.slice(strategy, &whole, mig) {
                        Ok(candidate) => to.push(candidate),
                        Err(finding) => out.findings.push(finding),
                    }
                }
            }
        }
    }

    fn whole(&self, device: Device, facts: &Gpu) -> Candidate {
        let named = custom(&self.gpu_names, facts.name.as_deref().unwrap_or_default());
        let resource = named.cloned().unwrap_or_else(ResourceName::gpu);
        Candidate { device, resource, named: named.is_some(), profile: None }
    }

    fn slice(
        &self,
        strategy: MigStrategy,
        whole: &Device,
        mig: &MigDevice,
    ) -> Result<Candidate, Finding> {
        let device = Device {
            id: DeviceId::whole(mig.uuid.clone()),
            mig_index: Some(mig.index),
            placement: Some(mig.placement),
            ..whole.clone()
        };
        let undescribed =
            || Finding::Undescribed { index: device.place_name(), device: mig.uuid.clone() };
        let profile = mig.profile.clone();
        let named =
            profile.as_deref().and_then(|profile| custom(&self.mig_names, profile)).cloned();
        let resource = match (&named, strategy) {
            (Some(name), _) => name.clone(),
            (None, MigStrategy::Mixed) => {
                profile.as_deref().and_then(resource_of_profile).ok_or_else(undescribed)?
            }
            (None, _) => ResourceName::gpu(),
        };
        let profile = Some(profile.unwrap_or_else(|| "unknown".to_owned()));
        Ok(Candidate { device, resource, named: named.is_some(), profile })
    }

    /// Puts each device into its resource, as often as it is offered there.
    fn share(&self, candidates: Vec<Candidate>, findings: &mut Vec<Finding>) -> Plan {
        let mut by_name: BTreeMap<ResourceName, Vec<Device>> = BTreeMap::new();
        for candidate in candidates {
            by_name.entry(candidate.resource).or_default().push(candidate.device);
        }
        let mps = matches!(self.sharing, Sharing::Mps { .. });
        let mut plan = Plan::new();
        for (name, mut devices) in by_name {
            let entries = self
                .sharing
                .replication()
                .into_iter()
                .flat_map(|replication| &replication.resources);
            for entry in entries.filter(|entry| entry.name == name) {
                findings.extend(missing(entry, &devices));
                let (shared, rest) = select(devices, &entry.devices);
                devices = rest;
                let (sliced, shared): (Vec<_>, Vec<_>) =
                    shared.into_iter().partition(|device| mps && device.placement.is_some());
                if !sliced.is_empty() {
                    findings.push(Finding::MigUnderMps {
                        resource: entry.offered_as.clone(),
                        devices: sliced.len(),
                    });
                }
                if !shared.is_empty() {
                    let replicas = shared.into_iter().map(|device| (device, entry.replicas));
                    plan.entry(entry.offered_as.clone()).or_default().extend(replicas);
                }
            }
            if !devices.is_empty() {
                plan.entry(name).or_default().extend(devices.into_iter().map(|device| (device, 1)));
            }
        }
        plan
    }
}

/// The name that the first fitting pattern gives.
fn custom<'a>(names: &'a [NamePattern], text: &str) -> Option<&'a ResourceName> {
    names.iter().find(|named| named.pattern.matches(text)).map(|named| &named.name)
}

/// `nvidia.com/mig-1g.10gb` for "1g.10gb".
fn resource_of_profile(profile: &str) -> Option<ResourceName> {
    let profile: MigProfile = profile.parse().ok()?;
    format!("nvidia.com/{}", profile.resource_base()).parse().ok()
}

/// The devices that an entry lists and `devices` has not.
fn missing(entry: &SharedResource, devices: &[Device]) -> Vec<Finding> {
    let Selection::List(refs) = &entry.devices else { return Vec::new() };
    let absent = refs.iter().filter(|named| !devices.iter().any(|device| is(device, named)));
    absent
        .map(|named| Finding::NoSuchDevice { resource: entry.name.clone(), named: named.clone() })
        .collect()
}

/// The selected devices, and the others.
fn select(devices: Vec<Device>, selection: &Selection) -> (Vec<Device>, Vec<Device>) {
    match selection {
        Selection::All => (devices, Vec::new()),
        Selection::Count(count) => {
            let mut selected = devices;
            let rest = selected.split_off(selected.len().min(*count as usize));
            (selected, rest)
        }
        Selection::List(refs) => {
            devices.into_iter().partition(|device| refs.iter().any(|named| is(device, named)))
        }
    }
}

fn is(device: &Device, named: &DeviceRef) -> bool {
    match named {
        DeviceRef::Gpu(index) => device.mig_index.is_none() && device.index == *index,
        DeviceRef::Mig(index, mig) => device.mig_index == Some(*mig) && device.index == *index,
        DeviceRef::Uuid(uuid) => device.id.uuid() == uuid,
    }
}

/// Whether the kubelet receives the list of these devices.
fn check(devices: &[(Device, u32)]) -> Result<(), list_size::TooLarge> {
    list_size::check(devices.iter().map(|(device, replicas)| list_size::Shared {
        uuid_length: device.id.uuid().as_str().len() as u64,
        replicas: *replicas,
        devices: 1,
    }))
}

fn replicate(devices: Vec<(Device, u32)>) -> BTreeMap<DeviceId, Device> {
    let mut replicated = Vec::new();
    for (device, replicas) in devices {
        match replicas {
            0 | 1 => replicated.push(device),
            more => replicated.extend((0..more).map(|replica| Device {
                id: DeviceId::replica(device.id.uuid().clone(), replica),
                ..device.clone()
            })),
        }
    }
    replicated.into_iter().map(|device| (device.id.clone(), device)).collect()
}
