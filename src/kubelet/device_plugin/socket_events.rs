//! Watches the plugin directory and wakes the plugins at every change of a socket in it: by inotify
//! or, where that is not available, by polling.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::EventKind;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::host::dir_watch::{Watch, Watches};

/// Pause between two checks without inotify.
const POLLING: Duration = Duration::from_secs(1);
/// Pause between two checks for a directory that does not exist.
const MISSING: Duration = Duration::from_millis(500);

/// Pause before another check after a change: whoever deletes the directory deletes what is in it
/// first, and of the directory itself nothing is told while it is mounted somewhere.
const AGAIN: Duration = Duration::from_millis(500);

/// The directory is no longer the one that is visible on the host.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} was deleted on the host under our mount: a new one at the same path is not visible here; \
     exiting so that the container is started with a fresh mount",
    .0.display()
)]
pub struct DirectoryReplaced(PathBuf);

/// Why the sockets are to be looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SocketEvent {
    /// One of them may have changed.
    #[default]
    Change,
    /// From time to time without a change.
    Check,
}

/// Where the events are sent on.
pub type SocketEvents = watch::Sender<SocketEvent>;

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
    let mut again = None;
    loop {
        changed.mark_unchanged();
        let next_check = watcher.check()?;
        tokio::select! {
            _ = changed.changed() => again = Some(Instant::now() + AGAIN),
            () = sleep_until(again.unwrap_or(next_check)), if again.is_some() => again = None,
            () = sleep_until(next_check) => {
                events.send_replace(SocketEvent::Check);
            }
        }
    }
}

struct Watcher<'a> {
    directory: &'a Path,
    events: &'a SocketEvents,
    watches: &'a Watches,
    active: Option<Watch>,
    warned: bool,
}

impl Watcher<'_> {
    /// Sees that the directory that is there is watched. Returns when to check next.
    #[allow(
        clippy::disallowed_methods,
        reason = "the kubelet's own directory, where the socket is bound too: it is a local one"
    )]
    fn check(&mut self) -> Result<Instant, DirectoryReplaced> {
        let Ok(there) = std::fs::metadata(self.directory) else {
            self.active = None;
            return Ok(Instant::now() + MISSING);
        };
        // Still open or mounted somewhere, but without a name.
        if there.nlink() == 0 {
            return Err(DirectoryReplaced(self.directory.to_owned()));
        }
        if !self.active.as_ref().is_some_and(Watch::is_live) {
            // The old watch goes before the new one comes: they have one name.
            self.active = None;
            self.active = self.start();
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
                    events.send_replace(SocketEvent::Change);
                }
            }
        };
        match self.watches.watch(self.directory, on_event) {
            Ok(watch) => {
                // For what happened before the watch.
                self.events.send_replace(SocketEvent::Change);
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsRawFd;

    use super::*;

    #[tokio::test]
    async fn a_mounted_directory_that_is_deleted_after_what_was_in_it_is_noticed_soon() {
        let parent = tempfile::tempdir().unwrap();
        let host = parent.path().join("device-plugins");
        fs::create_dir(&host).unwrap();
        let open = fs::File::open(&host).unwrap();
        // A path through the open directory leads into it whatever becomes of its name.
        let mounted = PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()));
        let (events, watches) = (SocketEvents::default(), Watches::default());
        let mut told = events.subscribe();
        let delete = async {
            // That it is watched.
            told.changed().await.unwrap();
            let socket = host.join("kubelet.sock");
            fs::write(&socket, "").unwrap();
            told.changed().await.unwrap();
            fs::remove_file(&socket).unwrap();
            told.changed().await.unwrap();
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
            fs::remove_dir(&host).unwrap();
            std::future::pending::<()>().await;
        };
        let noticed = async {
            tokio::select! {
                result = watch(&mounted, &events, &watches) => result,
                () = delete => panic!("it waits for ever"),
            }
        };
        let noticed = tokio::time::timeout(Duration::from_secs(10), noticed).await;
        noticed.expect("in time").expect_err("the directory is gone");
    }

    #[tokio::test]
    async fn a_directory_made_again_with_the_same_inode_number_is_watched_again() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("device-plugins");
        fs::create_dir(&directory).unwrap();
        let inode = |directory: &Path| fs::metadata(directory).unwrap().ino();
        let (events, watches) = (SocketEvents::default(), Watches::default());
        let (directory, mut told) = (directory.as_path(), events.subscribe());
        let mut watcher =
            Watcher { directory, events: &events, watches: &watches, active: None, warned: false };
        watcher.check().unwrap();
        let first = inode(directory);
        // Some file systems give each directory another number; there it is seen without this.
        for _ in 0..100 {
            fs::remove_dir(directory).unwrap();
            fs::create_dir(directory).unwrap();
            if inode(directory) == first {
                break;
            }
        }
        // As `watch` does, which checks again at every event. What was told of the old directory
        // does not last for five sockets.
        let watched = async {
            let socket = directory.join("nvidia-gpu-aaaaaaaa.sock");
            let mut seen = 0;
            while seen < 5 {
                watcher.check().unwrap();
                told.mark_unchanged();
                fs::write(&socket, "").unwrap();
                let soon = Duration::from_millis(100);
                let told = tokio::time::timeout(soon, told.changed()).await.is_ok();
                seen = if told { seen + 1 } else { 0 };
                fs::remove_file(&socket).unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(20), watched).await.expect("it is watched again");
    }
}
