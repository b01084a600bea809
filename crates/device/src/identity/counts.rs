//! How many GPUs there are on the PCI bus, by NVML's count, by their UUIDs, and in the lists; and
//! where these numbers differ.

use std::collections::BTreeSet;

use super::bus::PciFunction;
use super::finding::{IdentityFinding, Unidentified};
use super::name::GpuName;
use crate::names::PciBusId;

/// How many GPUs there are, by each that counts them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GpuCounts {
    /// Display functions on the PCI bus that the driver nvidia and this container have; `None`:
    /// the bus could not be read.
    pub bus: Option<u32>,
    /// What `nvmlDeviceGetCount` said; `None`: NVML has not enumerated yet.
    pub enumerated: Option<u32>,
    /// Those of them with a UUID of their own.
    pub identified: u32,
    /// GPUs that are offered, whole or in parts.
    pub offered: u32,
    /// GPUs that are reserved for the system.
    pub reserved: u32,
    /// What the operator expects.
    pub expected: Option<u32>,
}

/// What the edges last said of the number of GPUs.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    /// What NVML counts; `None`: it has not enumerated.
    pub(crate) enumerated: Option<u32>,
    /// The GPUs of these without a UUID of their own.
    pub(crate) unidentified: Vec<Unidentified>,
    /// NVIDIA's functions on the PCI bus; `None`: it was not read.
    pub(crate) bus: Option<Vec<PciFunction>>,
}

/// The GPUs behind the counts.
#[derive(Debug, Default)]
pub(crate) struct Census {
    pub(crate) counts: GpuCounts,
    /// Functions on the bus at which NVML identifies no GPU.
    pub(crate) not_listed: Vec<PciBusId>,
    /// GPUs that NVML counts without identifying them.
    pub(crate) unidentified: Vec<Unidentified>,
    /// GPUs that are identified and neither offered nor reserved.
    pub(crate) not_offered: Vec<GpuName>,
    /// GPUs that are offered and not identified.
    pub(crate) missing: Vec<GpuName>,
}

/// Each difference between two counts.
pub(crate) fn compare(census: Census) -> Vec<IdentityFinding> {
    let Census { counts, not_listed, unidentified, not_offered, missing } = census;
    let GpuCounts { bus, enumerated, identified, offered, reserved, expected } = counts;
    // Before NVML has enumerated nothing can be missing from it.
    let Some(enumerated) = enumerated else { return Vec::new() };
    let mut findings = Vec::new();
    // Some GPUs are on no PCI bus (Tegra, WSL).
    if let Some(bus) = bus.filter(|bus| *bus > 0 && *bus != enumerated) {
        findings.push(IdentityFinding::BusDiffers { bus, enumerated, not_listed });
    }
    if identified != enumerated {
        findings.push(IdentityFinding::Unidentified { enumerated, identified, unidentified });
    }
    if !not_offered.is_empty() || !missing.is_empty() {
        let counts = (identified, reserved, offered);
        findings.push(IdentityFinding::OfferedDiffers { counts, not_offered, missing });
    }
    if let Some(expected) = expected.filter(|expected| *expected != identified) {
        findings.push(IdentityFinding::ExpectedDiffers { expected, identified });
    }
    findings
}

impl Census {
    /// Sets the number of functions on the bus, of which NVML identifies a GPU at some.
    pub(crate) fn set_bus(&mut self, bus: &BTreeSet<PciBusId>, identified: &BTreeSet<PciBusId>) {
        self.counts.bus = u32::try_from(bus.len()).ok();
        self.not_listed = bus.difference(identified).copied().collect();
    }
}
