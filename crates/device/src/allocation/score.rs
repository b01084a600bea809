//! The one scoring model for whole GPUs: what a choice is worth, as numbers that are compared in
//! order.
//!
//! 1. **The worst bandwidth** between two of the chosen. A collective runs at the pace of its
//!    slowest link, so the worst pair is what the job gets.
//! 2. **The sum of the bandwidths** between all of them: among sets that are equally good at their
//!    worst, the one with more to spare.
//! 3. **What stays behind**, in links ([`super::residual_value`]): the free GPUs are worth what jobs of
//!    2, 4 and 8 could make of them, so no pair or island is broken while a whole one or an odd one
//!    serves. It comes after the job's own links: a job runs for hours on what it is given, and who
//!    comes next is a guess.
//! 4. **The fewest NUMA nodes**: where links do not tell GPUs apart (NVSwitch), the host's memory
//!    does.
//! 5. **What stays behind, in NUMA nodes**: a node that is broken already is used up before a whole
//!    one. It stands after the fourth, since a job is not split over two nodes to keep a third one
//!    whole.
//! 6. **The lowest indices**, so that the same request always gets the same answer.
//!
//! A single GPU has no pair, so for it the third decides: the GPU whose leaving costs least.

use std::cmp::Reverse;

use super::bandwidth::BandwidthMatrix;
use super::gpu_set::Mask;
use super::residual_value;

/// What is compared first: points 1 to 3. It is at hand for every set that the search looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Links {
    /// The worst bandwidth between two of the chosen.
    pub(super) worst: u32,
    /// The sum over all pairs of them.
    pub(super) sum: u32,
    /// What the free GPUs are worth without them.
    pub(super) left: u32,
}

/// What is compared last: points 4 to 6. It is worked out only where the links leave a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Places {
    nodes: Reverse<u32>,
    left: u32,
    order: u64,
}

impl Places {
    /// The places of the chosen and of those that stay free.
    pub(super) fn of(machine: &BandwidthMatrix, chosen: Mask, left: Mask) -> Self {
        let on = |node: &Mask, set: Mask| (node & set).count_ones();
        Self {
            nodes: Reverse(machine.nodes.iter().map(|node| on(node, chosen).min(1)).sum()),
            left: machine.nodes.iter().map(|node| residual_value::on_node(on(node, left))).sum(),
            // Of two sets of one size, the one with the lowest index that is not in both comes
            // first.
            order: chosen.reverse_bits(),
        }
    }
}

/// What a choice is worth: greater is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    pub(super) links: Links,
    pub(super) places: Places,
}
