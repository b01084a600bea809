//! The state file as its thread has it: locked, read, and written.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tracing::warn;

use super::contents::{self, Contents, FILE, LONGEST, keep_newer, set_aside};
use super::document::{Document, PersistedState};
use super::unknown::Unknown;
use crate::host::file;

/// The state file of one directory.
#[derive(Debug)]
pub(super) struct Stored {
    directory: PathBuf,
    /// The directory, locked against another plugin.
    lock: Option<Lock>,
    /// What of the file is known, or was.
    restored: Option<PersistedState>,
    /// Whether the file was read under the lock, so that it may be replaced.
    may_replace: bool,
    /// What is in the file, if that is known.
    there: Option<PersistedState>,
    /// What was in the file that this version does not know.
    unknown: Unknown,
}

#[derive(Debug)]
struct Lock {
    directory: File,
}

/// What came of writing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The file is as given.
    AsGiven,
    /// The file has causes or GPUs that are not known, and is untouched.
    NotYet {
        /// All that is in the file.
        found: Box<PersistedState>,
        /// What is not known.
        news: Box<PersistedState>,
    },
}

impl Stored {
    pub(super) fn in_directory(directory: &Path) -> Self {
        let directory = directory.to_owned();
        Self {
            directory,
            lock: None,
            restored: None,
            may_replace: false,
            there: None,
            unknown: Unknown::default(),
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// Reads the file, also while another plugin has it. One that cannot be used is set aside.
    pub(super) fn load(&mut self) -> io::Result<Option<PersistedState>> {
        // An error is told when it keeps the file from being written.
        let locked = self.lock().is_ok();
        Ok(self.read(locked)?.map(|contents| contents.state))
    }

    /// What is in the file, this, is known.
    pub(super) fn restored(&mut self, state: PersistedState) {
        self.restored = Some(state);
    }

    /// Writes the file, unless this is what is in it.
    pub(super) fn write(&mut self, state: &PersistedState) -> io::Result<Written> {
        self.lock()?;
        if !self.may_replace {
            let there = self.read(true).map_err(|error| {
                let text = format!("it cannot be read, and is not replaced before: {error}");
                io::Error::new(error.kind(), text)
            })?;
            if let Some(Contents { state: found, newer, .. }) = there {
                if let Some(news) = news(&found, self.restored.as_ref()) {
                    return Ok(Written::NotYet { found: Box::new(found), news: Box::new(news) });
                }
                match newer {
                    Some(bytes) => self.keep_newer(&bytes)?,
                    None => self.there = Some(found),
                }
            }
            self.may_replace = true;
        }
        if self.there.as_ref() == Some(state) {
            return Ok(Written::AsGiven);
        }
        let mut text = Self::text(state, &self.unknown)?;
        if text.len() > LONGEST {
            text = Self::text(state, &Unknown::default())?;
        }
        if text.len() > LONGEST {
            let text = format!("it would have more than {LONGEST} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        // After an error it can be the old file or the new one.
        self.there = None;
        file::replace(&self.file(), &text, 0o644)?;
        (self.there, self.restored) = (Some(state.clone()), Some(state.clone()));
        Ok(Written::AsGiven)
    }

    /// The bytes of a file, with what this version does not know.
    fn text(state: &PersistedState, unknown: &Unknown) -> io::Result<Vec<u8>> {
        let mut document = serde_json::to_value(Document::from(state))?;
        unknown.add_to(&mut document);
        Ok(serde_json::to_vec_pretty(&document)?)
    }

    /// Keeps a file of a newer version before one of this version takes its place.
    fn keep_newer(&self, bytes: &[u8]) -> io::Result<()> {
        let kept = keep_newer(&self.file(), bytes)?;
        warn!(
            file = %self.file().display(), kept = %kept.display(),
            "a newer version of the plugin has written the state file: what this version knows of \
             it counts, and is written in its own format; the file is kept as it was"
        );
        Ok(())
    }

    fn read(&mut self, locked: bool) -> io::Result<Option<Contents>> {
        match contents::read(&self.file()) {
            Ok(None) => Ok(None),
            Ok(Some(mut contents)) => {
                self.unknown = std::mem::take(&mut contents.unknown);
                if contents.dropped > 0 {
                    warn!(file = %self.file().display(), entries = contents.dropped, "entries of \
                        the state file are malformed or too many: they are passed over");
                }
                Ok(Some(contents))
            }
            // Only its writer may move it.
            Err(error) if locked && file::is_of_content(&error) => {
                set_aside(&self.file(), &error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Sees that the directory that is there is there, and locked by this plugin.
    fn lock(&mut self) -> io::Result<()> {
        if self.lock.as_ref().is_some_and(|lock| lock.is_of(&self.directory)) {
            return Ok(());
        }
        (self.lock, self.may_replace, self.there) = (None, false, None);
        fs::create_dir_all(&self.directory).map_err(|error| {
            let text = format!(
                "the state directory cannot be created: {error}; mount a directory of the host \
                 there, or set --state-dir"
            );
            io::Error::new(error.kind(), text)
        })?;
        self.lock = Some(Lock::of(&self.directory)?);
        file::remove_leftovers(&self.file());
        Ok(())
    }
}

impl Lock {
    fn of(directory: &Path) -> io::Result<Self> {
        let directory = File::open(directory)?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let text = "another plugin has locked the state directory; it is written once \
                            that one has ended";
                return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
            }
            // A file system without locks: most often there is one plugin all the same.
            Err(TryLockError::Error(error)) => {
                warn!(%error, "the state directory cannot be locked: two plugins that use it \
                    overwrite each other's state file");
            }
        }
        Ok(Self { directory })
    }

    /// Whether it is of the directory that is there now.
    fn is_of(&self, directory: &Path) -> bool {
        let id = |there: fs::Metadata| (there.dev(), there.ino());
        let locked = self.directory.metadata().map(id);
        fs::metadata(directory).map(id).is_ok_and(|there| locked.is_ok_and(|id| id == there))
    }
}

/// The causes and GPUs in a file that are not among those that were restored.
fn news(found: &PersistedState, restored: Option<&PersistedState>) -> Option<PersistedState> {
    let mut news = found.clone();
    if let Some(restored) = restored {
        for (uuid, causes) in &mut news.health.gpus {
            let known = restored.health.gpus.get(uuid);
            // One that this version does not know is kept as it is, and changes nothing.
            causes.retain(|cause| {
                cause.is_known() && !known.is_some_and(|known| known.contains(cause))
            });
        }
        news.known_gpus.gpus.retain(|uuid, _| !restored.known_gpus.gpus.contains_key(uuid));
    }
    news.health.gpus.retain(|_, causes| !causes.is_empty());
    let is_none = news.health.gpus.is_empty() && news.known_gpus.gpus.is_empty();
    (!is_none).then_some(news)
}
