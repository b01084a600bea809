//! The rule by which each cause is cleared.

use super::cause::Cause;
use super::fields::Fields;
use super::observation::RepairEvidence;
use super::reason::Moment;
use super::rules::Thresholds;
use super::xid::XidClass;

/// What clears a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClearRule {
    /// Its own source withdraws it, at once.
    Source,
    /// It is a state, which each reading states again: clean polls that do not, or after a new load
    /// of the driver clean polls.
    State,
    /// Clean polls in which the recovery action requires nothing. The answers of a driver without
    /// one prove nothing: there it takes evidence of repair and then clean polls, or the quiet
    /// period if one is configured.
    RecoveryAction,
    /// A new enumeration that lists the UUID, or a person who says that it is repaired, then clean
    /// polls.
    Enumeration,
    /// Any evidence of repair, then clean polls.
    Repair,
    /// Evidence of repair other than a new enumeration, then clean polls: the GPU came back each
    /// time before it relapsed, or a person made it fatal.
    RepairNotReturn,
    /// A new boot, or a person who says that it is repaired, then clean polls.
    Boot,
}

/// A poll, as what clears causes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Poll<'a> {
    /// When it began.
    pub at: Moment,
    /// Whether the probe passed.
    pub passed: bool,
    /// The answers with those of this poll.
    pub fields: &'a Fields,
    pub thresholds: &'a Thresholds,
}

impl ClearRule {
    pub(super) fn of(cause: &Cause) -> Self {
        match cause {
            Cause::Quarantined(_) | Cause::NotAnswered | Cause::Node(_) => Self::Source,
            Cause::Fabric(_)
            | Cause::RowRemapPending
            | Cause::RecoveryAction(_)
            | Cause::NvmlError(_)
            | Cause::NvmlUnresponsive { .. } => Self::State,
            Cause::ResetRequired => Self::RecoveryAction,
            Cause::Xid { configured: true, .. } => Self::RepairNotReturn,
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
        use RepairEvidence::{DriverReload, Manual, NewBoot, Reenumerated};
        match self {
            Self::RecoveryAction | Self::Repair => true,
            Self::RepairNotReturn => evidence != Reenumerated,
            Self::Boot => matches!(evidence, NewBoot | Manual),
            // The fields of the driver that is loaded now are not read yet.
            Self::State => matches!(evidence, NewBoot | DriverReload),
            // A missing GPU is back when NVML lists it, and not by what happened to it.
            Self::Enumeration => evidence == Manual,
            Self::Source => false,
        }
    }
}

/// Whether a cause is a failure of the GPU itself, not of the node and not a quarantine. Only these
/// count as relapses.
pub(super) fn is_gpu_failure(cause: &Cause) -> bool {
    ClearRule::of(cause) != ClearRule::Source
}

/// Whether a cause is kept over a restart. Of the states only the recovery action is: a GPU that
/// needs a reset may not be listed any more by then.
pub(super) fn is_lasting(cause: &Cause) -> bool {
    match cause {
        Cause::RecoveryAction(_) => true,
        cause => !matches!(ClearRule::of(cause), ClearRule::Source | ClearRule::State),
    }
}
