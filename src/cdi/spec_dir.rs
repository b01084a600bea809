//! The directory with the specifications, on the thread that alone touches it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use device::cdi::{
    ALL_DEVICE, CLASSES, ContainerEdits, MANAGEMENT_DEVICE, Specification, may_be_held,
};
use device::injection::cdi_names::{GPU_CLASS, key};
use device::inventory::Inventory;
use tokio::sync::Notify;

use super::generate::HostCache;
use super::json::{Document, MOST_BYTES, OWN_START, file_name};
use super::settings::{CdiPaths, CdiSettings};
use super::validate;
use crate::host::dir_watch::{Watch, Watches};
use crate::host::file::{self, Links};

/// The permissions of a file: whoever starts containers reads it, not root alone.
const MODE: u32 = 0o644;
/// The most devices that stay in a file for pods that may hold them.
const MOST_KEPT: usize = 4096;

/// What is to be in the files.
pub(super) struct Request {
    pub(super) inventory: Arc<Inventory>,
    pub(super) settings: CdiSettings,
    /// The driver's version.
    pub(super) version: Option<String>,
    /// Whether the driver's files are to be looked for again.
    pub(super) looks_again: bool,
}

/// What would be in the files, before they are written.
pub(super) struct Planned {
    /// Every name, as `class=device`.
    pub(super) names: BTreeSet<String>,
    /// Names of devices of which nothing can be said.
    pub(super) left_out: BTreeSet<String>,
    /// What containers lack, in words.
    pub(super) incomplete: Vec<String>,
    /// Why memory is not limited that is to be, in words.
    pub(super) not_limited: Vec<String>,
}

/// What came of writing.
pub(super) struct WriteOutcome {
    /// Every name that is in the files now.
    pub(super) names: BTreeSet<String>,
    /// Why they are not as they should be, if so.
    pub(super) problem: Option<String>,
    /// Files that were not as they were written.
    pub(super) changed_by_others: Vec<String>,
    /// How many files were written or removed.
    pub(super) writes: usize,
    pub(super) is_watched: bool,
}

/// The directory, and what is to be in it.
pub(super) struct SpecDir {
    paths: CdiPaths,
    watches: Watches,
    changed: Arc<Notify>,
    watch: Option<Watch>,
    host: HostCache,
    /// Whether the files of before the start were read.
    is_loaded: bool,
    /// The GPU devices of the file as it is on the disk.
    devices: BTreeMap<String, ContainerEdits>,
    /// The specifications to write by class; `None`: there is no such file. As a document they are
    /// long, and many a plan is never written.
    plan: BTreeMap<&'static str, Option<Specification>>,
    /// The hashes of what was last in the files of this process, by class.
    written: BTreeMap<&'static str, u64>,
    removes_others: bool,
    /// Whether a pod may hold a device of a class that is not wanted any more.
    keeps_unwanted: bool,
    /// Whether no file can be written.
    #[cfg(test)]
    pub(super) is_broken: bool,
}

impl SpecDir {
    pub(super) fn new(paths: CdiPaths, watches: Watches, changed: Arc<Notify>) -> Self {
        // The names in inotify's events are absolute.
        let spec_dir = std::path::absolute(&paths.spec_dir).unwrap_or(paths.spec_dir);
        Self {
            paths: CdiPaths { spec_dir, ..paths },
            watches,
            changed,
            watch: None,
            host: HostCache::default(),
            is_loaded: false,
            devices: BTreeMap::new(),
            plan: BTreeMap::new(),
            written: BTreeMap::new(),
            removes_others: false,
            keeps_unwanted: true,
            #[cfg(test)]
            is_broken: false,
        }
    }

    /// Works out what is to be in the files. Nothing is written.
    pub(super) fn plan(&mut self, request: &Request) -> Planned {
        if request.looks_again {
            self.host.clear();
        }
        self.load();
        let inventory = &request.inventory;
        let held = self.devices.iter().filter(|(name, _)| may_be_held(inventory, name));
        let kept = held.take(MOST_KEPT).map(|(name, edits)| (name.clone(), edits.clone()));
        let found = self.host.generate(
            &self.paths,
            &request.settings,
            request.version.as_deref(),
            inventory,
            &kept.collect(),
        );
        self.removes_others = request.settings.remove_other_files;
        let in_use = inventory.in_use();
        self.keeps_unwanted = !in_use.known || !in_use.devices.is_empty();
        self.plan = CLASSES.iter().map(|class| (*class, None)).collect();
        for specification in found.files {
            self.plan.insert(specification.class, Some(specification));
        }
        let planned = self.plan.values().flatten().flat_map(keys);
        Planned {
            names: planned.collect(),
            left_out: found.left_out,
            incomplete: found.incomplete,
            not_limited: found.not_limited,
        }
    }

    /// Sees that the files are as planned: writes those that are not, and removes those that are no
    /// longer wanted.
    pub(super) fn write(&mut self) -> WriteOutcome {
        let mut outcome = WriteOutcome {
            names: BTreeSet::new(),
            problem: self.create().err(),
            changed_by_others: Vec::new(),
            writes: 0,
            is_watched: false,
        };
        // Before the files are looked at: what changes after that is told.
        self.update_watch();
        outcome.is_watched = self.watch.is_some();
        let plan = std::mem::take(&mut self.plan);
        for (class, planned) in &plan {
            match planned {
                Some(planned) => self.write_class(planned, &mut outcome),
                None => self.remove_class(class, &mut outcome),
            }
        }
        if outcome.problem.is_some() {
            // It is to be tried once more; otherwise it takes memory for nothing.
            self.plan = plan;
        } else {
            self.host.remove_old_programs(&self.paths.hook, self.keeps_unwanted);
        }
        outcome
    }

    /// Reads the devices of the file of before the start, which pods may hold.
    fn load(&mut self) {
        if self.is_loaded {
            return;
        }
        self.is_loaded = true;
        let path = self.path(GPU_CLASS);
        file::remove_leftovers(&path);
        let document = file::read(&path, Links::Refuse, MOST_BYTES).ok();
        let document = document.and_then(|bytes| validate::parse(&bytes).ok());
        let devices = document.into_iter().flat_map(|document| document.devices);
        self.devices = devices
            .take(MOST_KEPT)
            .filter(|device| !is_special(&device.name))
            .map(|device| (device.name, (&device.container_edits).into()))
            .collect();
    }

    fn create(&self) -> Result<(), String> {
        let directory = &self.paths.spec_dir;
        fs::create_dir_all(directory).map_err(|error| {
            format!(
                "the directory {} cannot be created: {error}; mount the host's directory of CDI \
                 specifications there, or set --cdi-spec-dir",
                directory.display()
            )
        })
    }

    fn write_class(&mut self, planned: &Specification, outcome: &mut WriteOutcome) {
        let class = planned.class;
        let (path, bytes) = (self.path(class), Document::from(planned).bytes());
        let there = file::hash_of(&path, Links::Refuse, MOST_BYTES).ok();
        let next = file::hash(&bytes);
        if there == Some(next) {
            self.is_as_planned(planned, next, outcome);
            return;
        }
        if self.written.remove(class).is_some_and(|written| there != Some(written)) {
            outcome.changed_by_others.push(file_name(class));
        }
        match self.replace(&path, &bytes) {
            Ok(()) => {
                outcome.writes += 1;
                self.is_as_planned(planned, next, outcome);
            }
            Err(error) => {
                outcome.problem.get_or_insert(format!(
                    "{}: {error}; is the directory the host's, writable and not full?",
                    path.display()
                ));
                self.is_as_before(class, outcome);
            }
        }
    }

    fn is_as_planned(&mut self, planned: &Specification, hash: u64, outcome: &mut WriteOutcome) {
        self.written.insert(planned.class, hash);
        outcome.names.extend(keys(planned));
        if planned.class == GPU_CLASS {
            let own = planned.devices.iter().filter(|(name, _)| !is_special(name));
            self.devices = own.map(|(name, edits)| (name.clone(), edits.clone())).collect();
        }
    }

    /// The names of a file that could not be written: those of what is there.
    fn is_as_before(&self, class: &str, outcome: &mut WriteOutcome) {
        let names: Vec<String> = match file::read(&self.path(class), Links::Refuse, MOST_BYTES) {
            Ok(bytes) => {
                let devices = validate::parse(&bytes).into_iter().flat_map(|file| file.devices);
                devices.map(|device| device.name).collect()
            }
            Err(error) if is_no_file(&error) => Vec::new(),
            // That it cannot be read now says nothing about what is in it.
            Err(_) if class == GPU_CLASS => self.devices.keys().cloned().collect(),
            Err(_) => Vec::new(),
        };
        outcome.names.extend(names.iter().map(|name| key(class, name)));
    }

    /// Removes the file of a class that is not wanted and that no pod can hold, if this program has
    /// written it, or if those of others are to go too.
    fn remove_class(&mut self, class: &'static str, outcome: &mut WriteOutcome) {
        let path = self.path(class);
        self.written.remove(class);
        if self.keeps_unwanted {
            return;
        }
        let Ok(there) = file::read(&path, Links::Refuse, MOST_BYTES) else { return };
        if !there.starts_with(OWN_START) && !self.removes_others {
            return;
        }
        match fs::remove_file(&path) {
            Ok(()) => outcome.writes += 1,
            Err(error) => {
                let path = path.display();
                outcome.problem.get_or_insert(format!("{path} cannot be removed: {error}"));
            }
        }
    }

    /// Writes a file that everybody can read.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if self.is_broken {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        file::replace(path, bytes, MODE)
    }

    fn path(&self, class: &str) -> PathBuf {
        self.paths.spec_dir.join(file_name(class))
    }

    /// Sees that the directory that is there is watched.
    fn update_watch(&mut self) {
        if self.watch.as_ref().is_some_and(Watch::is_live) {
            return;
        }
        // The old watch goes before the new one comes: they have one name.
        self.watch = None;
        let changed = self.changed.clone();
        let on_event = move |event: &notify::Event| {
            if !event.kind.is_access() {
                changed.notify_one();
            }
        };
        // Without inotify it is looked at from time to time.
        self.watch = self.watches.watch(&self.paths.spec_dir, on_event).ok();
    }
}

/// The names of a specification's devices.
fn keys(of: &Specification) -> impl Iterator<Item = String> {
    of.devices.keys().map(|name| key(of.class, name))
}

/// Whether a file could not be read because there is none, or none that a runtime can read.
fn is_no_file(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotADirectory | NotFound) || file::is_of_content(error)
}

/// Devices that no pod is given by the plugin.
fn is_special(name: &str) -> bool {
    [ALL_DEVICE, MANAGEMENT_DEVICE].contains(&name)
}
