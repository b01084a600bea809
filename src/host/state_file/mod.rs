//! The state file: causes of bad health that no later reading states again, kept over a restart of
//! the plugin.
//!
//! It is one JSON document, written beside the old one, synced, and renamed into place. Losing it
//! is never an error: a file that cannot be read is logged and set aside, and where none can be
//! written the plugin works without.

mod document;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use device::health::PersistedHealth;
use tokio::sync::watch;
use tracing::{info, warn};

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
    written: Arc<Mutex<Option<PersistedHealth>>>,
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
    pub fn peek(directory: &Path) -> io::Result<Option<PersistedHealth>> {
        let bytes = match read(&directory.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes?,
        };
        let document: Document = serde_json::from_slice(&bytes)?;
        match document.version {
            VERSION => Ok(Some(document.into())),
            other => Err(io::Error::other(format!("it is of version {other}, not {VERSION}"))),
        }
    }

    /// Reads the file; `None` if there is none, or none that can be read.
    pub fn load(&self) -> Option<PersistedHealth> {
        let file = self.directory.as_ref()?.join(FILE);
        let bytes = match read(&file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                set_aside(&file, &error.to_string());
                return None;
            }
        };
        match serde_json::from_slice::<Document>(&bytes) {
            Ok(document) if document.version == VERSION => {
                let health = PersistedHealth::from(document);
                *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(health.clone());
                Some(health)
            }
            Ok(document) => {
                set_aside(&file, &format!("it is of version {}, not {VERSION}", document.version));
                None
            }
            Err(error) => {
                set_aside(&file, &error.to_string());
                None
            }
        }
    }

    /// Writes the file each time the value changes, for as long as it is polled.
    pub async fn run(
        &self,
        mut health: watch::Receiver<PersistedHealth>,
    ) -> std::convert::Infallible {
        let mut failed = false;
        while health.changed().await.is_ok() {
            let now = health.borrow_and_update().clone();
            let result = self.write_on_thread(now).await;
            self.log(result, &mut failed);
        }
        std::future::pending().await
    }

    /// Writes the file at the end, unless that takes too long.
    pub async fn flush(&self, health: PersistedHealth) {
        if tokio::time::timeout(FLUSH_DEADLINE, self.write_on_thread(health)).await.is_err() {
            warn!(
                "the state file was not written in time: a restart may forget what GPUs went \
                    through"
            );
        }
    }

    /// On a thread of its own: a slow disk must not delay what the kubelet waits for.
    async fn write_on_thread(&self, health: PersistedHealth) -> io::Result<()> {
        let file = self.clone();
        let written = tokio::task::spawn_blocking(move || file.write(&health)).await;
        written.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }

    fn log(&self, result: io::Result<()>, failed: &mut bool) {
        let directory = self.directory.as_deref().unwrap_or(Path::new("")).display();
        match result {
            Ok(()) => {
                if std::mem::take(failed) {
                    info!(%directory, "the state file can be written again");
                }
            }
            Err(error) if !std::mem::replace(failed, true) => {
                warn!(%directory, %error, "the state file cannot be written: a restart forgets \
                    what GPUs went through");
            }
            Err(_) => {}
        }
    }

    /// Writes the file, unless this is what was last read or written.
    fn write(&self, health: &PersistedHealth) -> io::Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.as_ref() == Some(health) {
            return Ok(());
        }
        let next = directory.join(format!("{FILE}.next"));
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec_pretty(&Document::from(health))?)?;
        file.sync_all()?;
        fs::rename(&next, directory.join(FILE))?;
        *written = Some(health.clone());
        File::open(directory)?.sync_all()
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(file)?.len() > MAX_LENGTH {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long to be ours"));
    }
    fs::read(file)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use device::health::{Epoch, PersistedCause};

    use super::*;

    fn remembered() -> PersistedHealth {
        let cause = PersistedCause {
            kind: "xid".to_owned(),
            number: Some(79),
            ..PersistedCause::default()
        };
        let slice = PersistedCause { gpu_instance: Some(3), repaired: true, ..cause.clone() };
        PersistedHealth {
            epoch: Epoch { boot: "a".to_owned(), driver: Some("8:1".to_owned()) },
            gpus: BTreeMap::from([("GPU-1".parse().unwrap(), vec![cause, slice])]),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let place = tempfile::tempdir().unwrap();
        let memory = StateFile::open(Some(&place.path().join("created/here")));
        assert_eq!(memory.load(), None);
        for remembered in [remembered(), PersistedHealth::default(), remembered()] {
            memory.write(&remembered).unwrap();
            assert_eq!(memory.load(), Some(remembered));
        }
        assert_eq!(
            fs::read_dir(place.path().join("created/here")).unwrap().count(),
            1,
            "nothing is left behind"
        );
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_and_does_no_harm() {
        let place = tempfile::tempdir().unwrap();
        let memory = StateFile::open(Some(place.path()));
        let whole = serde_json::to_vec(&Document::from(&remembered())).unwrap();
        let mut texts: Vec<Vec<u8>> =
            (0..whole.len()).step_by(7).map(|cut| whole[..cut].to_vec()).collect();
        texts.push(b"{\"version\": 2, \"boot\": \"\", \"driver\": null, \"gpus\": {}}".to_vec());
        texts.push(b"\xff\xfe\x00".to_vec());
        for text in texts {
            fs::write(place.path().join(FILE), text).unwrap();
            assert_eq!(memory.load(), None);
            assert!(!place.path().join(FILE).exists());
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), SET_ASIDE as usize);
    }

    #[test]
    fn a_directory_in_its_place_is_set_aside() {
        let place = tempfile::tempdir().unwrap();
        let memory = StateFile::open(Some(place.path()));
        fs::create_dir(place.path().join(FILE)).unwrap();
        assert_eq!(memory.load(), None);
        memory.write(&remembered()).unwrap();
        assert_eq!(memory.load(), Some(remembered()));
    }

    #[test]
    fn without_a_directory_nothing_is_kept_and_nothing_fails() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("file"), "").unwrap();
        for directory in [None, Some(place.path().join("file/below"))] {
            let memory = StateFile::open(directory.as_deref());
            memory.write(&remembered()).unwrap();
            assert_eq!(memory.load(), None);
        }
    }
}
