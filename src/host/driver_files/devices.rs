//! The device nodes that a specification names, and what sysfs and procfs say about them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use device::cdi::{HostDevices, NodeNumbers};
use device::injection::Capability;
use device::names::PciBusId;
use rustix::fs::{major, minor};

use crate::host::device_nodes::Roots;
use crate::host::root::resolve_in_root;

/// The most entries of a directory of device nodes that are looked at.
const MOST_NODES: usize = 16_384;

/// The directory of the capability nodes, and what their names are without their numbers.
const CAPABILITIES: (&str, &str) = ("dev/nvidia-caps", "nvidia-cap");

/// Directories of nodes, and what the names of those begin with that are of interest.
const DIRECTORIES: [(&str, &[&str]); 5] = [
    ("dev", &["nvidia", "gdrdrv"]),
    (CAPABILITIES.0, &[CAPABILITIES.1]),
    ("dev/nvidia-caps-imex-channels", &["channel"]),
    ("dev/dri", &["card", "renderD"]),
    ("dev/infiniband", &["uverbs", "rdma_cm"]),
];

/// What is needed of the device nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NeededNodes {
    /// The GPUs whose DRM nodes are looked for, by their places on the bus.
    pub gpus: BTreeSet<PciBusId>,
    /// The capabilities whose nodes are; `None`: all. A node with MIG has a thousand of them, most
    /// of instances that do not exist.
    pub capabilities: Option<BTreeSet<Capability>>,
}

/// The device nodes of the host.
#[must_use]
pub fn find(roots: &Roots, sysfs: &Path, needed: &NeededNodes) -> HostDevices {
    let capabilities = roots.capabilities();
    let names = needed.capabilities.as_ref().map(|needed| names(needed, &capabilities));
    let mut nodes = BTreeMap::new();
    for (directory, prefixes) in DIRECTORIES {
        let is_wanted = |name: &str| {
            prefixes.iter().any(|prefix| name.starts_with(prefix))
                && (directory != CAPABILITIES.0
                    || names.as_ref().is_none_or(|names| names.contains(name)))
        };
        add_nodes(roots.dev_root(), directory, is_wanted, &mut nodes);
    }
    let drm = needed.gpus.iter().map(|gpu| (*gpu, drm(sysfs, *gpu)));
    let drm = drm.filter(|(_, names)| !names.is_empty()).collect();
    HostDevices { nodes, drm, capabilities }
}

/// The names of the nodes of capabilities.
fn names(
    needed: &BTreeSet<Capability>,
    capabilities: &BTreeMap<Capability, u32>,
) -> BTreeSet<String> {
    let numbers = needed.iter().filter_map(|capability| capabilities.get(capability));
    numbers.map(|number| format!("{}{number}", CAPABILITIES.1)).collect()
}

fn add_nodes(
    root: &Path,
    directory: &str,
    is_wanted: impl Fn(&str) -> bool,
    nodes: &mut BTreeMap<String, NodeNumbers>,
) {
    let Ok(here) = resolve_in_root(root, Path::new(directory)) else { return };
    for entry in fs::read_dir(here).into_iter().flatten().take(MOST_NODES).flatten() {
        let name = entry.file_name();
        let name = name.to_str().filter(|name| is_name(name) && is_wanted(name));
        let Some(name) = name else { continue };
        let path = format!("{directory}/{name}");
        if let Some(numbers) = numbers(root, &path, &entry) {
            nodes.insert(format!("/{path}"), numbers);
        }
    }
}

/// What a character device is; `None` of anything else, and of a link that leads out of the root.
/// There can be hundreds of them, so that only links are followed step by step.
fn numbers(root: &Path, path: &str, entry: &fs::DirEntry) -> Option<NodeNumbers> {
    let mut file = entry.metadata().ok()?;
    if file.is_symlink() {
        file = fs::symlink_metadata(resolve_in_root(root, Path::new(path)).ok()?).ok()?;
    }
    file.file_type().is_char_device().then(|| NodeNumbers {
        major: major(file.rdev()),
        minor: minor(file.rdev()),
        mode: file.permissions().mode() & 0o777,
        gid: file.gid(),
    })
}

/// The names below `/dev/dri` that sysfs has for a GPU.
fn drm(sysfs: &Path, gpu: PciBusId) -> Vec<String> {
    let directory = sysfs.join("bus/pci/devices").join(gpu.to_string()).join("drm");
    let entries = fs::read_dir(directory).into_iter().flatten().take(MOST_NODES).flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_node = |name: &String| {
        let number = name.strip_prefix("card").or_else(|| name.strip_prefix("renderD"));
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut names: Vec<String> = names.filter(is_node).collect();
    names.sort();
    names
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capability_nodes_are_those_of_the_numbers_that_the_driver_lists() {
        let of = |gpu_instance, compute_instance| Capability {
            minor: 0,
            gpu_instance,
            compute_instance,
        };
        let listed = [(of(1, None), 3), (of(1, Some(0)), 4), (of(2, None), 12)].into();
        let needed = [of(1, None), of(1, Some(0)), of(7, None)].into();
        let expected = ["nvidia-cap3", "nvidia-cap4"].map(str::to_owned);
        assert_eq!(names(&needed, &listed), expected.into());
    }
}
