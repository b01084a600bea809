//! containerd, CRI-O and docker.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{files, first_file, text, toml, within};
use crate::doctor::facts::ContainerRuntime;

/// containerd's configuration, its own and those of Kubernetes distributions.
const CONTAINERD_CONFIGS: [&str; 5] = [
    "etc/containerd/config.toml",
    "var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    "var/lib/rancher/rke2/agent/etc/containerd/config.toml",
    "var/snap/microk8s/current/args/containerd.toml",
    "etc/k0s/containerd.toml",
];
const CONTAINERD_SOCKETS: [&str; 4] = [
    "run/containerd/containerd.sock",
    "run/k3s/containerd/containerd.sock",
    "var/snap/microk8s/common/run/containerd.sock",
    "run/k0s/containerd.sock",
];

const CRIO_CONFIG: &str = "etc/crio/crio.conf";
const CRIO_CONFIG_PARTS: &str = "etc/crio/crio.conf.d";
const CRIO_SOCKET: &str = "run/crio/crio.sock";
/// Hooks with which CRI-O brings GPUs into the containers of any runtime.
const HOOKS: [&str; 2] = ["usr/share/containers/oci/hooks.d", "etc/containers/oci/hooks.d"];
const NVIDIA_HOOK: &str = "NVIDIA's OCI hook";

const DOCKER_CONFIG: &str = "etc/docker/daemon.json";
/// The kubelet reaches docker through this.
const DOCKER_SOCKET: &str = "run/cri-dockerd.sock";

/// Where a program that is named without a path may be.
const PROGRAM_DIRECTORIES: [&str; 5] =
    ["usr/bin", "usr/local/bin", "usr/local/nvidia/toolkit", "bin", "usr/sbin"];

/// The container runtimes that there are signs of; docker, if nothing else is used.
pub(super) fn engines(root: &Path) -> Vec<ContainerRuntime> {
    let mut found: Vec<_> = [containerd(root), crio(root)].into_iter().flatten().collect();
    let docker_socket = within(root, DOCKER_SOCKET).exists();
    if docker_socket || found.is_empty() {
        found.extend(docker(root, docker_socket));
    }
    found
}

fn containerd(root: &Path) -> Option<ContainerRuntime> {
    let socket = CONTAINERD_SOCKETS.iter().any(|place| within(root, place).exists());
    let mut runtime = ContainerRuntime { name: "containerd", socket, ..Default::default() };
    let Some(file) = first_file(root, &CONTAINERD_CONFIGS) else {
        return socket.then_some(runtime);
    };
    let Some(main) = read(&mut runtime, file, toml) else { return Some(runtime) };
    // From 2.0 on, which reads version 3, CDI is on unless it is turned off.
    runtime.cdi = (main.get("version").and_then(Value::as_i64) == Some(3)).then_some(true);
    apply_containerd(&mut runtime, root, &main);
    for file in imports(root, &main) {
        if let Some(document) = read(&mut runtime, file, toml) {
            apply_containerd(&mut runtime, root, &document);
        }
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

/// The name of the CRI plugin differs from version to version; the settings in its table do not.
fn apply_containerd(runtime: &mut ContainerRuntime, root: &Path, document: &Value) {
    let plugins = document.get("plugins").and_then(Value::as_object);
    for plugin in plugins.into_iter().flat_map(|plugins| plugins.values()) {
        runtime.cdi = plugin.get("enable_cdi").and_then(Value::as_bool).or(runtime.cdi);
        if let Some(table) = plugin.get("containerd") {
            apply(runtime, root, table, "default_runtime_name", "/options/BinaryName");
        }
    }
}

fn crio(root: &Path) -> Option<ContainerRuntime> {
    let socket = within(root, CRIO_SOCKET).exists();
    let main = first_file(root, &[CRIO_CONFIG]);
    let found: Vec<PathBuf> =
        main.into_iter().chain(files(&within(root, CRIO_CONFIG_PARTS), "")).collect();
    if found.is_empty() && !socket {
        return None;
    }
    let mut runtime =
        ContainerRuntime { name: "CRI-O", socket, cdi: Some(true), ..Default::default() };
    for file in found {
        let document = read(&mut runtime, file, toml);
        if let Some(table) = document.as_ref().and_then(|all| all.pointer("/crio/runtime")) {
            apply(&mut runtime, root, table, "default_runtime", "/runtime_path");
        }
    }
    let is_nvidias = |name: &OsStr| name.to_string_lossy().contains("nvidia");
    let mut hooks = HOOKS.iter().flat_map(|place| files(&within(root, place), ".json"));
    if hooks.any(|hook| hook.file_name().is_some_and(is_nvidias)) {
        runtime.nvidia.insert(NVIDIA_HOOK.to_owned(), None);
        runtime.default = Some(NVIDIA_HOOK.to_owned());
    }
    Some(runtime)
}

fn docker(root: &Path, socket: bool) -> Option<ContainerRuntime> {
    let mut runtime = ContainerRuntime { name: "docker", socket, ..Default::default() };
    let Some(file) = first_file(root, &[DOCKER_CONFIG]) else { return socket.then_some(runtime) };
    let json = |text: &str| serde_json::from_str(text).map_err(|error| error.to_string());
    if let Some(document) = read(&mut runtime, file, json) {
        runtime.cdi = document.pointer("/features/cdi").and_then(Value::as_bool);
        apply(&mut runtime, root, &document, "default-runtime", "/path");
    }
    Some(runtime)
}

/// Reads a file of a runtime, and notes in the runtime that it was read, or what is wrong with it.
fn read(
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
fn apply(runtime: &mut ContainerRuntime, root: &Path, table: &Value, default: &str, program: &str) {
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
