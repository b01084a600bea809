//! The door for an outside word on health: a directory in which a file named after a GPU makes it
//! Unhealthy.
//!
//! The name is a UUID, a PCI bus id or an index; the first line of the text is the reason; removing
//! the file takes the word back. Hidden files are passed over, so that a writer can write one and
//! rename it into place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use device::inventory::Inventory;
use device::names::{PciBusId, Uuid};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::host::dir_watch::{Watch, Watches};

/// As much of a file's text as is looked at.
const TEXT: u64 = 4096;
/// Files that are looked at: a node has no more GPUs.
const FILES: usize = 1024;
/// Pause between two looks without a watch.
const POLLING: Duration = Duration::from_secs(2);

/// What is said, by GPU.
pub type Quarantine = BTreeMap<Uuid, Arc<str>>;

/// What the directory says: the reason of each file, by its name.
type Words = BTreeMap<String, String>;

/// The directory and what was seen in it, for the two who ask: the one who follows it, and the one
/// who puts GPUs into the inventory and must not show them Healthy before.
#[derive(Debug, Clone, Default)]
pub struct QuarantineDir(Arc<Mutex<Door>>);

impl QuarantineDir {
    /// Looks into the directory, which is made if it is not there; `None`: there is no such door.
    pub fn new(directory: Option<&Path>) -> Self {
        let Some(directory) = directory else { return Self::default() };
        if let Err(error) = fs::create_dir_all(directory) {
            info!(directory = %directory.display(), %error, "the quarantine directory is not there \
                and cannot be made");
        }
        let mut door = Door { directory: directory.to_owned(), ..Door::default() };
        door.look();
        Self(Arc::new(Mutex::new(door)))
    }

    /// What was seen last, and what it means for the GPUs that are known.
    pub fn says(&self, inventory: &Inventory) -> Quarantine {
        let mut gpus = Gpus::default();
        gpus.update(inventory);
        self.door().meaning(&gpus)
    }

    fn look(&self, gpus: &Gpus) -> Quarantine {
        let mut door = self.door();
        door.look();
        door.meaning(gpus)
    }

    fn door(&self) -> MutexGuard<'_, Door> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the directory says now about these GPUs, without making it or anything else.
#[must_use]
pub fn said(directory: &Path, inventory: &Inventory) -> Quarantine {
    let mut door = Door { directory: directory.to_owned(), ..Door::default() };
    door.look();
    let mut gpus = Gpus::default();
    gpus.update(inventory);
    door.meaning(&gpus)
}

/// Follows the directory for as long as it is polled, and says each change of what it means for
/// which GPU.
pub async fn follow(
    doorkeeper: &QuarantineDir,
    watches: &Watches,
    mut inventory: watch::Receiver<Arc<Inventory>>,
    mut say: impl AsyncFnMut(Quarantine),
) -> std::convert::Infallible {
    let directory = doorkeeper.door().directory.clone();
    if directory.as_os_str().is_empty() {
        return std::future::pending().await;
    }
    let touched = Arc::new(Notify::new());
    let mut last = None;
    let mut gpus = Gpus::default();
    let mut watching = None;
    loop {
        watch_again(&directory, watches, &touched, &mut watching);
        gpus.update(&inventory.borrow_and_update());
        let quarantine = doorkeeper.look(&gpus);
        if last.as_ref() != Some(&quarantine) {
            last = Some(quarantine.clone());
            say(quarantine).await;
        }
        let pause = tokio::time::sleep_until(if watching.is_some() {
            watches.next_look()
        } else {
            Instant::now() + POLLING
        });
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                () = touched.notified() => break,
                changed = inventory.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                    // Most changes are of health: they do not move a GPU to another place.
                    if gpus.update(&inventory.borrow_and_update()) {
                        break;
                    }
                }
            }
        }
    }
}

/// The watch, and what it is on: a directory that is made anew needs a new one.
fn watch_again(
    directory: &Path,
    watches: &Watches,
    touched: &Arc<Notify>,
    watching: &mut Option<(Watch, u64)>,
) {
    use std::os::unix::fs::MetadataExt;
    let there = fs::metadata(directory).ok().map(|there| there.ino());
    if watching.as_ref().map(|(_, on)| *on) == there {
        return;
    }
    *watching = None;
    let Some(on) = there else { return };
    let touched = touched.clone();
    let heard = move |event: &notify::Event| {
        if !matches!(event.kind, notify::EventKind::Access(_)) {
            touched.notify_one();
        }
    };
    // Without inotify it is looked at often; the plugin directory's watch has said so already.
    *watching = watches.watch(directory, heard).ok().map(|watch| (watch, on));
}

/// The places of the GPUs, by which files are named.
#[derive(Debug, Default, PartialEq, Eq)]
struct Gpus(BTreeMap<Uuid, (u32, Option<PciBusId>)>);

impl Gpus {
    /// Says whether any has moved.
    fn update(&mut self, inventory: &Inventory) -> bool {
        let place = |facts: Option<&device::gpu::Gpu>| facts.and_then(|gpu| gpu.pci_bus_id);
        let gpus = inventory.gpus().iter();
        let now = Self(
            gpus.map(|(uuid, gpu)| (uuid.clone(), (gpu.index, place(gpu.facts.as_ref()))))
                .collect(),
        );
        let moved = *self != now;
        *self = now;
        moved
    }

    fn named(&self, name: &str) -> Option<&Uuid> {
        let index = || {
            name.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| name.parse::<u32>().ok())
                .flatten()
        };
        let pci = name.parse::<PciBusId>().ok();
        let fits = |uuid: &Uuid, (at, bus): &(u32, Option<PciBusId>)| {
            uuid.as_str() == name || index() == Some(*at) || (pci.is_some() && pci == *bus)
        };
        self.0.iter().find(|(uuid, place)| fits(uuid, place)).map(|(uuid, _)| uuid)
    }
}

/// What was seen in the directory, and what was said about it.
#[derive(Debug, Default)]
struct Door {
    directory: PathBuf,
    words: Words,
    reported: BTreeSet<String>,
    unreadable: bool,
}

impl Door {
    fn look(&mut self) {
        match read(&self.directory) {
            Ok(words) => {
                self.words = words;
                self.unreadable = false;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.words.clear(),
            // What cannot be read is no reason to use a GPU that somebody spoke against.
            Err(error) if !std::mem::replace(&mut self.unreadable, true) => {
                warn!(directory = %self.directory.display(), %error, "the quarantine directory \
                    cannot be read");
            }
            Err(_) => {}
        }
    }

    /// What the files mean for which GPU. A name that is no GPU's is reported once, as soon as
    /// there are any GPUs.
    fn meaning(&mut self, gpus: &Gpus) -> Quarantine {
        let mut quarantine: BTreeMap<Uuid, String> = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        for (name, text) in &self.words {
            let Some(uuid) = gpus.named(name) else {
                unknown.insert(name.clone());
                continue;
            };
            let reason = quarantine.entry(uuid.clone()).or_default();
            let gap = if reason.is_empty() || text.is_empty() { "" } else { "; " };
            *reason = format!("{reason}{gap}{text}");
        }
        if !gpus.0.is_empty() {
            for name in unknown.difference(&self.reported) {
                warn!(
                    name,
                    "a file in the quarantine directory is named after no GPU: it has no effect"
                );
            }
            self.reported = unknown;
        }
        quarantine.into_iter().map(|(uuid, reason)| (uuid, Arc::from(reason))).collect()
    }
}

fn read(directory: &Path) -> io::Result<Words> {
    let mut words = Words::new();
    for entry in fs::read_dir(directory)?.take(FILES) {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Only a plain file: to open a pipe would be to wait for its writer.
        if name.starts_with('.') || !fs::metadata(entry.path()).is_ok_and(|there| there.is_file()) {
            continue;
        }
        words.insert(name, reason(&entry.path()));
    }
    Ok(words)
}

/// The first line of a file. That it is there counts, even if it cannot be read.
fn reason(file: &Path) -> String {
    let mut text = Vec::new();
    match File::open(file).and_then(|file| file.take(TEXT).read_to_end(&mut text)) {
        Ok(_) => {
            let text = String::from_utf8_lossy(&text);
            text.trim()
                .lines()
                .next()
                .unwrap_or_default()
                .chars()
                .filter(|c| !c.is_control())
                .collect()
        }
        Err(error) => format!("(the file cannot be read: {error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpus() -> Gpus {
        let gpu = |n: u32| {
            (format!("GPU-{n}").parse().unwrap(), (n, Some(format!("1{n}:00.0").parse().unwrap())))
        };
        Gpus((0..4).map(gpu).collect())
    }

    fn said(door: &mut Door) -> Vec<(String, String)> {
        door.look();
        door.meaning(&gpus())
            .into_iter()
            .map(|(uuid, text)| (uuid.to_string(), text.to_string()))
            .collect()
    }

    #[test]
    fn a_file_speaks_of_the_gpu_that_it_is_named_after_in_any_way() {
        let place = tempfile::tempdir().unwrap();
        let mut door = Door { directory: place.path().to_owned(), ..Door::default() };
        for name in ["GPU-1", "1", "0000:11:00.0", "00000000:11:00.0", "11:00.0"] {
            let file = place.path().join(name);
            fs::write(&file, "  dcgm: bad memory\nmore\n").unwrap();
            assert_eq!(
                said(&mut door),
                [("GPU-1".to_owned(), "dcgm: bad memory".to_owned())],
                "{name}"
            );
            fs::remove_file(&file).unwrap();
            assert!(said(&mut door).is_empty());
        }
    }

    #[test]
    fn what_is_odd_does_no_harm() {
        let place = tempfile::tempdir().unwrap();
        let mut door = Door { directory: place.path().to_owned(), ..Door::default() };
        let write = |name: &str, text: &[u8]| fs::write(place.path().join(name), text).unwrap();
        write("9", b"no such GPU");
        write("+1", b"no index");
        write(".GPU-2.tmp", b"half");
        write("GPU-0", &[b'x'; 10_000]);
        write("GPU-2", b"\xff\x1b[2J\r\nb");
        write("3", b"");
        write("GPU-3", b"twice");
        fs::create_dir(place.path().join("1")).unwrap();
        let said = said(&mut door);
        assert_eq!(said.len(), 3);
        assert_eq!(said[0].1.len(), 4096);
        assert_eq!(said[1].1, "\u{fffd}[2J");
        assert_eq!(said[2].1, "twice");
        assert_eq!(door.reported.len(), 2);
    }

    #[test]
    fn what_was_said_stands_while_the_directory_cannot_be_read_and_not_when_it_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("door");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("0"), "").unwrap();
        let mut door = Door { directory: directory.clone(), ..Door::default() };
        assert_eq!(said(&mut door).len(), 1);
        fs::rename(&directory, place.path().join("kept")).unwrap();
        fs::write(&directory, "a file").unwrap();
        assert_eq!(said(&mut door).len(), 1);
        fs::remove_file(&directory).unwrap();
        assert!(said(&mut door).is_empty());
    }
}
