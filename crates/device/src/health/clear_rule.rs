//! By which rule each cause goes away, and what a poll says about it.

use super::cause::Cause;
use super::nvml_error::ReturnCode;
use super::observation::RepairEvidence;
use super::reading::Reading;
use super::reason::Moment;
use super::rules::{Severity, Thresholds};
use super::xid::XidClass;

/// By which rule a cause goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClearRule {
    /// Its own source takes it back, at once.
    Source,
    /// Clean polls: what it says is read anew each time.
    CleanPolls,
    /// Clean polls in which the recovery action asks for nothing. A driver without a recovery
    /// action proves nothing by answering: there, evidence of repair and then clean polls, or the
    /// quiet time if one is configured.
    RecoveryAction,
    /// A new enumeration that lists the UUID, then clean polls.
    Enumeration,
    /// Any evidence of repair, then clean polls.
    Repair,
    /// Evidence of repair other than the GPU's coming back, which is what it did each time before
    /// it relapsed.
    RepairNotReturn,
    /// A new boot or a person's word, then clean polls.
    Boot,
}

/// What a poll says that bears on recovery.
#[derive(Debug, Clone, Copy)]
pub(super) struct PollResult {
    /// When the asking began.
    pub at: Moment,
    /// What the driver asks for.
    pub driver: RecoveryState,
    /// Whether the remapped rows were read.
    pub rows: bool,
    /// Whether the fabric was read.
    pub fabric: bool,
    /// Whether the probe passed.
    pub probe: bool,
}

/// What a poll says about the recovery action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RecoveryState {
    /// It was not read, or the read failed.
    Unknown,
    /// The driver has none.
    Unsupported,
    /// It asks for nothing of this GPU.
    Clear,
    /// It asks for something.
    Required,
}

impl PollResult {
    pub(super) fn of(at: Moment, reading: &Reading, thresholds: &Thresholds) -> Self {
        let driver = match &reading.recovery_action {
            Some(Ok(action)) if thresholds.weight(*action) == Some(Severity::Unhealthy) => {
                RecoveryState::Required
            }
            Some(Ok(_)) => RecoveryState::Clear,
            Some(Err(error)) if error.code.is_unsupported() => RecoveryState::Unsupported,
            Some(Err(_)) | None => RecoveryState::Unknown,
        };
        let probe = match &reading.probe {
            Some(Ok(())) => true,
            // A GPU that shares the memory of the host (GB10) has no memory of its own to tell of.
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

/// The rule of each cause.
pub(super) fn lift(cause: &Cause) -> ClearRule {
    match cause {
        Cause::Quarantined(_) | Cause::Node(_) => ClearRule::Source,
        Cause::Fabric(_)
        | Cause::RowRemapPending
        | Cause::NvmlError(_)
        | Cause::NvmlUnresponsive { .. } => ClearRule::CleanPolls,
        Cause::RecoveryAction(_) | Cause::ResetRequired => ClearRule::RecoveryAction,
        Cause::Xid { xid, .. } => match xid.class() {
            XidClass::Lost => ClearRule::Enumeration,
            XidClass::Sticky => ClearRule::Boot,
            _ => ClearRule::RecoveryAction,
        },
        Cause::Lost | Cause::NotEnumerated => ClearRule::Enumeration,
        Cause::InfoRomCorrupted | Cause::RowRemapFailure => ClearRule::Repair,
        Cause::Relapses(_) => ClearRule::RepairNotReturn,
    }
}

/// Whether evidence of this kind speaks for a cause with this rule being over.
pub(super) fn accepts(lift: ClearRule, evidence: RepairEvidence) -> bool {
    match lift {
        ClearRule::RecoveryAction | ClearRule::Repair => true,
        ClearRule::RepairNotReturn => evidence != RepairEvidence::Reenumerated,
        ClearRule::Boot => matches!(evidence, RepairEvidence::NewBoot | RepairEvidence::Manual),
        // A GPU that is gone comes back by being listed, whatever anybody says.
        ClearRule::Source | ClearRule::CleanPolls | ClearRule::Enumeration => false,
    }
}

/// Whether a cause is a failure of the GPU itself, rather than of its surroundings or a word about
/// it: only those count as relapses.
pub(super) fn is_of_the_gpu(cause: &Cause) -> bool {
    !matches!(lift(cause), ClearRule::Source | ClearRule::CleanPolls)
}
