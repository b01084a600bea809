//! The bandwidths between the whole GPUs of a resource, and which GPUs are interchangeable.

use std::sync::OnceLock;

use super::gpu_set::{MOST_GPUS, Mask};
use super::residual_value::ResidualValue;
use crate::names::Uuid;
use crate::topology::{Pair, Topology};

/// Bandwidths are capped here (GB/s), so that no sum over the pairs of a node overflows 32 bits.
const MOST_BANDWIDTH: u32 = 100_000;

/// What the search needs to know about up to [`MOST_GPUS`] GPUs.
pub(super) struct BandwidthMatrix {
    count: usize,
    bandwidth: Vec<u32>,
    /// The GPUs of each NUMA node. Those whose node is unknown count as one node.
    pub(super) nodes: Vec<Mask>,
    /// The GPUs that are interchangeable with each GPU, itself included.
    pub(super) twins: Vec<Mask>,
    /// Computed by the first search, not at every inventory change.
    residual: OnceLock<ResidualValue>,
}

impl BandwidthMatrix {
    /// The matrix of these GPUs, at their positions. `None` if there are more than [`MOST_GPUS`].
    pub(super) fn new(gpus: &[Uuid], topology: &Topology) -> Option<Self> {
        let count = gpus.len();
        if count > MOST_GPUS {
            return None;
        }
        let positions: Vec<_> = gpus.iter().map(|uuid| topology.position(uuid)).collect();
        let mut bandwidth = vec![0; count * count];
        for a in 0..count {
            for b in (0..count).filter(|b| *b != a) {
                let pair = positions[a]
                    .zip(positions[b])
                    .map_or_else(Pair::default, |(a, b)| topology.pair(a, b));
                bandwidth[a * count + b] = pair.bandwidth().min(MOST_BANDWIDTH);
            }
        }
        let node_of = |at: usize| positions[at].and_then(|at| topology.gpus()[at].numa_node);
        let group = |alike: &dyn Fn(usize, usize) -> bool| -> Vec<Mask> {
            (0..count)
                .map(|a| (0..count).filter(|b| alike(a, *b)).fold(0, |mask, b| mask | 1 << b))
                .collect()
        };
        let mut nodes = group(&|a, b| node_of(a) == node_of(b));
        let twins = group(&|a, b| {
            let others = (0..count).filter(|x| *x != a && *x != b);
            node_of(a) == node_of(b)
                && others.into_iter().all(|x| bandwidth[a * count + x] == bandwidth[b * count + x])
        });
        nodes.sort_unstable();
        nodes.dedup();
        Some(Self { count, bandwidth, nodes, twins, residual: OnceLock::new() })
    }

    /// The number of GPUs.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The bandwidths from one GPU to each.
    pub(super) fn row(&self, gpu: usize) -> &[u32] {
        &self.bandwidth[gpu * self.count..][..self.count]
    }

    /// The residual values of the node; the first call computes them.
    pub(super) fn residual(&self) -> &ResidualValue {
        self.residual.get_or_init(|| ResidualValue::new(&self.twins, &self.bandwidth))
    }
}
