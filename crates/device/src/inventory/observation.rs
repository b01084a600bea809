//! What the inventory takes in, and what that changes.

use std::collections::BTreeMap;

use crate::gpu::Gpu;
use crate::health::{self, NodeObservation, NvmlError};
use crate::layout::LayoutFinding;
use crate::names::{ResourceName, Uuid};
use crate::topology::{self, NodeLinks};

/// What was observed at an edge (NVML, MPS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InventoryEvent {
    /// A whole enumeration.
    Enumeration {
        /// The NVML initialisation that it belongs to, each with its own number.
        session: u64,
        /// Its entries, one for each GPU that NVML counts, in NVML's index order.
        entries: Vec<EnumerationEntry>,
    },
    /// An observation that concerns health alone.
    Health(NodeObservation),
    /// The links between the GPUs, as far as they could be read.
    Links(NodeLinks),
    /// The MPS control daemon of this resource answers.
    MpsAnswers(ResourceName),
}

/// One entry of an enumeration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnumerationEntry {
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
pub struct InventoryChanges {
    /// GPUs that were not known before.
    pub new_gpus: Vec<Uuid>,
    /// Health changes by GPU.
    pub health: BTreeMap<Uuid, health::HealthChange>,
    /// Whether the links differ from the previous ones.
    pub links: bool,
    /// New contradictions in the topology.
    pub topology_findings: Vec<topology::TopologyFinding>,
    /// Whether a list of devices, or a fact of a device in it, changed.
    pub layout: bool,
    /// New findings of the layout.
    pub new_findings: Vec<LayoutFinding>,
    /// Findings of the layout that no longer apply.
    pub resolved_findings: Vec<LayoutFinding>,
}
