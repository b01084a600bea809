//! What the quarantine directory contains, and which GPUs that means.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use device::names::Uuid;
use tracing::warn;

use super::clear_files;
use super::first_line::first_line;
use super::gpu_names::GpuNames;

/// How many files are read: a node has no more GPUs.
const FILES: usize = 1024;

/// The quarantined GPUs and the reason of each.
pub type Quarantine = BTreeMap<Uuid, Arc<str>>;

/// The reason in each file, by its name.
type Reasons = BTreeMap<String, String>;

/// What was last read from the directory, and what was logged of it.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) directory: PathBuf,
    reasons: Reasons,
    /// Names of no GPU that were logged.
    logged: BTreeSet<String>,
    unreadable: bool,
}

impl Contents {
    /// The contents of this directory, which is not read yet.
    pub(super) fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), ..Self::default() }
    }

    /// Reads the directory. One that cannot be read, unlike one that is missing, releases no GPU.
    pub(super) fn read(&mut self) -> &mut Self {
        match read(&self.directory) {
            Ok(reasons) => {
                self.reasons = reasons;
                self.unreadable = false;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.reasons.clear(),
            Err(error) if !std::mem::replace(&mut self.unreadable, true) => {
                warn!(directory = %self.directory.display(), %error, "the quarantine directory \
                    cannot be read");
            }
            Err(_) => {}
        }
        self
    }

    /// The GPUs that the files mean. A name of no GPU is logged once, as soon as there are GPUs.
    pub(super) fn quarantine(&mut self, gpus: &GpuNames) -> Quarantine {
        let mut quarantine: BTreeMap<Uuid, String> = BTreeMap::new();
        let mut unknown = BTreeSet::new();
        for (name, text) in &self.reasons {
            let Some(uuid) = gpus.find(name) else {
                unknown.insert(name.clone());
                continue;
            };
            let reason = quarantine.entry(uuid.clone()).or_default();
            let gap = if reason.is_empty() || text.is_empty() { "" } else { "; " };
            *reason = format!("{reason}{gap}{text}");
        }
        if !gpus.is_empty() {
            for name in unknown.difference(&self.logged) {
                warn!(
                    name,
                    "a file in the quarantine directory is named after no GPU: it has no effect"
                );
            }
            self.logged = unknown;
        }
        quarantine.into_iter().map(|(uuid, reason)| (uuid, Arc::from(reason))).collect()
    }
}

fn read(directory: &Path) -> io::Result<Reasons> {
    let mut reasons = Reasons::new();
    for entry in fs::read_dir(directory)?.take(FILES) {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Only regular files: opening a pipe would wait for its writer.
        if name.starts_with('.') || clear_files::is_one(&name) {
            continue;
        }
        if !fs::metadata(entry.path()).is_ok_and(|there| there.is_file()) {
            continue;
        }
        reasons.insert(name, reason(&entry.path()));
    }
    Ok(reasons)
}

/// A file that cannot be read quarantines its GPU too.
fn reason(file: &Path) -> String {
    first_line(file).unwrap_or_else(|error| format!("(the file cannot be read: {error})"))
}

#[cfg(test)]
mod tests {
    use device::gpu::Gpu;
    use device::health::Moment;
    use device::testing::{gpu, listing, node};

    use super::*;

    fn entries(contents: &mut Contents) -> Vec<(String, String)> {
        contents
            .read()
            .quarantine(&GpuNames::example())
            .into_iter()
            .map(|(uuid, text)| (uuid.to_string(), text.to_string()))
            .collect()
    }

    #[test]
    fn a_file_quarantines_the_gpu_that_it_is_named_after_in_any_way() {
        let place = tempfile::tempdir().unwrap();
        let mut contents = Contents::of(place.path());
        for name in ["GPU-1", "1", "0000:11:00.0", "00000000:11:00.0", "11:00.0"] {
            let file = place.path().join(name);
            fs::write(&file, "  dcgm: bad memory\nmore\n").unwrap();
            assert_eq!(
                entries(&mut contents),
                [("GPU-1".to_owned(), "dcgm: bad memory".to_owned())],
                "{name}"
            );
            fs::remove_file(&file).unwrap();
            assert!(entries(&mut contents).is_empty());
        }
    }

    #[test]
    fn what_is_odd_does_no_harm() {
        let place = tempfile::tempdir().unwrap();
        let mut contents = Contents::of(place.path());
        let write = |name: &str, text: &[u8]| fs::write(place.path().join(name), text).unwrap();
        write("9", b"no such GPU");
        write("+1", b"no index");
        write(".GPU-2.tmp", b"half");
        write("GPU-0", &[b'x'; 10_000]);
        write("GPU-2", b"\xff\x1b[2J\r\nb");
        write("3", b"");
        write("GPU-3", b"twice");
        fs::create_dir(place.path().join("1")).unwrap();
        let entries = entries(&mut contents);
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0].1.len(), 4096);
        assert_eq!(entries[1].1, "\u{fffd}[2J");
        assert_eq!(entries[2].1, "twice");
        assert_eq!(contents.logged.len(), 2);
    }

    #[test]
    fn entries_stay_while_the_directory_cannot_be_read_and_not_when_it_is_gone() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("quarantine");
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("0"), "").unwrap();
        let mut contents = Contents::of(&directory);
        assert_eq!(entries(&mut contents).len(), 1);
        fs::rename(&directory, place.path().join("kept")).unwrap();
        fs::write(&directory, "a file").unwrap();
        assert_eq!(entries(&mut contents).len(), 1);
        fs::remove_file(&directory).unwrap();
        assert!(entries(&mut contents).is_empty());
    }

    #[test]
    fn an_index_means_the_gpu_that_had_it_first_whatever_nvml_numbers_now() {
        let mut inventory = node(2);
        inventory.apply(Moment::default(), listing([Gpu { index: 0, ..gpu(1) }]));
        let names = GpuNames::of(&inventory);
        assert_eq!(names.find("1"), Some(&gpu(1).uuid));
        assert_eq!(names.find("0"), Some(&gpu(0).uuid));
        // A new GPU at an index that was another's is meant by none.
        inventory.apply(Moment::default(), listing([gpu(0), Gpu { index: 1, ..gpu(7) }]));
        let names = GpuNames::of(&inventory);
        assert_eq!(names.find("1"), Some(&gpu(1).uuid));
        assert_eq!(names.find("GPU-7"), Some(&gpu(7).uuid));
    }
}
