//! Watches the config file, and the file with its name, with every directory that their paths go
//! through: a ConfigMap is updated by a swap of symlinks.

use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Notify;
use tracing::warn;

use crate::host::dir_watch::{CHECK_INTERVAL, Watch, Watches};

/// Most symlinks that are followed on the way to the file.
const LINKS: usize = 8;

/// The watches on the directories.
pub(super) struct ConfigWatch {
    watches: Watches,
    changed: Arc<Notify>,
    /// `None`: it cannot be watched.
    directories: BTreeMap<PathBuf, Option<Watch>>,
}

impl ConfigWatch {
    /// Nothing is watched yet. A change in one of the directories notifies `changed`.
    pub(super) fn new(watches: Watches, changed: Arc<Notify>) -> Self {
        Self { watches, changed, directories: BTreeMap::new() }
    }

    /// Watches the directories on the way to the files as they are now. One that cannot be watched
    /// only delays the reload. Each was looked at before, so that a file system that hangs does so
    /// here, and not where all watches are kept. Returns whether one is new.
    pub(super) fn update(&mut self, files: &[PathBuf]) -> bool {
        let wanted: BTreeSet<_> = files.iter().flat_map(|file| directories(file)).collect();
        self.directories.retain(|directory, _| wanted.contains(directory));
        let mut is_new = false;
        for directory in wanted {
            let Entry::Vacant(unwatched) = self.directories.entry(directory) else { continue };
            let watch =
                watch(&self.watches, unwatched.key(), "the config file", self.changed.clone());
            unwatched.insert(watch);
            is_new = true;
        }
        is_new
    }
}

/// Watches the directory of a file. A change in it notifies `changed`; without a watch the file is
/// looked at now and then.
pub(super) fn watch(
    watches: &Watches,
    directory: &Path,
    file: &str,
    changed: Arc<Notify>,
) -> Option<Watch> {
    let on_event = move |event: &notify::Event| {
        if !event.kind.is_access() {
            changed.notify_one();
        }
    };
    watches
        .watch(directory, on_event)
        .inspect_err(|error| {
            warn!(
                directory = %directory.display(), %error,
                "cannot watch for a change of {file}, checking it every {} s",
                CHECK_INTERVAL.as_secs()
            );
        })
        .ok()
}

/// The directory of the file, and of everything that a symlink on the way to it leads through.
#[allow(clippy::disallowed_methods, reason = "it is called on the thread for the config file")]
fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    // The names in inotify's events are absolute.
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for _ in 0..LINKS {
        let parent = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
            .to_owned();
        directories.insert(parent.clone());
        // A ConfigMap's file leads through `..data`, which is the link that is swapped.
        if let Some(above) = parent.parent().filter(|_| parent.is_symlink()) {
            directories.insert(above.to_owned());
        }
        match std::fs::read_link(&path) {
            Ok(target) => path = parent.join(target),
            Err(_) => break,
        }
    }
    directories.retain(|directory| directory.is_dir());
    directories
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_on_the_way_to_the_file_is_watched() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        for directory in ["config", "available/..1"] {
            std::fs::create_dir_all(at(directory)).unwrap();
        }
        std::fs::write(at("available/..1/a100"), "").unwrap();
        std::os::unix::fs::symlink("..1", at("available/..data")).unwrap();
        std::os::unix::fs::symlink("..data/a100", at("available/a100")).unwrap();
        std::os::unix::fs::symlink(at("available/a100"), at("config/config.yaml")).unwrap();
        let file = at("config/config.yaml");
        let watched = directories(&file);
        assert_eq!(watched, [at("config"), at("available"), at("available/..data")].into());
        let up = "../".repeat(std::env::current_dir().unwrap().components().count() - 1);
        let relative = format!("{up}{}", file.strip_prefix("/").unwrap().display());
        let watched = directories(Path::new(&relative));
        assert!(watched.len() == 3 && watched.iter().all(|directory| directory.is_absolute()));
    }
}
