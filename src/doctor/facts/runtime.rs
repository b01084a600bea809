//! What brings GPUs into containers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use device::cdi::HookProgram;

use super::mps::MpsFacts;

/// What brings GPUs into containers.
#[derive(Debug, Clone, Default)]
pub struct ContainerRuntimes {
    /// The container runtimes that there are signs of.
    pub runtimes: Vec<ContainerRuntime>,
    /// The socket of the runtime that the kubelet is configured with, where that can be seen.
    pub kubelet_endpoint: Option<String>,
    /// The configuration of NVIDIA's runtime.
    pub toolkit: Option<ToolkitConfig>,
    /// Files with CDI specifications.
    pub specs: Vec<CdiSpec>,
    /// The directories in which they were looked for.
    pub spec_directories: Vec<PathBuf>,
    /// The hook programs.
    pub hooks: HookFacts,
    /// Sharing by MPS; `None`: nothing is shared so.
    pub mps: Option<MpsFacts>,
}

/// The programs whose hooks specifications name, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookFacts {
    /// The one that is called, if it is on the host.
    pub called: Option<HookProgram>,
    /// Whether `--cdi-hook-mode` has no other program than the host's called.
    pub is_host_alone: bool,
    /// The plugin's own, where it is the one to be called.
    pub own: Option<OwnHookFacts>,
}

/// The plugin's own hook program on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnHookFacts {
    /// Where it is installed.
    pub directory: PathBuf,
    /// Why no program of that directory may be called, if so.
    pub problem: Option<String>,
    /// The program of this version; or why it cannot be compared.
    pub program: Result<OwnHookProgram, String>,
}

/// The plugin's own hook program of this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnHookProgram {
    /// Where it is, or would be.
    pub path: PathBuf,
    /// Whether there is anything.
    pub is_there: bool,
    /// What is wrong with it, if it is not as it was installed.
    pub difference: Option<String>,
}

impl ContainerRuntimes {
    /// The runtimes that the kubelet may use: the one that it is configured with; else those whose
    /// socket is there; else those that have a configuration. One that serves no kubelet is none.
    pub(in crate::doctor) fn in_use(&self) -> Vec<&ContainerRuntime> {
        let named = |runtime: &&ContainerRuntime| {
            self.kubelet_endpoint.as_ref().is_some_and(|endpoint| runtime.socket.path == *endpoint)
        };
        let for_pods = || self.runtimes.iter().filter(|runtime| !runtime.without_cri);
        let by_name: Vec<_> = for_pods().filter(named).collect();
        if !by_name.is_empty() {
            return by_name;
        }
        let with_socket: Vec<_> = for_pods().filter(|runtime| runtime.socket.exists).collect();
        if with_socket.is_empty() { for_pods().collect() } else { with_socket }
    }
}

/// A container runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerRuntime {
    /// containerd, with the distribution that it is of, CRI-O or docker.
    pub name: &'static str,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// What is wrong with one of them.
    pub problem: Option<String>,
    /// The socket that it has for the kubelet.
    pub socket: RuntimeSocket,
    /// Whether the kubelet cannot use it: its CRI plugin is turned off, as for docker alone.
    pub without_cri: bool,
    /// The name of its default runtime.
    pub default: Option<String>,
    /// Runtimes that are NVIDIA's, by name, with their program where it is named and not there.
    pub nvidia: BTreeMap<String, Option<PathBuf>>,
    /// Whether it supports CDI; `None`: that depends on its version.
    pub cdi: Option<bool>,
}

/// A socket of a container runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuntimeSocket {
    /// Its path on the host.
    pub path: String,
    /// Whether it is there.
    pub exists: bool,
}

/// The configuration of NVIDIA's container runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToolkitConfig {
    /// Its file.
    pub file: PathBuf,
    /// Why it cannot be read.
    pub problem: Option<String>,
    /// `accept-nvidia-visible-devices-as-volume-mounts`.
    pub volume_mounts: Option<bool>,
    /// `accept-nvidia-visible-devices-envvar-when-unprivileged`.
    pub envvar: Option<bool>,
}

/// A file with a CDI specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CdiSpec {
    /// Its path.
    pub file: PathBuf,
    /// What it says; or why it cannot be read.
    pub content: Result<CdiContent, String>,
}

/// What a CDI specification says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CdiContent {
    /// The kind of its devices.
    pub kind: String,
    /// Their names.
    pub devices: BTreeSet<String>,
    /// Paths of the host that it names, as device nodes, mounts or hooks, and that are not there.
    pub absent: BTreeSet<String>,
}
