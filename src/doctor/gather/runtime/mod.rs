//! The configuration of container runtimes, of NVIDIA's runtime, and of CDI.

mod cdi;
mod containerd;
mod crio;
mod docker;
mod files;
mod handlers;
mod toolkit;

use std::path::Path;

use crate::doctor::facts::{ContainerRuntime, ContainerRuntimes};

/// What the files below the host's root say.
pub(super) fn runtimes(root: &Path) -> ContainerRuntimes {
    let found = [containerd::containerd(root), crio::crio(root)];
    let mut runtimes: Vec<ContainerRuntime> = found.into_iter().flatten().collect();
    let docker_socket = docker::has_socket(root);
    if docker_socket || runtimes.is_empty() {
        runtimes.extend(docker::docker(root, docker_socket));
    }
    let spec_directories = cdi::directories(root);
    ContainerRuntimes {
        runtimes,
        toolkit: toolkit::toolkit(root),
        specs: spec_directories.iter().flat_map(|directory| cdi::specs(directory)).collect(),
        spec_directories,
        mps: Vec::new(),
    }
}
