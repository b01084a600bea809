//! How two GPUs are linked: PCIe level, NVLinks, and the bandwidth estimated from both.

/// The nearest common PCIe ancestor of two GPUs, from farthest to nearest: a greater level is a
/// better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum PcieLevel {
    /// Not stated.
    #[default]
    Unknown,
    /// Only the link between CPUs, or between NUMA nodes.
    AcrossSystem,
    /// The NUMA node (the CPU), but different host bridges.
    SameNode,
    /// One host bridge.
    HostBridge,
    /// A tree of PCIe switches, without the host bridge.
    MultipleSwitches,
    /// One PCIe switch.
    SingleSwitch,
    /// One board with two GPUs.
    SameBoard,
}

impl PcieLevel {
    /// Estimated GB/s in one direction.
    ///
    /// The generation and width of the slots are not known here and do not need to be: what counts
    /// is the order, and that the slowest NVLink (20 GB/s) is worth more than any PCIe path, as
    /// every NVLink has been faster than the PCIe of its time. The steps are those of a 16-lane
    /// generation 3 or 4 slot: a switch keeps nearly all of it, a host bridge costs a part, the
    /// link between CPUs half or more.
    #[must_use]
    pub fn bandwidth(self) -> u32 {
        match self {
            Self::Unknown => 5,
            Self::AcrossSystem => 7,
            Self::SameNode => 10,
            Self::HostBridge => 12,
            Self::MultipleSwitches => 14,
            Self::SingleSwitch => 16,
            Self::SameBoard => 18,
        }
    }
}

/// Generation of NVLink, ordered by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NvLinkVersion {
    /// P100.
    V1,
    /// V100, Turing.
    V2,
    /// A100, A30, RTX 3090.
    V3,
    /// H100, H200, GH200.
    V4,
    /// B200 and later.
    V5,
}

impl NvLinkVersion {
    /// The generation behind the code that `nvmlDeviceGetNvLinkVersion` gives.
    ///
    /// The code counts half steps (3 is 2.2, 5 is 3.1), so it is not the generation: 4.0 is 6, 5.0
    /// is 7. A code from after this was written is read as the newest generation known.
    #[must_use]
    pub fn from_nvml(code: u32) -> Option<Self> {
        match code {
            0 => None,
            1 => Some(Self::V1),
            2 | 3 => Some(Self::V2),
            4 | 5 => Some(Self::V3),
            6 => Some(Self::V4),
            _ => Some(Self::V5),
        }
    }

    /// GB/s of one link in one direction, as NVIDIA states it (half of the figure for both
    /// directions).
    #[must_use]
    pub fn bandwidth(self) -> u32 {
        match self {
            Self::V1 => 20,
            Self::V2 | Self::V3 | Self::V4 => 25,
            Self::V5 => 50,
        }
    }
}

/// NVLinks that lead to the same device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NvLinkBundle {
    /// How many are active.
    pub links: u32,
    /// The oldest generation among them; `None` if not stated.
    pub version: Option<NvLinkVersion>,
}

impl NvLinkBundle {
    /// GB/s in one direction. A link of unknown generation counts as the slowest.
    #[must_use]
    pub fn bandwidth(self) -> u32 {
        self.links.saturating_mul(self.version.unwrap_or(NvLinkVersion::V1).bandwidth())
    }

    /// The lesser count and the older generation of both.
    #[must_use]
    pub fn least(self, other: Self) -> Self {
        Self { links: self.links.min(other.links), version: self.version.min(other.version) }
    }
}

/// The NVLinks of a pair of GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum NvLink {
    /// None.
    #[default]
    None,
    /// Links from one to the other.
    Direct(NvLinkBundle),
    /// Through NVSwitch: each GPU can use all of its own links, so the bundle is that of the GPU
    /// with fewer.
    Switched(NvLinkBundle),
}

impl NvLink {
    /// GB/s in one direction.
    #[must_use]
    pub fn bandwidth(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Direct(bundle) | Self::Switched(bundle) => bundle.bandwidth(),
        }
    }
}

/// How two GPUs are linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Pair {
    /// Over PCIe.
    pub pcie: PcieLevel,
    /// Over NVLink.
    pub nvlink: NvLink,
}

impl Pair {
    /// Estimated GB/s in one direction over the better of PCIe and NVLink; libraries use one of
    /// them, not the sum.
    #[must_use]
    pub fn bandwidth(self) -> u32 {
        self.nvlink.bandwidth().max(self.pcie.bandwidth())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_nvlink_is_worth_more_than_any_pcie_path() {
        let slowest = NvLinkBundle { links: 1, version: None };
        assert!(slowest.bandwidth() > PcieLevel::SameBoard.bandwidth());
    }

    #[test]
    fn a_nearer_pcie_level_is_worth_more() {
        use PcieLevel::*;
        let levels = [
            Unknown,
            AcrossSystem,
            SameNode,
            HostBridge,
            MultipleSwitches,
            SingleSwitch,
            SameBoard,
        ];
        assert!(levels.is_sorted_by(|a, b| a < b && a.bandwidth() < b.bandwidth()));
    }

    #[test]
    fn an_absurd_count_does_not_overflow() {
        assert_eq!(
            NvLinkBundle { links: u32::MAX, version: Some(NvLinkVersion::V5) }.bandwidth(),
            u32::MAX
        );
    }
}
