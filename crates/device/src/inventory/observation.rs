//! What the inventory takes in, and what that changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::gpu::Gpu;
use crate::health::{self, NodeObservation, NvmlError, PersistedHealth};
use crate::identity::{KnownGpus, PciFunction};
use crate::injection::cdi_names::CdiNames;
use crate::layout::LayoutFinding;
use crate::mps::MpsDaemon;
use crate::names::{NameError, ResourceName, Uuid};
use crate::topology::{self, NodeLinks};

/// What was observed at an edge (NVML, MPS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InventoryEvent {
    /// A whole enumeration.
    Enumeration {
        /// The NVML initialisation that it belongs to, each with its own number.
        session: u64,
        /// What `nvmlDeviceGetCount` said.
        count: u32,
        /// Its entries, in NVML's index order.
        entries: Vec<EnumerationEntry>,
    },
    /// The functions of vendor NVIDIA on the PCI bus.
    Bus(Vec<PciFunction>),
    /// What was persisted before this process started, or by another one, and could not be read
    /// before. What is known already stays as it is.
    Persisted {
        /// Causes.
        health: PersistedHealth,
        /// The GPUs that were seen; those that are not listed are, Unhealthy, from the next
        /// enumeration on.
        gpus: KnownGpus,
    },
    /// An observation that concerns health alone.
    Health(NodeObservation),
    /// The links between the GPUs, as far as they could be read.
    Links(NodeLinks),
    /// How the MPS control daemon of this resource is.
    Mps(ResourceName, MpsDaemon),
    /// Which CDI names can be resolved now.
    Cdi(Arc<CdiNames>),
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
    /// A GPU with a UUID that has not the form of one.
    MalformedUuid {
        /// NVML's index.
        index: u32,
        /// What is wrong with it.
        error: NameError,
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
