//! Contradictions in an observation of the topology, with their texts for the log.

use std::fmt;

use super::NvLinkBundle;
use crate::names::{PciBusId, Uuid};

/// A contradiction in what was read. None keeps a GPU from being offered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopologyFinding {
    /// A GPU was listed more than once; the lowest index counts.
    ListedTwice(Uuid),
    /// Two GPUs report the same PCI bus id; NVLinks to it are ignored.
    SharedBusId(PciBusId),
    /// Two GPUs report the NVLinks between them differently; the lesser of both reports counts.
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
    LinksToNowhere {
        /// The GPU.
        gpu: Uuid,
        /// How many of them.
        links: u32,
    },
    /// The common PCIe ancestor depends on the order of the two; the farther counts.
    ContradictingAncestor {
        /// The GPU that comes first.
        a: Uuid,
        /// The other.
        b: Uuid,
    },
}

impl fmt::Display for TopologyFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |bundle: &Option<NvLinkBundle>| bundle.map_or(0, |bundle| bundle.links);
        match self {
            Self::ListedTwice(gpu) => {
                write!(f, "NVML lists {gpu} more than once; the first is taken")
            }
            Self::SharedBusId(place) => {
                write!(
                    f,
                    "two GPUs claim the PCI bus id {place}; NVLinks that lead there count for \
                        nothing"
                )
            }
            Self::AsymmetricLinks { a, b, seen_by_a, seen_by_b }
                if count(seen_by_a) == count(seen_by_b) =>
            {
                write!(
                    f,
                    "{a} and {b} see NVLinks of different versions between them; the older one \
                        counts"
                )
            }
            Self::AsymmetricLinks { a, b, seen_by_a, seen_by_b } => write!(
                f,
                "{a} sees {} NVLinks to {b}, which sees {} back; the lesser number counts",
                count(seen_by_a),
                count(seen_by_b)
            ),
            Self::LinksToNowhere { gpu, links } => {
                write!(
                    f,
                    "{links} active NVLinks of {gpu} lead to no other GPU of this node; they count \
                        for nothing"
                )
            }
            Self::ContradictingAncestor { a, b } => {
                write!(f, "{a} and {b} disagree about what they share on PCIe; the farther counts")
            }
        }
    }
}
