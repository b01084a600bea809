//! The kubelet: its directory, its sockets, its checkpoint, its version, and the plugins there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::process::Command;

use super::{host, socket};
use crate::config::Config;
use crate::doctor::facts::{KubeletFacts, SocketProbe};
use crate::host::root::resolve_in_root;
use crate::kubelet::device_plugin::wire;

/// How long a socket, or the kubelet's program, may take to answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// The checkpoint, in the plugin directory (pkg/kubelet/cm/devicemanager/types.go).
pub(super) const CHECKPOINT: &str = "kubelet_internal_checkpoint";
/// The largest checkpoint that is read, in bytes: 2,048 devices make 100 KiB.
const MAX_CHECKPOINT: u64 = 16 << 20;

/// Where distributions have the kubelet, below the host's root.
const PROGRAMS: [&str; 5] = [
    "usr/bin/kubelet",
    "usr/local/bin/kubelet",
    "opt/bin/kubelet",
    "home/kubernetes/bin/kubelet",
    "var/lib/k0s/bin/kubelet",
];

pub(super) async fn kubelet(config: &Config, host_root: &Path) -> KubeletFacts {
    let paths = &config.process.plugin;
    let (others, socket, pod_resources, version) = tokio::join!(
        socket::plugins(paths, DEADLINE),
        probe(paths.kubelet.as_ref(), wire::REGISTRATION),
        probe(config.process.pod_resources_socket.as_ref(), wire::POD_RESOURCES),
        version(host_root),
    );
    KubeletFacts {
        directory: paths.directory.clone(),
        state: host::directory(&paths.directory),
        socket,
        others,
        checkpoint: checkpoint(&paths.directory),
        version,
        pod_resources,
    }
}

async fn probe(socket: Option<&PathBuf>, method: &'static str) -> Option<(PathBuf, SocketProbe)> {
    let socket = socket?;
    Some((socket.clone(), socket::probe(socket, method, DEADLINE).await.0))
}

/// The kubelet's version, from `kubelet --version`, which starts nothing.
async fn version(host_root: &Path) -> Option<(u32, u32)> {
    let program: PathBuf =
        PROGRAMS.iter().find_map(|place| resolve_in_root(host_root, Path::new(place)).ok())?;
    let output = Command::new(program)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE, output).await.ok()?.ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// Parses a text such as "Kubernetes v1.36.2".
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (_, version) = text.trim().rsplit_once(" v")?;
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[derive(Deserialize)]
struct Checkpoint {
    #[serde(rename = "Data")]
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(rename = "RegisteredDevices")]
    registered: Option<BTreeMap<String, Option<Vec<String>>>>,
}

/// How many devices of each resource the checkpoint in a directory has. The kubelet writes the
/// Healthy ones.
pub(super) fn checkpoint(directory: &Path) -> Result<BTreeMap<String, usize>, String> {
    let file = directory.join(CHECKPOINT);
    let size = fs::metadata(&file).map_err(|error| error.to_string())?.len();
    if size > MAX_CHECKPOINT {
        return Err(format!("{size} bytes, which is no checkpoint"));
    }
    let bytes = fs::read(&file).map_err(|error| error.to_string())?;
    let checkpoint: Checkpoint =
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let registered = checkpoint.data.registered.unwrap_or_default().into_iter();
    Ok(registered.map(|(name, devices)| (name, devices.unwrap_or_default().len())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelets_version_is_parsed() {
        assert_eq!(parse_version("Kubernetes v1.36.2\n"), Some((1, 36)));
        assert_eq!(parse_version("Kubernetes v1.25.16-eks-abc\n"), Some((1, 25)));
        assert_eq!(parse_version("kubelet"), None);
        assert_eq!(parse_version(""), None);
    }

    #[test]
    fn a_checkpoint_has_the_number_of_devices_of_each_resource() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(CHECKPOINT);
        assert!(checkpoint(directory.path()).unwrap_err().contains("No such file"));
        fs::write(
            &file,
            r#"{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{"nvidia.com/gpu":["a","b"],
            "x/y":null}},"Checksum":1}"#,
        )
        .unwrap();
        let expected = BTreeMap::from([("nvidia.com/gpu".to_owned(), 2), ("x/y".to_owned(), 0)]);
        assert_eq!(checkpoint(directory.path()).unwrap(), expected);
        fs::write(&file, "{").unwrap();
        assert!(checkpoint(directory.path()).is_err());
    }
}
