//! The config file of flag and environment at one time.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use super::file::{FileText, read_start};
use crate::host::file::{self as host_file, Links};

/// A file at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundFile {
    /// Its path and content.
    pub(super) text: FileText,
    /// It is a link to `/dev/null`, by which NVIDIA's config manager says that all settings are to
    /// have their defaults.
    pub(super) is_null: bool,
}

impl FoundFile {
    /// The file at `path`, or why there is none. It is opened and read without waiting for anybody.
    pub(super) fn read(path: &Path) -> Self {
        found(path, host_file::open(path, Links::Follow).and_then(read_start))
    }
}

fn found(path: &Path, content: io::Result<Vec<u8>>) -> FoundFile {
    let has_bytes = content.as_ref().is_ok_and(|bytes| !bytes.is_empty());
    let is_null = !has_bytes && is_null_device(path);
    let content = if is_null { Ok(Vec::new()) } else { content };
    let content = content.map_err(|error| error.to_string());
    FoundFile { text: FileText { path: path.to_owned(), content }, is_null }
}

/// Whether it is the device that is always empty.
fn is_null_device(path: &Path) -> bool {
    let same = |there: fs::Metadata| {
        let null = fs::metadata("/dev/null").map(|null| null.rdev());
        there.file_type().is_char_device() && null.is_ok_and(|null| null == there.rdev())
    };
    fs::metadata(path).is_ok_and(same)
}
