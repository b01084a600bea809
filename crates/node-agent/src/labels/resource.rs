//! The labels of one kind of device: `nvidia.com/gpu.*`, `nvidia.com/mig-<profile>.*`.

use status::{Gpu, MigDevice, SharingStrategy, Status};

use super::model::{self, Model, Profile};
use super::value;

/// How the devices of a resource are shared, as labels say it.
pub(super) struct Shares {
    replicas: u32,
    strategy: &'static str,
    /// Whether the product's name says so: where the resource's name does not.
    in_product: bool,
}

const UNSHARED: Shares = Shares { replicas: 1, strategy: "none", in_product: false };
/// For GPUs that are offered in parts, if at all.
const PARTITIONED: Shares = Shares { replicas: 0, ..UNSHARED };

/// How `nvidia.com/gpu` is shared.
pub(super) fn gpu_sharing(status: &Status) -> Shares {
    shares(status, "nvidia.com/gpu")
}

fn shares(status: &Status, resource: &str) -> Shares {
    let shared = status.resources.iter().find_map(|offered| {
        let sharing = offered.sharing.as_ref().filter(|sharing| sharing.of == resource)?;
        Some((offered.name == resource, sharing))
    });
    match shared {
        Some((keeps_name, sharing)) if sharing.replicas > 1 => Shares {
            replicas: sharing.replicas,
            strategy: strategy_name(sharing.strategy),
            in_product: keeps_name,
        },
        _ => UNSHARED,
    }
}

/// How labels call a strategy.
pub(super) fn strategy_name(strategy: SharingStrategy) -> &'static str {
    match strategy {
        SharingStrategy::TimeSlicing => "time-slicing",
        SharingStrategy::Mps => "mps",
        SharingStrategy::Other => "other",
    }
}

impl Shares {
    fn suffix(&self) -> &'static str {
        if self.in_product { "SHARED" } else { "" }
    }
}

/// The labels of whole GPUs.
pub(super) fn whole_gpus(model: &Model<'_>, shares: &Shares, add: &mut impl FnMut(&str, String)) {
    let partitioned = model.gpus.iter().all(|gpu| gpu.mig_enabled);
    let shares = if partitioned { &PARTITIONED } else { shares };
    if let Some(name) = model.name {
        add("gpu.product", value::joined(name, &[shares.suffix()]));
    }
    add("gpu.count", model.gpus.len().to_string());
    sharing("gpu", shares, add);
    let memory = model.gpus.iter().find_map(|gpu| gpu.memory_bytes);
    if let Some(memory) = memory.map(|bytes| bytes >> 20).filter(|mib| *mib > 0) {
        add("gpu.memory", memory.to_string());
    }
    let capability = model.gpus.iter().find_map(|gpu| capability(gpu)).unwrap_or((0, 0));
    add("gpu.family", family(capability).to_owned());
    add("gpu.compute.major", capability.0.to_string());
    add("gpu.compute.minor", capability.1.to_string());
}

/// The one profile of all GPUs' MIG devices: every GPU has MIG mode on, and some.
pub(super) fn single_profile<'a>(gpus: &[&'a Gpu]) -> Option<Profile<'a>> {
    let has_devices = |gpu: &&Gpu| gpu.mig_enabled && !gpu.mig_devices.is_empty();
    let mut profiles = model::profiles(gpus);
    let profile = profiles.pop()?;
    let alike = profiles.is_empty() && profile.count == model::mig_devices(gpus).len();
    (alike && gpus.iter().all(has_devices)).then_some(profile)
}

/// The labels of GPUs of which the strategy `single` can offer nothing by its own rules.
pub(super) fn invalid(model: Option<&str>, add: &mut impl FnMut(&str, String)) {
    add("gpu.product", value::joined(model.unwrap_or_default(), &["MIG", "INVALID"]));
    for name in ["gpu.count", "gpu.replicas", "gpu.memory"] {
        add(name, "0".to_owned());
    }
    add("gpu.sharing-strategy", String::new());
}

/// A set of labels for each profile.
pub(super) fn mig_sets(status: &Status, gpus: &[&Gpu], add: &mut impl FnMut(&str, String)) {
    for profile in model::profiles(gpus) {
        let resource = format!("mig-{}", profile.name.replace('+', "."));
        let shares = shares(status, &format!("nvidia.com/{resource}"));
        mig_devices(&profile, profile.model, &resource, &shares, add);
    }
}

/// The labels of MIG devices of one profile on GPUs of this model.
pub(super) fn mig_devices(
    profile: &Profile<'_>,
    model: Option<&str>,
    resource: &str,
    shares: &Shares,
    add: &mut impl FnMut(&str, String),
) {
    if let Some(model) = model {
        let product = value::joined(model, &["MIG", profile.name, shares.suffix()]);
        add(&format!("{resource}.product"), product);
    }
    add(&format!("{resource}.count"), profile.count.to_string());
    sharing(resource, shares, add);
    attributes(resource, profile.device, add);
}

fn attributes(resource: &str, device: &MigDevice, add: &mut impl FnMut(&str, String)) {
    let mut add = |name: &str, value: u64| add(&format!("{resource}.{name}"), value.to_string());
    add("memory", device.memory_bytes >> 20);
    let Some(engines) = &device.engines else { return };
    for (name, value) in [
        ("multiprocessors", engines.multiprocessors),
        ("slices.gi", engines.gpu_slices),
        ("slices.ci", engines.compute_slices),
        ("engines.copy", engines.copy),
        ("engines.decoder", engines.decoder),
        ("engines.encoder", engines.encoder),
        ("engines.jpeg", engines.jpeg),
        ("engines.ofa", engines.ofa),
    ] {
        add(name, value.into());
    }
}

fn sharing(resource: &str, shares: &Shares, add: &mut impl FnMut(&str, String)) {
    add(&format!("{resource}.replicas"), shares.replicas.to_string());
    add(&format!("{resource}.sharing-strategy"), shares.strategy.to_owned());
}

/// CUDA's compute capability.
pub(super) fn capability(gpu: &Gpu) -> Option<(u32, u32)> {
    let (major, minor) = gpu.compute_capability.as_deref()?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// The architecture with this compute capability, as GPU feature discovery names it.
pub(super) fn family(capability: (u32, u32)) -> &'static str {
    match capability {
        (0, _) => "",
        (1, _) => "tesla",
        (2, _) => "fermi",
        (3, _) => "kepler",
        (5, _) => "maxwell",
        (6, _) => "pascal",
        (7, 0..5) => "volta",
        (7, _) => "turing",
        (8, 0..9) => "ampere",
        (8, _) => "ada-lovelace",
        (9, _) => "hopper",
        (10 | 12, _) => "blackwell",
        (13, _) => "rubin",
        _ => "undefined",
    }
}
