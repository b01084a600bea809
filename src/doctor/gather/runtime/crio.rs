//! CRI-O.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{files, read, toml, within};
use super::handlers;
use crate::doctor::facts::{ContainerRuntime, HandlerProgram};

const CONFIG: &str = "etc/crio/crio.conf";
const CONFIG_PARTS: &str = "etc/crio/crio.conf.d";
const SOCKET: &str = "run/crio/crio.sock";
/// Hooks with which CRI-O brings GPUs into the containers of any runtime.
const HOOKS: [&str; 2] = ["usr/share/containers/oci/hooks.d", "etc/containers/oci/hooks.d"];
const HOOK: &str = "NVIDIA's OCI hook";

pub(super) fn crio(root: &Path) -> Option<ContainerRuntime> {
    let socket = within(root, SOCKET).exists();
    let main = Some(within(root, CONFIG)).filter(|file| file.is_file());
    let found: Vec<PathBuf> =
        main.into_iter().chain(files(&within(root, CONFIG_PARTS), "")).collect();
    if found.is_empty() && !socket {
        return None;
    }
    let mut runtime =
        ContainerRuntime { name: "CRI-O", socket, cdi: Some(true), ..Default::default() };
    for file in found {
        if let Some(document) = read(&mut runtime, file, toml) {
            apply(&mut runtime, root, &document);
        }
    }
    if has_nvidia_hook(root) {
        runtime.nvidia.insert(HOOK.to_owned(), HandlerProgram::default());
        runtime.default = Some(HOOK.to_owned());
    }
    Some(runtime)
}

/// Takes the settings of one file over those before it.
fn apply(runtime: &mut ContainerRuntime, root: &Path, document: &Value) {
    let Some(table) = document.get("crio").and_then(|crio| crio.get("runtime")) else { return };
    let default = table.get("default_runtime").and_then(Value::as_str);
    runtime.default = default.map(ToOwned::to_owned).or(runtime.default.take());
    let program = |handler: &Value| handler.get("runtime_path")?.as_str().map(ToOwned::to_owned);
    handlers::add_nvidia(&mut runtime.nvidia, root, table.get("runtimes"), program);
}

fn has_nvidia_hook(root: &Path) -> bool {
    let mut hooks = HOOKS.iter().flat_map(|place| files(&within(root, place), ".json"));
    hooks.any(|hook| hook.file_name().is_some_and(|name| name.to_string_lossy().contains("nvidia")))
}
