//! What the supervisor of a control daemon tells the plugin: a file in the directory of the
//! resource, and a lock that lasts as long as the supervisor. Both are on the node, where no port
//! and no network policy is in the way, and inotify tells of every change, the end of the
//! supervisor among them: its lock file is closed with it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::host::file::{self, Links};

/// What is told, beside the pipes.
const FILE: &str = "supervisor.json";
/// The file that is locked.
const LOCK: &str = "supervisor.lock";
/// There while a daemon works for clients, as with NVIDIA's (cmd/mps-control-daemon/mps/daemon.go).
const STARTED: &str = ".started";
/// The most bytes of a file: 1,024 GPUs make 50 KB.
const MAX_BYTES: usize = 256 << 10;

/// How a control daemon is, by its supervisor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Published {
    /// Whether it works for clients.
    pub up: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The UUIDs of the GPUs that it works on.
    pub gpus: Vec<String>,
}

/// Who looks after the control daemon of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Supervision {
    /// Nobody who tells: the daemon has to be asked.
    Nobody,
    /// A supervisor, and what it tells.
    Supervisor(Published),
}

/// Reads who looks after the daemon whose directory this is.
///
/// # Errors
/// The file system's.
pub(super) fn read(directory: &Path) -> io::Result<Supervision> {
    let lock = match file::open(&directory.join(LOCK), Links::Refuse) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Supervision::Nobody),
        Err(error) => return Err(error),
    };
    // It is free again as soon as it is closed, which is at once.
    if flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() {
        return Ok(Supervision::Nobody);
    }
    let bytes = match file::read(&directory.join(FILE), Links::Refuse, MAX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let cause = Some("its supervisor has just started".to_owned());
            return Ok(Supervision::Supervisor(Published { cause, ..Published::default() }));
        }
        Err(error) => return Err(error),
    };
    Ok(Supervision::Supervisor(serde_json::from_slice(&bytes)?))
}

/// The supervisor's side, which holds the lock until it is dropped.
#[derive(Debug)]
pub(super) struct Publisher {
    directory: PathBuf,
    _lock: File,
}

impl Publisher {
    /// Takes the lock of a directory.
    ///
    /// # Errors
    /// Another supervisor has it, or the file system's.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut options = OpenOptions::new();
        // It is never written to. Opened for writing, its close is told as one after writing.
        let options = options.write(true).create(true).truncate(false).mode(0o644);
        let lock = options.custom_flags(flags).open(directory.join(LOCK))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            let text = "another supervisor looks after this directory, or the plugin looks at it";
            io::Error::new(io::ErrorKind::WouldBlock, text)
        })?;
        Ok(Self { directory: directory.to_owned(), _lock: lock })
    }

    /// Tells how the daemon is.
    ///
    /// # Errors
    /// The file system's.
    pub(super) fn publish(&self, published: &Published) -> io::Result<()> {
        let started = self.directory.join(STARTED);
        if published.up {
            File::create(started)?;
        } else {
            remove(&started)?;
        }
        file::replace(&self.directory.join(FILE), &serde_json::to_vec(published)?, 0o644)
    }

    /// Leaves the directory as one that nobody looks after.
    pub(super) fn close(self) {
        let _ = remove(&self.directory.join(STARTED));
        let _ = remove(&self.directory.join(FILE));
        let _ = remove(&self.directory.join(LOCK));
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_counts_as_long_as_the_supervisor_runs() {
        let place = tempfile::tempdir().unwrap();
        let read = || read(place.path()).unwrap();
        assert_eq!(read(), Supervision::Nobody);
        let publisher = Publisher::new(place.path()).unwrap();
        assert!(matches!(read(), Supervision::Supervisor(Published { up: false, .. })));
        let up = Published { up: true, gpus: vec!["GPU-1".to_owned()], cause: None };
        publisher.publish(&up).unwrap();
        assert_eq!(read(), Supervision::Supervisor(up.clone()));
        assert!(place.path().join(".started").exists());
        assert!(Publisher::new(place.path()).is_err(), "one supervisor for each");
        // As when its process is killed: the files stay, and the lock is free.
        drop(publisher);
        assert_eq!(read(), Supervision::Nobody);
        let publisher = Publisher::new(place.path()).unwrap();
        publisher.publish(&Published::default()).unwrap();
        assert!(!place.path().join(".started").exists());
        publisher.close();
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }
}
