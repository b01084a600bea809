//! What is in the quarantine directory, as read at once. Other files, however many, take no room
//! and hide nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use device::names::Uuid;

use super::clear_files;
use super::first_line::first_line;
use super::gpu_names::GpuNames;

/// The most files that mean one GPU. It has few names, and one file is enough.
const FILES_OF_GPU: usize = 16;
/// The most files that could mean GPUs which are not known yet: a node has no more GPUs.
const FILES_OF_NONE: usize = 1024;
/// The most files that clear.
const CLEAR_FILES: usize = 1024;
/// The most texts that are kept, in bytes.
const TEXTS: usize = 1 << 20;
/// How many of the names that mean no GPU are kept to be told.
pub(super) const TOLD: usize = 16;

/// What is in the directory.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// The reason in each file that is named like a GPU, by its name.
    pub(super) reasons: BTreeMap<String, String>,
    /// The files that clear.
    pub(super) clear: BTreeSet<PathBuf>,
    /// The first names that no GPU can have.
    pub(super) others: BTreeSet<String>,
    /// How many names no GPU can have.
    pub(super) other_count: usize,
    /// Whether there are more files that could mean GPUs which are not known, or that clear.
    pub(super) is_cut: bool,
    texts: usize,
    of_none: usize,
    of_gpu: BTreeMap<Uuid, usize>,
}

impl Listing {
    /// Reads the directory; it is known which names mean GPUs.
    pub(super) fn read(directory: &Path, gpus: &GpuNames) -> io::Result<Self> {
        let mut listing = Self::default();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let is = |kind: fn(&fs::FileType) -> bool| entry.file_type().is_ok_and(|of| kind(&of));
            if name.starts_with('.') || is(fs::FileType::is_dir) {
                continue;
            }
            if clear_files::is_one(&name) {
                if is(fs::FileType::is_file) {
                    listing.add_clear(entry.path());
                }
            } else if GpuNames::can_be_one(&name) {
                listing.add(&name, &entry.path(), gpus);
            } else {
                listing.add_other(&name);
            }
        }
        Ok(listing)
    }

    fn add(&mut self, name: &str, path: &Path, gpus: &GpuNames) {
        let (count, most) = match gpus.find(name) {
            Some(gpu) => (self.of_gpu.entry(gpu.clone()).or_default(), FILES_OF_GPU),
            None => {
                self.is_cut |= self.of_none >= FILES_OF_NONE;
                (&mut self.of_none, FILES_OF_NONE)
            }
        };
        if *count >= most {
            return;
        }
        *count += 1;
        if self.texts >= TEXTS {
            let text = "(the text is not read: there are too many)";
            self.reasons.insert(name.to_owned(), text.to_owned());
            return;
        }
        let reason = match first_line(path) {
            Ok(line) => line,
            // It was removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            // A file that cannot be read quarantines its GPU too.
            Err(error) => format!("(the file cannot be read: {error})"),
        };
        self.texts += reason.len();
        self.reasons.insert(name.to_owned(), reason);
    }

    fn add_clear(&mut self, path: PathBuf) {
        self.is_cut |= self.clear.len() >= CLEAR_FILES;
        if self.clear.len() < CLEAR_FILES {
            self.clear.insert(path);
        }
    }

    fn add_other(&mut self, name: &str) {
        self.other_count += 1;
        self.others.insert(name.to_owned());
        if self.others.len() > TOLD {
            self.others.pop_last();
        }
    }
}
