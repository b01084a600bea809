//! The score of a set of whole GPUs: numbers that are compared in order.
//!
//! 1. **The worst bandwidth** between two of the chosen. A collective operation runs at the pace of
//!    its slowest link.
//! 2. **The sum of the bandwidths** between all of them.
//! 3. **The residual value of the links** ([`super::residual_value`]): what jobs of 2, 4 and 8 GPUs
//!    could get from the GPUs that stay free, so that no pair or island is broken without need. It
//!    comes after the job's own links: the job runs for hours on them, and later jobs are a guess.
//! 4. **The fewest NUMA nodes**, which decides where all links are equal (NVSwitch).
//! 5. **The residual value of the NUMA nodes**: a node that is partly in use is used up before
//!    another one. It comes after the fourth, since a job is not split over two nodes to keep a
//!    third one free.
//! 6. **The lowest indices**, so that the same request always gets the same answer.
//!
//! A single GPU has no pair, so for it the third decides.

use std::cmp::Reverse;

use super::bandwidth::BandwidthMatrix;
use super::gpu_set::Mask;
use super::residual_value;

/// Points 1 to 3, known for every complete set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LinkQuality {
    /// The worst bandwidth between two of the chosen.
    pub(super) worst: u32,
    /// The sum over all pairs of them.
    pub(super) sum: u32,
    /// The residual value of the free GPUs without them.
    pub(super) left: u32,
}

/// Points 4 to 6, computed only for sets whose links are as good as the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Locality {
    nodes: Reverse<u32>,
    left: u32,
    order: u64,
}

impl Locality {
    /// The locality of the chosen, given those that stay free.
    pub(super) fn of(matrix: &BandwidthMatrix, chosen: Mask, left: Mask) -> Self {
        let on = |node: &Mask, set: Mask| (node & set).count_ones();
        Self {
            nodes: Reverse(matrix.nodes.iter().map(|node| on(node, chosen).min(1)).sum()),
            left: matrix.nodes.iter().map(|node| residual_value::on_node(on(node, left))).sum(),
            // Of two sets of one size, the one with the lowest index that is not in both comes
            // first.
            order: chosen.reverse_bits(),
        }
    }
}

/// The score of a set: greater is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    pub(super) links: LinkQuality,
    pub(super) locality: Locality,
}
