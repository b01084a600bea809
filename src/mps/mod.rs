//! NVIDIA's MPS: its control daemon for each resource that MPS shares.
//!
//! The plugin looks at them ([`MpsWatcher`]): a client that is started without its daemon hangs, so
//! the devices of a resource are Healthy only while it is there. The subcommand
//! `mps-control-daemon`, a process of its own, starts and supervises them ([`supervisor`]): it
//! follows the plugin's status and never opens NVML, so that it is in the way of no reset.

mod client;
mod programs;
mod published;
pub mod shm;
pub mod supervisor;
mod watch;

use std::path::{Path, PathBuf};

use device::names::ResourceName;

use published::Supervision;

pub use client::MpsError;
pub use programs::{DriverPrograms, directories as program_directories};
pub use watch::{MpsWatcher, ask};

/// Where the directories of the control daemons are, by default `/mps`, as in clients' containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MpsPaths(PathBuf);

impl MpsPaths {
    /// Below this directory.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    /// The directory of the daemon of a resource.
    #[must_use]
    pub fn directory(&self, resource: &ResourceName) -> PathBuf {
        self.0.join(resource.as_str())
    }

    /// Its pipes, which clients get.
    #[must_use]
    pub fn pipes(&self, resource: &ResourceName) -> PathBuf {
        self.directory(resource).join("pipe")
    }

    /// Its logs.
    #[must_use]
    pub fn logs(&self, resource: &ResourceName) -> PathBuf {
        self.directory(resource).join("log")
    }

    /// Where the shared memory of its clients is.
    #[must_use]
    pub fn shm(&self) -> PathBuf {
        self.0.join("shm")
    }

    /// A directory of our own below it.
    #[must_use]
    pub fn libraries(&self) -> PathBuf {
        self.0.join(".driver-libraries")
    }

    /// Where the plugin says what it shares, to the supervisor of the daemons. Resources are in
    /// directories whose names begin with no dot.
    #[must_use]
    pub fn status_socket(&self) -> PathBuf {
        self.0.join(".plugin-status.sock")
    }

    /// The file that NVIDIA's GPU Operator waits for: there as long as a supervisor runs.
    #[must_use]
    pub fn ready(&self) -> PathBuf {
        self.0.join(".ready")
    }
}

/// What the supervisor of the daemon with this directory tells, if it is one of ours and runs: that
/// the daemon works for clients, or why not.
#[must_use]
pub fn supervisor_says(directory: &Path) -> Option<Result<(), String>> {
    match published::read(directory) {
        Ok(Supervision::Nobody) | Err(_) => None,
        Ok(Supervision::Supervisor(published)) => match published.up {
            true => Some(Ok(())),
            false => Some(Err(published.cause.unwrap_or_default())),
        },
    }
}
