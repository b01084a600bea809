//! The state file: verdicts that no source would state again, kept over a restart of the plugin.
//!
//! One JSON document, written whole beside the old one, synced, and renamed into place. Losing it
//! is never an error: what cannot be read is reported and set aside, and where nothing can be
//! written the plugin works without.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use device::health::{Epoch, PersistedCause, PersistedHealth};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{info, warn};

/// The document's name in the state directory.
const FILE: &str = "health.json";
/// The form of the document.
const VERSION: u32 = 1;
/// Files that could not be read are kept up to this number, to be looked at.
const SET_ASIDE: u32 = 5;
/// How long the last writing may hold up the end.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// No document of ours is nearly as long.
const LONGEST: u64 = 4 << 20;

/// The file, or the lack of one.
#[derive(Debug, Clone)]
pub struct StateFile {
    directory: Option<PathBuf>,
    /// What the file says, and that nobody else writes it meanwhile.
    written: Arc<Mutex<Option<PersistedHealth>>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    /// The boot id of the node.
    boot: String,
    /// The load of the driver.
    driver: Option<String>,
    gpus: BTreeMap<String, Vec<Entry>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    cause: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    number: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gpu_instance: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    compute_instance: Option<u32>,
    #[serde(default)]
    repaired: bool,
}

impl StateFile {
    /// A memory in this directory, which is made if it is not there. Without one nothing is kept.
    pub fn open(directory: Option<&Path>) -> Self {
        let usable = |directory: &&Path| match fs::create_dir_all(directory) {
            Ok(()) => true,
            Err(error) => {
                warn!(
                    directory = %directory.display(), %error,
                    "the state directory cannot be made: a restart of the plugin forgets what GPUs \
                     went through; mount a directory of the host there, or set --state-dir"
                );
                false
            }
        };
        Self { directory: directory.filter(usable).map(Path::to_owned), written: Arc::default() }
    }

    /// What the file in this directory says, for those who only look.
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

    /// What was remembered; nothing if there is nothing, or nothing that can be read.
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
                let remembered = PersistedHealth::from(document);
                *self.written.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(remembered.clone());
                Some(remembered)
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

    /// Writes down what is to be remembered, each time it changes, for as long as it is polled.
    pub async fn run(
        &self,
        mut remembered: watch::Receiver<PersistedHealth>,
    ) -> std::convert::Infallible {
        let mut failed = false;
        while remembered.changed().await.is_ok() {
            let now = remembered.borrow_and_update().clone();
            let outcome = self.write_aside(now).await;
            self.report(outcome, &mut failed);
        }
        std::future::pending().await
    }

    /// Writes down what is to be remembered at the end, unless that takes long.
    pub async fn flush(&self, remembered: PersistedHealth) {
        if tokio::time::timeout(LAST_WORDS, self.write_aside(remembered)).await.is_err() {
            warn!(
                "the state file was not written in time: a restart may forget what GPUs went \
                    through"
            );
        }
    }

    /// A slow disk must hold up nothing that the kubelet waits for.
    async fn write_aside(&self, remembered: PersistedHealth) -> io::Result<()> {
        let memory = self.clone();
        let written = tokio::task::spawn_blocking(move || memory.write(&remembered)).await;
        written.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }

    fn report(&self, outcome: io::Result<()>, failed: &mut bool) {
        let directory = self.directory.as_deref().unwrap_or(Path::new("")).display();
        match outcome {
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

    /// Writes down what is to be remembered, if the file does not say so.
    fn write(&self, remembered: &PersistedHealth) -> io::Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.as_ref() == Some(remembered) {
            return Ok(());
        }
        let next = directory.join(format!("{FILE}.next"));
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec_pretty(&Document::from(remembered))?)?;
        file.sync_all()?;
        fs::rename(&next, directory.join(FILE))?;
        *written = Some(remembered.clone());
        File::open(directory)?.sync_all()
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(file)?.len() > LONGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long to be ours"));
    }
    fs::read(file)
}

/// Keeps a file that cannot be read out of the way, under the first name that is free, or the last.
fn set_aside(file: &Path, why: &str) {
    let name = |n| file.with_extension(format!("json.corrupt-{n}"));
    let aside =
        (1..SET_ASIDE).map(name).find(|aside| !aside.exists()).unwrap_or_else(|| name(SET_ASIDE));
    let outcome = fs::rename(file, &aside);
    warn!(
        file = %file.display(), why,
        "the state file cannot be read: what GPUs went through before this start is forgotten; {}",
        match outcome {
            Ok(()) => format!("it was set aside as {}", aside.display()),
            Err(error) => format!("it cannot be set aside either: {error}"),
        }
    );
}

impl From<&PersistedHealth> for Document {
    fn from(remembered: &PersistedHealth) -> Self {
        let entry = |cause: &PersistedCause| Entry {
            cause: cause.kind.clone(),
            number: cause.number,
            gpu_instance: cause.gpu_instance,
            compute_instance: cause.compute_instance,
            repaired: cause.repaired,
        };
        let gpus = remembered.gpus.iter();
        Self {
            version: VERSION,
            boot: remembered.epoch.boot.clone(),
            driver: remembered.epoch.driver.clone(),
            gpus: gpus
                .map(|(uuid, causes)| (uuid.to_string(), causes.iter().map(entry).collect()))
                .collect(),
        }
    }
}

impl From<Document> for PersistedHealth {
    /// A GPU whose name is no UUID is left out: nobody could have it.
    fn from(document: Document) -> Self {
        let cause = |entry: Entry| PersistedCause {
            kind: entry.cause,
            number: entry.number,
            gpu_instance: entry.gpu_instance,
            compute_instance: entry.compute_instance,
            repaired: entry.repaired,
        };
        let gpus = document.gpus.into_iter();
        Self {
            epoch: Epoch { boot: document.boot, driver: document.driver },
            gpus: gpus
                .filter_map(|(uuid, causes)| {
                    Some((uuid.parse().ok()?, causes.into_iter().map(cause).collect()))
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
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
    fn what_is_written_is_recalled() {
        let place = tempfile::tempdir().unwrap();
        let memory = StateFile::open(Some(&place.path().join("made/anew")));
        assert_eq!(memory.load(), None);
        for remembered in [remembered(), PersistedHealth::default(), remembered()] {
            memory.write(&remembered).unwrap();
            assert_eq!(memory.load(), Some(remembered));
        }
        assert_eq!(
            fs::read_dir(place.path().join("made/anew")).unwrap().count(),
            1,
            "nothing is left behind"
        );
    }

    #[test]
    fn what_cannot_be_read_is_set_aside_and_never_stands_in_the_way() {
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
