//! Files that clear: one named `clear-GPU` says that a person has repaired the GPU. It counts once,
//! and is removed then.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::first_line::first_line;

/// What the name begins with.
const PREFIX: &str = "clear-";
/// How long a file has to stay as it is before it counts: a shell makes it first, and writes the
/// kind of the cause then.
const SETTLING: Duration = Duration::from_millis(500);

/// Whether a file of this name clears.
pub(super) fn is_one(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// A file that clears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearFile {
    /// The name of the GPU.
    pub gpu: String,
    /// The kind of the causes that are over; `None`: all.
    pub cause: Option<String>,
    path: PathBuf,
    version: Version,
}

/// Device, inode number, size and time of change of the contents.
type Version = (u64, u64, u64, i64, i64);

/// The files that clear, and those of them that were taken and could not be removed.
#[derive(Debug, Default)]
pub(super) struct ClearFiles {
    seen: BTreeMap<PathBuf, Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    version: Version,
    since: Instant,
    taken: bool,
}

impl ClearFiles {
    /// Looks at the files that are there. Returns those that count now.
    pub(super) fn due(&mut self, paths: &BTreeSet<PathBuf>, now: Instant) -> Vec<ClearFile> {
        let version = |path: &PathBuf| Some((path.clone(), version(path).ok()?));
        let there: BTreeMap<PathBuf, Version> = paths.iter().filter_map(version).collect();
        self.seen.retain(|path, _| there.contains_key(path));
        for (path, version) in there {
            let new = Seen { version, since: now, taken: false };
            let seen = self.seen.entry(path).or_insert(new);
            if seen.version != version {
                *seen = new;
            }
        }
        let settled = |seen: &Seen| !seen.taken && now >= seen.since + SETTLING;
        let due = self.seen.iter().filter(|(_, seen)| settled(seen));
        due.filter_map(|(path, seen)| read(path, seen.version)).collect()
    }

    /// When the next file has settled.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let times = self.seen.values().filter(|seen| !seen.taken).map(|seen| seen.since + SETTLING);
        // One that is due already waits for something else.
        times.filter(|time| *time > now).min()
    }

    /// Removes a file that was taken. Where it cannot be removed it counts no more as it is.
    pub(super) fn taken(&mut self, file: &ClearFile) {
        if version(&file.path).is_ok_and(|there| there != file.version) {
            return;
        }
        match fs::remove_file(&file.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(file = %file.path.display(), %error, "a file that clears a GPU was taken and \
                    cannot be removed: it counts again at the next start of the plugin");
            }
            _ => {}
        }
        if let Some(seen) = self.seen.get_mut(&file.path) {
            seen.taken = true;
        }
    }
}

fn version(path: &Path) -> io::Result<Version> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino(), file.size(), file.mtime(), file.mtime_nsec()))
}

/// One that cannot be read clears nothing: it may name a kind.
fn read(path: &Path, version: Version) -> Option<ClearFile> {
    let gpu = path.file_name()?.to_str()?.strip_prefix(PREFIX)?.to_owned();
    let cause = first_line(path).ok()?;
    let cause = (!cause.is_empty()).then_some(cause);
    Some(ClearFile { gpu, cause, path: path.to_owned(), version })
}

#[cfg(test)]
mod tests {
    use super::super::gpu_names::GpuNames;
    use super::super::listing::Listing;
    use super::*;

    fn look(files: &mut ClearFiles, place: &Path) -> Vec<ClearFile> {
        let listing = Listing::read(place, &GpuNames::default()).unwrap();
        files.due(&listing.clear, Instant::now())
    }

    fn names(files: &[ClearFile]) -> Vec<(&str, Option<&str>)> {
        files.iter().map(|file| (file.gpu.as_str(), file.cause.as_deref())).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_counts_once_it_stays_as_it_is() {
        let place = tempfile::tempdir().unwrap();
        let mut files = ClearFiles::default();
        assert!(look(&mut files, place.path()).is_empty() && files.next(Instant::now()).is_none());
        fs::write(place.path().join("clear-GPU-1"), "").unwrap();
        fs::write(place.path().join("GPU-2"), "").unwrap();
        fs::create_dir(place.path().join("clear-3")).unwrap();
        assert!(look(&mut files, place.path()).is_empty(), "it may still be written");
        tokio::time::advance(SETTLING / 2).await;
        fs::write(place.path().join("clear-GPU-1"), "xid\n").unwrap();
        assert!(look(&mut files, place.path()).is_empty());
        let next = files.next(Instant::now()).unwrap();
        tokio::time::advance(next - Instant::now()).await;
        let due = look(&mut files, place.path());
        assert_eq!(names(&due), [("GPU-1", Some("xid"))]);
        files.taken(&due[0]);
        assert!(!place.path().join("clear-GPU-1").exists());
        assert!(look(&mut files, place.path()).is_empty() && files.next(Instant::now()).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_stays_counts_again_only_when_it_is_another() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("clear-0");
        let mut files = ClearFiles::default();
        fs::write(&path, "").unwrap();
        look(&mut files, place.path());
        tokio::time::advance(SETTLING).await;
        let due = look(&mut files, place.path());
        assert_eq!(names(&due), [("0", None)]);
        files.taken(&due[0]);
        // As if it could not be removed: the same file is there.
        fs::write(&path, "").unwrap();
        let same = files.seen.get_mut(&path).unwrap();
        same.version = version(&path).unwrap();
        tokio::time::advance(SETTLING).await;
        assert!(look(&mut files, place.path()).is_empty());
        fs::write(&path, "lost").unwrap();
        look(&mut files, place.path());
        tokio::time::advance(SETTLING).await;
        assert_eq!(names(&look(&mut files, place.path())), [("0", Some("lost"))]);
    }
}
