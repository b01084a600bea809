//! The kubelet: its directory, its sockets, its checkpoint, its version, and who else serves there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::process::Command;

use super::host;
use crate::config::Config;
use crate::doctor::facts::{KubeletFacts, PluginSocket, SocketProbe};
use crate::host::root::resolve_in_root;
use crate::kubelet::device_plugin::{socket, wire};

/// The kubelet's checkpoint, in the plugin directory (pkg/kubelet/cm/devicemanager/types.go).
pub(super) const CHECKPOINT: &str = "kubelet_internal_checkpoint";
/// How long a socket may take to answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// Sockets that are asked: no node has nearly as many.
const MOST: usize = 64;
/// Largest checkpoint that is read: 2,048 devices make 100 KiB.
const LARGEST: u64 = 16 << 20;

/// Where distributions have the kubelet, below the host's root.
const PROGRAMS: [&str; 5] = [
    "usr/bin/kubelet",
    "usr/local/bin/kubelet",
    "opt/bin/kubelet",
    "home/kubernetes/bin/kubelet",
    "var/lib/k0s/bin/kubelet",
];

pub(super) async fn look(config: &Config, host_root: &Path) -> KubeletFacts {
    let (directory, socket) = places(config);
    let pod_resources = config.process.pod_resources_socket.clone();
    let (others, kubelet, holders, version) = tokio::join!(
        endpoints(&directory, socket.as_deref(), DEADLINE),
        asked(socket.as_deref(), wire::REGISTRATION),
        asked(pod_resources.as_deref(), wire::POD_RESOURCES),
        version(host_root),
    );
    KubeletFacts {
        state: host::directory(&directory),
        socket: socket.zip(kubelet),
        others,
        checkpoint: checkpoint(&directory.join(CHECKPOINT)),
        version,
        pod_resources: pod_resources.zip(holders),
        directory,
    }
}

async fn asked(socket: Option<&Path>, method: &'static str) -> Option<SocketProbe> {
    match socket {
        Some(socket) => Some(answer(socket, method, DEADLINE).await.0),
        None => None,
    }
}

/// What a socket says to a call that changes nothing, and the process that listens on it.
async fn answer(
    socket: &Path,
    method: &'static str,
    deadline: Duration,
) -> (SocketProbe, Option<u32>) {
    match fs::metadata(socket) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return (SocketProbe::Missing, None);
        }
        Err(error) => return (SocketProbe::Failed(error.to_string()), None),
        Ok(there) if !there.file_type().is_socket() => return (SocketProbe::NotASocket, None),
        Ok(_) => {}
    }
    let listener = match tokio::time::timeout(deadline, UnixStream::connect(socket)).await {
        Err(_) => return (SocketProbe::TimedOut, None),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return (SocketProbe::Refused, None);
        }
        Ok(Err(error)) => return (SocketProbe::Failed(error.to_string()), None),
        Ok(Ok(stream)) => stream.peer_cred().ok().and_then(|peer| u32::try_from(peer.pid()?).ok()),
    };
    let answer = match tokio::time::timeout(deadline, wire::probe(socket, method)).await {
        Err(_) => SocketProbe::TimedOut,
        Ok(Ok(())) => SocketProbe::Answers,
        Ok(Err(error)) => SocketProbe::Failed(error),
    };
    (answer, listener)
}

/// The sockets of device plugins for NVIDIA's GPUs: ours and others.
pub(super) async fn endpoints(
    directory: &Path,
    kubelet: Option<&Path>,
    deadline: Duration,
) -> Vec<PluginSocket> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().take(MOST);
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name.ends_with(".sock") && name.starts_with("nvidia"));
    names.retain(|name| kubelet.is_none_or(|kubelet| directory.join(name) != *kubelet));
    names.sort();
    let mut endpoints = Vec::new();
    for name in names {
        let (answer, listener) =
            answer(&directory.join(&name), wire::DEVICE_PLUGIN, deadline).await;
        let ours = socket::resource_of(&name).map(ToOwned::to_owned);
        endpoints.push(PluginSocket {
            ours,
            probe: answer,
            process: listener.and_then(program),
            name,
        });
    }
    endpoints
}

/// The name of a process, if it can be seen from here.
fn program(process: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let first = line.split(|byte| *byte == 0).next()?;
    let name =
        Path::new(std::str::from_utf8(first).ok()?).file_name()?.to_string_lossy().into_owned();
    Some(format!("{name} (process {process})"))
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

/// How many devices the kubelet has of each resource. It writes down the Healthy ones.
pub(super) fn checkpoint(file: &Path) -> Result<BTreeMap<String, usize>, String> {
    let size = fs::metadata(file).map_err(|error| error.to_string())?.len();
    if size > LARGEST {
        return Err(format!("{size} bytes, which is no checkpoint"));
    }
    let bytes = fs::read(file).map_err(|error| error.to_string())?;
    let checkpoint: Checkpoint =
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let registered = checkpoint.data.registered.unwrap_or_default().into_iter();
    Ok(registered
        .map(|(name, devices)| (name, devices.map_or(0, |devices| devices.len())))
        .collect())
}

/// The kubelet's own word on its version: the program is asked, which starts nothing.
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

/// Of a text such as "Kubernetes v1.36.2".
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (_, version) = text.trim().rsplit_once(" v")?;
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubelets_version_is_read_from_its_own_words() {
        assert_eq!(parse_version("Kubernetes v1.36.2\n"), Some((1, 36)));
        assert_eq!(parse_version("Kubernetes v1.25.16-eks-abc\n"), Some((1, 25)));
        assert_eq!(parse_version("kubelet"), None);
        assert_eq!(parse_version(""), None);
    }

    #[test]
    fn a_checkpoint_tells_how_many_devices_there_are_of_each_resource() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join(CHECKPOINT);
        assert!(checkpoint(&file).unwrap_err().contains("No such file"));
        fs::write(&file, r#"{"Data":{"PodDeviceEntries":null,"RegisteredDevices":{"nvidia.com/gpu":["a","b"],"x/y":null}},"Checksum":1}"#)
            .unwrap();
        let expected = BTreeMap::from([("nvidia.com/gpu".to_owned(), 2), ("x/y".to_owned(), 0)]);
        assert_eq!(checkpoint(&file).unwrap(), expected);
        fs::write(&file, "{").unwrap();
        assert!(checkpoint(&file).is_err());
    }
}
