//! The kubelet: its directory, its sockets, its checkpoint, its version, and the plugins there.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::paths::{CHECKPOINT, plugin_paths};
use super::{checkpoint, host, socket};
use crate::config::Config;
use crate::doctor::facts::{KubeletFacts, SocketProbe};
use crate::host::root::resolve_in_root;
use crate::kubelet::device_plugin::wire;

/// How long a socket, or the kubelet's program, may take to answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// Where distributions have the kubelet, below the host's root.
const PROGRAMS: [&str; 5] = [
    "usr/bin/kubelet",
    "usr/local/bin/kubelet",
    "opt/bin/kubelet",
    "home/kubernetes/bin/kubelet",
    "var/lib/k0s/bin/kubelet",
];

pub(super) async fn kubelet(config: &Config, host_root: &Path) -> KubeletFacts {
    let (directory, socket) = plugin_paths(config);
    let pod_resources = config.process.pod_resources_socket.clone();
    let (others, registration, holders, version) = tokio::join!(
        socket::plugins(&directory, socket.as_deref(), DEADLINE),
        probe(socket.as_deref(), wire::REGISTRATION),
        probe(pod_resources.as_deref(), wire::POD_RESOURCES),
        version(host_root),
    );
    KubeletFacts {
        state: host::directory(&directory),
        socket: socket.zip(registration),
        others,
        checkpoint: checkpoint::devices(&directory.join(CHECKPOINT)),
        version,
        pod_resources: pod_resources.zip(holders),
        directory,
    }
}

async fn probe(socket: Option<&Path>, method: &'static str) -> Option<SocketProbe> {
    match socket {
        Some(socket) => Some(socket::probe(socket, method, DEADLINE).await.0),
        None => None,
    }
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
