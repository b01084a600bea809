//! The GPUs and MIG devices that a set of labels describes, where a node has several kinds.

use status::{Gpu, MigDevice};

/// The GPUs of one model, by index.
pub(super) struct Model<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) gpus: Vec<&'a Gpu>,
}

impl<'a> Model<'a> {
    /// The model that labels describe: of those whose names are known the one with the most GPUs,
    /// of equals that of the first GPU. GPU feature discovery takes any.
    pub(super) fn main(gpus: &[&'a Gpu]) -> Option<Self> {
        let (name, gpus) = largest(gpus, |gpu| gpu.model.as_deref())?;
        Some(Self { name, gpus })
    }
}

/// MIG devices of one profile, with their GPUs.
pub(super) struct Profile<'a> {
    pub(super) name: &'a str,
    /// The model of most of the GPUs.
    pub(super) model: Option<&'a str>,
    /// A device on a GPU of that model.
    pub(super) device: &'a MigDevice,
    pub(super) count: usize,
}

/// The profiles of these GPUs' MIG devices, in the order in which they first stand there. Devices
/// without one are in none.
pub(super) fn profiles<'a>(gpus: &[&'a Gpu]) -> Vec<Profile<'a>> {
    let devices = mig_devices(gpus);
    let mut names: Vec<&str> = Vec::new();
    for (_, device) in &devices {
        if let Some(name) = device.profile.as_deref().filter(|name| !names.contains(name)) {
            names.push(name);
        }
    }
    let profile = |name: &'a str| {
        let mut of_profile = devices.clone();
        of_profile.retain(|(_, device)| device.profile.as_deref() == Some(name));
        let count = of_profile.len();
        let (model, of_model) = largest(&of_profile, |(gpu, _)| gpu.model.as_deref())?;
        Some(Profile { name, model, device: of_model.first()?.1, count })
    };
    names.into_iter().filter_map(profile).collect()
}

/// The MIG devices of these GPUs, each with its GPU.
pub(super) fn mig_devices<'a>(gpus: &[&'a Gpu]) -> Vec<(&'a Gpu, &'a MigDevice)> {
    let of = |gpu: &&'a Gpu| {
        let gpu: &'a Gpu = gpu;
        gpu.mig_devices.iter().map(move |device| (gpu, device))
    };
    gpus.iter().flat_map(of).collect()
}

/// The largest group of items with one model, those without a model last, the first of equals.
fn largest<'a, T: Copy>(
    items: &[T],
    model: impl Fn(&T) -> Option<&'a str>,
) -> Option<(Option<&'a str>, Vec<T>)> {
    let mut groups: Vec<(Option<&str>, Vec<T>)> = Vec::new();
    for item in items {
        let name = model(item);
        match groups.iter_mut().find(|(other, _)| *other == name) {
            Some((_, group)) => group.push(*item),
            None => groups.push((name, vec![*item])),
        }
    }
    // The last of equals is taken, so that the first has to be the last.
    groups.into_iter().rev().max_by_key(|(name, group)| (name.is_some(), group.len()))
}
