//! containerd: a node may have several, of which the kubelet uses one.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::files::{matches, toml, within};
use super::settings::{apply, read, socket};
use crate::doctor::facts::ContainerRuntime;

/// A containerd of its own or of a Kubernetes distribution: where its configuration and its socket
/// are.
struct Place {
    name: &'static str,
    config: &'static str,
    socket: &'static str,
}

/// k3s and RKE2 have one socket, and Talos has the usual one with another configuration.
const PLACES: [Place; 6] = [
    Place {
        name: "containerd of Talos",
        config: "etc/cri/containerd.toml",
        socket: "run/containerd/containerd.sock",
    },
    Place {
        name: "containerd",
        config: "etc/containerd/config.toml",
        socket: "run/containerd/containerd.sock",
    },
    Place {
        name: "containerd of k3s",
        config: "var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        socket: "run/k3s/containerd/containerd.sock",
    },
    Place {
        name: "containerd of RKE2",
        config: "var/lib/rancher/rke2/agent/etc/containerd/config.toml",
        socket: "run/k3s/containerd/containerd.sock",
    },
    Place {
        name: "containerd of MicroK8s",
        config: "var/snap/microk8s/current/args/containerd.toml",
        socket: "var/snap/microk8s/common/run/containerd.sock",
    },
    Place {
        name: "containerd of k0s",
        config: "etc/k0s/containerd.toml",
        socket: "run/k0s/containerd.sock",
    },
];

/// The most files of one configuration that are read.
const MAX_FILES: usize = 64;

/// Every containerd that there are signs of. A socket without any known configuration is one too.
pub(super) fn containerds(root: &Path) -> Vec<ContainerRuntime> {
    let has_config = |place: &&Place| within(root, place.config).is_file();
    let mut found: Vec<ContainerRuntime> =
        PLACES.iter().filter(has_config).map(|place| configured(root, place)).collect();
    for place in &PLACES {
        let socket = socket(root, place.socket);
        if socket.exists && !found.iter().any(|runtime| runtime.socket == socket) {
            let name =
                if place.socket.starts_with("run/containerd/") { "containerd" } else { place.name };
            found.push(ContainerRuntime { name, socket, ..Default::default() });
        }
    }
    // Where Talos has a containerd for pods, the usual configuration is of the one for the system.
    if found.iter().any(|runtime| runtime.name == PLACES[0].name) {
        found.retain(|runtime| runtime.name != PLACES[1].name);
    }
    found
}

/// Reads a configuration and what it imports, as containerd does
/// (containerd cmd/containerd/server/config: a relative path is relative to the file that names it,
/// `*` stands for any text in a name, and imported files import too).
fn configured(root: &Path, place: &Place) -> ContainerRuntime {
    let socket = socket(root, place.socket);
    let mut runtime = ContainerRuntime { name: place.name, socket, ..Default::default() };
    // Paths as the host has them.
    let mut left = vec![PathBuf::from("/").join(place.config)];
    let mut seen: Vec<PathBuf> = Vec::new();
    while let Some(path) = left.pop() {
        if seen.contains(&path) || seen.len() >= MAX_FILES {
            continue;
        }
        seen.push(path.clone());
        let file = within(root, &path.to_string_lossy());
        let Some(document) = read(&mut runtime, file, toml) else { continue };
        if seen.len() == 1 {
            // From 2.0 on, which reads version 3, CDI is on unless it is turned off.
            let version = document.get("version").and_then(Value::as_i64);
            runtime.cdi = (version == Some(3)).then_some(true);
        }
        apply_document(&mut runtime, root, &document);
        let mut imported = imports(root, &path, &document);
        // The last in the list is read next.
        imported.reverse();
        left.extend(imported);
    }
    runtime
}

/// The files that `imports` names, as paths of the host.
fn imports(root: &Path, file: &Path, document: &Value) -> Vec<PathBuf> {
    let patterns = document.get("imports").and_then(Value::as_array).into_iter().flatten();
    let directory = file.parent().unwrap_or(Path::new("/"));
    let imported = |pattern: &str| {
        let path = directory.join(pattern);
        if pattern.contains('*') { matches(root, &path) } else { vec![path] }
    };
    patterns.filter_map(Value::as_str).flat_map(imported).collect()
}

/// The name of the CRI plugin differs from version to version; the settings in its table do not.
fn apply_document(runtime: &mut ContainerRuntime, root: &Path, document: &Value) {
    let disabled = document.get("disabled_plugins").and_then(Value::as_array);
    let is_cri = |plugin: &str| {
        plugin == "cri"
            || plugin.starts_with("io.containerd.grpc.v1.cri")
            || plugin.starts_with("io.containerd.cri.v1")
    };
    runtime.without_cri |= disabled.into_iter().flatten().filter_map(Value::as_str).any(is_cri);
    let plugins = document.get("plugins").and_then(Value::as_object);
    for plugin in plugins.into_iter().flat_map(|plugins| plugins.values()) {
        runtime.cdi = plugin.get("enable_cdi").and_then(Value::as_bool).or(runtime.cdi);
        if let Some(table) = plugin.get("containerd") {
            apply(runtime, root, table, "default_runtime_name", "/options/BinaryName");
        }
    }
}
