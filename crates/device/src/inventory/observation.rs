//! What the edges tell the inventory, and what it tells of that in turn.

use std::collections::BTreeMap;

use crate::gpu::Gpu;
use crate::health::{self, NodeObservation, NvmlError};
use crate::layout::Finding;
use crate::names::{ResourceName, Uuid};
use crate::topology::{self, Links};

/// What an edge has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A whole enumeration.
    Scan {
        /// Which initialisation of NVML it is of: a number that differs from the one before.
        session: u64,
        /// The places, in NVML's index order.
        found: Vec<Found>,
    },
    /// Something that bears on health alone.
    Health(NodeObservation),
    /// How the GPUs are linked, as far as it could be read.
    Links(Links),
    /// The MPS control daemon of a resource answers.
    MpsAnswers(ResourceName),
}

/// One place of an enumeration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A GPU that answers.
    Gpu(Gpu),
    /// A GPU that answers with errors.
    Failed {
        /// Its place.
        index: u32,
        /// Its identity, if it gave that.
        uuid: Option<Uuid>,
        /// The call that failed and NVML's answer.
        error: NvmlError,
    },
}

/// What an observation has changed, for the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// GPUs that were not known before.
    pub appeared: Vec<Uuid>,
    /// What became of the health of which GPU.
    pub health: BTreeMap<Uuid, health::HealthChange>,
    /// Whether the links were read and are not what they were.
    pub links: bool,
    /// What does not fit together in the topology and was not told before.
    pub misfits: Vec<topology::Finding>,
    /// Whether a resource has another list of devices, or a device other facts.
    pub layout: bool,
    /// What a person should hear and has not heard.
    pub found: Vec<Finding>,
    /// What was said before and holds no more.
    pub settled: Vec<Finding>,
}
