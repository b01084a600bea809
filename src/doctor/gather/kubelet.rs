//! The kubelet: its directory, its sockets, what it can allocate, its version, and the plugins
//! there.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::{host, socket};
use crate::config::Config;
use crate::doctor::facts::{KubeletFacts, SocketProbe};
use crate::host::root::resolve_in_root;
use crate::kubelet::device_plugin::wire;
use crate::kubelet::pod_resources::{self, Allocatable};

/// How long a socket, or the kubelet's program, may take to answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// The checkpoint, in the plugin directory (pkg/kubelet/cm/devicemanager/types.go).
pub(super) const CHECKPOINT: &str = "kubelet_internal_checkpoint";

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
    let pod_resources = config.process.pod_resources_socket.as_deref();
    let (others, socket, allocatable, pod_resources, version) = tokio::join!(
        socket::plugins(paths, DEADLINE),
        probe(paths.kubelet.as_deref(), wire::REGISTRATION),
        allocatable(pod_resources, DEADLINE),
        probe(pod_resources, wire::POD_RESOURCES),
        version(host_root),
    );
    KubeletFacts {
        directory: paths.directory.clone(),
        state: host::directory(&paths.directory),
        socket,
        others,
        allocatable,
        version,
        pod_resources,
        access: host::access_rights(&config.process.nvml.sysfs_root),
    }
}

async fn probe(socket: Option<&Path>, method: &'static str) -> Option<(PathBuf, SocketProbe)> {
    let socket = socket?;
    Some((socket.to_owned(), socket::probe(socket, method, DEADLINE).await.0))
}

/// What the kubelet can allocate. Its checkpoint does not say so: it is as old as its last change,
/// and stays when the kubelet does not know the resource any more.
pub(super) async fn allocatable(
    socket: Option<&Path>,
    deadline: Duration,
) -> Result<Allocatable, String> {
    let socket = socket.ok_or("no podresources socket is configured")?;
    let answer = tokio::time::timeout(deadline, pod_resources::allocatable(socket)).await;
    answer.unwrap_or_else(|_| Err("it does not answer".to_owned()))
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
}
