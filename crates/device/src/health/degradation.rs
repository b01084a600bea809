//! What is wrong with a GPU that goes on working.

use std::fmt;

/// What is wrong with a GPU that goes on working: worth a gauge and an Event, no reason to be
/// Unhealthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Degradation {
    /// A memory row waits for a reset to be remapped.
    RowRemapPending,
    /// A memory error was contained (Xid 94): a reset is due when convenient.
    ContainedError,
    /// The driver asks for a recovery of the IMEX domain that the GPU is in.
    ImexDomain,
    /// The driver asks for an end of peer-to-peer work, which the policy does not count as a fault.
    DrainP2p,
    /// The links of the NVLink fabric run with less than full bandwidth.
    FabricBandwidth,
    /// The fabric has a fault, which the policy does not count.
    Fabric,
}

impl Degradation {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::RowRemapPending,
        Self::ContainedError,
        Self::ImexDomain,
        Self::DrainP2p,
        Self::FabricBandwidth,
        Self::Fabric,
    ];

    /// A word for machines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RowRemapPending => "row_remap_pending",
            Self::ContainedError => "contained_error",
            Self::ImexDomain => "imex_domain",
            Self::DrainP2p => "drain_p2p",
            Self::FabricBandwidth => "fabric_bandwidth",
            Self::Fabric => "fabric",
        }
    }
}

impl fmt::Display for Degradation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RowRemapPending => {
                "a memory row waits to be remapped; reset the GPU when convenient"
            }
            Self::ContainedError => {
                "a memory error was contained to one application; reset the GPU when convenient"
            }
            Self::ImexDomain => {
                "the driver asks for a recovery of the IMEX domain; work on this node alone goes on"
            }
            Self::DrainP2p => "the driver asks for an end of peer-to-peer work",
            Self::FabricBandwidth => "the NVLink fabric runs with less than full bandwidth",
            Self::Fabric => "the GPU is not well in its NVLink fabric",
        })
    }
}
