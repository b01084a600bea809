//! Files of the host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::doctor::facts::ContainerRuntime;
use crate::host::root::resolve_in_root;

/// The largest file that is read, in bytes.
const MAX_SIZE: u64 = 4 << 20;

/// Where a path of the host is for us; of one that is not there, the path below the root.
pub(super) fn within(root: &Path, path: &str) -> PathBuf {
    resolve_in_root(root, Path::new(path))
        .unwrap_or_else(|_| root.join(path.trim_start_matches('/')))
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
    match size {
        0..=MAX_SIZE => fs::read_to_string(file).map_err(|error: io::Error| error.to_string()),
        _ => Err(format!("{size} bytes are too many")),
    }
}

/// Parses TOML, as a value of JSON.
pub(super) fn toml(text: &str) -> Result<Value, String> {
    // Its display has several lines.
    toml::from_str(text).map_err(|error| error.message().to_owned())
}

/// Reads a file of a runtime, and notes in the runtime that it was read, or what is wrong with it.
pub(super) fn read(
    runtime: &mut ContainerRuntime,
    file: PathBuf,
    parse: impl Fn(&str) -> Result<Value, String>,
) -> Option<Value> {
    let read = text(&file)
        .and_then(|text| parse(&text))
        .map_err(|error| format!("{}: {error}", file.display()));
    runtime.files.push(file);
    match read {
        Ok(value) => Some(value),
        Err(error) => {
            runtime.problem.get_or_insert(error);
            None
        }
    }
}
