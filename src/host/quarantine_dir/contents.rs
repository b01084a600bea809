//! What the quarantine directory contained when it was last read, and which GPUs that means.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use device::names::Uuid;
use tracing::{info, warn};

use super::first_line::TEXT;
use super::gpu_names::GpuNames;
use super::listing::{Listing, TOLD};

/// The quarantined GPUs and the reason of each.
pub type Quarantine = BTreeMap<Uuid, Arc<str>>;

/// What was last read from the directory, and what was logged of it.
#[derive(Debug, Default)]
pub(super) struct Contents {
    directory: PathBuf,
    listing: Listing,
    /// Names of no GPU that were logged.
    logged: BTreeSet<String>,
    has_more_names: bool,
    is_cut: bool,
    unreadable: bool,
}

impl Contents {
    /// The contents of this directory, which is not read yet.
    pub(super) fn of(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), ..Self::default() }
    }

    /// Takes over what was read. A directory that cannot be read, unlike one that is missing,
    /// releases no GPU.
    pub(super) fn update(&mut self, read: io::Result<Listing>) {
        match read {
            Ok(listing) => self.listing = listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.listing = Listing::default();
            }
            Err(error) => return self.cannot_be_read(&error),
        }
        if std::mem::take(&mut self.unreadable) {
            let directory = self.directory.display();
            info!(%directory, "the quarantine directory can be read again");
        }
        let was_cut = std::mem::replace(&mut self.is_cut, self.listing.is_cut);
        if self.is_cut && !was_cut {
            warn!(directory = %self.directory.display(), "the quarantine directory has more than a \
                thousand files named like GPUs that this node does not have, or that clear: of \
                these the others are passed over; files of this node's GPUs count all the same");
        }
    }

    /// Logs that the directory cannot be read, once until it can.
    pub(super) fn cannot_be_read(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.unreadable, true) {
            warn!(directory = %self.directory.display(), %error, "the quarantine directory cannot \
                be read: what was read from it before stands");
        }
    }

    /// The GPUs that the files mean. A name of no GPU is logged once, as soon as there are GPUs.
    pub(super) fn quarantine(&mut self, gpus: &GpuNames) -> Quarantine {
        let mut quarantine: BTreeMap<Uuid, String> = BTreeMap::new();
        let mut names = self.listing.others.clone();
        let mut count = self.listing.other_count;
        for (name, text) in &self.listing.reasons {
            let Some(uuid) = gpus.find(name) else {
                names.insert(name.clone());
                count += 1;
                continue;
            };
            let reason = quarantine.entry(uuid.clone()).or_default();
            let gap = if reason.is_empty() || text.is_empty() { "" } else { "; " };
            *reason = format!("{reason}{gap}{text}");
            shorten(reason);
        }
        if !gpus.is_empty() {
            self.log_names(names.into_iter().take(TOLD).collect(), count);
        }
        quarantine.into_iter().map(|(uuid, reason)| (uuid, Arc::from(reason))).collect()
    }

    /// Logs the first names of no GPU, and that there are more.
    fn log_names(&mut self, names: BTreeSet<String>, count: usize) {
        for name in names.difference(&self.logged) {
            warn!(
                name,
                "a file in the quarantine directory is named after no GPU: it has no effect"
            );
        }
        let more = count > names.len();
        if more && !self.has_more_names {
            warn!(
                count,
                "so many files in the quarantine directory are named after no GPU; not all are \
                 logged"
            );
        }
        (self.logged, self.has_more_names) = (names, more);
    }
}

/// Cuts a reason to the length of one file's.
fn shorten(reason: &mut String) {
    let mut end = TEXT.min(reason.len());
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use device::gpu::Gpu;
    use device::health::Moment;
    use device::testing::{gpu, listing, node};
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn read(contents: &mut Contents) -> Quarantine {
        let gpus = GpuNames::example();
        contents.update(Listing::read(&contents.directory, &gpus));
        contents.quarantine(&gpus)
    }

    fn entries(contents: &mut Contents) -> Vec<(String, String)> {
        let quarantine = read(contents).into_iter();
        quarantine.map(|(uuid, text)| (uuid.to_string(), text.to_string())).collect()
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
    fn whatever_is_named_after_a_gpu_and_is_no_directory_counts_and_shows_no_other_file() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let mut contents = Contents::of(place.path());
        fs::write(at("secret"), "secret\n").unwrap();
        mknodat(CWD, at("0"), FileType::Fifo, Mode::RUSR, 0).unwrap();
        symlink("secret", at("1")).unwrap();
        symlink("nowhere", at("2")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("3")).unwrap();
        let entries = entries(&mut contents);
        for ((_, reason), what) in
            entries.iter().zip(["FIFO", "symbolic link", "symbolic link", "socket"])
        {
            let text = format!("(the file cannot be read: it is a {what}, not a regular file)");
            assert_eq!(*reason, text);
        }
        assert_eq!(entries.len(), 4);
    }

    #[test]
    fn any_number_of_other_files_hides_no_gpu_and_takes_no_room() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let mut contents = Contents::of(place.path());
        for number in 0..1100 {
            fs::write(at(&format!("other-{number}")), "x").unwrap();
            fs::write(at(&format!("GPU-{}", 1000 + number)), "of another node").unwrap();
        }
        fs::write(place.path().join(OsStr::from_bytes(b"\xff")), "").unwrap();
        for zeros in 0..40 {
            fs::write(at(&format!("{}2", "0".repeat(zeros))), [b'y'; 4096]).unwrap();
        }
        fs::write(at("GPU-1"), "this one").unwrap();
        let entries = entries(&mut contents);
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0], ("GPU-1".to_owned(), "this one".to_owned()));
        assert_eq!(entries[1].1.len(), TEXT);
        assert!(contents.is_cut, "the files of GPUs that are not known are too many");
        assert!(contents.logged.len() == TOLD && contents.has_more_names);
        assert!(contents.listing.reasons.len() < 1100);
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
