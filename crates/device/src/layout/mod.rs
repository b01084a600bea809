//! Which device is offered under which resource name: from the facts about the GPUs and the rules
//! of the configuration.
//!
//! MIG strategies, names and their patterns are those of NVIDIA's plugin. Where that one exits (a
//! partial MIG layout under `single`, a device that no pattern matches), the valid part is offered
//! here and the rest is a [`LayoutFinding`].

mod candidate;
pub mod filter;
mod finding;
mod finding_text;
pub mod list_size;
mod selectors;
pub mod sharing;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::Device;
use crate::gpu::MigMode;
use crate::identity::KnownGpu;
use crate::names::{DeviceId, ResourceName, Uuid};
use candidate::Candidate;
pub use candidate::{MigStrategy, NamePattern};
use filter::DeviceFilter;
pub use finding::LayoutFinding;
use finding::MIG_MODE;
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
    /// How many GPUs the node should have; `None`: any number.
    pub expected_gpus: Option<u32>,
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

/// The bytes of a GPU and of the MIG devices on it.
fn memory(gpu: KnownGpu<'_>) -> impl Iterator<Item = (&Uuid, u64)> {
    let whole = gpu.facts().and_then(|facts| Some((gpu.uuid, facts.memory_bytes?)));
    let mig = gpu.facts().into_iter().flat_map(|facts| &facts.mig_devices);
    whole.into_iter().chain(mig.map(|mig| (&mig.uuid, mig.memory_mib.saturating_mul(1 << 20))))
}

impl Layout {
    /// Applies the rules to the GPUs of a node.
    pub(crate) fn apply<'a>(&self, gpus: impl IntoIterator<Item = KnownGpu<'a>>) -> LayoutResult {
        let mut out = LayoutResult::default();
        let mut candidates = Vec::new();
        let gpus: Vec<KnownGpu<'_>> = gpus.into_iter().collect();
        for gpu in &gpus {
            self.add_candidates(*gpu, &mut candidates, &mut out);
        }
        out.findings.extend(self.unmatched(&gpus));
        candidates.sort_by(|a, b| a.device.sort_key().cmp(&b.device.sort_key()));
        out.findings.extend(candidate::without_duplicates(&mut candidates));
        if self.mig_strategy == MigStrategy::Single {
            out.findings.extend(candidate::unify(&mut candidates));
        }
        let memory = gpus.iter().flat_map(|gpu| memory(*gpu)).collect();
        for (resource, devices) in self.sharing.plan(candidates, &memory, &mut out.findings) {
            match sharing::check(&devices) {
                Ok(()) => drop(out.resources.insert(resource, sharing::replicate(devices))),
                Err(why) => out.findings.push(LayoutFinding::ListTooLarge { resource, why }),
            }
        }
        out
    }

    fn add_candidates(&self, gpu: KnownGpu<'_>, to: &mut Vec<Candidate>, out: &mut LayoutResult) {
        if let Some(reason) = self.reserved(gpu) {
            out.reserved.insert(gpu.uuid.clone(), reason);
            return;
        }
        out.findings.extend(self.gaps(gpu));
        if self.mig_strategy == MigStrategy::None {
            if gpu.record.mig_mode() == MigMode::On {
                out.findings.push(LayoutFinding::MigNotLookedAt { gpu: gpu.name() });
            }
            return to.push(Candidate::whole(gpu, &self.gpu_names));
        }
        match gpu.record.mig_mode() {
            MigMode::Off => to.push(Candidate::whole(gpu, &self.gpu_names)),
            MigMode::On => self.add_mig_devices(gpu, to, &mut out.findings),
            MigMode::Unknown => out.findings.push(LayoutFinding::mig_mode_unknown(gpu)),
        }
    }

    /// Why a GPU is not offered at all.
    fn reserved(&self, gpu: KnownGpu<'_>) -> Option<String> {
        self.devices.reserves(gpu).or_else(|| {
            let display = gpu.model().filter(|name| DISPLAYS.contains(name))?;
            Some(format!("a {display} computes nothing"))
        })
    }

    /// The facts of a GPU that are missing because a call was refused or failed.
    fn gaps(&self, gpu: KnownGpu<'_>) -> Option<LayoutFinding> {
        let mut gaps = gpu.facts()?.gaps.clone();
        // Where the MIG mode decides what is offered it has a finding of its own.
        gaps.retain(|gap| self.mig_strategy == MigStrategy::None || gap.call != MIG_MODE);
        let gpu = gpu.name();
        (!gaps.is_empty()).then_some(LayoutFinding::FactsMissing { gpu, gaps })
    }

    fn add_mig_devices(
        &self,
        gpu: KnownGpu<'_>,
        to: &mut Vec<Candidate>,
        findings: &mut Vec<LayoutFinding>,
    ) {
        // Of a GPU that was last seen with MIG mode on and does not answer no MIG device is known.
        let Some(facts) = gpu.facts() else {
            return findings.push(LayoutFinding::mig_mode_unknown(gpu));
        };
        findings.extend(facts.mig_failures.iter().map(|failure| LayoutFinding::BrokenMigDevice {
            gpu: gpu.name(),
            mig: failure.index,
            error: failure.error.clone(),
        }));
        if facts.mig_devices.is_empty() && facts.mig_failures.is_empty() {
            findings.push(LayoutFinding::NoMigDevices { gpu: gpu.name() });
        }
        let whole = Device::whole(gpu);
        for mig in &facts.mig_devices {
            match Candidate::mig(mig, &whole, self.mig_strategy, &self.mig_names) {
                Ok(candidate) => to.push(candidate),
                Err(finding) => findings.push(finding),
            }
        }
    }
}
