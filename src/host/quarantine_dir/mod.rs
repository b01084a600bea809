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
mod listing;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use device::inventory::Inventory;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::info;

use crate::host::dir_watch::{Watch, Watches};
use crate::util::backoff::Backoff;
use crate::util::helper_thread::HelperThread;
use crate::util::lock;
pub use clear_files::ClearFile;
use clear_files::ClearFiles;
use contents::Contents;
pub use contents::Quarantine;
pub use gpu_names::GpuNames;
use listing::Listing;

/// The first pause after the directory could not be read; the next ones double up to [`POLLING`].
const RETRY: Duration = Duration::from_millis(100);
/// Time between two reads of the directory without inotify.
const POLLING: Duration = Duration::from_secs(2);
/// How long the start waits for the directory.
const FIRST_DEADLINE: Duration = Duration::from_secs(1);
/// How long reading it may take before that is told.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long reading may take without a pause after it.
const QUICK: Duration = Duration::from_millis(5);
/// The pause, in times that reading took: a directory with very many files that change all the time
/// costs a part of one processor.
const PAUSE: u32 = 4;

/// The directory and what was last read from it. Two use that: the task that follows the directory,
/// and the writer of the inventory, which must never show a new GPU that is quarantined as Healthy.
/// All files are touched on a thread of its own, which no disk can take anybody else with.
#[derive(Debug, Clone, Default)]
pub struct QuarantineDir(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    contents: Mutex<Contents>,
    changed: Arc<Notify>,
    thread: HelperThread<Reader>,
}

/// What the thread has.
struct Reader {
    directory: PathBuf,
    watches: Watches,
    changed: Arc<Notify>,
    watch: Option<Watch>,
    clear_files: ClearFiles,
}

/// The directory at one time.
struct Look {
    listing: io::Result<Listing>,
    /// The files that clear now, and when the next one does.
    clear: Vec<ClearFile>,
    next_clear: Option<Instant>,
    is_watched: bool,
    took: Duration,
}

impl QuarantineDir {
    /// The directory, which is created if it is missing; `None`: there is none. It is not read yet.
    #[must_use]
    pub fn new(directory: Option<&Path>, watches: &Watches) -> Self {
        let inner = |directory: &Path| {
            // The names in inotify's events are absolute.
            let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
            let changed = Arc::new(Notify::new());
            let reader = Reader {
                directory: directory.clone(),
                watches: watches.clone(),
                changed: changed.clone(),
                watch: None,
                clear_files: ClearFiles::default(),
            };
            let thread = HelperThread::new("quarantine-dir", reader);
            // Nobody waits for it, but what is done after it.
            drop(thread.submit(|reader| reader.create()));
            let contents = Mutex::new(Contents::of(&directory));
            Arc::new(Inner { contents, changed, thread })
        };
        Self(directory.map(inner))
    }

    /// Begins to read the directory for the first time, at once, and ends when it is read. One that
    /// does not answer is read later.
    pub fn read(&self) -> impl Future<Output = ()> + use<> {
        // Files that clear are not taken before they have settled.
        let read = |reader: &mut Reader| Listing::read(&reader.directory, &GpuNames::default());
        let begun = self.0.clone().map(|inner| (inner.thread.submit(read), inner));
        async move {
            let Some((reading, inner)) = begun else { return };
            let listing = match timeout(FIRST_DEADLINE, reading).await {
                Ok(listing) => listing.flatten(),
                Err(_) => Err(hanging(FIRST_DEADLINE)),
            };
            lock(&inner.contents).update(listing);
        }
    }

    /// The GPUs of this inventory that were quarantined at the last read.
    pub fn entries(&self, inventory: &Inventory) -> Quarantine {
        let entries =
            |inner: &Arc<Inner>| lock(&inner.contents).quarantine(&GpuNames::of(inventory));
        self.0.as_ref().map(entries).unwrap_or_default()
    }
}

/// The GPUs of this inventory that are quarantined now. The directory is only read.
#[must_use]
pub fn entries(directory: &Path, inventory: &Inventory) -> Quarantine {
    let gpus = GpuNames::of(inventory);
    let mut contents = Contents::of(directory);
    contents.update(Listing::read(directory, &gpus));
    contents.quarantine(&gpus)
}

/// Follows the directory for as long as it is polled. Whenever the GPUs that are quarantined there
/// are not those of the inventory, they are passed to `send`; and each file that clears to `clear`,
/// which returns whether it took it.
pub async fn follow(
    quarantine_dir: &QuarantineDir,
    watches: &Watches,
    mut inventory: watch::Receiver<Arc<Inventory>>,
    mut send: impl AsyncFnMut(Quarantine),
    clear: impl AsyncFn(&ClearFile) -> bool,
) -> Infallible {
    let Some(inner) = &quarantine_dir.0 else { return std::future::pending().await };
    let mut gpus = GpuNames::default();
    let mut retries = Backoff::new(RETRY, POLLING);
    loop {
        gpus.update(&inventory.borrow_and_update());
        let look = inner.look(gpus.clone()).await;
        let is_read = look.listing.is_ok();
        lock(&inner.contents).update(look.listing);
        // Compared with what is in force, not with what was last sent: others send it too.
        let quarantine = quarantine_dir.entries(&inventory.borrow());
        let differs = *inventory.borrow().node_health().quarantine() != quarantine;
        if differs {
            send(quarantine).await;
        }
        for file in look.clear {
            if clear(&file).await {
                // An error: the thread is gone, and no file is looked at any more.
                let _ = inner.thread.submit(move |reader| reader.clear_files.taken(&file)).await;
            }
        }
        if look.took > QUICK {
            sleep(look.took.saturating_mul(PAUSE)).await;
        }
        let next_read = match (is_read, look.is_watched) {
            (false, _) => Instant::now() + retries.next_delay(),
            (true, false) => Instant::now() + POLLING,
            (true, true) => watches.next_check(),
        };
        if is_read {
            retries.reset();
        }
        let next_read = look.next_clear.map_or(next_read, |settled| settled.min(next_read));
        tokio::select! {
            () = sleep_until(next_read) => {}
            () = inner.changed.notified() => {}
            () = renamed(&mut inventory, &mut gpus) => {}
        }
    }
}

impl Inner {
    /// Reads the directory. If that takes long it is told, and waited for.
    async fn look(&self, gpus: GpuNames) -> Look {
        let now = Instant::now();
        let mut look = pin!(self.thread.submit(move |reader| reader.look(&gpus, now)));
        let look = match timeout(DEADLINE, &mut look).await {
            Ok(look) => look,
            Err(_) => {
                lock(&self.contents).cannot_be_read(&hanging(DEADLINE));
                look.await
            }
        };
        look.unwrap_or_else(Look::failed)
    }
}

impl Look {
    fn failed(error: io::Error) -> Self {
        Self {
            listing: Err(error),
            clear: Vec::new(),
            next_clear: None,
            is_watched: false,
            took: Duration::ZERO,
        }
    }
}

impl Reader {
    fn create(&self) {
        let directory = self.directory.display();
        if let Err(error) = fs::create_dir_all(&self.directory) {
            info!(%directory, %error, "the quarantine directory is missing and cannot be created");
        }
    }

    /// `now` is the time by the clock of whoever asks.
    fn look(&mut self, gpus: &GpuNames, now: Instant) -> Look {
        let began = std::time::Instant::now();
        // It looks for the directory first, so that it is here, and not where watches are kept,
        // that a file system may hang.
        watch_directory(&self.directory, &self.watches, &self.changed, &mut self.watch);
        let listing = Listing::read(&self.directory, gpus);
        let clear = listing.as_ref().map(|listing| self.clear_files.due(&listing.clear, now));
        Look {
            clear: clear.unwrap_or_default(),
            next_clear: self.clear_files.next(now),
            is_watched: self.watch.is_some(),
            took: began.elapsed(),
            listing,
        }
    }
}

fn hanging(deadline: Duration) -> io::Error {
    let text = format!("it has not answered for {} s", deadline.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
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
fn watch_directory(
    directory: &Path,
    watches: &Watches,
    changed: &Arc<Notify>,
    watch: &mut Option<Watch>,
) {
    if watch.as_ref().is_some_and(Watch::is_live) {
        return;
    }
    // The old watch goes before the new one comes: they have one name.
    *watch = None;
    let changed = changed.clone();
    let on_event = move |event: &notify::Event| {
        if !event.kind.is_access() {
            changed.notify_one();
        }
    };
    // Without inotify it is polled; the watch of the plugin directory has logged that.
    *watch = watches.watch(directory, on_event).ok();
}
