//! One reading of a GPU: recovery action, remapped rows, NVLink fabric, and whether it can be used.

use std::fmt;

use super::nvml_error::{NvmlError, ReturnCode};

/// The answers of a GPU to one round of NVML calls; `None`: not called, which proves nothing. What
/// the driver or the GPU does not have is an error that says so. The time that goes with a
/// reading is when the round began, so that no answer is taken for newer than it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Field value 230 of `nvmlDeviceGetFieldValues`; each value has its own return code.
    pub recovery_action: Option<Result<RecoveryAction, NvmlError>>,
    /// `nvmlDeviceGetRemappedRows`, or field values 142 to 145.
    pub remapped_rows: Option<Result<RemappedRows, NvmlError>>,
    /// `nvmlDeviceGetGpuFabricInfoV`.
    pub fabric: Option<Result<Fabric, NvmlError>>,
    /// Whether the GPU can be used: a handle by its UUID, and `nvmlDeviceGetMemoryInfo`.
    pub probe: Option<Result<(), NvmlError>>,
}

impl Reading {
    /// The errors of all calls.
    pub(super) fn errors(&self) -> impl Iterator<Item = &NvmlError> {
        let of_states = [
            self.remapped_rows.as_ref().and_then(|rows| rows.as_ref().err()),
            self.fabric.as_ref().and_then(|fabric| fabric.as_ref().err()),
        ];
        self.failures().chain(of_states.into_iter().flatten())
    }

    /// The errors that count as failed calls even if they name no state of the GPU. What is wrong
    /// with the GPU shows in these answers: the others fail for reasons of their own.
    pub(super) fn failures(&self) -> impl Iterator<Item = &NvmlError> {
        let action = self.recovery_action.as_ref().and_then(|action| action.as_ref().err());
        let probe = self.probe.as_ref().and_then(|probe| probe.as_ref().err());
        let action = action.filter(|error| !error.code.is_unsupported());
        let probe = probe.filter(|error| error.code != ReturnCode::NOT_SUPPORTED);
        action.into_iter().chain(probe).filter(|error| !error.code.is_refused())
    }

    /// Whether nothing failed that the GPU has: failing to look proves nothing.
    pub(super) fn is_complete(&self) -> bool {
        let is_lacking = |code: ReturnCode| code.is_unsupported() || code.is_refused();
        self.passed_probe() && self.errors().all(|error| is_lacking(error.code))
    }

    /// Whether the GPU has answered, and not that it fails.
    pub(super) fn passed_probe(&self) -> bool {
        match &self.probe {
            Some(Ok(())) => true,
            // A GPU that shares the memory of the host (GB10) has none of its own to report.
            Some(Err(error)) => error.code == ReturnCode::NOT_SUPPORTED || error.code.is_refused(),
            None => false,
        }
    }
}

/// Memory rows that the GPU is to replace by spare ones (`nvmlDeviceGetRemappedRows`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemappedRows {
    /// isPending: a row waits for a reset.
    pub pending: bool,
    /// failureOccurred: a row could not be replaced.
    pub failure: bool,
}

/// What the driver requires before the GPU works again: field value 230 of
/// `nvmlDeviceGetFieldValues`, `NVML_FI_DEV_GET_GPU_RECOVERY_ACTION` (driver 565 and later; nvml.h,
/// `nvmlDeviceGpuRecoveryAction_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecoveryAction {
    /// 0: nothing, the GPU works.
    None,
    /// 1: a reset of the GPU.
    GpuReset,
    /// 2: a reboot of the node.
    NodeReboot,
    /// 3: an end of all peer-to-peer work; then the value is to be read again.
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

    /// Whether it is a reset of the GPU, for which every process has to release the GPU.
    #[must_use]
    pub fn requires_reset(self) -> bool {
        matches!(self, Self::GpuReset | Self::DrainAndReset | Self::BusReset)
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

/// The result of `nvmlDeviceGetGpuFabricInfoV`, on systems with NVSwitch: CUDA does not start on a
/// GPU that has not joined the fabric. Without a fabric the state is `NotSupported`, or the call
/// fails with that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fabric {
    /// How far the registration of the GPU is.
    pub state: FabricState,
    /// The result of the registration, once the state is `Completed`.
    pub status: ReturnCode,
    /// `healthMask` (nvml.h, `NVML_GPU_FABRIC_HEALTH_MASK_…`): two bits for each condition, four
    /// for the configuration; 0 if the driver has none.
    pub health_mask: u32,
}

/// nvml.h, `NVML_GPU_FABRIC_STATE_…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FabricState {
    /// 0: there is no fabric for this GPU.
    NotSupported,
    /// 1: registration has not begun.
    NotStarted,
    /// 2: registration has begun.
    InProgress,
    /// 3: registration has ended, see the status.
    Completed,
    /// A value newer than this program.
    Unknown(u32),
}

/// Why CUDA does not start, or not reliably, on a GPU of a fabric. Each ends without a repair of
/// the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FabricFault {
    /// The GPU has not joined, or not yet.
    NotJoined(FabricState),
    /// Joining failed.
    Failed(ReturnCode),
    /// A route is being recovered (health mask, bits 2 and 3).
    RouteRecovery,
    /// A route is unhealthy (bits 4 and 5).
    RouteUnhealthy,
    /// The fabric recovers from an access time-out (bits 6 and 7).
    AccessTimeoutRecovery,
    /// The fabric is configured wrongly (bits 8 to 11, value 2 and above).
    Misconfigured(u8),
}

/// nvml.h: a condition is 0 not supported, 1 true, 2 false.
const TRUE: u32 = 1;

impl Fabric {
    /// The fault, if there is one: the first that applies.
    pub(super) fn fault(&self) -> Option<FabricFault> {
        match self.state {
            FabricState::NotSupported => return None,
            FabricState::Completed => {}
            state => return Some(FabricFault::NotJoined(state)),
        }
        if self.status != ReturnCode::SUCCESS {
            return Some(FabricFault::Failed(self.status));
        }
        let configuration = ((self.health_mask >> 8) & 0xf) as u8;
        if configuration >= 2 {
            Some(FabricFault::Misconfigured(configuration))
        } else if self.condition(4) {
            Some(FabricFault::RouteUnhealthy)
        } else if self.condition(2) {
            Some(FabricFault::RouteRecovery)
        } else if self.condition(6) {
            Some(FabricFault::AccessTimeoutRecovery)
        } else {
            None
        }
    }

    /// Whether the links run with less than their full bandwidth (health mask, bits 0 and 1). The
    /// GPU keeps working.
    pub(super) fn has_degraded_bandwidth(&self) -> bool {
        self.state == FabricState::Completed && self.condition(0)
    }

    fn condition(&self, shift: u32) -> bool {
        (self.health_mask >> shift) & 0x3 == TRUE
    }
}

impl From<u32> for FabricState {
    fn from(value: u32) -> Self {
        match value {
            0 => Self::NotSupported,
            1 => Self::NotStarted,
            2 => Self::InProgress,
            3 => Self::Completed,
            value => Self::Unknown(value),
        }
    }
}

impl fmt::Display for FabricFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJoined(FabricState::NotStarted) => {
                f.write_str("the GPU has not begun to join it")
            }
            Self::NotJoined(FabricState::Unknown(state)) => {
                write!(f, "the GPU is in unknown state {state}")
            }
            Self::NotJoined(_) => f.write_str("the GPU has not joined it yet"),
            Self::Failed(status) => write!(f, "the GPU could not join it: {status}"),
            Self::RouteRecovery => f.write_str("a route is being recovered"),
            Self::RouteUnhealthy => f.write_str("a route is unhealthy"),
            Self::AccessTimeoutRecovery => f.write_str("it recovers from an access time-out"),
            Self::Misconfigured(2) => f.write_str("the system GUID is wrong"),
            Self::Misconfigured(3) => f.write_str("the chassis serial number is wrong"),
            Self::Misconfigured(4) => f.write_str("the GPU is in no partition"),
            Self::Misconfigured(5) => f.write_str("there are not enough NVLinks"),
            Self::Misconfigured(value) => write!(f, "its configuration is wrong ({value})"),
        }
    }
}
