//! Files of the host.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::host::root::resolve_in_root;

/// The largest file that is read, in bytes.
const MAX_SIZE: u64 = 4 << 20;

/// Where a path of the host is for us; of one that is not there, the path below the root.
pub(super) fn within(root: &Path, path: &str) -> PathBuf {
    resolve_in_root(root, Path::new(path))
        .unwrap_or_else(|_| root.join(path.trim_start_matches('/')))
}

/// The first of the places at which there is a file.
pub(super) fn first_file(root: &Path, places: &[&str]) -> Option<PathBuf> {
    places.iter().map(|place| within(root, place)).find(|file| file.is_file())
}

/// The files in a directory whose names end with `end`, sorted.
pub(super) fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| {
        file.file_name().is_some_and(|name| name.to_string_lossy().ends_with(end)) && file.is_file()
    });
    files.sort();
    files
}

/// The text of a file that is not too large.
pub(super) fn text(file: &Path) -> Result<String, String> {
    let size = fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > MAX_SIZE {
        return Err(format!("{size} bytes are too many"));
    }
    fs::read_to_string(file).map_err(|error| error.to_string())
}

/// Parses TOML, as a value of JSON.
pub(super) fn toml(text: &str) -> Result<Value, String> {
    // Its display has several lines.
    toml::from_str(text).map_err(|error| error.message().to_owned())
}
