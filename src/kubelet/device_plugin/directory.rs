//! The plugin directory under watch: a wake-up for every change of a socket in it, by inotify or,
//! where that cannot be had, by looking often.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::EventKind;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::host::dir_watch::{Watch, Watches};

/// Pause between two looks without a watch.
const POLLING: Duration = Duration::from_secs(1);
/// Pause between two looks for a directory that is not there.
const MISSING: Duration = Duration::from_millis(500);

/// The directory is no longer the one that is visible on the host.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} was deleted on the host under our mount: what is made there anew cannot be seen from here; \
     exiting so that the container is started with a fresh mount",
    .0.display()
)]
pub struct DirectoryReplaced(PathBuf);

/// A counter that rises with every change of a socket, and once in a while without one.
#[derive(Debug, Clone)]
pub struct Changes(watch::Sender<u64>);

impl Default for Changes {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Changes {
    /// A view of the counter to wait on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    fn rise(&self) {
        self.0.send_modify(|count| *count += 1);
    }
}

/// The watch, and what it is on.
struct Watching {
    _watch: Watch,
    on: (u64, u64),
}

/// Keeps the counter rising for as long as it is polled.
///
/// # Errors
/// The directory was replaced under a mount: nothing but a fresh mount helps.
pub async fn watch(
    directory: &Path,
    changes: &Changes,
    watches: &Watches,
) -> Result<std::convert::Infallible, DirectoryReplaced> {
    let mut changed = changes.subscribe();
    let mut watching: Option<Watching> = None;
    let mut warned = false;
    loop {
        changed.mark_unchanged();
        let look = match std::fs::metadata(directory) {
            // A directory that still is open or mounted somewhere but has no name left.
            Ok(there) if there.nlink() == 0 => return Err(DirectoryReplaced(directory.to_owned())),
            Ok(there) => {
                let on = (there.dev(), there.ino());
                if watching.as_ref().is_none_or(|watching| watching.on != on) {
                    // The old watch goes before the new one comes: they have one name.
                    watching = None;
                    watching = start(directory, on, changes, watches, &mut warned).or(watching);
                }
                if watching.is_some() { watches.next_look() } else { Instant::now() + POLLING }
            }
            Err(_) => {
                watching = None;
                Instant::now() + MISSING
            }
        };
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep_until(look) => changes.rise(),
        }
    }
}

/// Starts a watch. Without one the plugin works on, only slower to notice: it warns once.
fn start(
    directory: &Path,
    on: (u64, u64),
    changes: &Changes,
    watches: &Watches,
    warned: &mut bool,
) -> Option<Watching> {
    let on_event = {
        let (changes, directory) = (changes.clone(), directory.to_owned());
        move |event: &notify::Event| {
            if concerns_a_socket(event, &directory) {
                changes.rise();
            }
        }
    };
    match watches.watch(directory, on_event) {
        Ok(watch) => {
            // What happened between the look at the directory and the watch on it.
            changes.rise();
            if std::mem::take(warned) {
                info!(directory = %directory.display(), "watching with inotify again");
            }
            Some(Watching { _watch: watch, on })
        }
        Err(error) => {
            if !std::mem::replace(warned, true) {
                warn!(
                    directory = %directory.display(), %error,
                    "inotify cannot be had, looking at the directory every {} s instead; to get \
                     it, raise fs.inotify.max_user_instances or fs.inotify.max_user_watches on the \
                     node",
                    POLLING.as_secs(),
                );
            }
            None
        }
    }
}

/// Whether a socket can have come, gone or been replaced. The kubelet's checkpoint, which it writes
/// for each list, lies in the same directory and is passed over.
fn concerns_a_socket(event: &notify::Event, directory: &Path) -> bool {
    let kind = matches!(
        event.kind,
        EventKind::Create(_)
            | EventKind::Remove(_)
            | EventKind::Modify(notify::event::ModifyKind::Name(_))
    );
    let path = |path: &PathBuf| {
        path == directory || path.extension().is_some_and(|extension| extension == "sock")
    };
    event.need_rescan() || (kind && event.paths.iter().any(path))
}
