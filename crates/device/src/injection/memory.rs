//! What a container with replicas of a shared GPU gets for its share of the memory.

use std::collections::BTreeMap;

use super::cdi_names::{CdiNames, GPU_CLASS, memory_limit_name};
use crate::Device;
use crate::names::Uuid;

/// The variable that tells programs how much memory of a GPU they may allocate, in MiB.
const MEMORY_LIMIT: &str = "NVIDIA_GPU_MEMORY_LIMIT";

/// The names of the devices that limit the memory of these, one for each GPU, which `name_of`
/// names. `resolvable` are the names in the files; where they are not known, there is none of
/// these.
pub(super) fn limits(
    devices: &[&Device],
    name_of: impl Fn(&Device) -> String,
    resolvable: Option<&CdiNames>,
) -> impl Iterator<Item = String> {
    let mut replicas: BTreeMap<String, u32> = BTreeMap::new();
    for device in devices.iter().filter(|device| device.memory_share.is_some()) {
        *replicas.entry(name_of(device)).or_default() += 1;
    }
    let names = replicas.into_iter().map(|(device, count)| memory_limit_name(&device, count));
    names.filter(move |name| resolvable.is_some_and(|names| names.has(GPU_CLASS, name)))
}

/// Tells a container how much memory of each of its GPUs and MIG devices it may allocate; of the
/// one with the least, if they differ. It is for programs that fit themselves to it: a pod can set
/// the variable itself, and nothing is enforced by it.
pub(super) fn add_information(devices: &[&Device], envs: &mut BTreeMap<String, String>) {
    let mut shares: BTreeMap<&Uuid, u64> = BTreeMap::new();
    for device in devices {
        if let Some(share) = device.memory_share {
            *shares.entry(device.id.uuid()).or_default() += share;
        }
    }
    if let Some(bytes) = shares.into_values().min() {
        envs.insert(MEMORY_LIMIT.to_owned(), (bytes >> 20).to_string());
    }
}
