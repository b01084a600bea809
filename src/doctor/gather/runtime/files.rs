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

/// The files of the host that fit a pattern with `*` in the last name, sorted, as paths of the
/// host. A pattern with `*` in a directory's name fits nothing.
pub(super) fn matches(root: &Path, pattern: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    let entries = fs::read_dir(within(root, &directory.to_string_lossy()));
    let entries = entries.into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| fits(&name, &entry.file_name().to_string_lossy()))
        .map(|entry| directory.join(entry.file_name()))
        .collect();
    found.sort();
    found
}

/// Whether a name fits a pattern in which `*` stands for any text.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some((_, after)) = left.split_once(part) else { return false };
        left = after;
    }
    left.ends_with(end)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("*.toml", "99-nvidia.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.toml.bak", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "ac", false),
            ("a*a", "a", false),
            ("config.toml", "config.toml", true),
            ("*", "anything", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
