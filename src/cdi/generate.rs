//! Joins what the host has with the inventory: the specifications of a node.

use std::collections::BTreeMap;
use std::path::Path;

use device::cdi::{
    CdiHost, ContainerEdits, DriverFiles, HookProgram, SpecSettings, Specifications, specifications,
};
use device::gpu::Placement;
use device::identity::GpuRecord;
use device::injection::Capability;
use device::inventory::Inventory;

use super::settings::{CdiPaths, CdiSettings, HookMode};
use crate::host::driver_files::devices::{self, NeededNodes};
use crate::host::driver_files::hook_program::{self, HookPath, HookVersions};
use crate::host::driver_files::{self, DriverRoot, Wanted};
use crate::host::hook_install::HookPaths;
use crate::host::memory_regions;

/// The driver's files and the hook program, and what they were found by. They are looked for again
/// when that changes, or when somebody asks for it.
#[derive(Debug, Default)]
pub struct HostCache {
    found_by: Option<(Option<String>, CdiSettings)>,
    files: DriverFiles,
    hook: Option<HookProgram>,
    hook_versions: HookVersions,
}

impl HostCache {
    /// Forgets what was found.
    pub fn clear(&mut self) {
        self.found_by = None;
    }

    /// The specifications of a node with a driver of this version. It reads directories.
    #[must_use]
    pub fn generate(
        &mut self,
        paths: &CdiPaths,
        settings: &CdiSettings,
        version: Option<&str>,
        inventory: &Inventory,
        kept: &BTreeMap<String, ContainerEdits>,
    ) -> Specifications {
        self.update(paths, settings, version);
        let needed = needed_nodes(inventory, settings.management_device);
        let host = CdiHost {
            files: std::mem::take(&mut self.files),
            devices: devices::find(&paths.roots, &paths.sysfs, &needed),
            hook: self.hook.clone(),
            memory: memory_regions::find(&paths.cgroup_root),
        };
        let of_settings = SpecSettings {
            disabled_hooks: settings.disabled_hooks.clone(),
            all_device: settings.all_device,
            management_device: settings.management_device,
            additional_groups: settings.additional_gids,
        };
        let found = specifications(inventory, &host, &of_settings, kept);
        self.files = host.files;
        found
    }

    /// Removes programs of ours that no specification names any more. It is called when the files
    /// are as they were last generated: until then they name an older one.
    pub(super) fn remove_old_programs(&self, paths: &HookPaths, is_in_use: bool) {
        let own = self.hook.as_ref().filter(|hook| hook.is_own).map(|hook| Path::new(&hook.path));
        paths.clean_up(own, is_in_use);
    }

    fn update(&mut self, paths: &CdiPaths, settings: &CdiSettings, version: Option<&str>) {
        let by = (version.map(str::to_owned), settings.clone());
        if self.found_by.as_ref() == Some(&by) {
            return;
        }
        let root = DriverRoot { here: &paths.roots.driver, host: &settings.driver_root };
        let wanted = Wanted {
            explicit_libraries: settings.features.contains("enable-explicit-driver-libraries"),
            sockets: !settings.features.contains("disable-ipc-discoverer"),
        };
        self.files = driver_files::find(root, version, wanted);
        let hook = HookPath { path: &settings.hook_path, is_set: settings.hook_path_is_set };
        let of_host = match settings.hook_mode {
            HookMode::Own => None,
            HookMode::Host | HookMode::Auto => {
                hook_program::find(root, hook, &mut self.hook_versions)
            }
        };
        self.hook = match of_host {
            Some(found) => Some(found),
            None if settings.hook_mode == HookMode::Host => None,
            // Nobody has asked for it, and nobody has given it a place.
            None if settings.hook_mode == HookMode::Auto && !paths.hook.is_there() => None,
            None => self.own_hook(paths),
        };
        self.found_by = Some(by);
    }

    /// Our own hook program, installed on the host; else what keeps it from being there.
    fn own_hook(&mut self, paths: &CdiPaths) -> Option<HookProgram> {
        match paths.hook.install() {
            Ok(path) => {
                let path = path.display().to_string();
                Some(HookProgram { path, version: None, is_own: true })
            }
            Err(why) => {
                let what = format!("the plugin's own hook program cannot be used: {why}");
                self.files.missing.push(what);
                None
            }
        }
    }
}

/// The nodes of the GPUs and MIG devices that there are; for a monitor of the node those of all
/// that there can be.
fn needed_nodes(inventory: &Inventory, for_management: bool) -> NeededNodes {
    let gpus = inventory.gpus().values();
    let capabilities = gpus.clone().filter_map(|record| record.facts.as_ref()).flat_map(|gpu| {
        let on_minor = gpu.minor.into_iter();
        on_minor.flat_map(|minor| gpu.mig_devices.iter().map(move |mig| (minor, mig.placement)))
    });
    let capabilities = capabilities.flat_map(|(minor, placement)| {
        let Placement { gpu_instance, compute_instance } = placement;
        let of = |compute_instance| Capability { minor, gpu_instance, compute_instance };
        [of(None), of(Some(compute_instance))]
    });
    NeededNodes {
        capabilities: (!for_management).then(|| capabilities.collect()),
        gpus: gpus.filter_map(GpuRecord::pci_bus_id).collect(),
    }
}
