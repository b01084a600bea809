//! What did not fit together in an observation of the topology, in words for the operator.

use std::fmt;

use super::Bundle;
use crate::names::{PciBusId, Uuid};

/// What did not fit together, for the operator to read. None of it keeps a GPU from being served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// A GPU was listed more than once; the first by index was taken.
    ListedTwice(Uuid),
    /// Two GPUs claim one bus id; links to it lead nowhere.
    SharedBusId(PciBusId),
    /// Two GPUs see the NVLinks between them differently; the least of both views was taken.
    AsymmetricLinks {
        /// The GPU that comes first.
        a: Uuid,
        /// The other.
        b: Uuid,
        /// What the first sees.
        seen_by_a: Option<Bundle>,
        /// What the other sees.
        seen_by_b: Option<Bundle>,
    },
    /// Active NVLinks that lead to no GPU of this node, to the GPU itself, or nobody knows where.
    LinksToNowhere {
        /// The GPU.
        gpu: Uuid,
        /// How many of them.
        links: u32,
    },
    /// The common ancestor on PCIe depends on which of the two is asked; the farther was taken.
    ContradictingAncestor {
        /// The GPU that comes first.
        a: Uuid,
        /// The other.
        b: Uuid,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |bundle: &Option<Bundle>| bundle.map_or(0, |bundle| bundle.links);
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
