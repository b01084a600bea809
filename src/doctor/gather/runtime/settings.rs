//! What the configurations of all container runtimes have in common.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{text, within};
use crate::doctor::facts::{ContainerRuntime, RuntimeSocket};

/// Where a program that is named without a path may be.
const PROGRAM_DIRECTORIES: [&str; 5] =
    ["usr/bin", "usr/local/bin", "usr/local/nvidia/toolkit", "bin", "usr/sbin"];

/// The socket at a place below the host's root.
pub(super) fn socket(root: &Path, place: &str) -> RuntimeSocket {
    RuntimeSocket { path: format!("/{place}"), exists: within(root, place).exists() }
}

/// Reads a file of a runtime, and notes in the runtime that it was read, or what is wrong with it.
pub(super) fn read(
    runtime: &mut ContainerRuntime,
    file: PathBuf,
    parse: impl Fn(&str) -> Result<Value, String>,
) -> Option<Value> {
    let read = text(&file).and_then(|text| parse(&text));
    if let Err(error) = &read {
        runtime.problem.get_or_insert_with(|| format!("{}: {error}", file.display()));
    }
    runtime.files.push(file);
    read.ok()
}

/// Takes the default runtime, and the handlers that are NVIDIA's by their name or their program's,
/// from the table of one file over those before it. `program` points to a handler's program.
pub(super) fn apply(
    runtime: &mut ContainerRuntime,
    root: &Path,
    table: &Value,
    default: &str,
    program: &str,
) {
    let default = table.get(default).and_then(Value::as_str).map(ToOwned::to_owned);
    runtime.default = default.or(runtime.default.take());
    for (name, handler) in table.get("runtimes").and_then(Value::as_object).into_iter().flatten() {
        let program = handler.pointer(program).and_then(Value::as_str).unwrap_or_default();
        if name.contains("nvidia") || program.contains("nvidia-container-runtime") {
            let missing = !program.is_empty() && is_missing(root, program);
            runtime.nvidia.insert(name.clone(), missing.then(|| program.into()));
        }
    }
}

/// Whether a program, with its path or without, is nowhere on the host.
fn is_missing(root: &Path, program: &str) -> bool {
    let is_there = |path: &str| within(root, path).exists();
    match program.contains('/') {
        true => !is_there(program),
        false => !PROGRAM_DIRECTORIES.iter().any(|place| is_there(&format!("{place}/{program}"))),
    }
}
