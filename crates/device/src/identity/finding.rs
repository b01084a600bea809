//! Findings about the identity and the number of GPUs.

use std::fmt;

use super::name::GpuName;
use crate::health::NvmlError;
use crate::names::{NameError, PciBusId, Uuid};

/// Most GPUs that one text names.
const NAMED: usize = 16;

/// What does not fit together about the identity or the number of GPUs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentityFinding {
    /// GPUs with another index than when they were first seen on this boot.
    NumberingChanged(Vec<Renumbered>),
    /// NVML counts another number of GPUs than the driver has on the PCI bus.
    BusDiffers {
        /// GPUs on the bus.
        bus: u32,
        /// GPUs that NVML counts.
        enumerated: u32,
        /// Addresses at which NVML lists no GPU.
        not_listed: Vec<PciBusId>,
    },
    /// GPUs that NVML counts and that have no UUID of their own.
    Unidentified {
        /// GPUs that NVML counts.
        enumerated: u32,
        /// Those with a UUID of their own.
        identified: u32,
        /// The others.
        unidentified: Vec<Unidentified>,
    },
    /// Other GPUs are offered than are identified and not reserved.
    OfferedDiffers {
        /// How many are identified, reserved and offered.
        counts: (u32, u32, u32),
        /// Identified, neither reserved nor offered.
        not_offered: Vec<GpuName>,
        /// Offered, and not listed by NVML.
        missing: Vec<GpuName>,
    },
    /// Another number of GPUs than the operator expects.
    ExpectedDiffers {
        /// What the operator expects.
        expected: u32,
        /// GPUs with a UUID of their own.
        identified: u32,
    },
}

/// A GPU whose index changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renumbered {
    /// The GPU.
    pub gpu: GpuName,
    /// Its index now.
    pub present: u32,
    /// The index that it is bound to, if any.
    pub bound: Option<u32>,
}

/// Why a GPU that NVML counts is not identified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unidentified {
    /// NVML answers with an error.
    Failed {
        /// NVML's index.
        index: u32,
        /// The failed call and its return code.
        error: NvmlError,
    },
    /// Its UUID has not the form of one.
    Malformed {
        /// NVML's index.
        index: u32,
        /// What is wrong with it.
        error: NameError,
    },
    /// Another GPU has its UUID.
    Duplicate {
        /// NVML's index.
        index: u32,
        /// The UUID.
        uuid: Uuid,
    },
    /// There are more GPUs than a node can have.
    TooMany {
        /// NVML's index.
        index: u32,
    },
    /// NVML has not answered about so many.
    Unanswered(u32),
}

impl IdentityFinding {
    /// Its kind, as in `/status` and in the label of a metric.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NumberingChanged(_) => "numbering_changed",
            Self::BusDiffers { .. } => "bus_differs",
            Self::Unidentified { .. } => "unidentified",
            Self::OfferedDiffers { .. } => "offered_differs",
            Self::ExpectedDiffers { .. } => "expected_differs",
        }
    }
}

impl fmt::Display for IdentityFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NumberingChanged(gpus) => write!(
                f,
                "NVML numbers GPUs otherwise than when they were first seen on this boot: {}; an \
                 index in the settings or in the quarantine directory means the GPU that had it \
                 first: use UUIDs or PCI bus ids, and look for the GPU that is missing or new",
                list(gpus)
            ),
            Self::BusDiffers { bus, enumerated, not_listed } => write!(
                f,
                "the driver has {bus} GPUs on the PCI bus and NVML lists {enumerated}{}; the \
                 kernel log of the node (dmesg, NVRM) says why; reset or reboot, or drain the node",
                group("; not listed", not_listed)
            ),
            Self::Unidentified { enumerated, identified, unidentified } => write!(
                f,
                "NVML lists {enumerated} GPUs and identifies {identified}{}; a GPU without a UUID \
                 of its own cannot be offered: see nvidia-smi -L and the kernel log (dmesg, NVRM)",
                group("", unidentified)
            ),
            Self::OfferedDiffers { counts, not_offered, missing } => write!(
                f,
                "{} GPUs are identified, {} are reserved and {} are offered{}{}",
                counts.0,
                counts.1,
                counts.2,
                group("; not offered, for which another finding has the reason", not_offered),
                group(
                    "; offered Unhealthy and not listed by NVML until they are back, the node \
                     boots or they are forgotten",
                    missing
                )
            ),
            Self::ExpectedDiffers { expected, identified } => write!(
                f,
                "{expected} GPUs are expected and NVML identifies {identified}; look for the \
                 others with lspci and in the kernel log, or change the expected number"
            ),
        }
    }
}

impl fmt::Display for Renumbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { gpu, present, bound } = self;
        match bound {
            Some(bound) => write!(f, "{gpu} has index {present} and had {bound}"),
            None => write!(f, "{gpu} has index {present}, which was another GPU's"),
        }
    }
}

impl fmt::Display for Unidentified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { index, error } => write!(f, "the GPU at index {index}: {error}"),
            Self::Malformed { index, error } => write!(f, "the GPU at index {index}: {error}"),
            Self::Duplicate { index, uuid } => {
                write!(f, "the GPU at index {index}: another one has its UUID {uuid}")
            }
            Self::TooMany { index } => {
                write!(f, "the GPU at index {index}: there are more GPUs than a node can have")
            }
            Self::Unanswered(gpus) => write!(f, "{gpus} about which NVML does not answer"),
        }
    }
}

/// A list with what precedes it; nothing if it is empty.
fn group<T: fmt::Display>(before: &str, items: &[T]) -> String {
    if items.is_empty() { String::new() } else { format!("{before}: {}", list(items)) }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    let mut texts: Vec<String> = items.iter().take(NAMED).map(ToString::to_string).collect();
    if let Some(more @ 1..) = items.len().checked_sub(NAMED) {
        texts.push(format!("{more} more"));
    }
    texts.join(", ")
}
