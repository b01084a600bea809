//! The driver's own verdict: what has to be done before a GPU works again.

use std::fmt;

use super::thresholds::{Thresholds, Weight};

/// What the driver asks for: field value 230 of `nvmlDeviceGetFieldValues`,
/// `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION` (driver 565 and later; nvml.h,
/// `nvmlDeviceGpuRecoveryAction_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecoveryAction {
    /// 0: nothing, the GPU works.
    None,
    /// 1: a reset of the GPU.
    GpuReset,
    /// 2: a reboot of the node.
    NodeReboot,
    /// 3: an end of all peer-to-peer work; then the driver is to be asked again.
    DrainP2p,
    /// 4: an end of all work, then a reset of the GPU.
    DrainAndReset,
    /// 5: a recovery of the IMEX domain, which spans nodes; this GPU itself works.
    RecoverImexDomain,
    /// 6: a reset of the bus that the GPU is on.
    BusReset,
    /// 7: a reboot of the whole system.
    SystemReboot,
    /// A value newer than this program.
    Unknown(u32),
}

impl RecoveryAction {
    /// The value as NVML gives it.
    #[must_use]
    pub fn value(self) -> u32 {
        match self {
            Self::None => 0,
            Self::GpuReset => 1,
            Self::NodeReboot => 2,
            Self::DrainP2p => 3,
            Self::DrainAndReset => 4,
            Self::RecoverImexDomain => 5,
            Self::BusReset => 6,
            Self::SystemReboot => 7,
            Self::Unknown(value) => value,
        }
    }

    /// Whether a reset of the GPU is what the driver waits for, for which every process has to let
    /// go of it.
    #[must_use]
    pub fn asks_for_reset(self) -> bool {
        matches!(self, Self::GpuReset | Self::DrainAndReset | Self::BusReset)
    }

    /// What it does to the health of the GPU. A value that nobody knows yet makes it Unhealthy.
    pub(super) fn weight(self, thresholds: &Thresholds) -> Option<Weight> {
        match self {
            Self::None => None,
            Self::RecoverImexDomain => Some(Weight::Degraded),
            Self::DrainP2p => Some(thresholds.drain_p2p),
            _ => Some(Weight::Unhealthy),
        }
    }
}

impl From<u32> for RecoveryAction {
    fn from(value: u32) -> Self {
        match value {
            0 => Self::None,
            1 => Self::GpuReset,
            2 => Self::NodeReboot,
            3 => Self::DrainP2p,
            4 => Self::DrainAndReset,
            5 => Self::RecoverImexDomain,
            6 => Self::BusReset,
            7 => Self::SystemReboot,
            value => Self::Unknown(value),
        }
    }
}

impl fmt::Display for RecoveryAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing"),
            Self::GpuReset => f.write_str("a reset of the GPU"),
            Self::NodeReboot => f.write_str("a reboot of the node"),
            Self::DrainP2p => f.write_str("an end of peer-to-peer work"),
            Self::DrainAndReset => f.write_str("an end of all work and a reset of the GPU"),
            Self::RecoverImexDomain => f.write_str("a recovery of the IMEX domain"),
            Self::BusReset => f.write_str("a reset of the GPU's bus"),
            Self::SystemReboot => f.write_str("a reboot of the system"),
            Self::Unknown(value) => {
                write!(f, "recovery action {value}, which this program does not know")
            }
        }
    }
}
