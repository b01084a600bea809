//! The rule by which each cause is cleared, and what a poll contributes to it.

use super::cause::Cause;
use super::nvml_error::ReturnCode;
use super::observation::RepairEvidence;
use super::reading::Reading;
use super::reason::Moment;
use super::rules::{Severity, Thresholds};
use super::xid::XidClass;

/// What clears a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClearRule {
    /// Its own source withdraws it, at once.
    Source,
    /// Clean polls: each of them reads again what raised it.
    CleanPolls,
    /// Clean polls in which the recovery action requires nothing. The answers of a driver without
    /// one prove nothing: there it takes evidence of repair and then clean polls, or the quiet
    /// period if one is configured.
    RecoveryAction,
    /// A new enumeration that lists the UUID, then clean polls.
    Enumeration,
    /// Any evidence of repair, then clean polls.
    Repair,
    /// Evidence of repair other than a new enumeration, then clean polls: the GPU came back each
    /// time before it relapsed.
    RepairNotReturn,
    /// A new boot, or a person who says that it is repaired, then clean polls.
    Boot,
}

/// What a poll contributes to clearing causes.
#[derive(Debug, Clone, Copy)]
pub(super) struct PollResult {
    /// When the poll began.
    pub at: Moment,
    /// What the recovery action requires.
    pub driver: RecoveryState,
    /// Whether the remapped rows were read.
    pub rows: bool,
    /// Whether the fabric was read.
    pub fabric: bool,
    /// Whether the probe passed.
    pub probe: bool,
}

/// What a poll read as the recovery action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecoveryState {
    /// It was not read, or the read failed.
    Unknown,
    /// The driver has no recovery action.
    Unsupported,
    /// It requires nothing of this GPU.
    Clear,
    /// It requires something.
    Required,
}

impl PollResult {
    pub(super) fn of(at: Moment, reading: &Reading, thresholds: &Thresholds) -> Self {
        let driver = match &reading.recovery_action {
            Some(Ok(action)) if thresholds.severity(*action) == Some(Severity::Unhealthy) => {
                RecoveryState::Required
            }
            Some(Ok(_)) => RecoveryState::Clear,
            Some(Err(error)) if error.code.is_unsupported() => RecoveryState::Unsupported,
            Some(Err(_)) | None => RecoveryState::Unknown,
        };
        let probe = match &reading.probe {
            Some(Ok(())) => true,
            // A GPU that shares the memory of the host (GB10) has none of its own to report.
            Some(Err(error)) => error.code == ReturnCode::NOT_SUPPORTED,
            None => false,
        };
        Self {
            at,
            driver,
            rows: reading.remapped_rows.is_some(),
            fabric: reading.fabric.is_some(),
            probe,
        }
    }
}

impl ClearRule {
    pub(super) fn of(cause: &Cause) -> Self {
        match cause {
            Cause::Quarantined(_) | Cause::Node(_) => Self::Source,
            Cause::Fabric(_)
            | Cause::RowRemapPending
            | Cause::NvmlError(_)
            | Cause::NvmlUnresponsive { .. } => Self::CleanPolls,
            Cause::RecoveryAction(_) | Cause::ResetRequired => Self::RecoveryAction,
            Cause::Xid { xid, .. } => match xid.class() {
                XidClass::Lost => Self::Enumeration,
                XidClass::Sticky => Self::Boot,
                _ => Self::RecoveryAction,
            },
            Cause::Lost | Cause::NotEnumerated => Self::Enumeration,
            Cause::InfoRomCorrupted | Cause::RowRemapFailure => Self::Repair,
            Cause::Relapses(_) => Self::RepairNotReturn,
        }
    }

    /// Whether this evidence counts for a cause with this rule.
    pub(super) fn accepts(self, evidence: RepairEvidence) -> bool {
        match self {
            Self::RecoveryAction | Self::Repair => true,
            Self::RepairNotReturn => evidence != RepairEvidence::Reenumerated,
            Self::Boot => matches!(evidence, RepairEvidence::NewBoot | RepairEvidence::Manual),
            // A missing GPU is back when NVML lists it, and by nothing else.
            Self::Source | Self::CleanPolls | Self::Enumeration => false,
        }
    }
}

/// Whether a cause is a failure of the GPU itself, not of its surroundings and not a quarantine.
/// Only these count as relapses, and only these are kept over a restart: no later reading states
/// them again.
pub(super) fn is_gpu_failure(cause: &Cause) -> bool {
    !matches!(ClearRule::of(cause), ClearRule::Source | ClearRule::CleanPolls)
}
