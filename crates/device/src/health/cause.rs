//! Why a device is Unhealthy: each cause with a label value, a summary and a remedy, ordered from
//! the mildest to the worst.

use std::fmt;
use std::sync::Arc;

use super::nvml_error::{NodeFault, NvmlError, ReturnCode};
use super::reading::{FabricFault, RecoveryAction};
use super::scope::Scope;
use super::xid::Xid;

/// One reason for a device to be Unhealthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Quarantined by a person, a node problem detector or a script; the text is theirs.
    Quarantined(Arc<str>),
    /// The GPU has not answered since this process started.
    NotAnswered,
    /// A fault of the NVLink fabric (`nvmlDeviceGetGpuFabricInfoV`).
    Fabric(FabricFault),
    /// A memory row waits for a reset to be remapped (`nvmlDeviceGetRemappedRows`, isPending), and
    /// the policy makes that Unhealthy.
    RowRemapPending,
    /// Calls about the GPU fail, several in a row, without naming a state of it.
    NvmlError(NvmlError),
    /// A call about the GPU does not return.
    NvmlUnresponsive {
        /// Name of the call.
        call: &'static str,
    },
    /// A fault that affects every GPU of the node.
    Node(NodeFault),
    /// The driver reported an Xid that the policy makes Unhealthy.
    Xid {
        /// Its number.
        xid: Xid,
        /// The part of the GPU that is affected.
        scope: Scope,
        /// Whether it is fatal by configuration, where its class alone is not.
        configured: bool,
    },
    /// NVML returned `NVML_ERROR_RESET_REQUIRED`.
    ResetRequired,
    /// The driver requires a recovery action.
    RecoveryAction(RecoveryAction),
    /// The GPU recovered and failed again, so many times within the configured window.
    Relapses(u32),
    /// NVML returned `NVML_ERROR_CORRUPTED_INFOROM`.
    InfoRomCorrupted,
    /// A memory row could not be remapped (`nvmlDeviceGetRemappedRows`, failureOccurred).
    RowRemapFailure,
    /// NVML does not list the GPU any more.
    NotEnumerated,
    /// NVML returned `NVML_ERROR_GPU_IS_LOST`.
    Lost,
}

/// A cause without its details: few enough to be a label value, ordered from the mildest to the
/// worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "as the variants of `Cause`")]
pub enum CauseKind {
    Quarantined,
    NotAnswered,
    Fabric,
    RowRemapPending,
    NvmlError,
    NvmlUnresponsive,
    Node,
    Xid,
    ResetRequired,
    RecoveryAction,
    Relapses,
    InfoRomCorrupted,
    RowRemapFailure,
    NotEnumerated,
    Lost,
}

impl Cause {
    /// An Xid that was traced to a part of the GPU. What takes a reset of the GPU, or more, to
    /// repair affects all of it: the other parts are lost to the repair.
    pub(super) fn xid(xid: Xid, traced_to: Scope, configured: bool) -> Self {
        let scope = if xid.class().is_of_whole_gpu() { Scope::Gpu } else { traced_to };
        Self::Xid { xid, scope, configured }
    }

    /// The cause that a return code names; `None` for a code that names no state of the GPU.
    pub(super) fn named_by(code: ReturnCode) -> Option<Self> {
        match code {
            ReturnCode::GPU_IS_LOST => Some(Self::Lost),
            ReturnCode::RESET_REQUIRED => Some(Self::ResetRequired),
            ReturnCode::CORRUPTED_INFOROM => Some(Self::InfoRomCorrupted),
            _ => None,
        }
    }

    /// The kind of the cause.
    #[must_use]
    pub fn kind(&self) -> CauseKind {
        match self {
            Self::Quarantined(_) => CauseKind::Quarantined,
            Self::NotAnswered => CauseKind::NotAnswered,
            Self::Fabric(_) => CauseKind::Fabric,
            Self::RowRemapPending => CauseKind::RowRemapPending,
            Self::NvmlError(_) => CauseKind::NvmlError,
            Self::NvmlUnresponsive { .. } => CauseKind::NvmlUnresponsive,
            Self::Node(_) => CauseKind::Node,
            Self::Xid { .. } => CauseKind::Xid,
            Self::ResetRequired => CauseKind::ResetRequired,
            Self::RecoveryAction(_) => CauseKind::RecoveryAction,
            Self::Relapses(_) => CauseKind::Relapses,
            Self::InfoRomCorrupted => CauseKind::InfoRomCorrupted,
            Self::RowRemapFailure => CauseKind::RowRemapFailure,
            Self::NotEnumerated => CauseKind::NotEnumerated,
            Self::Lost => CauseKind::Lost,
        }
    }

    /// The part of the GPU that is affected.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Xid { scope, .. } => *scope,
            _ => Scope::Gpu,
        }
    }

    /// The value in `/status`, logs and labels: that of the kind, or of the fault of the node.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Node(fault) => fault.as_str(),
            _ => self.kind().as_str(),
        }
    }
}

impl CauseKind {
    /// Every kind, from the mildest to the worst.
    pub const ALL: [Self; 15] = [
        Self::Quarantined,
        Self::NotAnswered,
        Self::Fabric,
        Self::RowRemapPending,
        Self::NvmlError,
        Self::NvmlUnresponsive,
        Self::Node,
        Self::Xid,
        Self::ResetRequired,
        Self::RecoveryAction,
        Self::Relapses,
        Self::InfoRomCorrupted,
        Self::RowRemapFailure,
        Self::NotEnumerated,
        Self::Lost,
    ];

    /// The value in `/status`, logs, labels and the state file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quarantined => "external",
            Self::NotAnswered => "not_answered",
            Self::Fabric => "fabric",
            Self::RowRemapPending => "row_remap_pending",
            Self::NvmlError => "nvml_error",
            Self::NvmlUnresponsive => "nvml_unresponsive",
            Self::Node => "node",
            Self::Xid => "xid",
            Self::ResetRequired => "reset_required",
            Self::RecoveryAction => "recovery_action",
            Self::Relapses => "relapses",
            Self::InfoRomCorrupted => "inforom",
            Self::RowRemapFailure => "row_remap_failure",
            Self::NotEnumerated => "not_enumerated",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_summary(f)?;
        self.remedy().map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

/// Displays a cause without its remedy.
pub struct CauseSummary<'a>(&'a Cause);

impl fmt::Display for CauseSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt_summary(f)
    }
}

impl Cause {
    /// What happened, without the remedy.
    #[must_use]
    pub fn summary(&self) -> CauseSummary<'_> {
        CauseSummary(self)
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::Quarantined(text) if text.trim().is_empty() => {
                "end the quarantine to use the GPU"
            }
            Self::Quarantined(_) | Self::NotAnswered | Self::NvmlError(_) => return None,
            Self::Fabric(_) => {
                "check the fabric manager; the GPU recovers by itself once it has joined the fabric"
            }
            Self::RowRemapPending => {
                "reset the GPU; by configuration it gets no new work until then"
            }
            Self::NvmlUnresponsive { .. } => "look at the kernel log of the driver",
            Self::Node(fault) => return fault.remedy(),
            Self::Xid { xid, .. } => xid.class().remedy(),
            Self::ResetRequired => "drain the GPU and reset it",
            Self::RecoveryAction(_) => "do that to make the GPU Healthy again",
            Self::Relapses(_) => {
                "have it repaired and run `gpu-device-plugin clear` for it, or reload the driver"
            }
            Self::InfoRomCorrupted => "replace the GPU",
            Self::RowRemapFailure => "the GPU has no spare rows, replace it",
            Self::NotEnumerated => "look at the kernel log and the PCIe slot",
            Self::Lost => "reboot the node or replace it",
        })
    }

    fn fmt_summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quarantined(text) if text.trim().is_empty() => {
                f.write_str("quarantined from outside, without a reason given")
            }
            Self::Quarantined(text) => write!(f, "quarantined from outside: {}", text.trim()),
            Self::NotAnswered => f.write_str("the GPU has not answered yet"),
            Self::Fabric(fault) => {
                write!(f, "NVLink fabric: {fault}; CUDA may not start on the GPU")
            }
            Self::RowRemapPending => f.write_str("a memory row waits to be remapped"),
            Self::NvmlError(error) => write!(f, "NVML calls about the GPU fail: {error}"),
            Self::NvmlUnresponsive { call } => {
                write!(f, "NVML does not answer: {call} did not return in time")
            }
            Self::Node(fault) => fault.fmt_summary(f),
            Self::Xid { xid, scope, .. } => write!(f, "{xid} ({}) on {scope}", xid.meaning()),
            Self::ResetRequired => f.write_str("NVML says that the GPU needs a reset"),
            Self::RecoveryAction(action) => write!(f, "the driver asks for {action}"),
            Self::Relapses(times) => write!(f, "the GPU recovered and failed again {times} times"),
            Self::InfoRomCorrupted => f.write_str("the InfoROM of the GPU is corrupt"),
            Self::RowRemapFailure => f.write_str("a memory row could not be remapped"),
            Self::NotEnumerated => f.write_str("NVML does not list the GPU any more"),
            Self::Lost => f.write_str("the GPU is lost: it does not answer on the bus"),
        }
    }
}
