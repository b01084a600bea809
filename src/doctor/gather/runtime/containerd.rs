//! containerd.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{files, read, toml, within};
use super::handlers;
use crate::doctor::facts::ContainerRuntime;

/// Its configuration, its own and those of Kubernetes distributions.
const CONFIGS: [&str; 5] = [
    "etc/containerd/config.toml",
    "var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    "var/lib/rancher/rke2/agent/etc/containerd/config.toml",
    "var/snap/microk8s/current/args/containerd.toml",
    "etc/k0s/containerd.toml",
];
const SOCKETS: [&str; 4] = [
    "run/containerd/containerd.sock",
    "run/k3s/containerd/containerd.sock",
    "var/snap/microk8s/common/run/containerd.sock",
    "run/k0s/containerd.sock",
];

pub(super) fn containerd(root: &Path) -> Option<ContainerRuntime> {
    let socket = SOCKETS.iter().any(|place| within(root, place).exists());
    let file = CONFIGS.iter().map(|place| within(root, place)).find(|file| file.is_file());
    let mut runtime = ContainerRuntime { name: "containerd", socket, ..Default::default() };
    let Some(file) = file else { return socket.then_some(runtime) };
    let main = read(&mut runtime, file, toml);
    // From 2.0 on, which reads version 3, CDI is on unless it is turned off.
    runtime.cdi = main
        .as_ref()
        .filter(|main| main.get("version").and_then(Value::as_i64) == Some(3))
        .map(|_| true);
    let imports = main.as_ref().map(|main| imports(root, main)).unwrap_or_default();
    let mut documents: Vec<Value> = main.into_iter().collect();
    documents.extend(imports.into_iter().filter_map(|file| read(&mut runtime, file, toml)));
    for document in &documents {
        apply(&mut runtime, root, document);
    }
    Some(runtime)
}

/// The files that `imports` names: a file, or all of a directory with one ending.
fn imports(root: &Path, main: &Value) -> Vec<PathBuf> {
    let patterns = main.get("imports").and_then(Value::as_array).into_iter().flatten();
    let imported = |pattern: &str| match pattern.rsplit_once("/*") {
        None => vec![within(root, pattern)],
        Some((directory, end)) => files(&within(root, directory), end),
    };
    patterns.filter_map(Value::as_str).flat_map(imported).collect()
}

/// Takes the settings of one file over those before it. The name of the CRI plugin differs from
/// version to version; the settings in its table do not.
fn apply(runtime: &mut ContainerRuntime, root: &Path, document: &Value) {
    let plugins = document.get("plugins").and_then(Value::as_object);
    for plugin in plugins.into_iter().flat_map(|plugins| plugins.values()) {
        if let Some(enabled) = plugin.get("enable_cdi").and_then(Value::as_bool) {
            runtime.cdi = Some(enabled);
        }
        let Some(table) = plugin.get("containerd") else { continue };
        let default = table.get("default_runtime_name").and_then(Value::as_str);
        runtime.default = default.map(ToOwned::to_owned).or(runtime.default.take());
        let program = |handler: &Value| {
            handler.get("options")?.get("BinaryName")?.as_str().map(ToOwned::to_owned)
        };
        handlers::add_nvidia(&mut runtime.nvidia, root, table.get("runtimes"), program);
    }
}
