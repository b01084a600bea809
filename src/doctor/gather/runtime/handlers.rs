//! The handlers of a container runtime that are NVIDIA's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::within;
use crate::doctor::facts::HandlerProgram;

/// Where a program that is named without a path may be.
const DIRECTORIES: [&str; 5] =
    ["usr/bin", "usr/local/bin", "usr/local/nvidia/toolkit", "bin", "usr/sbin"];

/// Adds the handlers in `table` that are NVIDIA's, by their name or their program's. `program` gets
/// the program from a handler's table.
pub(super) fn add_nvidia(
    to: &mut BTreeMap<String, HandlerProgram>,
    root: &Path,
    table: Option<&Value>,
    program: impl Fn(&Value) -> Option<String>,
) {
    for (name, handler) in table.and_then(Value::as_object).into_iter().flatten() {
        let path = program(handler);
        if name.contains("nvidia")
            || path.as_deref().is_some_and(|path| path.contains("nvidia-container-runtime"))
        {
            to.insert(name.clone(), located(root, path));
        }
    }
}

fn located(root: &Path, path: Option<String>) -> HandlerProgram {
    let Some(path) = path.filter(|path| !path.is_empty()) else {
        return HandlerProgram::default();
    };
    let exists = match path.contains('/') {
        true => within(root, &path).exists(),
        false => DIRECTORIES.iter().any(|place| within(root, &format!("{place}/{path}")).exists()),
    };
    HandlerProgram { path: Some(PathBuf::from(path)), exists }
}
