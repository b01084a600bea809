//! What sharing by MPS has on the node.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use device::layout::sharing::{SharedResource, Sharing};
use device::mps::MpsRules;

use super::environment::DoctorEnvironment;
use crate::config::Config;
use crate::doctor::facts::{MpsDaemonFacts, MpsDirectory, MpsFacts};
use crate::mps::{self, DriverPrograms, MpsPaths};

/// The pipes of a daemon that was started without a directory (NVIDIA, "Multi-Process Service",
/// 4.2.1).
const DEFAULT_PIPES: &str = "tmp/nvidia-mps";

/// Sharing by MPS; `None`: nothing is shared so.
pub(super) async fn mps(
    config: &Config,
    host_root: &Path,
    environment: &DoctorEnvironment,
) -> Option<MpsFacts> {
    let Sharing::Mps { replication, .. } = &config.layout.sharing else { return None };
    let (root, paths) = (&config.process.mps_dir, MpsPaths::new(&config.process.mps_dir));
    let programs = DriverPrograms::at(&config.process.nvml.driver_root);
    let mut daemons = Vec::new();
    for shared in &replication.resources {
        daemons.push(daemon(shared, config, &programs, &paths).await);
    }
    let pipes = host_root.join(DEFAULT_PIPES);
    let foreign = match pipes.is_dir() {
        true => mps::ask(&programs, &pipes).await.ok(),
        false => None,
    };
    let is_same = config.injector.mps_root.as_deref().map(Path::new) == Some(root);
    Some(MpsFacts {
        daemons,
        program: programs.control_program(&environment.path),
        capabilities: environment.driver_capabilities.clone(),
        directory: MpsDirectory {
            path: root.clone(),
            exists: root.is_dir(),
            is_of_node: is_same || is_mount(root) != Some(false),
        },
        shm_mounted: is_mount(&paths.shm()),
        foreign,
    })
}

async fn daemon(
    shared: &SharedResource,
    config: &Config,
    programs: &DriverPrograms,
    paths: &MpsPaths,
) -> MpsDaemonFacts {
    let resource = &shared.offered_as;
    let answer = mps::ask(programs, &paths.pipes(resource)).await;
    let rules: &MpsRules = &config.injector.mps;
    let threads = rules.share(None, shared.replicas).threads;
    MpsDaemonFacts {
        resource: resource.to_string(),
        answer: answer.map_err(|error| error.to_string()),
        supervisor: mps::supervisor_says(&paths.directory(resource)),
        threads: config.injector.one_replica_only.then_some(threads),
    }
}

/// Whether a directory is of another file system than the one above it.
fn is_mount(directory: &Path) -> Option<bool> {
    let device = |path: &Path| fs::metadata(path).map(|of| of.dev()).ok();
    Some(device(directory)? != device(directory.parent()?)?)
}
