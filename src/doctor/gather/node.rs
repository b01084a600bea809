//! inotify, the clock, and the plugin's own directories.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::kubelet::CHECKPOINT;
use super::{distribution, host};
use crate::config::Config;
use crate::doctor::facts::{DirectoryState, NodeFacts};
use crate::host::state_file::StateFile;

pub(super) fn node(config: &Config, host_root: &Path) -> NodeFacts {
    let process = &config.process;
    let plugin_directory = &process.plugin.directory;
    let state_dir = process.state_dir.as_deref();
    let unreadable = state_dir.and_then(|directory| StateFile::peek(directory).err());
    NodeFacts {
        distribution: distribution::distribution(host_root),
        inotify: host::inotify(&process.roots.proc, plugin_directory),
        now: SystemTime::now(),
        newest: last_change(plugin_directory, state_dir),
        state: state_dir.map(own_directory),
        unreadable: unreadable.map(|error| error.to_string()),
        quarantine: process.quarantine_dir.as_deref().map(own_directory),
    }
}

fn own_directory(path: &Path) -> (PathBuf, DirectoryState) {
    (path.to_owned(), host::own_directory(path))
}

/// The file of the kubelet's or the plugin's that changed last.
fn last_change(plugin_directory: &Path, state_dir: Option<&Path>) -> Option<(PathBuf, SystemTime)> {
    let kubelet = [CHECKPOINT, "kubelet.sock"].map(|name| plugin_directory.join(name));
    let state = state_dir.map(|directory| directory.join("health.json"));
    let changed = kubelet.into_iter().chain(state).filter_map(|file| {
        let at = fs::metadata(&file).ok()?.modified().ok()?;
        Some((file, at))
    });
    changed.max_by_key(|(_, at)| *at)
}
