//! The kubelet's files that the plugin uses.

use std::path::PathBuf;

use crate::config::Config;
use crate::config::translate;

/// The kubelet's checkpoint, in the plugin directory (pkg/kubelet/cm/devicemanager/types.go).
pub(super) const CHECKPOINT: &str = "kubelet_internal_checkpoint";

/// The plugin directory, and the kubelet's socket if the plugin registers there.
pub(super) fn plugin_paths(config: &Config) -> (PathBuf, Option<PathBuf>) {
    match translate::places(config) {
        Ok(places) => (places.directory, places.kubelet),
        // A socket in no directory: the checks of the kubelet report it by what they find.
        Err(_) => (PathBuf::from("/"), None),
    }
}
