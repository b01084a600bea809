//! The state file: causes of bad health that no later reading states again, and the GPUs that were
//! seen on this boot, kept over a restart of the plugin.
//!
//! It is one JSON document, written beside the old one, synced, and renamed into place. Losing it
//! is never an error: a file that cannot be read is logged and set aside, and where none can be
//! written the plugin works without.

mod document;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::util::lock;
pub use document::PersistedState;
use document::{Document, VERSION};

/// The document's name in the state directory.
const FILE: &str = "health.json";
/// How many files that could not be read are kept for a person to inspect.
const SET_ASIDE: u32 = 5;
/// How long the last write may delay the exit.
const FLUSH_DEADLINE: Duration = Duration::from_millis(300);
/// The longest file that is read, in bytes: far longer than any document of ours.
const MAX_LENGTH: u64 = 4 << 20;

/// The state file, if there is a state directory.
#[derive(Debug, Clone)]
pub struct StateFile {
    directory: Option<PathBuf>,
    /// What was last read or written; locked while it is written.
    written: Arc<Mutex<Option<PersistedState>>>,
}

impl StateFile {
    /// The file in this directory, which is created if it is missing. Without one nothing is
    /// kept.
    pub fn open(directory: Option<&Path>) -> Self {
        let usable = |directory: &&Path| match fs::create_dir_all(directory) {
            Ok(()) => true,
            Err(error) => {
                warn!(
                    directory = %directory.display(), %error,
                    "the state directory cannot be created: a restart of the plugin forgets what \
                     GPUs went through; mount a directory of the host there, or set --state-dir"
                );
                false
            }
        };
        Self { directory: directory.filter(usable).map(Path::to_owned), written: Arc::default() }
    }

    /// The contents of the file in this directory, without changing anything.
    ///
    /// # Errors
    /// There is a file, and it cannot be read.
    pub fn peek(directory: &Path) -> io::Result<Option<PersistedState>> {
        match read(&directory.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            state => Ok(Some(state?.0)),
        }
    }

    /// Reads the file; `None` if there is none, or none that can be read.
    pub fn load(&self) -> Option<PersistedState> {
        let file = self.directory.as_ref()?.join(FILE);
        let (state, dropped) = match read(&file) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                set_aside(&file, &error.to_string());
                return None;
            }
        };
        if dropped > 0 {
            warn!(file = %file.display(), entries = dropped, "entries of the state file are \
                malformed or too many: they are passed over");
        }
        *lock(&self.written) = Some(state.clone());
        Some(state)
    }

    /// Writes the file if the value differs from what was read, and each time that it changes, for
    /// as long as it is polled.
    pub async fn run(
        &self,
        mut state: watch::Receiver<PersistedState>,
    ) -> std::convert::Infallible {
        let directory = self.directory.as_deref().unwrap_or(Path::new("")).display();
        let mut failed = false;
        // What was read may be of another boot or driver than the value.
        state.mark_changed();
        while state.changed().await.is_ok() {
            let now = state.borrow_and_update().clone();
            match self.write_on_thread(now).await {
                Ok(()) if std::mem::take(&mut failed) => {
                    info!(%directory, "the state file can be written again");
                }
                Err(error) if !std::mem::replace(&mut failed, true) => {
                    warn!(%directory, %error, "the state file cannot be written: a restart forgets \
                        what GPUs went through");
                }
                Ok(()) | Err(_) => {}
            }
        }
        std::future::pending().await
    }

    /// Writes the file at the end, unless that takes too long.
    pub async fn flush(&self, state: PersistedState) {
        if tokio::time::timeout(FLUSH_DEADLINE, self.write_on_thread(state)).await.is_err() {
            warn!(
                "the state file was not written in time: a restart may forget what GPUs went \
                    through"
            );
        }
    }

    /// On a thread of its own: a slow disk must not delay what the kubelet waits for.
    async fn write_on_thread(&self, state: PersistedState) -> io::Result<()> {
        let file = self.clone();
        let written = tokio::task::spawn_blocking(move || file.write(&state)).await;
        written.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }

    /// Writes the file, unless this is what was last read or written.
    fn write(&self, state: &PersistedState) -> io::Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let mut written = lock(&self.written);
        if written.as_ref() == Some(state) {
            return Ok(());
        }
        let next = directory.join(format!("{FILE}.next"));
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec_pretty(&Document::from(state))?)?;
        file.sync_all()?;
        fs::rename(&next, directory.join(FILE))?;
        *written = Some(state.clone());
        File::open(directory)?.sync_all()
    }
}

/// What is in the file, and how many of its entries are passed over.
fn read(file: &Path) -> io::Result<(PersistedState, usize)> {
    if fs::metadata(file)?.len() > MAX_LENGTH {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long to be ours"));
    }
    let document: Document = serde_json::from_slice(&fs::read(file)?)?;
    match document.version {
        VERSION => Ok(document.into_state()),
        other => Err(io::Error::other(format!("it is of version {other}, not {VERSION}"))),
    }
}

/// Renames a file that cannot be read to the first name that is free, or the last.
fn set_aside(file: &Path, why: &str) {
    let name = |n| file.with_extension(format!("json.corrupt-{n}"));
    let aside =
        (1..SET_ASIDE).map(name).find(|aside| !aside.exists()).unwrap_or_else(|| name(SET_ASIDE));
    let renamed = fs::rename(file, &aside);
    warn!(
        file = %file.display(), why,
        "the state file cannot be read: what GPUs went through before this start is forgotten; {}",
        match renamed {
            Ok(()) => format!("it was set aside as {}", aside.display()),
            Err(error) => format!("it cannot be set aside either: {error}"),
        }
    );
}
