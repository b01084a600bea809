//! Which device is offered under which resource name: from the facts about the GPUs and the rules
//! of the configuration.
//!
//! MIG strategies, names and their patterns are those of NVIDIA's plugin. Where that one exits (a
//! partial MIG layout under `single`, a device that no pattern matches), the valid part is offered
//! here and the rest is a [`LayoutFinding`].

mod candidate;
pub mod filter;
mod finding;
pub mod list_size;
pub mod sharing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::Device;
use crate::gpu::{Gpu, MigMode};
use crate::names::{DeviceId, ResourceName, Uuid};
use candidate::Candidate;
pub use candidate::{MigStrategy, NamePattern};
use filter::DeviceFilter;
pub use finding::LayoutFinding;
use sharing::Sharing;

/// GPUs that drive a display and nothing else (go-nvlib, pkg/nvlib/device/api.go:64).
const DISPLAYS: [&str; 2] = ["DGX Display", "NVIDIA DGX Display"];

/// The rules. Without any, every GPU is offered whole as `nvidia.com/gpu`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// How MIG devices are offered.
    pub mig_strategy: MigStrategy,
    /// Which GPUs are offered.
    pub devices: DeviceFilter,
    /// Names for GPUs by model. The first pattern that matches counts; without one the name is
    /// `nvidia.com/gpu`.
    pub gpu_names: Vec<NamePattern>,
    /// Names for MIG devices by profile. The first pattern that matches counts; without one the
    /// strategy names them.
    pub mig_names: Vec<NamePattern>,
    /// How the devices of a resource are shared.
    pub sharing: Sharing,
}

/// A GPU and what is known about it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownGpu<'a> {
    /// The GPU.
    pub(crate) uuid: &'a Uuid,
    /// NVML's index.
    pub(crate) index: u32,
    /// Its facts; `None` if NVML only ever answered with errors: then it is offered whole,
    /// Unhealthy.
    pub(crate) facts: Option<&'a Gpu>,
}

/// What the rules yield on one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayoutResult {
    /// The devices of each resource.
    pub resources: BTreeMap<ResourceName, BTreeMap<DeviceId, Device>>,
    /// GPUs that are reserved for the system, with the reason.
    pub reserved: BTreeMap<Uuid, String>,
    /// Devices that are not offered, or not as one would expect.
    pub findings: Vec<LayoutFinding>,
}

impl Layout {
    /// Applies the rules to the GPUs of a node.
    pub(crate) fn apply<'a>(&self, gpus: impl IntoIterator<Item = KnownGpu<'a>>) -> LayoutResult {
        let mut out = LayoutResult::default();
        let mut candidates = Vec::new();
        for gpu in gpus {
            self.add_candidates(gpu, &mut candidates, &mut out);
        }
        candidates.sort_by(|a, b| a.device.sort_key().cmp(&b.device.sort_key()));
        if self.mig_strategy == MigStrategy::Single {
            out.findings.extend(candidate::unify(&mut candidates));
        }
        for (resource, devices) in self.sharing.plan(candidates, &mut out.findings) {
            match sharing::check(&devices) {
                Ok(()) => drop(out.resources.insert(resource, sharing::replicate(devices))),
                Err(why) => out.findings.push(LayoutFinding::ListTooLarge { resource, why }),
            }
        }
        out
    }

    fn add_candidates(&self, gpu: KnownGpu<'_>, to: &mut Vec<Candidate>, out: &mut LayoutResult) {
        let (index, uuid) = (gpu.index, gpu.uuid.clone());
        let no_facts = Gpu::unknown(uuid.clone(), index);
        let facts = gpu.facts.unwrap_or(&no_facts);
        if let Some(reason) = self.reserved(facts) {
            out.reserved.insert(uuid, reason);
        } else if facts.mig_mode == MigMode::On && self.mig_strategy != MigStrategy::None {
            self.add_mig_devices(facts, index, to, &mut out.findings);
        } else {
            if facts.mig_mode == MigMode::On {
                out.findings.push(LayoutFinding::MigNotLookedAt { index, gpu: uuid });
            }
            to.push(Candidate::whole(facts, index, &self.gpu_names));
        }
    }

    /// Why a GPU is not offered at all.
    fn reserved(&self, facts: &Gpu) -> Option<String> {
        self.devices.reserves(facts).or_else(|| {
            let display = facts.name.as_deref().filter(|name| DISPLAYS.contains(name))?;
            Some(format!("a {display} computes nothing"))
        })
    }

    fn add_mig_devices(
        &self,
        facts: &Gpu,
        index: u32,
        to: &mut Vec<Candidate>,
        findings: &mut Vec<LayoutFinding>,
    ) {
        findings.extend(facts.mig_failures.iter().map(|failure| LayoutFinding::BrokenMigDevice {
            gpu: index,
            mig: failure.index,
            error: failure.error.clone(),
        }));
        if facts.mig_devices.is_empty() && facts.mig_failures.is_empty() {
            findings.push(LayoutFinding::NoMigDevices { index, gpu: facts.uuid.clone() });
        }
        let whole = Device::whole(facts, index);
        for mig in &facts.mig_devices {
            match Candidate::mig(mig, &whole, self.mig_strategy, &self.mig_names) {
                Ok(candidate) => to.push(candidate),
                Err(finding) => findings.push(finding),
            }
        }
    }
}
