//! The specifications of a node.

use std::collections::{BTreeMap, BTreeSet};

use super::device_edits::DeviceEdits;
use super::edits::{ContainerEdits, MountKind, SpecMount, SpecNode};
use super::hooks::Hooks;
use super::host::{CdiHost, FileLink, HostFile};
use super::memory_limits;
use crate::Device;
use crate::injection::cdi_names::{GPU_CLASS, IMEX_CLASS, key};
use crate::injection::{CONTROL_NODES, IMEX_CHANNEL, Injector};
use crate::inventory::Inventory;

/// Every class, each with a file of its own.
pub const CLASSES: [&str; 5] = [GPU_CLASS, IMEX_CLASS, "gds", "mofed", "gdrcopy"];
/// The device that is every GPU, where the settings ask for it.
pub const ALL_DEVICE: &str = "all";
/// The device with all that a monitor needs, where the settings ask for it.
pub const MANAGEMENT_DEVICE: &str = "management";

/// What the settings say about specifications.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecSettings {
    /// Hooks that are left out, by name; with `all`, every one.
    pub disabled_hooks: BTreeSet<String>,
    /// Whether [`ALL_DEVICE`] exists.
    pub all_device: bool,
    /// Whether [`MANAGEMENT_DEVICE`] exists.
    pub management_device: bool,
    /// Whether a container's process gets the groups of nodes that not everybody may use. It takes
    /// a runtime that knows CDI 0.7.0.
    pub additional_groups: bool,
}

/// The specification of a kind of devices: a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Specification {
    /// Its class; the kind is `vendor/class`.
    pub class: &'static str,
    /// What a container gets for each device, by name; at least one.
    pub devices: BTreeMap<String, ContainerEdits>,
    /// What every container with one of them gets.
    pub common: ContainerEdits,
}

/// The specifications of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Specifications {
    /// One for each class that has a device.
    pub files: Vec<Specification>,
    /// The names of GPU devices of which nothing can be said.
    pub left_out: BTreeSet<String>,
    /// What containers lack, in words.
    pub incomplete: Vec<String>,
    /// Why memory is not limited that is to be, in words.
    pub not_limited: Vec<String>,
}

/// The specifications of a node, and what they lack. `kept` are GPU devices that pods may hold and
/// that were in the file before; those that the node has are described as they are now.
#[must_use]
pub fn specifications(
    inventory: &Inventory,
    host: &CdiHost,
    settings: &SpecSettings,
    kept: &BTreeMap<String, ContainerEdits>,
) -> Specifications {
    let mut out = Specifications { incomplete: host.files.missing.clone(), ..Default::default() };
    let hooks = Hooks { program: host.hook.as_ref(), disabled: &settings.disabled_hooks };
    out.incomplete.extend(without_hooks(host, settings));
    let Some(injector) = inventory.cdi_injectors().last() else { return Specifications::default() };
    let dev_root = injector.dev_root.trim_end_matches('/');
    let edits = DeviceEdits { inventory, devices: &host.devices, hooks, dev_root };
    let mut devices = kept.clone();
    let mut all = ContainerEdits::default();
    // Those that are offered come last: a name by index may have been another device's.
    for (name, device) in named(inventory) {
        match edits.of(device) {
            Ok(of_device) => {
                if !device.withdrawn {
                    add_nodes(&mut all, &of_device);
                }
                devices.insert(name, of_device);
            }
            Err(_) if devices.contains_key(&name) => {}
            Err(why) if !device.withdrawn => {
                out.incomplete.push(format!("{} has no CDI device: {why}", device.label()));
                out.left_out.insert(key(GPU_CLASS, &name));
            }
            Err(_) => {}
        }
    }
    let (limits, not_limited) = memory_limits::devices(inventory, &host.memory, hooks);
    devices.extend(limits);
    out.not_limited = not_limited;
    if settings.management_device {
        devices.insert(MANAGEMENT_DEVICE.to_owned(), edits.management());
    }
    if settings.all_device && !all.is_empty() {
        devices.insert(ALL_DEVICE.to_owned(), all);
    }
    devices.retain(|_, edits| !edits.is_empty());
    let common = common(host, hooks, dev_root);
    out.files.extend((!devices.is_empty()).then_some(Specification {
        class: GPU_CLASS,
        devices,
        common,
    }));
    for class in wanted_classes(injector) {
        match other_class(class, host, dev_root) {
            Some(specification) => out.files.push(specification),
            None => out.incomplete.push(format!("there is no device of the class {class} here")),
        }
    }
    out.files.iter_mut().for_each(|file| set_groups(file, settings.additional_groups));
    out.incomplete.sort();
    out.incomplete.dedup();
    out
}

/// The devices in the lists by their names under each strategy in question, withdrawn ones first.
fn named(inventory: &Inventory) -> Vec<(String, &Device)> {
    let lists = inventory.resources().filter_map(|resource| inventory.devices(resource));
    let mut devices: Vec<&Device> = lists.flat_map(|devices| devices.values()).collect();
    // The replicas of a device are one device.
    devices.sort_by_key(|device| (!device.withdrawn, device.id.uuid()));
    devices.dedup_by(|a, b| a.id.uuid() == b.id.uuid() && a.withdrawn == b.withdrawn);
    let names =
        |device| inventory.cdi_injectors().map(move |injector| (injector.cdi_name(device), device));
    devices.into_iter().flat_map(names).collect()
}

/// Adds the groups, or takes away those of kept devices.
fn set_groups(file: &mut Specification, are_wanted: bool) {
    for edits in file.devices.values_mut().chain([&mut file.common]) {
        if are_wanted {
            edits.add_groups();
        } else {
            edits.groups.clear();
        }
    }
}

fn add_nodes(all: &mut ContainerEdits, of_device: &ContainerEdits) {
    for node in &of_device.nodes {
        if !all.nodes.contains(node) {
            all.nodes.push(node.clone());
        }
    }
}

/// What containers lack without hooks.
fn without_hooks(host: &CdiHost, settings: &SpecSettings) -> Option<String> {
    let is_off = settings.disabled_hooks.contains("all");
    (host.hook.is_none() && !is_off).then(|| {
        "no hooks are called: neither nvidia-cdi-hook nor nvidia-ctk of NVIDIA's toolkit is known \
         to be on the host, so libraries are mounted under all their names, and a container finds \
         them only where its loader looks in their directories; mount a directory of the host for \
         the plugin's own program (--cdi-hook-dir), install the toolkit, or set \
         --nvidia-cdi-hook-path"
            .to_owned()
    })
}

/// What every container with a GPU gets.
fn common(host: &CdiHost, hooks: Hooks<'_>, dev_root: &str) -> ContainerEdits {
    let files = &host.files;
    let mut env = visible_devices_void();
    if !files.libcuda_directories.is_empty() {
        env.push(format!("NVIDIA_CTK_LIBCUDA_DIR={}", files.libcuda_directories.join(":")));
    }
    let nodes = CONTROL_NODES.iter().filter_map(|path| node(host, path, dev_root));
    let mut mounts: Vec<SpecMount> = mounts(&files.files, MountKind::File).collect();
    if !hooks.creates_symlinks() {
        mounts.extend(files.links.iter().map(link_as_mount));
    }
    mounts.extend(self::mounts(&files.sockets, MountKind::Socket));
    mounts.sort_by(|a, b| a.container.cmp(&b.container));
    mounts.dedup_by(|a, b| a.container == b.container);
    let hooks = hooks.common(files);
    ContainerEdits { env, nodes: nodes.collect(), hooks, mounts, groups: Vec::new() }
}

/// Keeps NVIDIA's runtime from making its own additions.
fn visible_devices_void() -> Vec<String> {
    vec!["NVIDIA_VISIBLE_DEVICES=void".to_owned()]
}

fn mounts(files: &[HostFile], kind: MountKind) -> impl Iterator<Item = SpecMount> {
    files.iter().map(move |file| SpecMount {
        host: file.host.clone(),
        container: file.container.clone(),
        kind,
    })
}

/// The file that a link leads to, at the place of the link.
fn link_as_mount(link: &FileLink) -> SpecMount {
    SpecMount { host: link.host.clone(), container: link.path.clone(), kind: MountKind::File }
}

/// A node that the host has.
fn node(host: &CdiHost, path: &str, dev_root: &str) -> Option<SpecNode> {
    let numbers = host.devices.nodes.get(path).copied();
    numbers.map(|numbers| SpecNode {
        path: path.to_owned(),
        host: format!("{dev_root}{path}"),
        numbers: Some(numbers),
    })
}

/// The classes beside that of GPUs that the settings ask for.
fn wanted_classes(injector: &Injector) -> impl Iterator<Item = &'static str> {
    let imex = injector.imex.then_some(IMEX_CLASS);
    imex.into_iter().chain(injector.features())
}

/// The specification of a class of nodes that are no GPUs; `None` without such nodes.
fn other_class(class: &'static str, host: &CdiHost, dev_root: &str) -> Option<Specification> {
    let (name, is_of_class): (_, fn(&str) -> bool) = match class {
        IMEX_CLASS => ("0", |path| path == IMEX_CHANNEL),
        "gds" => ("all", |path| path.starts_with("/dev/nvidia-fs")),
        "mofed" => ("all", |path| {
            path.starts_with("/dev/infiniband/uverbs") || path == "/dev/infiniband/rdma_cm"
        }),
        _ => ("all", |path| path == "/dev/gdrdrv"),
    };
    let paths = host.devices.nodes.keys().filter(|path| is_of_class(path));
    let nodes: Vec<SpecNode> = paths.filter_map(|path| node(host, path, dev_root)).collect();
    let files: &[HostFile] = if class == "gds" { &host.files.gds_files } else { &[] };
    let mounts = mounts(files, MountKind::File).collect();
    let edits = ContainerEdits { nodes, mounts, ..ContainerEdits::default() };
    (!edits.nodes.is_empty()).then(|| Specification {
        class,
        devices: [(name.to_owned(), edits)].into(),
        common: ContainerEdits { env: visible_devices_void(), ..ContainerEdits::default() },
    })
}
