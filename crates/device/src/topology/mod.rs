//! How each pair of GPUs is linked: facts that NVML and sysfs state, read at discovery and when
//! the GPUs change.
//!
//! Missing or contradictory data lowers the detail and is never an error; [`Topology::observed`]
//! returns the contradictions.

mod finding;
mod link;
mod observation;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::gpu::NumaNode;
use crate::names::Uuid;

pub use finding::TopologyFinding;
pub use link::{NvLink, NvLinkBundle, NvLinkVersion, Pair, PcieLevel};
pub use observation::{NodeLinks, ObservedGpu, ObservedLink, Remote, TopologyObservation};

/// One GPU of a [`Topology`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopologyGpu {
    /// The GPU.
    pub uuid: Uuid,
    /// NVML's index.
    pub index: u32,
    /// Its NUMA node.
    pub numa_node: Option<NumaNode>,
}

/// The GPUs of a node and the link of each pair. Inside, a GPU is its position in
/// [`Topology::gpus`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Topology {
    gpus: Vec<TopologyGpu>,
    positions: BTreeMap<Uuid, usize>,
    /// Row by row; symmetric.
    pairs: Vec<Pair>,
}

impl Topology {
    /// The GPUs by NVML index, then UUID.
    #[must_use]
    pub fn gpus(&self) -> &[TopologyGpu] {
        &self.gpus
    }

    /// The position of a GPU in [`Topology::gpus`].
    #[must_use]
    pub fn position(&self, uuid: &Uuid) -> Option<usize> {
        self.positions.get(uuid).copied()
    }

    /// The link between the GPUs at two positions; an unknown one where there is no such GPU.
    #[must_use]
    pub fn pair(&self, a: usize, b: usize) -> Pair {
        let count = self.gpus.len();
        if a < count && b < count { self.pairs[a * count + b] } else { Pair::default() }
    }

    /// The GPUs in this order, with all links unknown.
    fn of(gpus: Vec<TopologyGpu>) -> Self {
        let positions =
            gpus.iter().enumerate().map(|(position, gpu)| (gpu.uuid.clone(), position)).collect();
        let pairs = vec![Pair::default(); gpus.len() * gpus.len()];
        Self { gpus, positions, pairs }
    }

    fn set_pair(&mut self, a: usize, b: usize, pair: Pair) {
        let count = self.gpus.len();
        self.pairs[a * count + b] = pair;
        self.pairs[b * count + a] = pair;
    }
}
