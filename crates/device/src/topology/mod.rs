//! Which GPUs the node has and how each pair of them is linked: facts, read once at discovery and
//! on change.
//!
//! Missing or contradicting data lowers the detail and never fails; [`Topology::observed`] says
//! what it found.

mod finding;
mod link;
mod observation;

use std::collections::BTreeMap;

use super::gpu::NumaNode;
use super::names::Uuid;

pub use finding::Finding;
pub use link::{Bundle, NvLink, NvLinkVersion, Pair, PcieLevel};
pub use observation::{Links, Observation, ObservedGpu, ObservedLink, Remote};

/// One GPU of a [`Topology`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its identity.
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
    gpus: Vec<Member>,
    positions: BTreeMap<Uuid, usize>,
    /// Row by row, and the same on both sides of the diagonal.
    pairs: Vec<Pair>,
}

impl Topology {
    /// A topology of which nothing but the NUMA nodes is known.
    #[must_use]
    pub fn numa_only(gpus: impl IntoIterator<Item = Member>) -> Self {
        let gpus = gpus.into_iter().map(|gpu| ObservedGpu {
            uuid: gpu.uuid,
            index: gpu.index,
            pci_bus_id: None,
            numa_node: gpu.numa_node,
            links: None,
        });
        Self::observed(Observation { gpus: gpus.collect(), ancestors: BTreeMap::new() }).0
    }

    /// The same GPUs with nothing known but their NUMA nodes.
    #[must_use]
    pub fn without_links(&self) -> Self {
        Self::numa_only(self.gpus.iter().cloned())
    }

    /// The GPUs by NVML index, then UUID.
    #[must_use]
    pub fn gpus(&self) -> &[Member] {
        &self.gpus
    }

    /// Where a GPU stands in [`Topology::gpus`].
    #[must_use]
    pub fn position(&self, uuid: &Uuid) -> Option<usize> {
        self.positions.get(uuid).copied()
    }

    /// The link of the GPUs at two positions; nothing known where there is no such GPU.
    #[must_use]
    pub fn pair(&self, a: usize, b: usize) -> Pair {
        let count = self.gpus.len();
        if a < count && b < count { self.pairs[a * count + b] } else { Pair::default() }
    }

    /// Takes the GPUs in the order that they keep, with pairs unknown.
    fn of(gpus: Vec<Member>) -> Self {
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
