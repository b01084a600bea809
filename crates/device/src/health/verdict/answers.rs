//! What the answers of a reading change: each is applied by itself, and then the errors among them.

use super::{GpuHealth, RecoveryField, Step};
use crate::health::cause::Cause;
use crate::health::clear_rule::PollResult;
use crate::health::nvml_error::{NvmlError, ReturnCode};
use crate::health::reading::{Fabric, Reading, RecoveryAction, RemappedRows};
use crate::health::reason::Degradation;
use crate::health::rules::Severity;

impl GpuHealth {
    pub(super) fn poll(&mut self, reading: &Reading, step: &mut Step) {
        self.read(reading, step);
        let thresholds = step.policy.thresholds();
        let poll = PollResult::of(step.now, reading, thresholds);
        self.causes.polled(&poll, thresholds, &mut step.change);
    }

    pub(super) fn read(&mut self, reading: &Reading, step: &mut Step) {
        self.reads.read(step.now);
        self.timeouts = 0;
        let mut errors = Vec::new();
        match &reading.recovery_action {
            Some(Ok(action)) => self.read_recovery_action(*action, step),
            Some(Err(error)) if error.code.is_unsupported() => {
                self.recovery_action = RecoveryField::Unsupported;
            }
            Some(Err(error)) => errors.push(error),
            None => {}
        }
        if let Some(rows) = reading.remapped_rows {
            self.read_remapped_rows(rows, step);
        }
        if let Some(fabric) = reading.fabric {
            self.read_fabric(fabric, step);
        }
        if let Some(Err(error)) = &reading.probe
            && error.code != ReturnCode::NOT_SUPPORTED
        {
            errors.push(error);
        }
        self.read_errors(&errors, step);
    }

    /// However many calls of a reading failed, it counts as one failure.
    fn read_errors(&mut self, errors: &[&NvmlError], step: &mut Step) {
        for cause in errors.iter().filter_map(|error| Cause::named_by(error.code)) {
            self.raise(cause, step);
        }
        match errors.iter().find(|error| Cause::named_by(error.code).is_none()) {
            Some(error) => self.failed((*error).clone(), step),
            None => self.failures = 0,
        }
    }

    pub(super) fn read_recovery_action(&mut self, action: RecoveryAction, step: &mut Step) {
        self.recovery_action = RecoveryField::Read(action);
        let severity = step.policy.thresholds().severity(action);
        let degraded = |which| severity == Some(Severity::Degraded) && action == which;
        let imex = degraded(RecoveryAction::RecoverImexDomain);
        self.degrade(Degradation::ImexDomain, imex, step);
        self.degrade(Degradation::DrainP2p, degraded(RecoveryAction::DrainP2p), step);
        if severity == Some(Severity::Unhealthy) {
            self.raise(Cause::RecoveryAction(action), step);
        }
    }

    fn read_remapped_rows(&mut self, rows: RemappedRows, step: &mut Step) {
        self.row_remap_pending(rows.pending, step);
        if rows.failure {
            self.raise(Cause::RowRemapFailure, step);
        }
    }

    pub(super) fn read_fabric(&mut self, fabric: Fabric, step: &mut Step) {
        self.fabric = Some(fabric);
        self.degrade(Degradation::FabricBandwidth, fabric.has_degraded_bandwidth(), step);
        let fault = fabric.fault();
        let degrades = step.policy.thresholds().fabric == Severity::Degraded;
        self.degrade(Degradation::Fabric, fault.is_some() && degrades, step);
        if let Some(fault) = fault.filter(|_| !degrades) {
            self.raise(Cause::Fabric(fault), step);
        }
    }

    pub(super) fn row_remap_pending(&mut self, pending: bool, step: &mut Step) {
        self.degrade(Degradation::RowRemapPending, pending, step);
        if pending && step.policy.thresholds().row_remap_pending == Severity::Unhealthy {
            self.raise(Cause::RowRemapPending, step);
        }
    }
}
