//! The answers of a GPU that describe a state of it, as they were last read, and the causes and
//! degradations that follow from them by the policy.

use std::collections::BTreeSet;

use super::cause::{Cause, CauseKind};
use super::nvml_error::NvmlError;
use super::reading::{Fabric, Reading, RecoveryAction, RemappedRows};
use super::reason::Degradation;
use super::rules::{Severity, Thresholds};

/// One answer of a GPU, as it was last read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Answer<T> {
    /// Not read since the driver was loaded.
    #[default]
    Unread,
    /// The driver or the GPU does not have it, or never gave it to a caller without privileges.
    Unsupported,
    /// The value.
    Read(T),
}

/// One field: its last answer, and whether the last reading had one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<T> {
    pub last: Answer<T>,
    is_fresh: bool,
}

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self { last: Answer::Unread, is_fresh: false }
    }
}

impl<T: Copy> Field<T> {
    /// What could not be read leaves the last answer as it is: failing to look proves nothing.
    fn update(&mut self, answer: Option<&Result<T, NvmlError>>) {
        let answer = match answer {
            Some(Ok(value)) => Some(Answer::Read(*value)),
            Some(Err(error)) if error.code.is_unsupported() => Some(Answer::Unsupported),
            Some(Err(error)) if error.code.is_refused() && self.read().is_none() => {
                Some(Answer::Unsupported)
            }
            Some(Err(_)) | None => None,
        };
        self.is_fresh = answer.is_some();
        self.last = answer.unwrap_or(self.last);
    }

    /// Whether the last reading says what the field is. What is not supported is not read again.
    fn is_known(&self) -> bool {
        self.is_fresh || matches!(self.last, Answer::Unsupported)
    }

    fn read(&self) -> Option<T> {
        match self.last {
            Answer::Read(value) => Some(value),
            Answer::Unread | Answer::Unsupported => None,
        }
    }
}

/// The fields of one GPU. `Default` is what is known after a new load of the driver.
#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    pub recovery_action: Field<RecoveryAction>,
    remapped_rows: Field<RemappedRows>,
    fabric: Field<Fabric>,
}

/// What the last reading had as the recovery action.
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

impl Fields {
    pub(super) fn update(&mut self, reading: &Reading) {
        self.recovery_action.update(reading.recovery_action.as_ref());
        self.remapped_rows.update(reading.remapped_rows.as_ref());
        self.fabric.update(reading.fabric.as_ref());
    }

    /// An Xid says that a row waits to be remapped; the next reading decides. A GPU without row
    /// remapping retires a page instead, which no field states.
    pub(super) fn expect_row_remap(&mut self) {
        if self.remapped_rows.last != Answer::Unsupported {
            let failure = self.remapped_rows.read().is_some_and(|rows| rows.failure);
            self.remapped_rows.last = Answer::Read(RemappedRows { pending: true, failure });
        }
    }

    /// Whether the last reading had what decides about a cause of this kind.
    pub(super) fn decide(&self, kind: CauseKind) -> bool {
        match kind {
            CauseKind::RecoveryAction => self.recovery_action.is_known(),
            CauseKind::RowRemapPending | CauseKind::RowRemapFailure => {
                self.remapped_rows.is_known()
            }
            CauseKind::Fabric => self.fabric.is_known(),
            _ => true,
        }
    }

    /// The recovery action as it was last read.
    pub(super) fn action(&self) -> Option<RecoveryAction> {
        self.recovery_action.read()
    }

    pub(super) fn recovery(&self, thresholds: &Thresholds) -> RecoveryState {
        match self.recovery_action.last {
            _ if !self.recovery_action.is_known() => RecoveryState::Unknown,
            Answer::Unread => RecoveryState::Unknown,
            Answer::Unsupported => RecoveryState::Unsupported,
            Answer::Read(action) if thresholds.severity(action) == Some(Severity::Unhealthy) => {
                RecoveryState::Required
            }
            Answer::Read(_) => RecoveryState::Clear,
        }
    }

    /// Whether the driver was asked, and neither the recovery action nor the remapped rows ask for
    /// a reset.
    pub(super) fn want_nothing(&self) -> bool {
        let action = self.action();
        let rows = self.remapped_rows.read();
        (action.is_some() || rows.is_some())
            && action.is_none_or(|action| action == RecoveryAction::None)
            && rows.is_none_or(|rows| rows == RemappedRows::default())
    }

    /// The causes that the fields state.
    pub(super) fn causes(&self, thresholds: &Thresholds) -> impl Iterator<Item = Cause> {
        let unhealthy = |severity| severity == Severity::Unhealthy;
        let is_required = |action: &_| thresholds.severity(*action).is_some_and(unhealthy);
        let action = self.action().filter(is_required).map(Cause::RecoveryAction);
        let rows = self.remapped_rows.read().unwrap_or_default();
        let pending = (rows.pending && unhealthy(thresholds.row_remap_pending))
            .then_some(Cause::RowRemapPending);
        let failure = rows.failure.then_some(Cause::RowRemapFailure);
        let fault = self.fabric.read().and_then(|fabric| fabric.fault());
        let fabric = fault.filter(|_| unhealthy(thresholds.fabric)).map(Cause::Fabric);
        [action, pending, failure, fabric].into_iter().flatten()
    }

    /// What the fields state that leaves the GPU Healthy.
    pub(super) fn degradations(&self, thresholds: &Thresholds) -> BTreeSet<Degradation> {
        let tolerated = |action| {
            self.action() == Some(action) && thresholds.severity(action) == Some(Severity::Degraded)
        };
        let fabric = self.fabric.read();
        let has_fault = fabric.is_some_and(|fabric| fabric.fault().is_some());
        let all = [
            (
                Degradation::RowRemapPending,
                self.remapped_rows.read().is_some_and(|rows| rows.pending),
            ),
            (Degradation::ImexDomain, tolerated(RecoveryAction::RecoverImexDomain)),
            (Degradation::DrainP2p, tolerated(RecoveryAction::DrainP2p)),
            (
                Degradation::FabricBandwidth,
                fabric.is_some_and(|fabric| fabric.has_degraded_bandwidth()),
            ),
            (Degradation::Fabric, has_fault && thresholds.fabric == Severity::Degraded),
        ];
        all.into_iter().filter(|(_, is_so)| *is_so).map(|(which, _)| which).collect()
    }
}
