//! The configuration of container runtimes, of NVIDIA's runtime, and of CDI.

mod containerd;
mod engines;
mod files;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::yaml;
use crate::doctor::facts::{CdiContent, CdiSpec, ContainerRuntimes, ToolkitConfig};
use files::{files, first_file, text, toml, within};

const TOOLKIT_CONFIGS: [&str; 2] = [
    "etc/nvidia-container-runtime/config.toml",
    "usr/local/nvidia/toolkit/.config/nvidia-container-runtime/config.toml",
];
/// Where runtimes look for CDI specifications by default; /var/run is /run.
const SPEC_DIRECTORIES: [&str; 2] = ["etc/cdi", "run/cdi"];

/// What the files below the host's root say.
pub(super) fn runtimes(root: &Path) -> ContainerRuntimes {
    let spec_directories = SPEC_DIRECTORIES.map(|place| within(root, place)).to_vec();
    ContainerRuntimes {
        runtimes: engines::engines(root),
        kubelet_endpoint: engines::kubelet_endpoint(root),
        toolkit: toolkit(root),
        specs: spec_directories.iter().flat_map(|directory| specs(root, directory)).collect(),
        spec_directories,
        ..ContainerRuntimes::default()
    }
}

/// The configuration of NVIDIA's container runtime.
fn toolkit(root: &Path) -> Option<ToolkitConfig> {
    let file = first_file(root, &TOOLKIT_CONFIGS)?;
    let document = text(&file).and_then(|text| toml(&text));
    let setting = |name: &str| document.as_ref().ok()?.get(name)?.as_bool();
    Some(ToolkitConfig {
        volume_mounts: setting("accept-nvidia-visible-devices-as-volume-mounts"),
        envvar: setting("accept-nvidia-visible-devices-envvar-when-unprivileged"),
        problem: document.as_ref().err().cloned(),
        file,
    })
}

/// The CDI specifications in a directory.
fn specs(root: &Path, directory: &Path) -> Vec<CdiSpec> {
    let mut found: Vec<PathBuf> =
        [".json", ".yaml", ".yml"].iter().flat_map(|end| files(directory, end)).collect();
    found.sort();
    let content = |file: &Path| text(file).and_then(|text| parse(root, &text));
    found.into_iter().map(|file| CdiSpec { content: content(&file), file }).collect()
}

fn parse(root: &Path, text: &str) -> Result<CdiContent, String> {
    // JSON is YAML.
    let document = yaml(text)?;
    let kind = document.get("kind").and_then(Value::as_str).ok_or("it has no kind")?;
    let devices = document.get("devices").and_then(Value::as_array).ok_or("it has no devices")?;
    // To YAML a name may be a number.
    let name = |device: &Value| match device.get("name")? {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let edits = devices.iter().chain([&document]).filter_map(|of| of.get("containerEdits"));
    let paths: BTreeSet<&str> = edits.flat_map(host_paths).collect();
    let absent = paths.into_iter().filter(|path| !within(root, path).exists());
    Ok(CdiContent {
        kind: kind.to_owned(),
        devices: devices.iter().filter_map(name).collect(),
        absent: absent.map(ToOwned::to_owned).collect(),
    })
}

/// The paths of the host that edits of a container name.
fn host_paths(edits: &Value) -> impl Iterator<Item = &str> {
    let each = |list: &str| edits.get(list).and_then(Value::as_array).into_iter().flatten();
    let nodes = each("deviceNodes").filter_map(|of| of.get("hostPath").or_else(|| of.get("path")));
    let mounts = each("mounts").filter_map(|of| of.get("hostPath"));
    let hooks = each("hooks").filter_map(|of| of.get("path"));
    nodes.chain(mounts).chain(hooks).filter_map(Value::as_str)
}
