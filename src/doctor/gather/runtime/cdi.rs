//! CDI specifications.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{files, text, within};
use crate::config::yaml;
use crate::doctor::facts::CdiSpec;

/// Where runtimes look by default; /var/run is /run.
const DIRECTORIES: [&str; 2] = ["etc/cdi", "run/cdi"];

pub(super) fn directories(root: &Path) -> Vec<PathBuf> {
    DIRECTORIES.iter().map(|place| within(root, place)).collect()
}

/// The specifications in a directory.
pub(super) fn specs(directory: &Path) -> Vec<CdiSpec> {
    let mut found: Vec<PathBuf> =
        [".json", ".yaml", ".yml"].iter().flat_map(|end| files(directory, end)).collect();
    found.sort();
    let spec = |file: PathBuf| CdiSpec { content: text(&file).and_then(|text| parse(&text)), file };
    found.into_iter().map(spec).collect()
}

/// The kind and the names of the devices.
fn parse(text: &str) -> Result<(String, BTreeSet<String>), String> {
    // JSON is YAML.
    let document = yaml(text)?;
    let kind = document.get("kind").and_then(Value::as_str).ok_or("it has no kind")?;
    let devices = document.get("devices").and_then(Value::as_array).ok_or("it has no devices")?;
    Ok((kind.to_owned(), devices.iter().filter_map(name).collect()))
}

/// The name of a device; to YAML it may be a number.
fn name(device: &Value) -> Option<String> {
    match device.get("name")? {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
