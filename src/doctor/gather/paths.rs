//! The kubelet's files that the plugin uses.

use std::path::PathBuf;

use crate::config::Config;

/// The kubelet's checkpoint, in the plugin directory (pkg/kubelet/cm/devicemanager/types.go).
pub(super) const CHECKPOINT: &str = "kubelet_internal_checkpoint";

/// The plugin directory, and the kubelet's socket if the plugin registers there.
pub(super) fn plugin_paths(config: &Config) -> (PathBuf, Option<PathBuf>) {
    let paths = &config.process.plugin;
    (paths.directory.clone(), paths.kubelet.clone())
}
