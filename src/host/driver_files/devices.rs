//! The device nodes that a specification names, and what sysfs and procfs say about them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use device::cdi::{HostDevices, NodeNumbers};
use device::names::PciBusId;
use rustix::fs::{major, minor};

use crate::host::device_nodes::Roots;
use crate::host::root::resolve_in_root;

/// The most entries of a directory of device nodes that are looked at.
const MOST_NODES: usize = 16_384;

/// Directories of nodes, and what the names of those begin with that are of interest.
const DIRECTORIES: [(&str, &[&str]); 5] = [
    ("dev", &["nvidia", "gdrdrv"]),
    ("dev/nvidia-caps", &["nvidia-cap"]),
    ("dev/nvidia-caps-imex-channels", &["channel"]),
    ("dev/dri", &["card", "renderD"]),
    ("dev/infiniband", &["uverbs", "rdma_cm"]),
];

/// The device nodes of the host, and what belongs to GPUs at these places on the bus.
#[must_use]
pub fn find(roots: &Roots, sysfs: &Path, gpus: &BTreeSet<PciBusId>) -> HostDevices {
    let mut nodes = BTreeMap::new();
    for (directory, prefixes) in DIRECTORIES {
        add_nodes(roots.dev_root(), directory, prefixes, &mut nodes);
    }
    let drm = gpus.iter().map(|gpu| (*gpu, drm(sysfs, *gpu)));
    HostDevices {
        nodes,
        drm: drm.filter(|(_, names)| !names.is_empty()).collect(),
        capabilities: roots.capabilities(),
    }
}

fn add_nodes(
    root: &Path,
    directory: &str,
    prefixes: &[&str],
    nodes: &mut BTreeMap<String, NodeNumbers>,
) {
    let Ok(here) = resolve_in_root(root, Path::new(directory)) else { return };
    for entry in fs::read_dir(here).into_iter().flatten().take(MOST_NODES).flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_name(name)) else { continue };
        if !prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
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
