//! The labels of NVIDIA's GPU feature discovery, from the plugin's status. Pure.
//!
//! Names and values are those of version 0.20 (NVIDIA/k8s-device-plugin, internal/lm), with four
//! differences: a node with several models always gets the same labels, no value is longer than
//! Kubernetes accepts, what cannot be told is left out where that program ends, and a node with
//! GPUs has `nvidia.com/gpu.present=true`, which affinities ask for.

mod extra;
mod model;
mod resource;
mod value;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use status::{Gpu, NvmlState, Status};

pub use extra::{Attributes, Extra};
use model::Model;
use resource::{gpu_sharing, invalid, mig_sets, single_profile, whole_gpus};
pub use value::is_valid;

/// The prefix of all names.
pub(crate) const DOMAIN: &str = "nvidia.com/";

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// What labels depend on beside the status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSettings {
    /// When the agent started, in seconds since the Unix epoch; `None`: no label says so.
    pub timestamp: Option<u64>,
    /// The type of the machine; `None`: as the plugin states it.
    pub machine_type: Option<String>,
    /// How MIG devices are offered; `None`: as the plugin states it.
    pub mig_strategy: Option<MigStrategy>,
    /// What is asked for beside the labels of GPU feature discovery.
    pub extra: Vec<Extra>,
}

/// How MIG devices are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum MigStrategy {
    /// Not at all.
    None,
    /// As GPUs, where all are alike.
    Single,
    /// By profile.
    Mixed,
}

/// What is said of the GPUs of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    /// The labels.
    pub labels: Labels,
    /// Each GPU, if that is asked for.
    pub gpus: Vec<Attributes>,
}

impl Features {
    /// Health as it is now, in what is kept of before.
    fn set_health(&mut self, status: &Status) {
        if let Some(count) = self.labels.get_mut(&(DOMAIN.to_owned() + extra::HEALTHY)) {
            *count = status.gpu_tally().healthy.to_string();
        }
        let healthy: BTreeSet<&str> =
            status.gpus.iter().filter(|gpu| gpu.healthy).map(|gpu| &*gpu.uuid).collect();
        for attributes in &mut self.gpus {
            let is = attributes.get("uuid").is_some_and(|uuid| healthy.contains(&**uuid));
            attributes.insert("healthy", is.to_string());
        }
    }
}

/// What is to be said of a node, status after status.
#[derive(Debug)]
pub struct Labeller {
    settings: LabelSettings,
    /// What was last known.
    last: RefCell<Option<Features>>,
}

impl Labeller {
    /// One that knows nothing yet.
    #[must_use]
    pub fn new(settings: LabelSettings) -> Self {
        Self { settings, last: RefCell::default() }
    }

    /// What is to be said of the node now. While [`labels`] cannot be told all stays as it was but
    /// the health; `None`: nothing was known yet.
    #[must_use]
    pub fn features(&self, status: &Status) -> Option<Features> {
        let mut last = self.last.borrow_mut();
        if let Some(labels) = labels(status, &self.settings) {
            let describes = self.settings.extra.contains(&Extra::Instances);
            let gpus = if describes { extra::attributes(&counted(status)) } else { Vec::new() };
            *last = Some(Features { labels, gpus });
        } else if let Some(last) = &mut *last {
            last.set_health(status);
        }
        last.clone()
    }
}

/// The GPUs that are for pods.
fn counted(status: &Status) -> Vec<&Gpu> {
    status.gpus.iter().filter(|gpu| gpu.reserved.is_none()).collect()
}

/// The labels of a node with this status; `None` while that cannot be told, so that the labels of
/// before are to be kept: NVML does not answer, or has not listed the GPUs yet.
#[must_use]
pub fn labels(status: &Status, settings: &LabelSettings) -> Option<Labels> {
    let gpus = counted(status);
    let listed = status.nvml.state == NvmlState::Up && status.gpu_counts.enumerated.is_some();
    let has_none = gpus.is_empty() && status.gpu_counts.bus == Some(0);
    if !listed && !has_none {
        return None;
    }
    let mut all = Labels::new();
    let mut add = |name: &str, value: String| drop(all.insert(DOMAIN.to_owned() + name, value));
    if let Some(timestamp) = settings.timestamp {
        add("gfd.timestamp", timestamp.to_string());
    }
    add("vgpu.present", gpus.iter().any(|gpu| gpu.vgpu_host.is_some()).to_string());
    if let Some(model) = Model::main(&gpus) {
        add("gpu.present", true.to_string());
        of_node(status, settings, &gpus, &mut add);
        of_devices(status, settings, &gpus, &model, &mut add);
        extra::labels(status, &settings.extra, &mut add);
    }
    // Whatever a driver states, no label is one that the API server refuses.
    all.retain(|name, value| is_name(name) && is_valid(value));
    Some(all)
}

/// The labels of the node as a whole.
fn of_node(
    status: &Status,
    settings: &LabelSettings,
    gpus: &[&Gpu],
    add: &mut impl FnMut(&str, String),
) {
    let machine = settings.machine_type.as_deref().or(status.plugin.machine_type.as_deref());
    let machine = value::of_text(machine.unwrap_or_default());
    add("gpu.machine", if machine.is_empty() { "unknown".to_owned() } else { machine });
    driver_version(status.nvml.driver_version.as_deref().unwrap_or_default(), add);
    cuda_version(status.nvml.cuda_version.as_deref().unwrap_or_default(), add);
    add("mig.capable", gpus.iter().any(|gpu| gpu.mig_capable || gpu.mig_enabled).to_string());
    match strategy(status, settings) {
        MigStrategy::None => {}
        MigStrategy::Single => add("mig.strategy", "single".to_owned()),
        MigStrategy::Mixed => add("mig.strategy", "mixed".to_owned()),
    }
    let mps = status.resources.iter().any(|resource| {
        resource
            .sharing
            .as_ref()
            .is_some_and(|sharing| sharing.strategy == status::SharingStrategy::Mps)
    });
    add("mps.capable", (mps && gpus.iter().all(|gpu| !gpu.mig_enabled)).to_string());
    add("gpu.mode", mode(gpus).to_owned());
    if let Some(clique) = clique(gpus) {
        add("gpu.clique", value::of_text(clique));
    }
    if let Some(host) = gpus.iter().find_map(|gpu| gpu.vgpu_host.as_ref()) {
        add("vgpu.host-driver-version", value::of_text(&host.driver_version));
        add("vgpu.host-driver-branch", value::of_text(&host.driver_branch));
    }
}

/// The labels of `nvidia.com/gpu` and, by the MIG strategy, of MIG devices.
fn of_devices(
    status: &Status,
    settings: &LabelSettings,
    gpus: &[&Gpu],
    model: &Model<'_>,
    add: &mut impl FnMut(&str, String),
) {
    whole_gpus(model, &gpu_sharing(status), add);
    match strategy(status, settings) {
        MigStrategy::None => {}
        MigStrategy::Single if gpus.iter().all(|gpu| !gpu.mig_enabled) => {}
        MigStrategy::Single => match single_profile(gpus) {
            Some(profile) => {
                resource::mig_devices(&profile, model.name, "gpu", &gpu_sharing(status), add);
            }
            None => invalid(model.name, add),
        },
        MigStrategy::Mixed => mig_sets(status, gpus, add),
    }
}

fn strategy(status: &Status, settings: &LabelSettings) -> MigStrategy {
    settings.mig_strategy.unwrap_or(match status.configuration.mig_strategy.as_deref() {
        Some("single") => MigStrategy::Single,
        Some("mixed") => MigStrategy::Mixed,
        _ => MigStrategy::None,
    })
}

fn driver_version(version: &str, add: &mut impl FnMut(&str, String)) {
    let Some([major, minor, revision]) = value::driver_parts(version) else { return };
    for (name, part) in [
        ("cuda.driver.major", major),
        ("cuda.driver.minor", minor),
        ("cuda.driver.rev", revision),
        ("cuda.driver-version.major", major),
        ("cuda.driver-version.minor", minor),
        ("cuda.driver-version.revision", revision),
        ("cuda.driver-version.full", version),
    ] {
        add(name, part.to_owned());
    }
}

fn cuda_version(version: &str, add: &mut impl FnMut(&str, String)) {
    let Some((major, minor)) = version.split_once('.') else { return };
    if major.parse::<u32>().is_err() || minor.parse::<u32>().is_err() {
        return;
    }
    for (name, part) in [
        ("cuda.runtime.major", major),
        ("cuda.runtime.minor", minor),
        ("cuda.runtime-version.major", major),
        ("cuda.runtime-version.minor", minor),
        ("cuda.runtime-version.full", version),
    ] {
        add(name, part.to_owned());
    }
}

/// What the GPUs are for, by their PCI classes.
fn mode(gpus: &[&Gpu]) -> &'static str {
    let all = |prefix: &str| {
        let is =
            |gpu: &&Gpu| gpu.pci_class.as_deref().is_some_and(|class| class.starts_with(prefix));
        gpus.iter().all(is)
    };
    match () {
        () if all("0x0300") => "graphics",
        () if all("0x0302") => "compute",
        () => "unknown",
    }
}

/// The NVLink clique of all GPUs that are in one; none if they are in several.
fn clique<'a>(gpus: &[&'a Gpu]) -> Option<&'a str> {
    let mut cliques = gpus.iter().filter_map(|gpu| gpu.fabric_clique.as_deref());
    let first = cliques.next()?;
    cliques.all(|clique| clique == first).then_some(first)
}

/// Whether a text can be the name of a label of ours: what follows the domain is as a value that is
/// not empty.
fn is_name(name: &str) -> bool {
    name.strip_prefix(DOMAIN).is_some_and(|base| !base.is_empty() && is_valid(base))
}

#[cfg(test)]
mod names;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
