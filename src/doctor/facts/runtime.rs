//! What brings GPUs into containers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// What brings GPUs into containers.
#[derive(Debug, Clone, Default)]
pub struct ContainerRuntimes {
    /// The container runtimes that there are signs of.
    pub runtimes: Vec<ContainerRuntime>,
    /// The configuration of NVIDIA's runtime.
    pub toolkit: Option<ToolkitConfig>,
    /// Files with CDI specifications.
    pub specs: Vec<CdiSpec>,
    /// The directories in which they were looked for.
    pub spec_directories: Vec<PathBuf>,
    /// Resources that are shared by MPS, and what its control daemon answers.
    pub mps: Vec<(String, Result<String, String>)>,
}

impl ContainerRuntimes {
    /// The runtimes whose socket is there; if there is none, all that have a configuration.
    pub(in crate::doctor) fn in_use(&self) -> Vec<&ContainerRuntime> {
        let any_socket = self.runtimes.iter().any(|runtime| runtime.socket);
        self.runtimes.iter().filter(|runtime| runtime.socket || !any_socket).collect()
    }
}

/// A container runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerRuntime {
    /// containerd, CRI-O or docker.
    pub name: &'static str,
    /// The files that were read.
    pub files: Vec<PathBuf>,
    /// What is wrong with one of them.
    pub problem: Option<String>,
    /// Whether its socket is there.
    pub socket: bool,
    /// The name of its default runtime.
    pub default: Option<String>,
    /// Runtimes that are NVIDIA's, by name, with their program where it is named and not there.
    pub nvidia: BTreeMap<String, Option<PathBuf>>,
    /// Whether it supports CDI; `None`: that depends on its version.
    pub cdi: Option<bool>,
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
    /// The kind and the names of the devices; or why it cannot be read.
    pub content: Result<(String, BTreeSet<String>), String>,
}
