//! The settings of the module.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use device::health::EventType;

/// Where NVML is, and whether it must be there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NvmlSettings {
    /// Path of the library; `None`: it is searched for.
    pub library: Option<PathBuf>,
    /// Where the driver's root is mounted.
    pub driver_root: PathBuf,
    /// Where sysfs is mounted.
    pub sysfs_root: PathBuf,
    /// Where procfs is mounted.
    pub proc_root: PathBuf,
    /// Whether it is an error that NVML cannot be opened at the start, or a reason to wait.
    pub fail_on_init_error: bool,
}

/// What to poll and to wait for. It may change while the daemon runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PollSettings {
    /// The events to wait for.
    pub events: BTreeSet<EventType>,
    /// Pause between two polls.
    pub poll: Duration,
    /// How long a call may take.
    pub deadline: Duration,
    /// For how long NVML is released.
    pub release_for: Duration,
}
