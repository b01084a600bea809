//! Watches directories with one inotify instance for all of them, since a node has few (128 by
//! default).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::time::Instant;

use crate::host::file_id::FileId;
use crate::util::lock;

/// Time between two checks in addition to the watches, so that nothing depends on inotify alone.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(60);

type Callback = Arc<dyn Fn(&Event) + Send + Sync>;
type Listeners = Arc<Mutex<BTreeMap<u64, Listener>>>;

struct Listener {
    /// Absolute, as the names in inotify's events are.
    directory: PathBuf,
    callback: Callback,
    /// Set when the directory was deleted or moved.
    gone: Arc<AtomicBool>,
}

/// The shared watcher, which is created with the first watch.
#[derive(Clone)]
pub struct Watches {
    /// From which the checks are counted.
    origin: Instant,
    /// The number of the last watch, and the watcher. It has a lock of its own, since the watcher's
    /// thread locks the listeners while this one is held.
    watcher: Arc<Mutex<(u64, Option<RecommendedWatcher>)>>,
    listeners: Listeners,
}

/// A watch on one directory, until it is dropped.
pub struct Watch {
    watches: Watches,
    number: u64,
    directory: PathBuf,
    /// The directory that is watched, whatever is at its path later.
    id: Option<FileId>,
    gone: Arc<AtomicBool>,
}

impl Default for Watches {
    fn default() -> Self {
        Self { origin: Instant::now(), watcher: Arc::default(), listeners: Listeners::default() }
    }
}

impl Watches {
    /// When to check next in addition to the watches. It is the same time for all of them, so that
    /// an idle process wakes up once.
    #[must_use]
    pub fn next_check(&self) -> Instant {
        let passed = self.origin.elapsed().as_millis() / CHECK_INTERVAL.as_millis();
        self.origin
            + CHECK_INTERVAL
                .saturating_mul(u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// Calls `callback`, on the watcher's thread, for every event of a directory and the names in
    /// it.
    ///
    /// # Errors
    /// inotify is not available, or the directory does not exist.
    pub fn watch(
        &self,
        directory: &Path,
        callback: impl Fn(&Event) + Send + Sync + 'static,
    ) -> notify::Result<Watch> {
        let mut inner = lock(&self.watcher);
        let (next, watcher) = &mut *inner;
        let watcher = match watcher {
            Some(watcher) => watcher,
            None => {
                let listeners = self.listeners.clone();
                watcher
                    .insert(notify::recommended_watcher(move |event| dispatch(&listeners, event))?)
            }
        };
        *next += 1;
        let number = *next;
        // The parent of a name without a slash is empty.
        let here = directory.as_os_str().is_empty();
        let directory = if here { Path::new(".") } else { directory };
        let directory = std::path::absolute(directory).map_err(notify::Error::io)?;
        let gone = Arc::new(AtomicBool::new(false));
        // Before the watch: one of a directory that is replaced in between is not live.
        let id = FileId::of(&directory).ok().flatten();
        let (callback, told) = (Arc::new(callback), gone.clone());
        let listener = Listener { directory: directory.clone(), callback, gone: told };
        lock(&self.listeners).insert(number, listener);
        // From here on the listener is removed on every error.
        let watch = Watch { watches: self.clone(), number, directory, id, gone };
        let watched = watcher.watch(&watch.directory, RecursiveMode::NonRecursive);
        drop(inner);
        watched.map(|()| watch)
    }
}

impl Watch {
    /// Whether it watches the directory that is at the path now. A directory that is deleted takes
    /// its watch with it, and one that is made again in its place can have the same inode number,
    /// on some file systems even the same identity: so what inotify told counts as well.
    #[must_use]
    pub fn is_live(&self) -> bool {
        !self.gone.load(Relaxed)
            && self.id.is_some()
            && FileId::of(&self.directory).is_ok_and(|there| there == self.id)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut inner = lock(&self.watches.watcher);
        let mut listeners = lock(&self.watches.listeners);
        listeners.remove(&self.number);
        let shared = listeners.values().any(|other| other.directory == self.directory);
        drop(listeners);
        if let (false, Some(watcher)) = (shared, &mut inner.1) {
            // It fails if the directory is gone, and with it its watch.
            let _ = watcher.unwatch(&self.directory);
        }
    }
}

/// An error, or an overflow of the queue, may hide anything: every listener is called.
fn dispatch(listeners: &Listeners, event: notify::Result<Event>) {
    let event = event.unwrap_or_else(|_| Event::default().set_flag(notify::event::Flag::Rescan));
    let concerns = |directory: &Path| {
        let within = |path: &PathBuf| path == directory || path.parent() == Some(directory);
        event.need_rescan() || event.paths.iter().any(within)
    };
    let removes = matches!(
        event.kind,
        EventKind::Remove(_) | EventKind::Modify(notify::event::ModifyKind::Name(_))
    );
    let callbacks: Vec<Callback> = lock(listeners)
        .values()
        .filter(|listener| concerns(&listener.directory))
        .map(|listener| {
            // Before the callback, which may be what looks for it.
            if removes && event.paths.contains(&listener.directory) {
                listener.gone.store(true, Relaxed);
            }
            listener.callback.clone()
        })
        .collect();
    callbacks.iter().for_each(|callback| callback(&event));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn each_listener_is_called_for_its_own_directory_until_it_is_dropped() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let watches = Watches::default();
        let listen = |directory: &Path| {
            let (say, heard) = channel();
            let watch =
                watches.watch(directory, move |event| drop(say.send(event.clone()))).unwrap();
            (watch, heard)
        };
        let (first, heard_first) = listen(one.path());
        let (_second, heard_second) = listen(other.path());
        std::fs::write(one.path().join("a"), "").unwrap();
        assert_eq!(heard_first.recv_timeout(SOON).unwrap().paths, [one.path().join("a")]);
        drop(first);
        std::fs::write(one.path().join("b"), "").unwrap();
        std::fs::write(other.path().join("c"), "").unwrap();
        assert_eq!(heard_second.recv_timeout(SOON).unwrap().paths, [other.path().join("c")]);
        let left: Vec<_> =
            heard_first.try_iter().filter(|event| event.paths == [one.path().join("b")]).collect();
        assert!(left.is_empty());
        assert_eq!(heard_first.recv_timeout(SOON).unwrap_err(), RecvTimeoutError::Disconnected);
        assert!(watches.watch(&one.path().join("nowhere"), |_| {}).is_err());
        assert_eq!(lock(&watches.listeners).len(), 1);
    }

    #[test]
    fn a_directory_by_a_relative_path_is_watched_too() {
        let watched = tempfile::tempdir().unwrap();
        let up = "../".repeat(std::env::current_dir().unwrap().components().count() - 1);
        let relative = format!("{up}{}", watched.path().strip_prefix("/").unwrap().display());
        let (say, heard) = channel();
        let watches = Watches::default();
        let watch =
            watches.watch(Path::new(&relative), move |_| say.send(()).unwrap_or(())).unwrap();
        assert!(watch.is_live() && watches.watch(Path::new(""), |_| {}).is_ok());
        std::fs::write(watched.path().join("a"), "").unwrap();
        heard.recv_timeout(SOON).expect("it is told of");
        std::fs::remove_dir_all(watched.path()).unwrap();
        while !watch.gone.load(Relaxed) {
            heard.recv_timeout(SOON).expect("inotify tells of the end of the directory");
        }
    }

    #[test]
    fn a_watch_ends_with_its_directory_whatever_is_there_afterwards() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("watched");
        let watches = Watches::default();
        for moved in [false, true] {
            std::fs::create_dir(&directory).unwrap();
            let (say, heard) = channel();
            let watch = watches.watch(&directory, move |_| say.send(()).unwrap_or(())).unwrap();
            assert!(watch.is_live());
            if moved {
                std::fs::rename(&directory, parent.path().join("moved")).unwrap();
            } else {
                std::fs::remove_dir(&directory).unwrap();
            }
            std::fs::create_dir(&directory).unwrap();
            while !watch.gone.load(Relaxed) {
                heard.recv_timeout(SOON).expect("inotify tells of the end of the directory");
            }
            assert!(!watch.is_live());
            drop(watch);
            let (say, heard) = channel();
            let again = watches.watch(&directory, move |_| say.send(()).unwrap_or(())).unwrap();
            std::fs::write(directory.join("a"), "").unwrap();
            heard.recv_timeout(SOON).expect("the new directory is watched");
            assert!(again.is_live());
            std::fs::remove_dir_all(&directory).unwrap();
        }
    }
}
