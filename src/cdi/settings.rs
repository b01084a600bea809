//! The settings of the module.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::host::device_nodes::Roots;
use crate::host::hook_install::HookPaths;

/// What is fixed while the process lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CdiPaths {
    /// The directory of the specifications.
    pub spec_dir: PathBuf,
    /// Where the driver's root and procfs are for us.
    pub roots: Roots,
    /// Where sysfs is.
    pub sysfs: PathBuf,
    /// Where the host's tree of cgroups is.
    pub cgroup_root: PathBuf,
    /// Where our own hook program is, and where it is installed.
    pub hook: HookPaths,
}

/// Whose hook program is called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HookMode {
    /// That of NVIDIA's toolkit on the host.
    #[default]
    Host,
    /// Our own.
    Own,
    /// That of the host, and our own where it has none.
    Auto,
}

/// What the settings say about specifications.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CdiSettings {
    /// The driver root on the host.
    pub driver_root: String,
    /// Whose hook program is called.
    pub hook_mode: HookMode,
    /// The hook program of NVIDIA's toolkit on the host.
    pub hook_path: String,
    /// Whether somebody has set that path.
    pub hook_path_is_set: bool,
    /// Optional behaviours, by name.
    pub features: BTreeSet<String>,
    /// Hooks that are left out, by name; with `all`, every one.
    pub disabled_hooks: BTreeSet<String>,
    /// Whether there is a device that is all GPUs.
    pub all_device: bool,
    /// Whether there is a device for monitors.
    pub management_device: bool,
    /// Whether a container's process gets the groups of device nodes.
    pub additional_gids: bool,
    /// Whether files of our kinds that this program has not written are removed too.
    pub remove_other_files: bool,
}
