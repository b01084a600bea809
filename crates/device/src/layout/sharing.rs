//! Which devices are shared, with how many replicas, and under which resource name.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use crate::names::{ResourceName, Uuid};

/// How devices are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sharing {
    /// Not at all.
    #[default]
    None,
    /// By time-slicing, without isolation.
    TimeSlicing(Replication),
    /// Concurrently, under the control of an MPS daemon.
    Mps {
        /// The shared resources.
        replication: Replication,
        /// The host's directory of the control daemon.
        root: PathBuf,
    },
}

impl Sharing {
    /// The shared resources, if there are any.
    #[must_use]
    pub fn replication(&self) -> Option<&Replication> {
        match self {
            Self::None => None,
            Self::TimeSlicing(replication) | Self::Mps { replication, .. } => Some(replication),
        }
    }
}

/// The resources that are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replication {
    /// Whether shared resources are renamed to `<name>.shared`.
    pub rename_by_default: bool,
    /// Whether a container may have one replica only.
    pub fail_requests_greater_than_one: bool,
    /// One entry for each.
    pub resources: Vec<SharedResource>,
}

/// One resource whose devices are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedResource {
    /// The resource whose devices are shared.
    pub name: ResourceName,
    /// The resource under which the replicas are offered; the same as `name` unless it is renamed.
    pub offered_as: ResourceName,
    /// Replicas of each device, 2 or more.
    pub replicas: u32,
    /// Which of its devices are shared; the others stay unshared under `name`.
    pub devices: Selection,
}

/// Which devices of a resource are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All.
    All,
    /// The first ones, this many.
    Count(u32),
    /// These.
    List(BTreeSet<DeviceRef>),
}

/// A device, as the configuration names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceRef {
    /// The GPU with this index.
    Gpu(u32),
    /// The MIG device with this index on the GPU with that one: `0:1`.
    Mig(u32, u32),
    /// The GPU or MIG device with this UUID.
    Uuid(Uuid),
}

impl fmt::Display for DeviceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gpu(gpu) => write!(f, "{gpu}"),
            Self::Mig(gpu, mig) => write!(f, "{gpu}:{mig}"),
            Self::Uuid(uuid) => write!(f, "{uuid}"),
        }
    }
}
