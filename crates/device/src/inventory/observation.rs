//! What the inventory takes in, and what that changes.

use std::collections::BTreeMap;

use crate::gpu::Gpu;
use crate::health::{self, NodeObservation, NvmlError};
use crate::layout::Finding;
use crate::names::{ResourceName, Uuid};
use crate::topology::{self, Links};

/// What was observed at an edge (NVML, MPS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A whole enumeration.
    Scan {
        /// The NVML initialisation that it belongs to, each with its own number.
        session: u64,
        /// Its entries, in NVML's index order.
        found: Vec<Found>,
    },
    /// An observation that concerns health alone.
    Health(NodeObservation),
    /// The links between the GPUs, as far as they could be read.
    Links(Links),
    /// The MPS control daemon of this resource answers.
    MpsAnswers(ResourceName),
}

/// One entry of an enumeration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A GPU for which NVML answers.
    Gpu(Gpu),
    /// A GPU for which NVML answers with an error.
    Failed {
        /// NVML's index.
        index: u32,
        /// Its UUID, if that could be read.
        uuid: Option<Uuid>,
        /// The call that failed and NVML's answer.
        error: NvmlError,
    },
}

/// What an observation or a setting changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// GPUs that were not known before.
    pub appeared: Vec<Uuid>,
    /// Changes of health by GPU.
    pub health: BTreeMap<Uuid, health::HealthChange>,
    /// Whether the links differ from the previous ones.
    pub links: bool,
    /// New contradictions in the topology.
    pub misfits: Vec<topology::Finding>,
    /// Whether a list of devices, or a fact of a device in it, changed.
    pub layout: bool,
    /// New findings of the layout.
    pub found: Vec<Finding>,
    /// Findings of the layout that no longer apply.
    pub settled: Vec<Finding>,
}
