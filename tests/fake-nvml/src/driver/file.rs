//! The state file as the library holds it: read when it changes, kept when it turns bad.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{env, fs, io};

use crate::state::State;
use crate::sys;

/// A file this young may change again without its times and size showing it, so its bytes are
/// compared. Times of files go by the kernel's tick, 10 ms at the longest.
const YOUNG: Duration = Duration::from_millis(12);

/// The file and the last good state that was in it.
#[derive(Default)]
pub(crate) struct StateFile {
    path: PathBuf,
    stamp: Option<Stamp>,
    /// The file as last read.
    bytes: Option<Vec<u8>>,
    /// How often other bytes were read than before.
    version: u64,
    /// The file as it is now is a state.
    good: bool,
    state: Option<Arc<State>>,
    /// Why the file was last found bad.
    complaint: Option<String>,
}

/// What tells one version of the file from another.
#[derive(PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl StateFile {
    /// Takes the path that the environment gives now: `FAKE_NVML_STATE`, else `fake-nvml.json`
    /// beside the library.
    pub(crate) fn locate(&mut self) {
        let path = match env::var_os("FAKE_NVML_STATE").filter(|path| !path.is_empty()) {
            Some(path) => PathBuf::from(path),
            None => beside_library(),
        };
        // Absolute, so that a later change of the working directory does not move it.
        let path = std::path::absolute(&path).unwrap_or(path);
        if path != self.path {
            *self = Self { path, ..Self::default() };
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Counts up with each change of the file that was read.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The state in the file as it is now; none while the file is missing or malformed.
    pub(crate) fn current(&self) -> Option<Arc<State>> {
        self.state.clone().filter(|_| self.good)
    }

    /// The last good state.
    pub(crate) fn last(&self) -> Option<Arc<State>> {
        self.state.clone()
    }

    /// Compares the bytes at the next refresh, whatever the times say.
    pub(crate) fn distrust(&mut self) {
        self.stamp = None;
    }

    /// Reads the file if it changed. True if there is a new state.
    pub(crate) fn refresh(&mut self) -> bool {
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) => return self.gone(&error),
        };
        let young = metadata
            .modified()
            .ok()
            .and_then(|modified| SystemTime::now().duration_since(modified).ok())
            .is_none_or(|age| age < YOUNG);
        let stamp = Some(Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        });
        if stamp == self.stamp && !young {
            return false;
        }
        match fs::read(&self.path) {
            Ok(bytes) => {
                self.stamp = stamp;
                self.take(bytes)
            }
            Err(error) => self.gone(&error),
        }
    }

    fn take(&mut self, bytes: Vec<u8>) -> bool {
        if self.bytes.as_ref() == Some(&bytes) {
            return false;
        }
        self.version += 1;
        let parsed = serde_json::from_slice(&bytes);
        self.bytes = Some(bytes);
        match parsed {
            Ok(state) => {
                self.good = true;
                self.complaint = None;
                self.state = Some(Arc::new(state));
                true
            }
            Err(error) => self.turned_bad(&error.into()),
        }
    }

    /// The file is no state now. Says why, once for each reason.
    fn turned_bad(&mut self, error: &io::Error) -> bool {
        let reason = error.to_string();
        if self.complaint.as_ref() != Some(&reason) {
            let path = self.path.display();
            let then = if self.state.is_some() {
                "the last good state stays in force"
            } else {
                "no driver"
            };
            eprintln!("fake-nvml: {path}: {reason}: {then}");
            self.complaint = Some(reason);
        }
        self.good = false;
        false
    }

    /// The file cannot be read now.
    fn gone(&mut self, error: &io::Error) -> bool {
        self.stamp = None;
        self.bytes = None;
        self.turned_bad(error)
    }
}

fn beside_library() -> PathBuf {
    sys::library_path().unwrap_or_default().with_file_name("fake-nvml.json")
}
