//! Watches the plugin directory and wakes the plugins at every change of a socket in it: by inotify
//! or, where that is not available, by polling.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::EventKind;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::host::dir_watch::{Watch, Watches};

/// Pause between two checks without inotify.
const POLLING: Duration = Duration::from_secs(1);
/// Pause between two checks for a directory that does not exist.
const MISSING: Duration = Duration::from_millis(500);

/// The directory is no longer the one that is visible on the host.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} was deleted on the host under our mount: a new one at the same path is not visible here; \
     exiting so that the container is started with a fresh mount",
    .0.display()
)]
pub struct DirectoryReplaced(PathBuf);

/// Sent on at every change of a socket, and from time to time without one.
pub type SocketEvents = watch::Sender<()>;

/// Watches for as long as it is polled.
///
/// # Errors
/// The directory was replaced under a mount: only a fresh mount helps.
pub async fn watch(
    directory: &Path,
    events: &SocketEvents,
    watches: &Watches,
) -> Result<std::convert::Infallible, DirectoryReplaced> {
    let mut changed = events.subscribe();
    let mut watcher = Watcher { directory, events, watches, active: None, warned: false };
    loop {
        changed.mark_unchanged();
        let next_check = watcher.check()?;
        tokio::select! {
            _ = changed.changed() => {}
            () = tokio::time::sleep_until(next_check) => events.send_replace(()),
        }
    }
}

struct Watcher<'a> {
    directory: &'a Path,
    events: &'a SocketEvents,
    watches: &'a Watches,
    /// The inotify watch, and the device and inode number of its directory.
    active: Option<(Watch, (u64, u64))>,
    warned: bool,
}

impl Watcher<'_> {
    /// Sees that the directory that is there is watched. Returns when to check next.
    fn check(&mut self) -> Result<Instant, DirectoryReplaced> {
        let Ok(there) = std::fs::metadata(self.directory) else {
            self.active = None;
            return Ok(Instant::now() + MISSING);
        };
        // Still open or mounted somewhere, but without a name.
        if there.nlink() == 0 {
            return Err(DirectoryReplaced(self.directory.to_owned()));
        }
        let on = (there.dev(), there.ino());
        if self.active.as_ref().is_none_or(|(_, active)| *active != on) {
            // The old watch goes before the new one comes: they have one name.
            self.active = None;
            self.active = self.start().map(|watch| (watch, on));
        }
        let next_check = self.watches.next_check();
        Ok(if self.active.is_some() { next_check } else { Instant::now() + POLLING })
    }

    /// Starts a watch. Without one the plugin works, but notices changes later.
    fn start(&mut self) -> Option<Watch> {
        let on_event = {
            let (events, directory) = (self.events.clone(), self.directory.to_owned());
            move |event: &notify::Event| {
                if concerns_a_socket(event, &directory) {
                    events.send_replace(());
                }
            }
        };
        match self.watches.watch(self.directory, on_event) {
            Ok(watch) => {
                // For what happened before the watch.
                self.events.send_replace(());
                if std::mem::take(&mut self.warned) {
                    let directory = self.directory.display();
                    info!(%directory, "watching with inotify again");
                }
                Some(watch)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.warned, true) {
                    warn!(
                        directory = %self.directory.display(), %error,
                        "inotify is not available, checking the directory every {} s instead; \
                         raise fs.inotify.max_user_instances or fs.inotify.max_user_watches on \
                         the node",
                        POLLING.as_secs(),
                    );
                }
                None
            }
        }
    }
}

/// Whether a socket can have been created, deleted or replaced. The kubelet's checkpoint, which it
/// writes after each list, lies in the same directory and is passed over.
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
