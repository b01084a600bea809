//! Contradictions in an observation of the topology, with their texts for the log.

use super::NvLinkBundle;
use crate::names::{PciBusId, Uuid};

/// A contradiction in what was read. None keeps a GPU from being offered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum TopologyFinding {
    /// A GPU was listed more than once; the lowest index counts.
    #[error("NVML lists {0} more than once; the first is taken")]
    ListedTwice(Uuid),
    /// Two GPUs report the same PCI bus id; NVLinks to it are ignored.
    #[error("two GPUs claim the PCI bus id {0}; NVLinks that lead there count for nothing")]
    SharedBusId(PciBusId),
    /// Two GPUs report the NVLinks between them differently; the lesser of both reports counts.
    #[error("{}", asymmetric(.a, .b, links(.seen_by_a), links(.seen_by_b)))]
    AsymmetricLinks {
        /// The GPU that comes first.
        a: Uuid,
        /// The other.
        b: Uuid,
        /// What the first reports.
        seen_by_a: Option<NvLinkBundle>,
        /// What the other reports.
        seen_by_b: Option<NvLinkBundle>,
    },
    /// Active NVLinks that lead to no other GPU of this node, or to an unknown device.
    #[error(
        "{links} active NVLinks of {gpu} lead to no other GPU of this node; they count for nothing"
    )]
    LinksToNowhere {
        /// The GPU.
        gpu: Uuid,
        /// How many of them.
        links: u32,
    },
    /// The common PCIe ancestor depends on the order of the two; the farther counts.
    #[error("{a} and {b} disagree about what they share on PCIe; the farther counts")]
    ContradictingAncestor {
        /// The GPU that comes first.
        a: Uuid,
        /// The other.
        b: Uuid,
    },
}

fn links(bundle: &Option<NvLinkBundle>) -> u32 {
    bundle.map_or(0, |bundle| bundle.links)
}

fn asymmetric(a: &Uuid, b: &Uuid, by_a: u32, by_b: u32) -> String {
    if by_a == by_b {
        format!("{a} and {b} see NVLinks of different versions between them; the older one counts")
    } else {
        format!("{a} sees {by_a} NVLinks to {b}, which sees {by_b} back; the lesser number counts")
    }
}
