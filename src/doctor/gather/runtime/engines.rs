//! The container runtimes of a node, CRI-O and docker among them, and how the kubelet names the one
//! that it uses.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::containerd::containerds;
use super::files::{files, first_file, text, toml, within};
use super::settings::{apply, read, socket};
use crate::config::yaml;
use crate::doctor::facts::{ContainerRuntime, RuntimeSocket};

const CRIO_CONFIG: &str = "etc/crio/crio.conf";
const CRIO_CONFIG_PARTS: &str = "etc/crio/crio.conf.d";
const CRIO_SOCKET: &str = "run/crio/crio.sock";
/// Hooks with which CRI-O brings GPUs into the containers of any runtime.
const HOOKS: [&str; 2] = ["usr/share/containers/oci/hooks.d", "etc/containers/oci/hooks.d"];
const NVIDIA_HOOK: &str = "NVIDIA's OCI hook";

const DOCKER_CONFIG: &str = "etc/docker/daemon.json";
/// The kubelet reaches docker through this.
const DOCKER_SOCKET: &str = "run/cri-dockerd.sock";

/// Files with the flags of the kubelet: kubeadm's, and MicroK8s'.
const FLAG_FILES: [&str; 2] =
    ["var/lib/kubelet/kubeadm-flags.env", "var/snap/microk8s/current/args/kubelet"];
const ENDPOINT_FLAG: &str = "--container-runtime-endpoint=";
const KUBELET_CONFIG: &str = "var/lib/kubelet/config.yaml";

/// The container runtimes that there are signs of; docker, if nothing else is used.
pub(super) fn engines(root: &Path) -> Vec<ContainerRuntime> {
    let mut found = containerds(root);
    found.extend(crio(root));
    let docker_socket = socket(root, DOCKER_SOCKET);
    if docker_socket.exists || found.is_empty() {
        found.extend(docker(root, docker_socket));
    }
    found
}

/// The endpoint that the kubelet is configured with: the path of a socket on the host.
///
/// Flags count before the file. Where they stand depends on what starts the kubelet: kubeadm and
/// MicroK8s keep them in a file; those of other distributions cannot be seen.
pub(super) fn kubelet_endpoint(root: &Path) -> Option<String> {
    let flags = FLAG_FILES.iter().filter_map(|place| text(&within(root, place)).ok());
    let mut in_flags = flags.filter_map(|text| {
        let (_, value) = text.split_once(ENDPOINT_FLAG)?;
        let value = value.split(|c: char| c.is_whitespace() || c == '"').next()?;
        Some(value.to_owned())
    });
    let in_file = || {
        let document = yaml(&text(&within(root, KUBELET_CONFIG)).ok()?).ok()?;
        Some(document.get("containerRuntimeEndpoint")?.as_str()?.to_owned())
    };
    let endpoint = in_flags.next_back().or_else(in_file)?;
    let path = endpoint.strip_prefix("unix://").unwrap_or(&endpoint);
    // /var/run is /run.
    let path =
        path.strip_prefix("/var/run/").map_or(path.to_owned(), |rest| format!("/run/{rest}"));
    path.starts_with('/').then_some(path)
}

fn crio(root: &Path) -> Option<ContainerRuntime> {
    let socket = socket(root, CRIO_SOCKET);
    let main = first_file(root, &[CRIO_CONFIG]);
    let found: Vec<PathBuf> =
        main.into_iter().chain(files(&within(root, CRIO_CONFIG_PARTS), "")).collect();
    if found.is_empty() && !socket.exists {
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

fn docker(root: &Path, socket: RuntimeSocket) -> Option<ContainerRuntime> {
    let exists = socket.exists;
    let mut runtime = ContainerRuntime { name: "docker", socket, ..Default::default() };
    let Some(file) = first_file(root, &[DOCKER_CONFIG]) else { return exists.then_some(runtime) };
    let json = |text: &str| serde_json::from_str(text).map_err(|error| error.to_string());
    if let Some(document) = read(&mut runtime, file, json) {
        runtime.cdi = document.pointer("/features/cdi").and_then(Value::as_bool);
        apply(&mut runtime, root, &document, "default-runtime", "/path");
    }
    Some(runtime)
}
