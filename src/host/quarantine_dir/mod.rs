//! The quarantine directory: a file in it that is named after a GPU makes that GPU Unhealthy.
//!
//! The name is a UUID, a PCI bus id or an index; the first line of the text is the reason; the GPU
//! is released when the file is removed. Hidden files are passed over, so that a file can be
//! written first and then renamed into place. A file named `clear-` and a GPU clears that GPU
//! instead, once.

mod clear_files;
mod contents;
mod first_line;
mod gpu_names;

use std::convert::Infallible;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use device::inventory::Inventory;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::info;

use crate::host::dir_watch::{Watch, Watches};
use crate::util::lock;
pub use clear_files::ClearFile;
use clear_files::ClearFiles;
use contents::Contents;
pub use contents::Quarantine;
pub use gpu_names::GpuNames;

/// Time between two reads of the directory without inotify.
const POLLING: Duration = Duration::from_secs(2);

/// The directory and what was last read from it. Two use it: the task that follows it, and the
/// writer of the inventory, which must never show a new GPU that is quarantined as Healthy.
#[derive(Debug, Clone, Default)]
pub struct QuarantineDir(Arc<Mutex<Contents>>);

impl QuarantineDir {
    /// Reads the directory, which is created if it is missing; `None`: there is none.
    pub fn new(directory: Option<&Path>) -> Self {
        let Some(directory) = directory else { return Self::default() };
        if let Err(error) = fs::create_dir_all(directory) {
            info!(directory = %directory.display(), %error, "the quarantine directory is missing \
                and cannot be created");
        }
        let mut contents = Contents::of(directory);
        contents.read();
        Self(Arc::new(Mutex::new(contents)))
    }

    /// The GPUs of this inventory that were quarantined at the last read.
    pub fn entries(&self, inventory: &Inventory) -> Quarantine {
        lock(&self.0).quarantine(&GpuNames::of(inventory))
    }
}

/// The GPUs of this inventory that are quarantined now. The directory is only read.
#[must_use]
pub fn entries(directory: &Path, inventory: &Inventory) -> Quarantine {
    Contents::of(directory).read().quarantine(&GpuNames::of(inventory))
}

/// Follows the directory for as long as it is polled, and passes each change of the quarantined
/// GPUs to `send`, and each file that clears to `clear`, which returns whether it took it.
pub async fn follow(
    quarantine_dir: &QuarantineDir,
    watches: &Watches,
    mut inventory: watch::Receiver<Arc<Inventory>>,
    mut send: impl AsyncFnMut(Quarantine),
    clear: impl AsyncFn(&ClearFile) -> bool,
) -> Infallible {
    let directory = lock(&quarantine_dir.0).directory.clone();
    if directory.as_os_str().is_empty() {
        return std::future::pending().await;
    }
    let changed = Arc::new(Notify::new());
    let mut last = None;
    let mut gpus = GpuNames::default();
    let mut watch = None;
    let mut clear_files = ClearFiles::default();
    loop {
        watch_directory(&directory, watches, &changed, &mut watch);
        gpus.update(&inventory.borrow_and_update());
        let quarantine = lock(&quarantine_dir.0).read().quarantine(&gpus);
        if last.as_ref() != Some(&quarantine) {
            last = Some(quarantine.clone());
            send(quarantine).await;
        }
        for file in clear_files.due(&directory) {
            if clear(&file).await {
                clear_files.taken(&file);
            }
        }
        let polling = Instant::now() + POLLING;
        let next_read = if watch.is_some() { watches.next_check() } else { polling };
        let next_read = clear_files.next().map_or(next_read, |settled| settled.min(next_read));
        tokio::select! {
            () = tokio::time::sleep_until(next_read) => {}
            () = changed.notified() => {}
            () = renamed(&mut inventory, &mut gpus) => {}
        }
    }
}

/// Waits until the GPUs have other names. Most changes are of health.
async fn renamed(inventory: &mut watch::Receiver<Arc<Inventory>>, gpus: &mut GpuNames) {
    while inventory.changed().await.is_ok() {
        if gpus.update(&inventory.borrow_and_update()) {
            return;
        }
    }
    std::future::pending().await
}

/// Sees that the directory that is there is watched: one that was created again needs a new watch.
/// The watch is kept with the directory's inode number.
fn watch_directory(
    directory: &Path,
    watches: &Watches,
    changed: &Arc<Notify>,
    watch: &mut Option<(Watch, u64)>,
) {
    let there = fs::metadata(directory).ok().map(|there| there.ino());
    if watch.as_ref().map(|(_, inode)| *inode) == there {
        return;
    }
    *watch = None;
    let Some(inode) = there else { return };
    let changed = changed.clone();
    let on_event = move |event: &notify::Event| {
        if !event.kind.is_access() {
            changed.notify_one();
        }
    };
    // Without inotify it is polled; the watch of the plugin directory has logged that.
    *watch = watches.watch(directory, on_event).ok().map(|watch| (watch, inode));
}
