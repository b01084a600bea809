//! Files of the host.

use std::fs;
use std::path::{Path, PathBuf};

use device::layout::filter::Pattern;
use serde_json::Value;

use crate::host::file::{self, Links};
use crate::host::root::resolve_in_root;

/// The largest file that is read, in bytes.
const MAX_SIZE: usize = 4 << 20;

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

/// The files of the host that fit a pattern with `*` in the last name, sorted, as paths of the
/// host. A pattern with `*` in a directory's name fits nothing.
pub(super) fn matches(root: &Path, pattern: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    let pattern = Pattern::new(name.to_string_lossy());
    let entries = fs::read_dir(within(root, &directory.to_string_lossy()));
    let entries = entries.into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| pattern.matches(&entry.file_name().to_string_lossy()))
        .map(|entry| directory.join(entry.file_name()))
        .collect();
    found.sort();
    found
}

/// The text of a file that is not too large.
pub(super) fn text(path: &Path) -> Result<String, String> {
    let bytes = file::read(path, Links::Follow, MAX_SIZE).map_err(|error| error.to_string())?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// Parses TOML, as a value of JSON.
pub(super) fn toml(text: &str) -> Result<Value, String> {
    // Its display has several lines.
    toml::from_str(text).map_err(|error| error.message().to_owned())
}
