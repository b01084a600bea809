//! The configuration files of container runtimes, of NVIDIA's runtime, and of CDI.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::yaml;
use crate::doctor::facts::{
    CdiSpec, ContainerRuntime, ContainerRuntimes, HandlerProgram, ToolkitConfig,
};
use crate::host::root::resolve_in_root;

/// containerd's configuration, its own and those of distributions of Kubernetes.
const CONTAINERD: [&str; 5] = [
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
const CRIO: &str = "etc/crio/crio.conf";
const CRIO_PARTS: &str = "etc/crio/crio.conf.d";
const CRIO_SOCKET: &str = "run/crio/crio.sock";
/// Hooks by which CRI-O brings GPUs into the containers of any runtime.
const HOOKS: [&str; 2] = ["usr/share/containers/oci/hooks.d", "etc/containers/oci/hooks.d"];
const DOCKER: &str = "etc/docker/daemon.json";
/// The kubelet speaks to docker through this.
const DOCKER_SOCKET: &str = "run/cri-dockerd.sock";
const TOOLKIT: [&str; 2] = [
    "etc/nvidia-container-runtime/config.toml",
    "usr/local/nvidia/toolkit/.config/nvidia-container-runtime/config.toml",
];
/// Where CDI looks by default; /var/run is /run.
const SPECS: [&str; 2] = ["etc/cdi", "run/cdi"];
/// Where a program that is named without a path may be.
const PROGRAMS: [&str; 5] =
    ["usr/bin", "usr/local/bin", "usr/local/nvidia/toolkit", "bin", "usr/sbin"];
/// As much of a file as is read.
const LARGEST: u64 = 4 << 20;

pub(super) fn look(root: &Path) -> ContainerRuntimes {
    let mut runtimes: Vec<ContainerRuntime> =
        [containerd(root), crio(root)].into_iter().flatten().collect();
    let dockerd = within(root, DOCKER_SOCKET).exists();
    if dockerd || runtimes.is_empty() {
        runtimes.extend(docker(root, dockerd));
    }
    let directories: Vec<PathBuf> = SPECS.iter().map(|place| within(root, place)).collect();
    ContainerRuntimes {
        runtimes,
        toolkit: TOOLKIT
            .iter()
            .map(|place| within(root, place))
            .find(|file| file.is_file())
            .map(toolkit),
        specs: directories.iter().flat_map(|directory| specs(directory)).collect(),
        spec_directories: directories,
        mps: Vec::new(),
    }
}

fn containerd(root: &Path) -> Option<ContainerRuntime> {
    let socket = CONTAINERD_SOCKETS.iter().any(|place| within(root, place).exists());
    let file = CONTAINERD.iter().map(|place| within(root, place)).find(|file| file.is_file());
    let mut runtime =
        ContainerRuntime { name: "containerd", socket, ..ContainerRuntime::default() };
    let Some(file) = file else { return socket.then_some(runtime) };
    let main = take(&mut runtime, file, toml);
    let imports = main.iter().filter_map(|main| main.get("imports")?.as_array()).flatten();
    let imports: Vec<PathBuf> =
        imports.filter_map(Value::as_str).flat_map(|pattern| imported(root, pattern)).collect();
    // From 2.0 on, which reads version 3, CDI is on unless it is turned off.
    runtime.cdi = main
        .as_ref()
        .filter(|main| main.get("version").and_then(Value::as_i64) == Some(3))
        .map(|_| true);
    let mut documents: Vec<Value> = main.into_iter().collect();
    for file in imports {
        documents.extend(take(&mut runtime, file, toml));
    }
    for document in &documents {
        // The name of the CRI plugin differs from version to version; what is in its table does
        // not.
        for plugin in document
            .get("plugins")
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(|plugins| plugins.values())
        {
            if let Some(enabled) = plugin.get("enable_cdi").and_then(Value::as_bool) {
                runtime.cdi = Some(enabled);
            }
            let Some(table) = plugin.get("containerd") else { continue };
            let default = table.get("default_runtime_name").and_then(Value::as_str);
            runtime.default = default.map(ToOwned::to_owned).or(runtime.default.take());
            let program = |handler: &Value| {
                handler.get("options")?.get("BinaryName")?.as_str().map(ToOwned::to_owned)
            };
            handlers(root, table.get("runtimes"), program, &mut runtime.nvidia);
        }
    }
    Some(runtime)
}

/// Where a path of the host lies for us. One that is not there is taken as it is written.
fn within(root: &Path, path: &str) -> PathBuf {
    resolve_in_root(root, Path::new(path))
        .unwrap_or_else(|_| root.join(path.trim_start_matches('/')))
}

/// The files that a pattern of `imports` stands for: a file, or all of one ending in a directory.
fn imported(root: &Path, pattern: &str) -> Vec<PathBuf> {
    match pattern.rsplit_once("/*") {
        None => vec![within(root, pattern)],
        Some((directory, end)) => files(&within(root, directory), end),
    }
}

fn crio(root: &Path) -> Option<ContainerRuntime> {
    let socket = within(root, CRIO_SOCKET).exists();
    let main = Some(within(root, CRIO)).filter(|file| file.is_file());
    let found: Vec<PathBuf> =
        main.into_iter().chain(files(&within(root, CRIO_PARTS), "")).collect();
    if found.is_empty() && !socket {
        return None;
    }
    let mut runtime =
        ContainerRuntime { name: "CRI-O", socket, cdi: Some(true), ..ContainerRuntime::default() };
    for file in found {
        let Some(document) = take(&mut runtime, file, toml) else { continue };
        let Some(table) = document.get("crio").and_then(|crio| crio.get("runtime")) else {
            continue;
        };
        let default = table.get("default_runtime").and_then(Value::as_str);
        runtime.default = default.map(ToOwned::to_owned).or(runtime.default.take());
        let program =
            |handler: &Value| handler.get("runtime_path")?.as_str().map(ToOwned::to_owned);
        handlers(root, table.get("runtimes"), program, &mut runtime.nvidia);
    }
    let hooks = HOOKS.iter().flat_map(|place| files(&within(root, place), ".json"));
    if hooks
        .into_iter()
        .any(|hook| hook.file_name().is_some_and(|name| name.to_string_lossy().contains("nvidia")))
    {
        runtime.nvidia.insert("NVIDIA's OCI hook".to_owned(), HandlerProgram::default());
        runtime.default = Some("NVIDIA's OCI hook".to_owned());
    }
    Some(runtime)
}

fn docker(root: &Path, socket: bool) -> Option<ContainerRuntime> {
    let file = within(root, DOCKER);
    let mut runtime = ContainerRuntime { name: "docker", socket, ..ContainerRuntime::default() };
    if !file.is_file() {
        return socket.then_some(runtime);
    }
    let document = take(&mut runtime, file, |text| {
        serde_json::from_str(text).map_err(|error| error.to_string())
    });
    if let Some(document) = document {
        runtime.default =
            document.get("default-runtime").and_then(Value::as_str).map(ToOwned::to_owned);
        runtime.cdi = document.get("features").and_then(|features| features.get("cdi")?.as_bool());
        let program = |handler: &Value| handler.get("path")?.as_str().map(ToOwned::to_owned);
        handlers(root, document.get("runtimes"), program, &mut runtime.nvidia);
    }
    Some(runtime)
}

/// The handlers among `table` that are NVIDIA's, by their name or their program's.
fn handlers(
    root: &Path,
    table: Option<&Value>,
    program: impl Fn(&Value) -> Option<String>,
    to: &mut BTreeMap<String, HandlerProgram>,
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
    let Some(path) = path.filter(|path| !path.is_empty()) else { return HandlerProgram::default() };
    let exists = match path.contains('/') {
        true => within(root, &path).exists(),
        false => PROGRAMS.iter().any(|place| within(root, &format!("{place}/{path}")).exists()),
    };
    HandlerProgram { path: Some(PathBuf::from(path)), exists }
}

fn toolkit(file: PathBuf) -> ToolkitConfig {
    let document = text(&file).and_then(|text| toml(&text));
    let setting =
        |name: &str| document.as_ref().ok().and_then(|document| document.get(name)?.as_bool());
    ToolkitConfig {
        volume_mounts: setting("accept-nvidia-visible-devices-as-volume-mounts"),
        envvar: setting("accept-nvidia-visible-devices-envvar-when-unprivileged"),
        problem: document.as_ref().err().cloned(),
        file,
    }
}

fn specs(directory: &Path) -> Vec<CdiSpec> {
    let mut found: Vec<PathBuf> =
        [".json", ".yaml", ".yml"].iter().flat_map(|end| files(directory, end)).collect();
    found.sort();
    found
        .into_iter()
        .map(|file| CdiSpec { content: text(&file).and_then(|text| spec(&text)), file })
        .collect()
}

fn spec(text: &str) -> Result<(String, BTreeSet<String>), String> {
    // JSON is YAML.
    let document = yaml(text)?;
    let kind = document.get("kind").and_then(Value::as_str).ok_or("it has no kind")?;
    let devices = document.get("devices").and_then(Value::as_array).ok_or("it has no devices")?;
    // A name may be a number to YAML.
    let name = |device: &Value| match device.get("name")? {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    Ok((kind.to_owned(), devices.iter().filter_map(name).collect()))
}

/// Reads a file of a runtime, and notes it, or what is wrong with it.
fn take(
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

fn toml(text: &str) -> Result<Value, String> {
    // Its message shows the place in several lines.
    toml::from_str(text).map_err(|error| error.message().to_owned())
}

fn text(file: &Path) -> Result<String, String> {
    let size = fs::metadata(file).map_err(|error| error.to_string())?.len();
    match size {
        0..=LARGEST => fs::read_to_string(file).map_err(|error: io::Error| error.to_string()),
        _ => Err(format!("{size} bytes are too many")),
    }
}

/// The files in a directory whose names end so, in their order.
fn files(directory: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| {
        file.file_name().is_some_and(|name| name.to_string_lossy().ends_with(end)) && file.is_file()
    });
    files.sort();
    files
}
